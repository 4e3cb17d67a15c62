"""The command that writes a night's captions."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

from sleeplm_jax.cli.saying import PathArgument, quarters, say, whole_number
from sleeplm_jax.config import CAPTION_KINDS
from sleeplm_jax.errors import UserError


def caption(run: PathArgument, night: PathArgument, kinds: tuple[str, ...] = CAPTION_KINDS,
            out: Path = Path("captions.jsonl"), beams: int = 1, temperature: float = 0.0,
            top_k: int = 0, top_p: float = 1.0, samples: int = 1, seed: int = 0,
            min_tokens: int = 0, max_tokens: int = 0, batch_size: int = 64,
            scoring: Optional[Path] = None, montage: Optional[str] = None, step: str = "best",
            trim: str = "lights", trim_margin: Optional[float] = None) -> int:
    """Write what a run says of every epoch of a night, one JSON object a line, into OUT.

    Args:
        run: Run folder.
        night: Recording.
        kinds: Kinds of caption; two in one text as brain+heart.
        out: Where the lines go.
        beams: Beams of a beam search; 1 takes the most probable word at each step.
        temperature: Draw words at this temperature; 0 draws nothing.
        top_k: Draw among so many most probable words; 0: all.
        top_p: ... and among the fewest that hold this share of probability.
        samples: Texts a kind: drawn ones, or the best beams.
        seed: Of the draws.
        min_tokens: A text does not end before it has so many tokens.
        max_tokens: Longest text; 0: as in training.
        batch_size: Texts written at a time.
        scoring: Scoring file (for the lights); default: the one found beside the recording, if any.
        montage: Name or YAML file of a montage; default: chosen by the labels found.
        step: best, latest, or a checkpointed step.
        trim: What of the recording is the night: lights, sleep or none (see `prepare`).
        trim_margin: Minutes kept on either side.
    """
    if out.is_dir():
        raise UserError(f"--out {out}", "is a folder", "give a file's name")
    if batch_size < 1:
        raise UserError("--batch-size", f"is {batch_size}", "give 1 or more")
    from sleeplm_jax.files import write_atomically
    from sleeplm_jax.inference.captioning import caption_lines, json_lines
    from sleeplm_jax.inference.generation import Decoding
    from sleeplm_jax.inference.prompts import prompt
    from sleeplm_jax.inference.run import Model
    from sleeplm_jax.physiology.artefacts import mark_artefacts
    from sleeplm_jax.recordings.prepare import prepare_night
    from sleeplm_jax.recordings.trim import Trim

    decoding = Decoding(
        max_tokens=max_tokens, min_tokens=min_tokens, beams=beams, temperature=temperature,
        top_k=top_k, top_p=top_p, samples=samples, seed=seed,
    )
    for kind in kinds:
        prompt(kind)  # a mistake is told before the work
    model = Model.load(
        run, step if step in ("best", "latest") else whole_number(step), batch_size=batch_size
    )
    model.need_captions()
    say(f"reading {night.name}")
    prepared = mark_artefacts(prepare_night(
        night, scoring=scoring or "auto", montage=montage, spec=model.spec,
        trim=Trim(trim, trim_margin),
    ))
    lines = caption_lines(
        model, prepared, kinds, decoding,
        quarters(f"captioning {len(prepared.signals):,} epochs"),
    )
    write_atomically(out, json_lines(lines))
    said = [line for line in lines if line["text"] is not None]
    say(f"{len(said):,} texts in {out}, {sum(not line['unread'] for line in said):,} of them read "
        f"back whole; {len(lines) - len(said):,} epochs and kinds without")
    return 0
