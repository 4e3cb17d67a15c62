"""Falls of oxygen saturation of 3 points and more: onset, nadir, depth.

AASM speaks of a desaturation of at least 3 % (or 4 %) from the baseline before the event and leaves
its edges open. Here it begins with the last reading at its highest value of the FALL_S before, ends
where RECOVERED of the fall is made up or the next fall begins, and a reading of 1 point up on the
way down does not end it. Readings no person has (below 50 or above 100 %: Levy et al., npj Digital
Medicine 2021, 4:1) and jumps of over 4 % a second (unverified) are a probe's.
"""

from __future__ import annotations

import numpy as np

from sleeplm_jax.physiology.detections import Detections, detections, none_found
from sleeplm_jax.recordings.night import Trace

LEAST_FALL = 3.0  # points
VALID = (50.0, 100.0)  # %
FASTEST = 4.0  # % a second
BACK_UP = 2.0  # points of rise that end a fall
FALL_S = 90.0  # s: slower is the baseline's drift
RECOVERED = 2 / 3  # of the fall
RECOVERY_S = 90.0  # s after the nadir at most
SLIP_S = 15.0  # s for which a probe may slip between two jumps
BRIDGED_S = 15.0  # s of lost readings that a fall may hold


def desaturations(spo2: Trace, least: float = LEAST_FALL) -> Detections | None:
    """Desaturations of at least `least` points: peak is the nadir's time, amplitude the depth.

    Works on whole seconds (the median of a second's samples; a slower trace at its own rate). None
    where the trace is shorter than a minute.
    """
    values, rate = readings(spo2)
    if len(values) < 60 * rate:
        return None
    out: list[tuple[float, float, float, float]] = []
    for begin, until in _stretches(np.isfinite(values), round(BRIDGED_S * rate)):
        part = values[begin:until]
        index = np.arange(len(part))
        known = np.isfinite(part)
        part = np.interp(index, index[known], part[known])
        out += [
            tuple((begin + i) / rate for i in fall[:3]) + (fall[3],)
            for fall in _falls(part, rate, least)
        ]
    if not out:
        return none_found()
    onset, end, nadir, depth = np.array(out).T
    return detections(onset, end, nadir, depth)


def readings(spo2: Trace) -> tuple[np.ndarray, float]:
    """Readings at 1 Hz (or slower), NaN where they are no person's."""
    values = np.asarray(spo2.values, np.float64).copy()
    values[~((values >= VALID[0]) & (values <= VALID[1]))] = np.nan
    rate = spo2.rate
    if rate > 1:
        samples = int(rate)
        count = int(len(values) / rate)
        starts = np.rint(np.arange(count) * rate).astype(int)
        rows = values[np.minimum(starts[:, None] + np.arange(samples), len(values) - 1)]
        some = np.isfinite(rows).any(axis=1)
        values = np.full(count, np.nan)
        values[some] = np.nanmedian(rows[some], axis=1)
        rate = 1.0
    return _without_jumps(values, rate), rate


def _without_jumps(values: np.ndarray, rate: float) -> np.ndarray:
    """Readings [samples] less what lies between a jump and its return; a jump alone is a gap."""
    values = values.copy()
    known = np.flatnonzero(np.isfinite(values))
    step = np.diff(values[known])
    jumps = np.flatnonzero(np.abs(step) > FASTEST * np.diff(known) / rate)
    number = 0
    while number < len(jumps):
        first = jumps[number]
        begin = known[first] + 1
        back = jumps[number + 1] if number + 1 < len(jumps) else None
        if (
            back is not None and step[back] * step[first] < 0
            and known[back] + 1 - begin <= SLIP_S * rate
        ):
            values[begin : known[back] + 1] = np.nan
            number += 2
        else:
            values[begin : begin + int(BRIDGED_S * rate) + 1] = np.nan
            number += 1
    return values


def _stretches(known: np.ndarray, bridged: int) -> list[tuple[int, int]]:
    """Stretches from known to known reading without more than `bridged` lost ones in a row."""
    index = np.flatnonzero(known)
    if not len(index):
        return []
    cuts = np.flatnonzero(np.diff(index) > bridged + 1)
    firsts = np.concatenate([[0], cuts + 1])
    lasts = np.concatenate([cuts, [len(index) - 1]])
    return [(int(index[a]), int(index[b]) + 1) for a, b in zip(firsts, lasts)]


def _falls(values: np.ndarray, rate: float, least: float) -> list[tuple[int, int, int, float]]:
    """(onset, end, nadir, depth) as indices and points, of readings without gaps."""
    out: list[tuple[int, int, int, float]] = []
    longest, free = round(FALL_S * rate), 0
    lows = _lows(values)
    for number, nadir in enumerate(lows):
        first = max(free, nadir - longest)
        if first >= nadir:
            continue
        before = values[first:nadir]
        top = before.max()
        depth = float(top - values[nadir])
        if depth < least - 1e-6:
            continue
        onset = first + int(np.flatnonzero(before >= top - 1e-6)[-1])
        limit = min(len(values), nadir + round(RECOVERY_S * rate) + 1)
        if number + 1 < len(lows):
            limit = min(limit, lows[number + 1])
        after = values[nadir:limit]
        back = np.flatnonzero(after >= values[nadir] + RECOVERED * depth - 1e-6)
        # No recovery: it ends where it came highest before falling again.
        end = nadir + int(back[0] if len(back) else np.flatnonzero(after == after.max())[-1])
        out.append((onset, max(end, nadir), nadir, depth))
        free = nadir
    return out


def _lows(values: np.ndarray) -> list[int]:
    """First readings of the lowest values between rises and falls of BACK_UP points."""
    lows: list[int] = []
    low = high = 0
    falling = False
    for i, value in enumerate(values):
        if falling:
            if value < values[low]:
                low = i
            elif value - values[low] >= BACK_UP - 1e-6:
                lows.append(low)
                falling, high = False, i
        elif value > values[high]:
            high = i
        elif values[high] - value >= BACK_UP - 1e-6:
            falling, low = True, i
    if falling:
        lows.append(low)
    return lows
