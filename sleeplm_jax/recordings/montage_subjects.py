"""Whose recording a file is: by its name, its folders, or a BIDS table of participants.

A montage says how: `subject` and `family` are patterns on the file's name, `subject_path` is one
on its last four parts (`subgroupII/1/2.rec`), `subject_column` names the column of a
participants.tsv that tells persons where its participant_id counts recordings.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

from sleeplm_jax.errors import RecordingError
from sleeplm_jax.recordings.header_person import AGES, SEXES
from sleeplm_jax.recordings.montage import Montage, cohort_montages

PARTICIPANTS = "participants.tsv"
_LEVELS = 4  # folders above a recording that a BIDS data set may have: sub, ses, datatype, root
_MOST_BYTES = 16 << 20
BMIS = (5, 120)  # kg/m2 that are believed


@dataclass(frozen=True)
class Person:
    """Whose a recording is, and what a table of participants says of them."""

    subject: str
    ruled: str | None  # None where the file's stem stands for the subject
    placed: bool = False  # by folders or a table: the name alone would not have told
    age: float | None = None  # years
    sex: str | None = None
    bmi: float | None = None  # kg/m2
    night: int | None = None  # by the montage's `night` pattern on the file's name


def person_of(
    path: Path | str, cohort: str | None = None, montage: Montage | None = None
) -> Person:
    """The person of a recording, from its name, its folders and the nearest participants.tsv.

    Raises RecordingError for a table that cannot be read, or that lacks the montage's column.
    """
    path = Path(path)
    ruled, placed = ruled_subject(path, cohort, montage), False
    parts = "/".join(path.absolute().parts[-4:])
    for one in _montages(cohort, montage):
        if one.subject_path and (match := re.search(one.subject_path, parts)):
            ruled, placed = "-".join(group for group in match.groups() if group), True
    row = _participant(path)
    column = next((m.subject_column for m in _montages(cohort, montage) if m.subject_column), None)
    if column and row:
        if not (row.get(column) or "").strip():
            raise RecordingError(
                table_of(path), f"has no column {column!r}, which tells who is who in this cohort",
                "give the data set's own table, or --subjects",
            )
        ruled, placed = f"{column}-{row[column].strip()}", True
    return Person(
        subject=ruled or recording_name(path), ruled=ruled, placed=placed,
        age=_number(row, "age", *AGES), bmi=_number(row, "bmi", *BMIS),
        sex=SEXES.get((row.get("sex") or "").strip().casefold()),
        night=night_of(path, cohort, montage),
    )  # fmt: skip


def table_of(path: Path | str) -> Path | None:
    """The participants.tsv that a BIDS recording (`sub-...`) belongs to: the nearest above it."""
    path = Path(path)
    if path.name.startswith("sub-"):
        for folder in list(path.absolute().parents)[:_LEVELS]:
            if (folder / PARTICIPANTS).is_file():
                return folder / PARTICIPANTS
    return None


def _participant(path: Path) -> dict[str, str]:
    """The row of a BIDS recording in its table of participants; empty without one."""
    table = table_of(path)
    if table is None:
        return {}
    try:
        if table.stat().st_size > _MOST_BYTES:
            raise RecordingError(table, "is larger than 16 MiB", "give a table of participants")
        with open(table, encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RecordingError(
            table, f"cannot be read as a table of participants ({type(error).__name__})",
            "correct or remove it",
        ) from None
    name = re.match(r"sub-[0-9A-Za-z]+", path.name)
    wanted = name[0] if name else ""
    return next((row for row in rows if (row.get("participant_id") or "").strip() == wanted), {})


def _number(row: dict, key: str, low: float, high: float) -> float | None:
    try:
        value = float(row.get(key) or "")
    except ValueError:  # "n/a" is BIDS' word for what is not known
        return None
    return value if low <= value <= high else None


def ruled_subject(
    path: Path | str, cohort: str | None = None, montage: Montage | None = None
) -> str | None:
    """Subject id by the montage's pattern or BIDS' `sub-X`; None where no rule fits the name.

    Two nights of one person must give one subject, or a split by subject leaks.
    """
    for one in _montages(cohort, montage):
        if found := _groups(one.subject, path):
            return found
    match = re.match(r"(sub-[0-9A-Za-z]+)", Path(path).name)
    return match[1] if match else None


def family_of(
    path: Path | str, cohort: str | None = None, montage: Montage | None = None
) -> str | None:
    """Family id by the montage's pattern; None where no rule fits the name."""
    found = (_groups(one.family, path) for one in _montages(cohort, montage))
    return next((family for family in found if family), None)


def night_of(
    path: Path | str, cohort: str | None = None, montage: Montage | None = None
) -> int | None:
    """Number of the person's night or visit by the montage's pattern; None where it does not fit.

    Raises RecordingError where the pattern's group holds no number.
    """
    for one in _montages(cohort, montage):
        match = re.search(one.night, Path(path).name) if one.night else None
        if match and (text := next((group for group in match.groups() if group), None)):
            if not (text.isascii() and text.isdigit()):
                raise RecordingError(
                    path, f"the montage {one.name!r} finds no number of the night in its name",
                    "correct the montage's `night`: its group must be digits",
                )
            return int(text)
    return None


def recording_name(path: Path | str) -> str:
    """The file's stem as text that can be written anywhere (names need not be valid UTF-8)."""
    return Path(path).stem.encode("utf-8", "backslashreplace").decode()


def _montages(cohort: str | None, montage: Montage | None) -> tuple[Montage, ...]:
    if montage is None:
        return cohort_montages(cohort) if cohort is not None else ()
    return (montage,)


def _groups(pattern: str | None, path: Path | str) -> str | None:
    """The pattern's groups in the file's name, joined; None where it does not fit."""
    match = re.search(pattern, Path(path).name) if pattern else None
    return "".join(group for group in match.groups() if group) if match else None
