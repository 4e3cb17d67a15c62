"""A run as a folder that PyTorch alone can use.

Files: `modeling_sleeplm.py` (the model in torch, self-contained), `config.json`,
`model.safetensors`, `vocabulary.json` (the tokenizer as plain JSON), `tokenizer.model` and
`tokenizer.json` (the same, for sentencepiece and for this package), `montage.json` (what the input
is), `check.safetensors` and `check.json` (inputs and what this package makes of them), `README.md`
(the card).
"""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import jax
import numpy as np

from sleeplm_jax import __version__
from sleeplm_jax.config import CAPTION_KINDS, PREFIX_LENGTH, SignalSpec
from sleeplm_jax.errors import UserError
from sleeplm_jax.files import write_atomically, write_json
from sleeplm_jax.inference.generation import Decoding
from sleeplm_jax.inference.run import Model
from sleeplm_jax.interop.card import card
from sleeplm_jax.interop.names import to_torch
from sleeplm_jax.interop.packages import need
from sleeplm_jax.interop.words import vocabulary
from sleeplm_jax.models.build import bind, graph_of
from sleeplm_jax.places import place
from sleeplm_jax.recordings.channels import CHANNELS, POSITION_UNKNOWN, POSITIONS
from sleeplm_jax.recordings.signals import CLIP

FORMAT = 1  # of config.json and vocabulary.json
MODELING = "modeling_sleeplm.py"
CHECK_SAMPLES, CHECK_TOKENS = 2, 24
CHECK_TEXT = "Deep sleep (N3). The arousal event is identified from 0.0 to 15.2 seconds."


def export_torch(model: Model, out: Path, onnx: bool = False) -> Path:
    """Writes the folder `out` (which must be absent or empty); returns it.

    With `onnx` the signal encoder also as `encoder.onnx`. Raises UserError when `out` holds
    something, or a package is not installed.
    """
    out = new_folder(out)
    save = need("safetensors.numpy", "export").save_file
    if onnx:
        need("onnxscript", "--onnx"), need("torch", "--onnx")
    weights = {name: np.array(x, np.float32, order="C")
               for name, x in to_torch(jax.device_get(model.parameters)).items()}
    save(weights, out / "model.safetensors", metadata={"format": "pt"})
    del weights
    write_json(out / "config.json", described(model))
    write_json(out / "vocabulary.json", vocabulary(model.tokenizer))
    model.tokenizer.save(out)
    write_json(out / "montage.json", montage(model.spec))
    values, captions = expected(model)
    save(values, out / "check.safetensors")
    write_json(out / "check.json", {"tokens": CHECK_TOKENS, "captions": captions})
    shutil.copyfile(Path(__file__).with_name(MODELING), out / MODELING)
    if onnx:
        from sleeplm_jax.interop.onnx_encoder import export_encoder

        export_encoder(out)
    write_atomically(out / "README.md", card(model, out).encode())
    for path in out.glob("*.safetensors"):  # which the library writes for its owner alone
        path.chmod((out / "README.md").stat().st_mode)
    return out


def new_folder(out: Path) -> Path:
    """`out`, made. Raises UserError when something is in it, or it is not on this machine."""
    out = place(out)
    if not isinstance(out, Path):
        raise UserError(
            out, "is not on this machine's disks", "give a local folder, and copy it from there"
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(out, "exists and is not empty", "give --out a new folder")
    out.mkdir(parents=True, exist_ok=True)
    return out


def described(model: Model) -> dict:
    """config.json: all that shapes the torch model. No paths, no names of people."""
    config, tokenizer = model.config, model.tokenizer
    return {
        "format": FORMAT,
        "model": dataclasses.asdict(config.model),
        "objective": dataclasses.asdict(config.objective),
        "text_length": config.data.text_length,
        "prefix_length": PREFIX_LENGTH,
        "caption_kinds": list(CAPTION_KINDS),
        "tokens": {
            "pad": tokenizer.pad_id, "bos": tokenizer.bos_id, "eos": tokenizer.eos_id,
            "unwritten": list(tokenizer.unwritten), "vocab_size": tokenizer.vocab_size,
            "sha256": tokenizer.hash,
        },
        "sleeplm_jax": __version__, "run": config.name, "step": model.step,
    }


def montage(spec: SignalSpec) -> dict:
    """montage.json: what stands where in the input, and how it is made from a recording."""
    channels = []
    for name in spec.channels:
        about = CHANNELS[name]
        channels.append({
            "name": name, "kind": about.kind,
            "band_hz": None if about.band is None else list(about.band),
            "values": {str(i): word for i, word in enumerate(POSITIONS)}
            | {str(POSITION_UNKNOWN): "unknown"} if name == "POS" else
            f"z-scored over the night, clipped to +-{CLIP:g}",
        })
    return {
        "shape": list(spec.shape), "rate_hz": spec.rate, "seconds": spec.seconds,
        "channels": channels,
        "missing": "zeros, and false in channel_mask",
        "statistics": "scale: root of the trimmed mean of the 30-s epochs' variances, offset: "
        "median of their means, flat and artefact epochs left out",
    }


def expected(model: Model) -> tuple[dict[str, np.ndarray], list[str]]:
    """What the model says to noise with a missing channel and to a sentence.

    `signal [B, C, T]`, `channel_mask [B, C]`, `text [1, L]`, `features [B, F]`; where the model
    has them `signal_embedding`, `text_embedding`, and what its reconstruction gives. And B greedy
    captions, none where it writes none. All in float32, which the folder's own model computes in.
    """
    exact = dataclasses.replace(model.config.model, compute_dtype="float32", attention="reference")
    model = Model(dataclasses.replace(model.config, model=exact), model.parameters,
                  model.tokenizer, model.step, model.about, model.folder, model.batch_size)
    rng = np.random.default_rng(0)
    signal = rng.standard_normal((CHECK_SAMPLES, *model.spec.shape)).astype(np.float32)
    mask = np.ones(signal.shape[:2], bool)
    mask[-1, -1] = len(mask[0]) == 1  # one sample lacks its last channel
    text = model.tokenizer.encode(CHECK_TEXT, model.config.data.text_length)[None]
    graph = graph_of(model.config)

    @jax.jit
    def run(parameters):
        bound = bind(graph, parameters)
        seen = bound.encode_signal(signal, mask)
        out = {"features": seen["features"]}
        if "embedding" in seen:
            out["signal_embedding"] = seen["embedding"]
            out["text_embedding"] = bound.encode_text(text)["embedding"]
        if hasattr(bound, "reconstruction"):
            out |= bound.reconstruction(seen["tokens" if bound.masked else "caption_tokens"])
        return out

    with jax.default_matmul_precision("highest"):
        found = jax.device_get(run(model.parameters))
        captions = []
        if model.config.objective.caption > 0:
            captions = model.caption(signal, mask, CAPTION_KINDS[-1], Decoding(CHECK_TOKENS))
    values = {"signal": signal, "channel_mask": mask, "text": text} | found
    return {name: np.array(value, order="C") for name, value in values.items()}, captions
