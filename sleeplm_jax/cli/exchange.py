"""Commands that move models between this package and PyTorch: export, import."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Optional

import tyro

from sleeplm_jax.cli.saying import PathArgument, say, whole_number


def export(run: PathArgument, out: Path, to: Literal["torch", "sleeplm"] = "torch",
           step: str = "best", onnx: bool = False) -> int:
    """Write a run for PyTorch: a folder that torch alone can use, or SleepLM's own checkpoint.

    `--to torch` (any model): modeling_sleeplm.py, weights, tokenizer, montage and a model card.
    `--to sleeplm` (models with SleepLM's settings): a state dict that the official code loads.

    Args:
        run: Run folder.
        out: Folder to write; must be absent or empty.
        to: torch or sleeplm.
        step: best, latest, or a checkpointed step.
        onnx: With --to torch, the signal encoder as encoder.onnx too.
    """
    from sleeplm_jax.errors import UserError
    from sleeplm_jax.inference.run import Model

    if onnx and to != "torch":
        raise UserError("--onnx", "goes with --to torch", "leave it out, or export --to torch")
    model = Model.load(run, step if step in ("best", "latest") else whole_number(step))
    if to == "torch":
        from sleeplm_jax.interop.torch_folder import export_torch

        export_torch(model, out, onnx)
        say(f"step {model.step:,} of {run} in {out}; check it with "
            f"`python {out / 'modeling_sleeplm.py'} {out}`")
    else:
        from sleeplm_jax.interop.sleeplm_folder import CHECKPOINT, export_sleeplm

        export_sleeplm(model, out)
        say(f"step {model.step:,} of {run} as {out / CHECKPOINT}")
    return 0


def import_run(
    checkpoint: PathArgument, out: Path,
    source: Annotated[Literal["sleeplm"], tyro.conf.arg(name="from")] = "sleeplm",
    bpe: Optional[Path] = None, config: Optional[Path] = None,
) -> int:
    """Make a run folder of a PyTorch checkpoint, for evaluate, describe and further training.

    Only tensors are read: a file that holds code is refused.

    Args:
        checkpoint: SleepLM's model_checkpoint.pt.
        out: Run folder to write; must be absent or empty.
        source: Whose checkpoint it is.
        bpe: CLIP's bpe_simple_vocab_16e6.txt.gz; default: the one beside the checkpoint.
        config: Official model configuration (JSON), for another size than the released one.
    """
    from sleeplm_jax.interop.sleeplm_folder import import_sleeplm

    folder = import_sleeplm(checkpoint, out, bpe, config)
    say(f"imported into {folder}")
    return 0
