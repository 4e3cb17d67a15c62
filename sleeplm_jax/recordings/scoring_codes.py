"""Plain hypnograms: one stage code per line or in a JSON list, and the cohorts that use them.

A digit alone says nothing: 1 is N1 for the NSRR and ISRUC and REM for UCDDB, 4 is S4, N3 or REM.
So digits are read with a declared map only: `Dialect.stages`, a cohort's format named by
`Dialect.format` ("ucddb", "isruc"), or a file that names its archive (ucddb002_stage.txt, a Dreem
JSON list).

- UCDDB `_stage.txt`: 0 W, 1 REM, 2 S1, 3 S2, 4 S3, 5 S4, 6 artefact, 7 indeterminate; 8 occurs
  and is not scored (unverified). Read in 12 real files; on one whole night the stager YASA agrees
  with this reading by kappa 0.81, and by 0.22 where the codes are taken for the NSRR's.
- UCDDB `_respevt.txt` beside it: see `respiratory_events`.
- ISRUC `1_1.txt`, `1_2.txt` (recording 1, scorers 1 and 2): 0 W, 1 N1, 2 N2, 3 N3, 5 R
  (unverified: public readers of the data set).
- Dreem DOD: a JSON list of -1 not scored, 0 W, 1 N1, 2 N2, 3 N3, 4 R, of 30 s each (README of
  Dreem-Organization/dreem-learning-evaluation); the folder scorer_N names the scorer.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from sleeplm_jax.config import UNSCORED
from sleeplm_jax.errors import RecordingError
from sleeplm_jax.recordings.clock import clock_seconds, seconds_of, since
from sleeplm_jax.recordings.night import Event
from sleeplm_jax.recordings.plain_text import read_text
from sleeplm_jax.recordings.scored import Reading, Scored
from sleeplm_jax.recordings.stages import (
    LONGEST_S,
    N1,
    N2,
    N3,
    STAGE_4_WORDS,
    STAGE_WORDS,
    R,
    W,
    reject_codes,
    rules_of,
)

UCDDB = {"0": W, "1": R, "2": N1, "3": N2, "4": N3, "5": N3,
         "6": UNSCORED, "7": UNSCORED, "8": UNSCORED}  # fmt: skip
ISRUC = {"0": W, "1": N1, "2": N2, "3": N3, "5": R}
DREEM = {"-1": UNSCORED, "0": W, "1": N1, "2": N2, "3": N3, "4": R}
MAPS = {"ucddb": UCDDB, "isruc": ISRUC, "dreem": DREEM}
UCDDB_NAME = re.compile(r"ucddb[0-9]{3}.*_stage\.txt", re.IGNORECASE)
_CODE = re.compile(r"(sleep stage )?[\w?+.-]{1,12}", re.IGNORECASE)
_EVENT = re.compile(
    r"\s*([0-9]{2}:[0-9]{2}:[0-9]{2})\s+([A-Z]+(?:-[A-Z])?)\s+(?:(PB|CS)\s+)?([0-9]{1,4})(?:\s|$)"
)


def looks_like(text: str) -> bool:
    """True for lines of one short word or number each, "#" remarks aside."""
    lines = [line.strip() for line in text[:8192].splitlines()[:200]]
    words = [line for line in lines if line and not line.startswith("#")]
    return bool(words) and all(_CODE.fullmatch(word) for word in words[:-1] or words)


def read_codes(reading: Reading, text: str, archive: str | None = None) -> Scored:
    """Scoring of one code per line, every line `Dialect.epoch_s` long.

    `archive` ("ucddb", "isruc") gives its map. Raises RecordingError where digits have no declared
    map, and for codes outside it.
    """
    path, dialect = reading.path, reading.dialect
    lines = [line.strip() for line in text.splitlines()]
    codes = [_plain(line) for line in lines if line and not line.startswith("#")]
    archive = archive or (dialect.format if dialect.format in MAPS else None)
    if archive is None and UCDDB_NAME.fullmatch(path.name):
        archive = "ucddb"
    known = MAPS.get(archive or "") or (None if dialect.stages else _words(path, set(codes)))
    table = reading.codes(known or {})
    reject_codes(path, set(codes) - set(table), f"{', '.join(table)} (case does not matter)")
    if len(codes) * dialect.epoch_s > LONGEST_S:
        raise RecordingError(path, f"has {len(codes)} epochs", "give one night's scoring")
    scored = Scored(
        archive or "codes",
        [(i * dialect.epoch_s, dialect.epoch_s, table[code]) for i, code in enumerate(codes)],
    )
    if archive == "ucddb":
        scored.stage_4, scored.rules = "5" in codes, "R&K"  # S1 to S4 are what it scores
        _add_respiratory_events(reading, scored)
    elif archive == "isruc":
        match = re.fullmatch(r".*_([0-9])", path.stem)
        scored.scorer = match[1] if match else None
    elif known is not None:
        scored.rules = rules_of(codes)
        scored.stage_4 = bool(set(codes) & STAGE_4_WORDS)
    return scored


def _plain(code: str) -> str:
    return code.casefold().removeprefix("sleep stage ").removesuffix(".0")


def _words(path: Path, codes: set[str]) -> dict[str, int]:
    """The map of codes that need none: words, or digits 1 to 4 beside both W and R."""
    digits = {code for code in codes if code.lstrip("-").isdigit()}
    if digits and not (digits <= {"1", "2", "3", "4"} and {"w", "r"} <= codes):
        raise RecordingError(
            path,
            f"has one stage code per line, among them {', '.join(sorted(digits)[:8])}, and digits "
            "mean other stages in other cohorts (1 is N1 for ISRUC and the NSRR, REM for UCDDB)",
            "name the cohort (ucddb, isruc) or a montage whose scoring part says stages: {code: "
            "stage}",
        )
    return STAGE_WORDS


def _add_respiratory_events(reading: Reading, scored: Scored) -> None:
    """Events of UCDDB's `_respevt.txt` beside its stages; they are the same night's scoring."""
    stem = reading.path.stem
    if not stem.casefold().endswith("_stage"):
        return
    path = reading.path.with_name(f"{stem[:-6]}_respevt.txt")
    if not path.is_file():
        return
    if reading.start is None:
        scored.flags += (
            f"events_left_out: {path.name} has clock times, and the recording's start is unknown",
        )
        return
    scored.events += respiratory_events(reading, path)


def respiratory_events(reading: Reading, path: Path) -> list[Event]:
    """UCDDB's respiratory events, seconds from the recording's start, across midnight.

    Lines "00:29:13  HYP-C   (PB or CS)  16  89.9  4.1 ...": time of day, type (APNEA or HYP with O,
    C or M), whether in periodic or Cheyne-Stokes breathing, duration in s, lowest saturation, fall,
    snore, arousal, heart rate, its change. The saturation has no time of its own and is not kept.
    Source: public readers of the data set and the lines they quote. Raises RecordingError for a
    line with a time that is no event.
    """
    events = []
    for line, text in enumerate(read_text(path).splitlines(), start=1):
        if not re.match(r"\s*[0-9]{2}:[0-9]{2}:[0-9]{2}\b", text):
            continue  # three lines of heading
        match = _EVENT.match(text)
        clock = clock_seconds(match[1]) if match else None
        if clock is None:
            raise RecordingError(path, f"line {line} is no event", "correct or remove that line")
        onset = since(clock, seconds_of(reading.start), reading.duration_s)
        wording = match[2] + (f" {match[3]}" if match[3] else "")
        kind = {"kind": "hypopnea"} if match[2].startswith("HYP") else {}
        events.append(reading.event(wording, onset, float(match[4]), **kind))
    return events


def read_dreem(reading: Reading, text: str) -> Scored:
    """Scoring of a Dreem JSON hypnogram. Raises RecordingError for another JSON."""
    path = reading.path
    try:
        codes = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecordingError(
            path, f"not a readable JSON ({type(error).__name__})", "export the scoring again"
        ) from None
    if not isinstance(codes, list) or not codes or any(type(code) is not int for code in codes):
        raise RecordingError(
            path, "is a JSON, but no list of stage codes", "give a list of -1 and 0 to 4"
        )
    if len(codes) * 30 > LONGEST_S:
        raise RecordingError(path, f"has {len(codes)} epochs", "give one night's scoring")
    table = reading.codes(DREEM)
    reject_codes(path, {c for c in set(codes) if str(c) not in table}, "-1 and 0 to 4")
    scorer = re.fullmatch(r"scorer_([0-9]{1,2})", path.parent.name)
    return Scored(
        "dreem",
        [(i * 30.0, 30.0, table[str(code)]) for i, code in enumerate(codes)],
        rules="AASM",
        scorer=scorer[1] if scorer else None,
    )
