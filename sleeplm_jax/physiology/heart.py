"""Heart rate, its course within an epoch, RMSSD, and oxygen saturation.

One definition of heart rate serves ECG and pulse channels: beats (or the channel's samples) become
a curve at 4 Hz, averaged over 4 s *inside* the epoch (about a breath, so that respiratory sinus
arrhythmia does not pass for a change of rate), and extremes, mean and stretches are read off that.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from sleeplm_jax.physiology.epochs import EPOCH_SECONDS, bandpass, slower
from sleeplm_jax.recordings.night import Trace

BEAT_RATE = 200.0  # Hz: at least this for the detector; faster ECGs are decimated towards it
LOWEST_ECG_RATE = 50.0  # Hz: under it a QRS complex is a sample or two
SHORTEST_RR, LONGEST_RR = 0.3, 2.0  # s: 200 and 30 beats a minute
ECTOPIC = 0.3  # an interval this far from the median of eleven is no sinus beat's
BEATS = "r_peaks"  # in Night.extra: what `beat_times` found, where it was asked before
CURVE_RATE = 4.0  # Hz
AVERAGE = 4.0  # s
COVERED = 2 / 3  # share of an epoch that must hold accepted values
TREND = 5.0  # bpm: a stretch rises or falls at least this much, reversals below it are ignored
TREND_EDGE = 0.05  # a stretch runs from 5 to 95 % of its change


def beat_times(ecg: Trace) -> np.ndarray:
    """Times of R peaks in seconds from the trace's start, finer than a sample.

    SleepECG's Pan-Tompkins detector at 200-400 Hz, then the vertex of a parabola through the peak
    (Brunner & Hofer, SleepECG, JOSS 2023). The detector takes R waves to point up: on an inverted
    lead it finds a shoulder 35 ms away, some of the time 90, so such a lead is turned first.
    """
    from sleepecg import detect_heartbeats  # imports in 1.6 s

    trace = slower(ecg, BEAT_RATE)
    values = trace.values.astype(np.float64)
    if len(values) < 4 * trace.rate or np.ptp(values) == 0:
        return np.zeros(0)
    if points_down(trace):
        values = -values
    found = np.asarray(detect_heartbeats(values, trace.rate), int)
    reach = max(round(0.05 * trace.rate), 1)
    found = found[(found > reach) & (found < len(values) - reach - 1)]
    if not len(found):
        return np.zeros(0)
    around = values[found[:, None] + np.arange(-reach - 1, reach + 2)]
    top = around[:, 1:-1].argmax(axis=1) + 1
    rows = np.arange(len(found))
    before, peak, after = around[rows, top - 1], around[rows, top], around[rows, top + 1]
    bend = before - 2 * peak + after
    shift = np.where(bend < 0, 0.5 * (before - after) / np.where(bend < 0, bend, -1), 0.0)
    times = (found + top - reach - 1 + np.clip(shift, -0.5, 0.5)) / trace.rate
    return np.unique(times)


def points_down(ecg: Trace) -> bool:
    """Whether QRS complexes point down: extremes of 2-s windows (each holds a beat), 5-30 Hz."""
    beats = bandpass(ecg, 5.0, min(30.0, 0.49 * ecg.rate)).values
    window = round(2 * ecg.rate)
    windows = beats[: len(beats) // window * window].reshape(-1, window)
    return bool(np.median(windows.max(axis=1)) < np.median(-windows.min(axis=1)))


def sinus_intervals(times: np.ndarray) -> np.ndarray:
    """Which intervals between `times` [n] can be normal beats': bool [n - 1]."""
    intervals = np.diff(times)
    usual = ndimage.median_filter(intervals, 11, mode="nearest") if len(intervals) else intervals
    inside = (intervals >= SHORTEST_RR) & (intervals <= LONGEST_RR)
    return inside & (np.abs(intervals - usual) <= ECTOPIC * usual)


def _curve(times, values, covered, epochs: int) -> np.ndarray:
    """Values at `times` as float64 [E, 120]: 4 Hz, averaged over 4 s; NaN where not covered."""
    grid = (np.arange(round(epochs * EPOCH_SECONDS * CURVE_RATE)) + 0.5) / CURVE_RATE
    if len(times) < 2:
        return np.full((epochs, round(EPOCH_SECONDS * CURVE_RATE)), np.nan)
    curve = np.interp(grid, times, values).reshape(epochs, -1)
    enough = covered(grid).reshape(epochs, -1).mean(axis=1) >= COVERED
    # "nearest" at the epoch's ends: neighbours' beats would tell what this epoch does not show.
    curve = ndimage.uniform_filter1d(curve, round(AVERAGE * CURVE_RATE) + 1, axis=1, mode="nearest")
    curve[~enough] = np.nan
    return curve


def curve_from_beats(times: np.ndarray, epochs: int) -> np.ndarray:
    """Heart rate in bpm from beat `times` (s): [E, 120], NaN rows where beats cannot be trusted."""
    sinus = sinus_intervals(times)
    starts, ends = times[:-1][sinus], times[1:][sinus]

    def covered(grid: np.ndarray) -> np.ndarray:
        last = np.searchsorted(starts, grid, side="right") - 1
        return (last >= 0) & (grid < ends[np.maximum(last, 0)])

    return _curve((starts + ends) / 2, 60 / (ends - starts), covered, epochs)


def curve_from_channel(rate: Trace, epochs: int) -> np.ndarray:
    """Heart rate in bpm from a heart-rate channel: [E, 120]; 30-200 bpm counts as measured."""
    times = (np.arange(len(rate.values)) + 0.5) / rate.rate
    values = np.asarray(rate.values, np.float64)
    good = np.isfinite(values) & (values >= 60 / LONGEST_RR) & (values <= 60 / SHORTEST_RR)

    def covered(grid: np.ndarray) -> np.ndarray:
        index = (grid * rate.rate).astype(int)
        return (index < len(good)) & good[np.minimum(index, len(good) - 1)]

    return _curve(times[good], values[good], covered, epochs)


def rmssd(times: np.ndarray, epochs: int) -> np.ndarray:
    """Root mean square of successive RR differences in each epoch, ms [E]; NaN under 10 of them.

    Task Force of ESC and NASPE 1996. Only differences of two neighbouring sinus intervals count.
    """
    sinus, intervals = sinus_intervals(times), np.diff(times)
    out = np.full(epochs, np.nan)
    if len(intervals) < 2:
        return out
    pairs = sinus[:-1] & sinus[1:]
    squares = np.diff(intervals)[pairs] ** 2
    first = np.floor(times[:-2][pairs] / EPOCH_SECONDS).astype(int)
    last = np.floor(times[2:][pairs] / EPOCH_SECONDS).astype(int)
    within = (first == last) & (first >= 0) & (first < epochs)
    count = np.bincount(first[within], minlength=epochs)
    total = np.bincount(first[within], squares[within], minlength=epochs)
    enough = count >= 10
    out[enough] = 1000 * np.sqrt(total[enough] / count[enough])
    return out


def _pivots(curve: np.ndarray, threshold: float) -> list[int]:
    """Turning points of a curve, ignoring reversals under `threshold` (a zig-zag filter)."""
    low = high = direction = 0
    pivots = []
    for i, value in enumerate(curve):
        if direction >= 0 and value > curve[high]:
            high = i
        if direction <= 0 and value < curve[low]:
            low = i
        if direction >= 0 and curve[high] - value >= threshold:
            pivots.append(high)
            direction, low = -1, i
        elif direction <= 0 and value - curve[low] >= threshold:
            pivots.append(low)
            direction, high = 1, i
    if direction:
        pivots.append(high if direction > 0 else low)
    return pivots


def trends(curve: np.ndarray) -> list[tuple[float, float, float]]:
    """Stretches of one epoch's heart-rate curve [120]: (change in bpm, start s, end s).

    The largest rise and the largest fall of at least 5 bpm between turning points of a zig-zag
    filter of the same threshold, in order of time, from the 5 % to the 95 % point of the change:
    SleepLM's "increasing behavior from a to b" with edges that follow the curve instead of a fixed
    window. The 5 bpm are this project's choice: above what a breath leaves in the 4-s average.
    """
    if not np.isfinite(curve).all() or np.ptp(curve) < TREND:
        return []
    turns = _pivots(curve, TREND)
    best: dict[bool, tuple[float, float, float]] = {}
    for start, end in zip(turns[:-1], turns[1:]):
        leg = curve[start : end + 1]
        change = float(leg[-1] - leg[0])
        done = (leg - leg[0]) / change
        begins = np.flatnonzero(done <= TREND_EDGE)[-1]
        ends = np.flatnonzero(done >= 1 - TREND_EDGE)[0]
        stretch = (change, (start + begins + 0.5) / CURVE_RATE, (start + ends + 0.5) / CURVE_RATE)
        rises = change > 0
        if rises not in best or abs(change) > abs(best[rises][0]):
            best[rises] = stretch
    return sorted(best.values(), key=lambda stretch: stretch[1])


def saturation(spo2: Trace, epochs: int) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and mean SpO2 of each epoch in %, [E] each; NaN where under 2/3 lies in 50-100 %."""
    index = np.floor((np.arange(len(spo2.values)) + 0.5) / spo2.rate / EPOCH_SECONDS).astype(int)
    values = np.asarray(spo2.values, np.float64)
    good = np.isfinite(values) & (values >= 50) & (values <= 100) & (index < epochs)
    count = np.bincount(index[good], minlength=epochs)[:epochs]
    enough = count >= COVERED * EPOCH_SECONDS * spo2.rate
    lowest = np.full(epochs, np.inf)
    np.minimum.at(lowest, index[good], values[good])
    total = np.bincount(index[good], values[good], minlength=epochs)[:epochs]
    mean = np.where(enough, total / np.maximum(count, 1), np.nan)
    return np.where(enough, lowest, np.nan), mean
