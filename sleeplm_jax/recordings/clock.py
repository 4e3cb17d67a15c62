"""Times of day in scoring files: reading them, and placing them after a recording's start.

Dates are read past and never kept: only the time of day is used, unwrapped over midnight.
"""

from __future__ import annotations

import datetime
import re

DAY_S = 86_400.0
_CLOCK = re.compile(
    r"(?:[0-9A-Za-z./-]{4,11}[ T_-])?"  # a date before it, of any form
    r"([0-9]{1,2})[:.]([0-9]{2})[:.]([0-9]{2})(?:[.,]([0-9]{1,9}))?\s?([AaPp]\.?[Mm]\.?)?"
)


def clock_seconds(text: str) -> float | None:
    """Seconds after midnight of "23:04:05", "23.04.05", "11:04:05.250 PM", with a date before it
    or none; None for what is no time of day."""
    match = _CLOCK.fullmatch(text.strip()[:40])
    if match is None:
        return None
    hour, minute, second = (int(match[i]) for i in (1, 2, 3))
    half = (match[5] or "").casefold()[:1]
    if minute > 59 or second > 60 or hour > (12 if half else 24) or (half and hour == 0):
        return None
    if half:
        hour = hour % 12 + (12 if half == "p" else 0)
    fraction = float(f"0.{match[4]}") if match[4] else 0.0
    return (hour * 3600 + minute * 60 + second + fraction) % DAY_S


def seconds_of(time: datetime.time) -> float:
    """Whole seconds after midnight; a scoring's header and clock hold no fraction of one."""
    return float(time.hour * 3600 + time.minute * 60 + time.second)


def difference(later: float, earlier: float) -> float:
    """Seconds from `earlier` to `later`, times of day, within half a day either way."""
    return (later - earlier + DAY_S / 2) % DAY_S - DAY_S / 2


def since(clock: float, start: float, duration_s: float | None) -> float:
    """Seconds from a recording's start to a time of day, across midnight.

    Within the recording where that is possible (it may last a day); else before its start or after
    its end, whichever is nearer. Without a duration, times up to 6 h before the start are before.
    """
    after = (clock - start) % DAY_S
    end = DAY_S * 0.75 if duration_s is None else duration_s
    if after <= end or after - end <= DAY_S - after:
        return after
    return after - DAY_S


def unwrapped(clocks: list[float]) -> list[float]:
    """Times of day in file order as seconds that go on over midnight: each is taken within half a
    day of the one before it, so a gap of 12 hours or more cannot be told from none."""
    out: list[float] = []
    for clock in clocks:
        out.append(clock if not out else out[-1] + difference(clock, out[-1] % DAY_S))
    return out
