"""What `sleeplm prepare` says when it is done: how much there is, of what, and what is doubtful."""

from __future__ import annotations

from sleeplm_jax.corpus.builder import SPLITS
from sleeplm_jax.corpus.manifest import Corpus
from sleeplm_jax.places import Place


def summary(corpus: Corpus, unnamed: int, failed: int, failures: Place) -> list[str]:
    """Lines about a corpus: nights, splits, stages, doubts, failures, place.

    `unnamed` nights have a subject that is only their file's name; `failed` recordings are
    listed in the file `failures`.
    """
    nights, splits = corpus.nights(), corpus.manifest["splits"]
    epochs = sum(night["samples"] for night in nights)
    simulated = corpus.manifest["simulated_nights"]
    lines = [
        f"{_count(len(nights), 'night')}" + (f" ({simulated} simulated)" if simulated else "")
        + f", {_count(epochs, 'epoch')}"
    ]
    stages: dict[str, int] = {}
    for split in SPLITS:
        about = splits[split]
        lines.append(f"  {split}: {_count(about['subjects'], 'subject')}, "
                     f"{_count(about['samples'], 'epoch')}")  # fmt: skip
        for name, count in about["stages"].items():
            stages[name] = stages.get(name, 0) + count
    lines.append("stages: " + ", ".join(f"{name} {count}" for name, count in stages.items()))
    empty = [split for split in SPLITS if not splits[split]["samples"]]
    if empty:
        lines.append(f"no sample in {' and '.join(empty)}: give more subjects, or --splits")
    kinds = (("without scoring", "unscored:"), ("with stand-ins", "stand_in:"),
             ("with a signal of unknown unit", "unit_unknown:"))
    for what, flag in kinds:
        concerned = sum(any(f.startswith(flag) for f in night["flags"]) for night in nights)
        if concerned:
            lines.append(f"{_count(concerned, 'night')} {what}")
    if failed:
        lines.append(f"{_count(failed, 'recording')} could not be used: see {failures}")
    lines.append(f"corpus: {corpus.path}")
    if unnamed and len(nights) > 1:
        verb, person = ("counts", "person") if unnamed == 1 else ("count", "person each")
        lines.append(
            f"{_count(unnamed, 'recording')} {verb} as one {person} (no rule tells who is who): "
            "if people have several nights, name them with --subjects FILE"
        )
    return lines


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")
