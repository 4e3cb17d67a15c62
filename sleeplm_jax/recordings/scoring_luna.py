"""Stages and events from Luna's `.annot` (APPLES, PATS and others on sleepdata.org).

Tab between cells: class, instance, channel, start, stop and at most one cell of details; lines
beginning with # are remarks. Times are elapsed seconds (120), times of day (23:30:02, 11:30:02pm),
elapsed hours (0+02:00:00) or epochs (e:10); a stop may also be a duration (+30) or "...", until
the next line's start. Source: https://zzz.bwh.harvard.edu/luna/ref/annotations/ and
https://zzz.bwh.harvard.edu/luna/vignettes/times/; names of classes from Luna's nsrr-remap. No real
file was at hand; older files with fewer columns are refused.
"""

from __future__ import annotations

import re

from sleeplm_jax.config import UNSCORED
from sleeplm_jax.errors import RecordingError
from sleeplm_jax.recordings.clock import DAY_S, clock_seconds, seconds_of, since
from sleeplm_jax.recordings.plain_text import number, rows
from sleeplm_jax.recordings.scored import Reading, Scored
from sleeplm_jax.recordings.scoring_nsrr import CONCEPTS
from sleeplm_jax.recordings.stages import (
    EPOCH_S,
    N1,
    N2,
    N3,
    STAGE_4_WORDS,
    STAGE_WORDS,
    reject_codes,
    rules_of,
)

HEADER = ("class", "instance", "channel", "start", "stop")
# "L": lights on, "U": unscored, "?" and "-": unknown or a gap.
STAGES = CONCEPTS | STAGE_WORDS | {
    "nrem1": N1, "nrem2": N2, "nrem3": N3, "nrem4": N3, "n4": N3,
    "u": UNSCORED, "l": UNSCORED, "-": UNSCORED, "": UNSCORED,
}  # fmt: skip
_STAGE_CLASSES = ("stage", "sleepstage", "sleep stage", "sleep_stage", "stages")
_ELAPSED = re.compile(r"0\+([0-9]{1,3}):([0-9]{2}):([0-9]{2}(?:\.[0-9]{1,9})?)")
_EPOCH = re.compile(r"e:([0-9]{1,6})")


def looks_like(text: str) -> bool:
    """True for Luna's header, or lines of five or six cells whose fourth is a time."""
    for line in text[:8192].splitlines()[:50]:
        if not line.strip() or line.startswith("#"):
            continue
        cells = [cell.strip() for cell in line.split("\t")]
        if tuple(cell.casefold() for cell in cells[:5]) == HEADER:
            return True
        return len(cells) in (5, 6) and _form(cells[3]) is not None and bool(cells[0])
    return False


def read_luna(reading: Reading, text: str) -> Scored:
    """Scoring of a Luna annotation file.

    Times of day are placed after the recording's start, across midnight; without one the first
    stage counts as the start, with a flag. Raises RecordingError for unusable times or columns.
    """
    path, table = reading.path, reading.codes(STAGES)
    lines = [
        (number_, row)
        for number_, row in enumerate(rows(path, text, "\t"), start=1)
        if not row[0].startswith("#") and tuple(c.casefold() for c in row[:5]) != HEADER
    ]
    zero, clocked = _zero(reading, lines, table)
    scored, words, unknown = Scored("luna"), set(), set()
    following = [_start(reading, line, row, zero) for line, row in lines] + [None]
    for i, (line, row) in enumerate(lines):
        onset = following[i]
        stop = row[4]
        if stop == "...":
            end = following[i + 1]
            lasts = 0.0 if end is None else end - onset
        elif stop.startswith("+"):
            lasts = number(stop[1:])
        elif (form := _form(stop)) == "clock" and _form(row[3]) == "clock":
            lasts = (clock_seconds(stop) - clock_seconds(row[3])) % DAY_S
        else:
            lasts = None if form is None else _place(stop, zero, reading) - onset
        if lasts is None or lasts < 0:
            raise RecordingError(path, f"line {line}: {stop[:20]!r} is no stop", "correct it")
        name, instance = row[0], row[1]
        word = name.casefold()
        if word in _STAGE_CLASSES:
            word = instance.casefold()
            if word not in table:
                unknown.add(instance)
                continue
        if word in table and word:
            words.add(word)
            scored.spans.append((onset, lasts, table[word]))
        else:
            channel = row[2] if row[2] not in ("", ".") else None
            wording = name if instance in ("", ".", name) else f"{name} {instance}"
            scored.events.append(reading.event(wording, onset, lasts, channel=channel))
    reject_codes(path, unknown, "W, N1, N2, N3, R, ?, NREM1 to NREM4, REM, wake")
    if clocked and reading.start is None:
        scored.flags = (
            "start_unknown: the scoring has clock times and the recording none; its first "
            "stage is taken for the recording's start",
        )
    scored.rules, scored.stage_4 = rules_of(words), bool(words & STAGE_4_WORDS)
    return scored


def _form(text: str) -> str | None:
    if _ELAPSED.fullmatch(text):
        return "elapsed"
    if _EPOCH.fullmatch(text):
        return "epoch"
    if number(text) is not None:
        return "seconds"
    return "clock" if clock_seconds(text) is not None else None


def _zero(reading: Reading, lines, table) -> tuple[float, bool]:
    """Time of day of the recording's start, s; and whether any line is by the clock."""
    for line, row in lines:
        if len(row) not in (5, 6) or _form(row[3]) is None:
            raise RecordingError(
                reading.path,
                f"line {line} has {len(row)} cells" if len(row) not in (5, 6)
                else f"line {line}: {row[3][:20]!r} is no start",
                "class, instance, channel, start, stop are needed, with tabs between them",
            )  # fmt: skip
    clocked = [row for _, row in lines if _form(row[3]) == "clock"]
    if reading.start is not None:
        return seconds_of(reading.start), bool(clocked)
    for row in clocked:
        if row[0].casefold() in table or row[0].casefold() in _STAGE_CLASSES:
            return clock_seconds(row[3]), True
    return 0.0, bool(clocked)


def _start(reading: Reading, line: int, row: list[str], zero: float) -> float:
    return _place(row[3], zero, reading)


def _place(text: str, zero: float, reading: Reading) -> float:
    """Seconds from the recording's start of a start or stop of any of the four forms."""
    form = _form(text)
    if form == "elapsed":
        hours, minutes, rest = _ELAPSED.fullmatch(text).groups()
        return int(hours) * 3600 + int(minutes) * 60 + float(rest)
    if form == "epoch":
        return (int(_EPOCH.fullmatch(text)[1]) - 1) * EPOCH_S
    if form == "seconds":
        return number(text)
    return since(clock_seconds(text), zero, reading.duration_s)
