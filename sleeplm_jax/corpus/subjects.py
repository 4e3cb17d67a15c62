"""Whose recording is whose, where a file says it: people and families must not be torn apart."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

from sleeplm_jax.corpus.discovery import Found
from sleeplm_jax.corpus.jobs import STATED, night_file, row_file
from sleeplm_jax.corpus.nightfile import restate_person
from sleeplm_jax.errors import CorpusError
from sleeplm_jax.files import file_sha256, write_json
from sleeplm_jax.places import Place, file_state
from sleeplm_jax.recordings.header_person import AGES, SEXES
from sleeplm_jax.recordings.montage_subjects import BMIS

NIGHTS = 10_000  # of one person, as an upper limit
REMEDY = "give a CSV file with the columns recording,subject, a row for each file stem"


@dataclass(frozen=True)
class Named:
    """What a file of subjects says of a night; None: what the recording's name and files give."""

    subject: str
    family: str | None = None
    age: float | None = None  # years
    sex: str | None = None  # "female", "male"
    bmi: float | None = None  # kg/m2
    night_number: int | None = None
    flags: tuple[str, ...] = ()  # join Provenance.cohort_flags


def read_subjects(path: Path, found: list[Found]) -> dict[str, Named]:
    """Night id -> whose it is, from a CSV file with the columns recording, subject and any further.

    These are family, age (years), sex (female, male, F, M), bmi (kg/m2), night (number of the
    person's night) and flags (`sleep_wake_scoring_only`, ..., a semicolon between two).
    `recording` is a file's stem, or its name in the corpus where several files share the stem.
    Recordings without a row, and values left empty, are as the recording's name and files say.
    Raises CorpusError for an unreadable file, missing columns or values, a value that cannot be, a
    recording that is not among `found`, one that fits several of them, or two rows for one.
    """
    path = Path(path)
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns = [name.strip() for name in reader.fieldnames or ()]
            reader.fieldnames = columns
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CorpusError(
            path, f"cannot be read as a CSV file ({type(error).__name__})", REMEDY
        ) from error
    absent = [name for name in ("recording", "subject") if name not in columns]
    if absent:
        raise CorpusError(path, f"has no column {' and no column '.join(absent)}", REMEDY)
    by_name: dict[str, set[str]] = {}
    for one in found:
        for name in (one.path.stem, one.night):
            by_name.setdefault(name, set()).add(one.night)
    subjects: dict[str, Named] = {}
    for number, row in enumerate(rows, start=2):
        recording, subject = ((row[n] or "").strip() for n in ("recording", "subject"))
        family = (row.get("family") or "").strip()
        if not recording or not subject or not (subject + family).isprintable():
            raise CorpusError(path, f"row {number} lacks a recording or a subject", REMEDY)
        # A night's own name first: "a" is also the stem of the night "p1-a" elsewhere.
        fits = {recording} & {one.night for one in found} or by_name.get(recording, set())
        if not fits:
            raise CorpusError(
                path, f"row {number} names {recording!r}, which is none of the {len(found)} "
                "recordings", "write the file's name without its suffix, or remove the row",
            )
        if len(fits) > 1:
            raise CorpusError(
                path, f"row {number}: {recording!r} is the name of {len(fits)} recordings",
                f"tell them apart as {', '.join(sorted(fits)[:3])}",
            )
        night = fits.pop()
        if night in subjects:
            raise CorpusError(path, f"row {number} names {recording!r} again", "keep one row")
        subjects[night] = Named(
            subject, family or None,
            age=_number(path, number, row, "age", *AGES),
            sex=_sex(path, number, row),
            bmi=_number(path, number, row, "bmi", *BMIS),
            night_number=_night(path, number, row),
            flags=_flags(path, number, row),
        )
    return subjects


def _number(
    path: Path, number: int, row: dict, name: str, low: float, high: float
) -> float | None:
    text = (row.get(name) or "").strip()
    try:
        value = float(text) if text else None
    except ValueError:
        value = float("nan")
    if value is not None and not low <= value <= high:
        raise CorpusError(
            path, f"row {number}: {name} is {text[:20]!r}",
            f"give a number from {low} to {high}, or leave it empty",
        )
    return value


def _sex(path: Path, number: int, row: dict) -> str | None:
    text = (row.get("sex") or "").strip()
    if text and text.casefold() not in SEXES:
        raise CorpusError(
            path, f"row {number}: sex is {text[:20]!r}",
            "give female, male, F, M, or leave it empty",
        )
    return SEXES.get(text.casefold())


def _night(path: Path, number: int, row: dict) -> int | None:
    value = _number(path, number, row, "night", 1, NIGHTS)
    if value is not None and value != int(value):
        raise CorpusError(path, f"row {number}: night is {value:g}", "give a whole number")
    return None if value is None else int(value)


def _flags(path: Path, number: int, row: dict) -> tuple[str, ...]:
    flags = [flag.strip() for flag in (row.get("flags") or "").split(";") if flag.strip()]
    for flag in flags:
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,59}", flag):
            raise CorpusError(
                path, f"row {number}: a flag is {flag[:20]!r}",
                "write flags in small letters, digits and _, as sleep_wake_scoring_only, with a "
                "semicolon between two",
            )
    return tuple(sorted(set(flags)))


def named_row(nights: Place, night: str, row: dict, named: Named | None) -> dict:
    """The row of a night that is whose `named` says; None: whose the recording says.

    Subject, age, sex, BMI and the night's number go into the row, its quality record and the night
    file, which is rewritten where they differ; nothing is measured again. Flags are not among
    them: stages scored as sleep and wake are measured otherwise, so they are of the night's job,
    and a night with other flags is prepared again.
    """
    subject = named.subject if named else row["file_subject"]
    family = (named.family if named else None) or row["file_family"]
    stated = {}
    for key in STATED:
        said = getattr(named, key) if named else None
        stated[key] = row["file_stated"][key] if said is None else said
    before = row["about"]
    about = {**before, "subject": subject, "family": family, **stated}
    if about == before:
        return row
    row = {**row, "about": about}
    if any(about[key] != before[key] for key in ("subject", *STATED)):
        path = night_file(nights, night)
        restate_person(path, subject, stated)
        quality = row["quality"]
        row["quality"] = {**quality, "provenance": quality["provenance"] | stated}
        row |= {"night_state": file_state(path), "sha256": file_sha256(path)}
    write_json(row_file(nights, night), row)
    return row
