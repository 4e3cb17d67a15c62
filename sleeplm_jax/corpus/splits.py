"""Which people go to which split: by a hash of seed and name, or as a file says.

People of one family, and all nights of a person, go to one split together.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from sleeplm_jax.corpus.builder import SPLITS
from sleeplm_jax.errors import CorpusError

STRATA = ("cohort", "age", "sex", "n3")


def split_subjects(
    subjects: Iterable[str],
    proportions: tuple[float, float, float] = (0.8, 0.1, 0.1),
    seed: int = 0,
    fixed: dict[str, str] | None = None,
    families: dict[str, str] | None = None,
    strata: dict[str, tuple[str, ...]] | None = None,
) -> dict[str, str]:
    """Subject -> "train", "val" or "test"; all nights of a subject go to one split.

    `fixed` places some subjects, and with them the families (`families`: subject -> family) they
    belong to; the others are ordered by a hash of seed and name and fill the splits up to their
    `proportions` of all subjects. With three subjects or more, every split with a positive
    proportion gets at least one; of two subjects one is tested on; a single one is trained on.
    A family that is larger than what a split lacks goes elsewhere.

    `strata`: subject -> values, the first of which (the cohort) gets its proportions by itself;
    within it the held-out subjects are spread over the other values as the subjects are. A family
    counts where the first of its names does. The result does not depend on the order of `subjects`.
    Raises ValueError when `fixed` puts one family into two splits (see `check_families`).
    """
    names = sorted(set(subjects))
    groups = _groups(names, families or {})
    placed: dict[tuple[str, ...], str] = {}
    for group in groups:
        splits = {fixed[s] for s in group if fixed and s in fixed}
        if len(splits) > 1:
            raise ValueError(f"family of {group[0]} is in {sorted(splits)}")
        if splits:
            placed[group] = splits.pop()
    strata = strata or {}
    cohorts: dict[str, list[tuple[str, ...]]] = {}
    for group in groups:
        cohorts.setdefault(strata.get(group[0], ("",))[0], []).append(group)
    chosen: dict[str, str] = {}
    for members in cohorts.values():
        finer = {group: strata.get(group[0], ("",))[1:] for group in members}
        for group, split in _fill(members, finer, proportions, seed, placed).items():
            chosen |= dict.fromkeys(group, split)
    return chosen


def _groups(names: list[str], families: dict[str, str]) -> list[tuple[str, ...]]:
    """People who stay together, each group and the list in the order of names."""
    by_family: dict[str, list[str]] = {}
    for name in names:
        by_family.setdefault(f"family {families[name]}" if name in families else f"one {name}", []
                             ).append(name)  # fmt: skip
    return sorted(tuple(members) for members in by_family.values())


def _fill(
    groups: list[tuple[str, ...]], finer: dict[tuple[str, ...], tuple[str, ...]],
    proportions: tuple[float, float, float], seed: int, placed: dict[tuple[str, ...], str],
) -> dict[tuple[str, ...], str]:
    wanted = _sizes(sum(map(len, groups)), proportions)
    chosen = {group: placed[group] for group in groups if group in placed}
    for group, split in chosen.items():
        wanted[split] = max(0, wanted[split] - len(group))
    free = sorted(
        (group for group in groups if group not in placed),
        key=lambda g: (hashlib.sha256(f"{seed}\n{g[0]}".encode()).digest(), g),
    )
    for split in ("test", "val"):
        # A last group is left to train where train may have one.
        keep = 1 if split == "val" and proportions[0] > 0 and wanted["train"] else 0
        for stratum, share in _spread(wanted[split], free, finer).items():
            lacking = share
            mine = [group for group in reversed(free) if finer[group] == stratum]
            for group in mine:
                if len(group) <= lacking and len(free) > keep:
                    chosen[group] = split
                    free.remove(group)
                    lacking -= len(group)
        if wanted[split] and split not in chosen.values() and len(free) > max(
            keep, int(proportions[0] > 0)
        ):
            group = min(free, key=len)  # only families that are too large: the smallest of them
            chosen[group] = split
            free.remove(group)
    return chosen | dict.fromkeys(free, "train")


def _spread(
    total: int, free: list[tuple[str, ...]], finer: dict[tuple[str, ...], tuple[str, ...]]
) -> dict[tuple[str, ...], int]:
    """`total` people shared out over the strata in proportion to theirs; largest remainders."""
    people: Counter[tuple[str, ...]] = Counter()
    for group in free:
        people[finer[group]] += len(group)
    every = sum(people.values())
    exact = {stratum: total * count / every for stratum, count in people.items()}
    shares = {stratum: int(value) for stratum, value in exact.items()}
    order = sorted(exact, key=lambda s: (shares[s] - exact[s], -people[s], s))
    for stratum in order[: min(total, every) - sum(shares.values())]:
        shares[stratum] += 1
    return shares


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


def person(row: dict) -> str:
    """Who a night's row is of, unique in a corpus: "cohort/subject"."""
    return f"{row['cohort']}/{row['subject']}"


def family(row: dict) -> str | None:
    """The family of a night's row, unique in a corpus: "cohort/family"; None without one."""
    return f"{row['cohort']}/{row['family']}" if row.get("family") else None


def assign(
    rows: list[dict],
    placed: dict[str, str],
    shares: tuple[float, float, float],
    seed: int,
    splits_file: object,
    some_failed: bool,
    stratify: Sequence[str] = (),
) -> list[dict]:
    """`rows` (nights of a manifest), each with its split.

    `placed`: what `read_splits` found in `splits_file`. Raises CorpusError where it names nobody's
    recording (unless some failed), or puts one family into two splits; also for a stratum that is
    none of STRATA.
    """
    unknown = [name for name in stratify if name not in STRATA]
    if unknown:
        raise CorpusError(
            "--stratify", f"{', '.join(unknown)} is nothing to stratify by",
            f"choose from {', '.join(STRATA)}",
        )
    subjects = {person(row): row["subject"] for row in rows}
    fixed = {
        full: placed.get(full, placed.get(short))
        for full, short in subjects.items() if full in placed or short in placed
    }
    absent = sorted(set(placed) - set(subjects) - set(subjects.values()))
    if absent and not some_failed:  # a misspelt test subject would be trained on
        raise CorpusError(
            splits_file, f"names subjects that no recording belongs to: {', '.join(absent)}",
            f"choose from {', '.join(sorted(subjects.values())[:20])}",
        )
    families = family_of_people(rows)
    check_families(fixed, families, splits_file)
    strata = _strata(rows, stratify) if stratify else None
    chosen = split_subjects(subjects, shares, seed, fixed, families, strata)
    return [{**row, "split": chosen[person(row)]} for row in rows]


def family_of_people(rows: list[dict]) -> dict[str, str]:
    """Person -> whom they stay with, for those who stay with somebody or have a family.

    A family, and one person in several visits' cohorts: the same subject in cohorts that differ in
    a last number only (shhs1 and shhs2). Families that share a person are one.
    """
    parent: dict[tuple[int, str], tuple[int, str]] = {}

    def root(node: tuple[int, str]) -> tuple[int, str]:
        while parent.setdefault(node, node) != node:
            node = parent[node]
        return node

    for row in rows:
        me = (2, person(row))
        same = [(1, f"{row['cohort'].rstrip('0123456789').rstrip('-_ ')}/{row['subject']}")]
        if family(row):
            same.append((0, family(row)))
        for other in same:  # the root of a group is its first family, else its first subject
            first, second = sorted((root(me), root(other)))
            parent[second] = first
    people = sorted({person(row) for row in rows})
    roots = {name: root((2, name)) for name in people}
    sizes = Counter(roots.values())
    return {
        name: at[1] for name, at in roots.items() if at[0] == 0 or sizes[at] > 1
    }


def check_families(
    fixed: dict[str, str], families: dict[str, str], splits_file: object
) -> None:
    """CorpusError where `fixed` (subject -> split) puts members of one family apart."""
    first: dict[str, str] = {}
    for name in sorted(fixed):
        if name not in families:
            continue
        other = first.setdefault(families[name], name)
        if fixed[other] != fixed[name]:
            raise CorpusError(
                splits_file, f"puts {other} in {fixed[other]} and {name} of the same family "
                f"({families[name]}) in {fixed[name]}", "put the whole family into one split",
            )


def _strata(rows: list[dict], stratify: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Person -> the values of `stratify` of the first night; the cohort first, "" where unasked."""
    found: dict[str, tuple[str, ...]] = {}
    for row in sorted(rows, key=lambda row: row["night"]):
        values = [row["cohort"] if "cohort" in stratify else ""]
        values += [_value(row, name) for name in STRATA[1:] if name in stratify]
        found.setdefault(person(row), tuple(values))
    return found


def _value(row: dict, name: str) -> str:
    if name == "age":
        return "unknown" if row.get("age") is None else f"{int(row['age'] // 20) * 20}"
    if name == "sex":
        return row.get("sex") or "unknown"
    asleep = sum(row["stages"].get(stage, 0) for stage in ("N1", "N2", "N3", "R"))
    if not asleep:
        return "unscored"
    share = row["stages"].get("N3", 0) / asleep
    return "little N3" if share < 0.1 else "N3" if share < 0.2 else "much N3"


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
