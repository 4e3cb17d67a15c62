"""Stages and events from Noxturnal's event export (.csv), in the language of the workplace.

Two header lines (names, units), then start, end, event, duration: date and time of day without a
zone, UTF-16, comma or tab or semicolon between cells. Columns are found by what is in them, as
their names are translated. Read in three real French exports ("Éveil" W, "Micro-éveil" arousal,
"MJ" leg movement, "A. Obstructive"); "Rapide" in one of them is an event and no stage. Words of
other languages than French and English are unverified.
"""

from __future__ import annotations

import collections
import dataclasses
import re

from sleeplm_jax.config import MOVEMENT, UNSCORED
from sleeplm_jax.errors import RecordingError
from sleeplm_jax.recordings.clock import DAY_S, clock_seconds, unwrapped
from sleeplm_jax.recordings.events import plain
from sleeplm_jax.recordings.plain_text import number, rows
from sleeplm_jax.recordings.scored import Reading, Scored
from sleeplm_jax.recordings.stages import N1, N2, N3, R, W

STAGES = {
    "n1": N1, "n2": N2, "n3": N3, "rem": R, "r": R, "wake": W, "w": W, "eveil": W,
    "wach": W, "vigilia": W, "despierto": W, "waak": W, "vaken": W, "vigile": W,
    "unscored": UNSCORED, "non score": UNSCORED, "unknown": UNSCORED, "movement": MOVEMENT,
    "mouvement": MOVEMENT,
}  # fmt: skip
_DATED = re.compile(r"[0-9]{1,4}[./-][0-9]{1,2}[./-][0-9]{1,4}[ T].*[0-9]")


def delimiter_of(text: str) -> str:
    """The cell border that occurs most in the first lines: comma, semicolon or tab."""
    head = "\n".join(text[:4096].splitlines()[:5])
    return max(",;\t", key=head.count)


def looks_like(text: str) -> bool:
    """True where two dated times begin a line among the first ones."""
    for line in text[:8192].splitlines()[:20]:
        cells = [cell.strip() for cell in line.split(delimiter_of(text))]
        if len(cells) >= 3 and _DATED.fullmatch(cells[0]) and _DATED.fullmatch(cells[1]):
            return True
    return False


def read_noxturnal(reading: Reading, text: str) -> Scored:
    """Scoring of a Noxturnal export, by the clock.

    Raises RecordingError where no row is dated, or the columns cannot be told.
    """
    path = reading.path
    found = []
    for line, row in enumerate(rows(path, text, delimiter_of(text)), start=1):
        clocks = [clock_seconds(cell) if _DATED.fullmatch(cell) else None for cell in row[:2]]
        if len(row) < 3 or None in clocks or len(clocks) < 2:
            if found:
                raise RecordingError(
                    path, f"line {line} has no start and end time", "export the events again"
                )
            continue  # the header lines
        found.append((*clocks, row[2:]))
    if not found:
        raise RecordingError(
            path, "no row begins with two dated times", "give a Noxturnal event export"
        )
    column = _name_column([cells for _, _, cells in found])
    starts = unwrapped([start for start, _, _ in found])
    table, scored = reading.codes(STAGES), Scored("noxturnal", clocked=True)
    words = set()
    for start, (clock, end, cells) in zip(starts, found):
        name = cells[column] if column < len(cells) else ""
        lasts = (end - clock) % DAY_S
        for cell in cells[column + 1 :]:  # the duration to a thousandth, where it is exported
            exact = number(cell)
            if exact is not None and abs(exact - lasts) <= 1.5:
                lasts = exact
                break
        stage = table.get(name.casefold(), table.get(plain(name).casefold()))
        if stage is not None:
            words.add(plain(name).casefold())
            scored.spans.append((start, lasts, stage))
        else:
            scored.events.append(reading.event(name, start, lasts))
    if scored.spans:
        zero = min(onset for onset, _, _ in scored.spans)
        scored.clock = zero % DAY_S
        scored.spans = [(onset - zero, lasts, stage) for onset, lasts, stage in scored.spans]
        scored.events = [dataclasses.replace(e, onset=e.onset - zero) for e in scored.events]
    scored.rules = "AASM" if words & {"n1", "n2", "n3"} else "unknown"
    return scored


def _name_column(table: list[list[str]]) -> int:
    """The column (after the two times) that holds words in most rows."""
    words = collections.Counter(
        i for row in table for i, cell in enumerate(row) if cell and number(cell) is None
    )
    return min(words, key=lambda i: (-words[i], i)) if words else 0
