"""Corpora of simulated nights and `sleeplm` commands of this clone: what studies here share."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Nights:
    """Simulated nights, a person each: how many of each split, of how many hours."""

    splits: dict[str, int]
    hours: float
    seed: int
    channels: tuple[str, ...]
    vocabulary: int


def make_corpus(work: Path, nights: Nights) -> Path:
    """WORK/corpus, prepared, with a tokenizer; what is there is kept.

    Raises UserError where another process is making it, and SystemExit as `sleeplm` does.
    """
    from sleeplm_jax.files import only_writer

    corpus = work / "corpus"
    if (corpus / "tokenizer.json").exists():
        return corpus
    work.mkdir(parents=True, exist_ok=True)
    with only_writer(work):
        sleeplm("simulate", "--out", work / "recordings", "--nights", sum(nights.splits.values()),
                "--hours", nights.hours, "--seed", nights.seed)
        write_splits(work / "splits.csv", people(nights.splits, nights.seed))
        sleeplm("prepare", "--recordings", work / "recordings", "--out", corpus, "--cohort",
                "simulated", "--splits", work / "splits.csv", "--channels",
                ",".join(nights.channels))
        sleeplm("tokenizer", "--corpus", corpus, "--vocab-size", nights.vocabulary)
    return corpus


def people(splits: dict[str, int], seed: int) -> dict[str, str]:
    """Split of each person of `sleeplm simulate --seed`, in order."""
    each = [split for split, count in splits.items() for _ in range(count)]
    return {f"sim-{seed}-{number:04d}": split for number, split in enumerate(each)}


def write_splits(path: Path, people: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["subject", "split"])
        writer.writerows(people.items())


def sleeplm(*arguments: object, may: tuple[int, ...] = (0,)) -> None:
    """A command of this clone; SystemExit with its status where that is none of `may`."""
    print("$ sleeplm", *arguments, flush=True)
    child = subprocess.Popen(
        [sys.executable, "-m", "sleeplm_jax.cli", *map(str, arguments)], env=environment()
    )
    while True:
        try:
            status = child.wait()
            break
        except KeyboardInterrupt:  # it got the same, saves and ends
            continue
    if status not in may:
        raise SystemExit(status if status > 0 else 128 - status)


def environment() -> dict[str, str]:
    """With this clone's package before any that is installed."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
