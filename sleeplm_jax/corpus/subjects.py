"""Whose recording is whose, where a file says it: people and families must not be torn apart."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from sleeplm_jax.corpus.discovery import Found
from sleeplm_jax.corpus.jobs import night_file, row_file
from sleeplm_jax.corpus.nightfile import rename_subject
from sleeplm_jax.errors import CorpusError
from sleeplm_jax.files import Place, file_sha256, file_state, write_json

REMEDY = "give a CSV file with the columns recording,subject, a row for each file stem"


@dataclass(frozen=True)
class Named:
    """What a file of subjects says of a night; `family` None: what the file's name gives."""

    subject: str
    family: str | None = None


def read_subjects(path: Path, found: list[Found]) -> dict[str, Named]:
    """Night id -> whose it is, from a CSV file with the columns recording, subject and any family.

    `recording` is a file's stem, or its name in the corpus where several files share the stem.
    Recordings without a row, and families left empty, are as their file's name says.
    Raises CorpusError for an unreadable file, missing columns or values, a recording that is not
    among `found`, one that fits several of them, or two rows for one.
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
        subjects[night] = Named(subject, family or None)
    return subjects


def named_row(nights: Place, night: str, row: dict, named: Named | None) -> dict:
    """The row of a night that is whose `named` says; None: whose its file's name says.

    The night file is rewritten where it names another subject; nothing is measured again.
    """
    subject = named.subject if named else row["file_subject"]
    family = (named.family if named else None) or row["file_family"]
    about = {**row["about"], "subject": subject, "family": family}
    if about == row["about"]:
        return row
    another = row["about"]["subject"] != subject
    row = {**row, "about": about}
    if another:
        path = night_file(nights, night)
        rename_subject(path, subject)
        row |= {"night_state": file_state(path), "sha256": file_sha256(path)}
    write_json(row_file(nights, night), row)
    return row
