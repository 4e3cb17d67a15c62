"""A night in words: captions of every epoch, as lines of a JSON file, and what stays unsaid."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import numpy as np

from sleeplm_jax.captions.parse import parse
from sleeplm_jax.captions.record import KIND_CHANNELS
from sleeplm_jax.config import CAPTION_KINDS
from sleeplm_jax.inference.generation import GREEDY, Decoding
from sleeplm_jax.inference.prompts import prompt
from sleeplm_jax.recordings.night import Night, shown

# Why nothing is generated: a decoder that was never taught a kind, or sees none of its channels,
# would make its words up.
NO_INPUT = "not an input of this model"
NO_CHANNEL = "channel missing"
NOT_TRAINED = "this kind was not trained"


def why_silent(model, kind: str, mask: np.ndarray) -> str | None:
    """Why `model` cannot write a caption of `kind` for an epoch that shows `mask` (bool [C]).

    None where it can: it was trained on the kind and sees a channel that the kind describes
    (stage_event: any but the body position). Of kinds in one text ("brain+heart") the first that
    it cannot decides.
    """
    inputs = model.spec.channels
    for part in kind.split("+"):
        mine = KIND_CHANNELS.get(part, tuple(channel for channel in inputs if channel != "POS"))
        rows = [i for i, channel in enumerate(inputs) if channel in mine]
        if not rows:
            return NO_INPUT
        if getattr(model.config.data.captions, part) <= 0:
            return NOT_TRAINED
        if not mask[rows].any():
            return NO_CHANNEL
    return None


def caption_lines(
    model,
    night: Night,
    kinds: Sequence[str] = CAPTION_KINDS,
    decoding: Decoding = GREEDY,
    progress: Callable[[float], None] = lambda share: None,
) -> list[dict]:
    """What `model` says of every epoch of `night`, one JSON-able line a text, in order of time.

    {"epoch": from 0, "onset_s": from the recording's start, "kind", "sample" (where there are
    several), "text", "score" (its log probability, divided as the beams' are), "stated" (what the
    text states, as captions.parse reads it, by kind) and "unread" (sentences and phrases that it
    cannot read)}. Where nothing can be said (`why_silent`), text is None and "why" tells the
    reason. The model sees the night as it was trained to, without distrusted channels. A text's
    draws hang on the seed, its epoch and its kind alone.
    """
    kinds = tuple(dict.fromkeys(kinds))
    prompts = np.stack([prompt(kind) for kind in kinds])
    night = shown(night, model.config.data.mask_artefacts)
    silent = [[why_silent(model, kind, mask) for kind in kinds] for mask in night.mask]
    wanted = np.array([[why is None for why in row] for row in silent], bool)
    some = np.flatnonzero(wanted.any(1))
    texts, scores = model.generate(
        night.signals[some], night.mask[some], prompts, decoding, wanted=wanted[some], index=some,
        progress=progress,
    )
    row_of = {epoch: row for row, epoch in enumerate(some.tolist())}
    start = float(night.extra.get("trim", {}).get("start_s", 0.0))
    lines = []
    for epoch, reasons in enumerate(silent):
        onset = start + epoch * night.spec.seconds
        for number, (kind, why) in enumerate(zip(kinds, reasons, strict=True)):
            line = {"epoch": epoch, "onset_s": onset, "kind": kind}
            if why is not None:
                lines.append(line | {"text": None, "why": why})
                continue
            for sample in range(decoding.samples):
                at = row_of[epoch], number, sample
                text = model.tokenizer.decode(texts[at]).strip()
                read = parse(text)
                said = line | ({"sample": sample} if decoding.samples > 1 else {})
                said |= {"text": text, "score": round(float(scores[at]), 4)}
                lines.append(said | {"stated": read.contents, "unread": read.unread})
    return lines


def json_lines(lines: Sequence[dict]) -> bytes:
    """One JSON object a line, UTF-8."""
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()
