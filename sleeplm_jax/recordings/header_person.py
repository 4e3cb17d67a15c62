"""Age and sex from a recording's header: these two, and nothing else that it says of a person.

EDF and BDF: the patient field in EDF+ form, `code sex birthdate name ...`
(https://www.edfplus.info/specs/edfplus.html, "additional specifications"). Names, codes and dates
are looked at here only and leave this module as an age or not at all.
WFDB: header comments, where a montage says what stands in them (`person:`).
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from pathlib import Path

SEXES = {"f": "female", "female": "female", "m": "male", "male": "male"}
AGES = (0, 120)  # years that are believed
# Of an age that dates give: people older than 89 are told apart by it, so it stops at 90 (as US
# law has it, 45 CFR 164.514); 0 and more than 110 years are what made-up dates give.
OLDEST, DUMMY = 90, 110
_MOST_BYTES = 1 << 20
_MONTHS = "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC".split()
_DATE = r"\d\d-[A-Z]{3}-\d{4}"


@dataclass(frozen=True)
class HeaderPerson:
    """What a header says of the person; None where it does not."""

    age: float | None = None  # whole years
    sex: str | None = None  # "female", "male"


NOTHING_SAID = HeaderPerson()


def person_of_edf(fixed: bytes) -> HeaderPerson:
    """Age and sex from the first 256 bytes of an EDF or BDF file in the form of EDF+.

    The age is one written as `33yr` among the name's words (as Sleep-EDF has it), else that of the
    birth date on the start date of the recording field, in whole years, at most OLDEST.
    Sleep-EDF's files keep to the form without calling themselves EDF+, so the form decides: a
    plain EDF's patient field is free text and is not read.
    """
    patient, recording = (fixed[a:b].decode("latin-1").strip("\x00 ") for a, b in
                          ((8, 88), (88, 168)))  # fmt: skip
    form = re.match(rf"\S+ ([FMX]) (X|{_DATE})(?: (.*))?$", patient)
    started = re.match(rf"Startdate (X|{_DATE})(?: |$)", recording)
    if form is None or started is None:
        return NOTHING_SAID
    written = re.search(r"(?:^|[ _])(\d{1,3})yr(?:$|[ _])", form[3] or "")
    age = float(written[1]) if written else _years(form[2], started[1])
    return HeaderPerson(age if age is not None and AGES[0] <= age <= AGES[1] else None,
                        SEXES.get(form[1].casefold()))  # fmt: skip


def person_of_comments(path: Path, pattern: str) -> HeaderPerson | None:
    """Age and sex from the comments of a WFDB header, by a montage's pattern.

    `pattern` has the groups `age` and `sex` and must fit a comment's beginning; the first that it
    fits counts. None for files that are no .hea.
    """
    if path.suffix.casefold() != ".hea":
        return None
    with path.open("rb") as file:
        lines = file.read(_MOST_BYTES).decode("latin-1").splitlines()
    for line in lines:
        if line.startswith("#") and (found := re.match(pattern, line[1:].strip())):
            age = found["age"] or ""
            years = float(age) if re.fullmatch(r"\d{1,3}", age) else None
            return HeaderPerson(
                years if years is not None and AGES[0] <= years <= AGES[1] else None,
                SEXES.get((found["sex"] or "").casefold()),
            )
    return NOTHING_SAID


def _years(born: str, started: str) -> float | None:
    """Whole years between two dates of EDF+ (`02-AUG-1951`), None where either is none."""
    dates = []
    for text in (born, started):
        try:
            day, month, year = text.split("-")
            dates.append(datetime.date(int(year), _MONTHS.index(month) + 1, int(day)))
        except ValueError:  # X, or a day that no month has
            return None
    first, then = dates
    years = then.year - first.year - ((then.month, then.day) < (first.month, first.day))
    return float(min(years, OLDEST)) if 0 < years <= DUMMY else None
