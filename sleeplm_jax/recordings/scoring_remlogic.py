"""Stages and events from a REMlogic report (.txt), as the CAP Sleep Database gives them.

Lines about the recording, then a table with tabs: Sleep Stage, (Position,) Time [hh:mm:ss], Event,
Duration[s], Location. Rows with SLEEP-S0 to SLEEP-S4, SLEEP-REM, SLEEP-MT or SLEEP-UNSCORED are
epochs, all others events; MCAP-A1 to A3 are phases A of the cyclic alternating pattern. Source:
public readers of the database, one of them its authors' own; no real file was at hand.
"""

from __future__ import annotations

import re

from sleeplm_jax.config import MOVEMENT, UNSCORED
from sleeplm_jax.errors import RecordingError
from sleeplm_jax.recordings.clock import DAY_S, clock_seconds, unwrapped
from sleeplm_jax.recordings.plain_text import length, rows, seconds
from sleeplm_jax.recordings.scored import Reading, Scored
from sleeplm_jax.recordings.stages import EPOCH_S, N1, N2, N3, R, W, reject_codes

STAGES = {
    "sleep-s0": W, "sleep-s1": N1, "sleep-s2": N2, "sleep-s3": N3, "sleep-s4": N3,
    "sleep-rem": R, "sleep-mt": MOVEMENT, "sleep-unscored": UNSCORED,
}  # fmt: skip
_COLUMN = re.compile(r"(time|event|duration)\b.*", re.IGNORECASE)


def looks_like(text: str) -> bool:
    return _heading(text[:16_384]) is not None


def _heading(text: str) -> int | None:
    """Index of the table's heading among the lines."""
    for index, line in enumerate(text.splitlines()[:400]):
        names = {cell.strip().casefold()[:8] for cell in line.split("\t")}
        if "sleep st" in names and "event" in names and any(n.startswith("time") for n in names):
            return index
    return None


def read_remlogic(reading: Reading, text: str) -> Scored:
    """Scoring of a REMlogic report, by the clock.

    Raises RecordingError for rows without a time, and for unknown SLEEP- events.
    """
    path, begin = reading.path, _heading(text)
    if begin is None:
        raise RecordingError(path, "has no REMlogic table", "export the report again")
    heading, *body = rows(path, "\n".join(text.splitlines()[begin:]), "\t")
    at = {m[1].casefold(): i for i, name in enumerate(heading) if (m := _COLUMN.fullmatch(name))}
    if len(at) < 3:
        raise RecordingError(
            path, f"has the columns {', '.join(heading)[:120]}", "Time, Event, Duration are needed"
        )
    found = []
    for line, row in enumerate(body, start=begin + 2):
        clock = clock_seconds(row[at["time"]]) if len(row) > max(at.values()) else None
        if clock is None:
            raise RecordingError(path, f"line {line} has no time of day", "correct that line")
        lasts = length(path, line, seconds(path, line, row[at["duration"]]))
        found.append((clock, lasts, row[at["event"]], row))
    table, unknown = reading.codes(STAGES), set()
    scored, events = Scored("remlogic", clocked=True), []
    place = next((i for i, n in enumerate(heading) if n.casefold() == "location"), None)
    for start, (_, lasts, name, row) in zip(unwrapped([f[0] for f in found]), found):
        if name.casefold() in table:
            scored.spans.append((start, lasts or EPOCH_S, table[name.casefold()]))
            scored.stage_4 |= name.casefold() == "sleep-s4"
        elif name.casefold().startswith("sleep-"):
            unknown.add(name)
        else:
            channel = row[place] or None if place is not None and place < len(row) else None
            events.append((name, start, lasts, channel))
    reject_codes(path, unknown, ", ".join(STAGES).upper())
    zero = min((onset for onset, _, _ in scored.spans), default=0.0)
    scored.clock, scored.rules = zero % DAY_S, "R&K"
    scored.spans = [(onset - zero, lasts, stage) for onset, lasts, stage in scored.spans]
    scored.events = [
        reading.event(name, start - zero, lasts, channel=channel)
        for name, start, lasts, channel in events
    ]
    return scored
