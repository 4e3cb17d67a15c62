"""Which subject goes to which split: by a hash of seed and subject, or as a file says."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

from sleeplm_jax.corpus.builder import SPLITS
from sleeplm_jax.errors import CorpusError


def split_subjects(
    subjects: list[str],
    proportions: tuple[float, float, float] = (0.8, 0.1, 0.1),
    seed: int = 0,
    fixed: dict[str, str] | None = None,
) -> dict[str, str]:
    """Subject -> "train", "val" or "test"; all nights of a subject go to one split.

    `fixed` places some subjects; the others are ordered by a hash of seed and name and fill the
    splits up to their `proportions` of all subjects. With three subjects or more, every split
    with a positive proportion gets at least one; of two subjects one is tested on; a single one
    is trained on. The result does not depend on the order of `subjects`.
    """
    fixed = {s: split for s, split in (fixed or {}).items() if s in set(subjects)}
    wanted = _sizes(len(set(subjects)), proportions)
    for split in fixed.values():
        wanted[split] = max(0, wanted[split] - 1)
    free = sorted(
        set(subjects) - set(fixed),
        key=lambda s: (hashlib.sha256(f"{seed}\n{s}".encode()).digest(), s),
    )
    chosen = dict(fixed)
    for split in ("test", "val"):
        for _ in range(wanted[split]):
            if free:
                chosen[free.pop()] = split
    return chosen | dict.fromkeys(free, "train")


def _sizes(subjects: int, proportions: tuple[float, float, float]) -> dict[str, int]:
    total = sum(proportions)
    shares = dict(zip(SPLITS, (p / total for p in proportions), strict=True))
    if subjects < 3:
        held_out = {"val": 0, "test": int(subjects == 2 and shares["test"] > 0)}
    else:
        held_out = {
            split: max(1, round(share * subjects)) if share > 0 else 0
            for split, share in shares.items() if split != "train"
        }
        while shares["train"] > 0 and sum(held_out.values()) >= subjects:
            held_out[max(held_out, key=lambda s: held_out[s])] -= 1
    return {"train": subjects - sum(held_out.values()), **held_out}


def read_splits(path: Path) -> dict[str, str]:
    """Subject -> split from a JSON object or a CSV file with the columns subject and split.

    Raises CorpusError for an unreadable file, an unknown split, or a subject in two splits.
    """
    path = Path(path)
    remedy = 'give {"subject": "test", ...} or a CSV file with the columns subject,split'
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".json":
            pairs = list(json.loads(text, object_pairs_hook=list))
        else:
            pairs = [(row["subject"].strip(), row["split"].strip())
                     for row in csv.DictReader(text.splitlines())]
        pairs = [(str(subject), split) for subject, split in pairs]
    except (
        OSError, ValueError, KeyError, TypeError, AttributeError, csv.Error, RecursionError,
    ) as error:
        raise CorpusError(
            path, f"cannot be read as a list of splits ({type(error).__name__}: {error})", remedy
        ) from error
    if not pairs:  # the seeded split in its place would be a silent surprise
        raise CorpusError(path, "names no subject", remedy)
    splits: dict[str, str] = {}
    for subject, split in pairs:
        if split not in SPLITS:
            raise CorpusError(
                path, f"subject {subject!r} is put in {split!r}",
                f"choose from {', '.join(SPLITS)}",
            )
        if splits.setdefault(subject, split) != split:
            raise CorpusError(
                path, f"subject {subject!r} is put in {splits[subject]!r} and in {split!r}",
                "keep one of the two",
            )
    return splits
