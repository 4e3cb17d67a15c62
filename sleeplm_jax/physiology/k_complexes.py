"""K complexes: single large waves, sharp down and slower up, that stand out of the background.

AASM: a well delineated negative sharp wave immediately followed by a positive one that stands out
from the background EEG, of at least 0.5 s in all, usually largest over the frontal leads. It names
no amplitude; 75 µV peak to peak are taken from the criterion of slow waves, of which N2 would
otherwise hold none. What "stands out" and what tells a K complex from a slow wave of a train is
this project's: as large as `STANDS_OUT` times the background's usual peak to peak, and at most
`NEIGHBOURS` others of `AS_LARGE` its size within `ALONE_S`.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from sleeplm_jax.physiology.background import calm
from sleeplm_jax.physiology.detections import (
    Detections,
    detections,
    filtered,
    inside,
    resampled,
)
from sleeplm_jax.recordings.night import Trace

BAND = (0.3, 4.0)  # Hz: the wave without the spindle that may ride on it
LOWEST_RATE = 64.0  # Hz: 30 Hz, where muscle shows
SHORTEST = 10.0  # s
PEAK_TO_PEAK = (75.0, 500.0)  # µV
DURATION = (0.5, 2.0)  # s; AASM gives no longest
NEGATIVE = (0.08, 0.8)  # s: the sharp half
FALL_TO_RISE = (0.1, 0.9)  # s from the negative to the positive extreme
LEAST_PART = 0.2  # share of the peak to peak that lies below zero, and above
FOOT, REACH_S = 0.1, 1.2  # share of an extreme at which a wave begins and ends; s at most from it
BACKGROUND_S = 10.0  # s to either side
STANDS_OUT = 2.0
ALONE_S, AS_LARGE = 2.5, 0.5  # s to either side; as large as this share of it
NEIGHBOURS = 1  # K complexes may come in pairs, not in trains


def usual_range(values: np.ndarray, rate: float, around_s: float) -> np.ndarray:
    """Median peak to peak of the seconds within `around_s` of each second, [whole seconds]."""
    second = max(int(rate), 1)
    count = len(values) // second
    ranges = np.ptp(values[: count * second].reshape(count, second), axis=1)
    size = min(2 * round(around_s) + 1, max(count, 1))
    return ndimage.median_filter(ranges, size, mode="nearest")


def k_complexes(trace: Trace) -> Detections | None:
    """K complexes of an EEG in µV; peak is the negative one, amplitude peak to peak in 0.3-4 Hz.

    Those under muscle are dropped. `trace` may come from `resampled` already.
    """
    trace = resampled(trace)
    if trace.rate < LOWEST_RATE or len(trace.values) < SHORTEST * trace.rate:
        return None
    x, rate = filtered(trace, *BAND), trace.rate
    _, cross, _, trough, crest = _waves(x)
    size = x[crest] - x[trough]
    usual = usual_range(x, rate, BACKGROUND_S)
    second = np.minimum((trough / int(rate)).astype(int), len(usual) - 1)
    apart = (crest - trough) / rate
    shaped = (
        (size >= PEAK_TO_PEAK[0]) & (size <= PEAK_TO_PEAK[1])
        & (apart >= FALL_TO_RISE[0]) & (apart <= FALL_TO_RISE[1])
        & (np.minimum(-x[trough], x[crest]) >= LEAST_PART * size)
        & (size >= STANDS_OUT * usual[second])
    )
    picked = np.flatnonzero(shaped)
    alone = np.array([_alone(trough, size, wave, rate) for wave in picked], bool)
    picked = picked[alone]
    # A slow drift moves the crossings of zero: begin and end are read off the wave's own foot.
    low, high = trough[picked], crest[picked]
    begin = _back(x, low, FOOT * x[low], rate) / rate
    until = _on(x, high, FOOT * x[high], rate) / rate
    negative = cross[picked] / rate - begin
    keep = (until - begin >= DURATION[0]) & (until - begin <= DURATION[1])
    keep &= (negative >= NEGATIVE[0]) & (negative <= NEGATIVE[1])
    found = detections(begin[keep], until[keep], low[keep] / rate, size[picked][keep])
    return calm(trace, found)


def _back(x: np.ndarray, trough: np.ndarray, level: np.ndarray, rate: float) -> np.ndarray:
    """The last index before each trough at which `x` is at `level` (below zero) or above."""
    index = np.maximum(trough[:, None] - np.arange(1, round(REACH_S * rate) + 1), 0)
    reached = x[index] >= level[:, None]
    steps = np.where(reached.any(axis=1), reached.argmax(axis=1) + 1, index.shape[1])
    return np.maximum(trough - steps, 0)


def _on(x: np.ndarray, crest: np.ndarray, level: np.ndarray, rate: float) -> np.ndarray:
    """The first index behind each crest at which `x` is at `level` (above zero) or below."""
    index = np.minimum(crest[:, None] + np.arange(1, round(REACH_S * rate) + 1), len(x) - 1)
    reached = x[index] <= level[:, None]
    steps = np.where(reached.any(axis=1), reached.argmax(axis=1) + 1, index.shape[1])
    return np.minimum(crest + steps, len(x) - 1)


def _waves(x: np.ndarray) -> tuple[np.ndarray, ...]:
    """Waves below, then above zero, as indices [waves]: begin, crossing, end, lowest, highest."""
    below = x < 0
    edges = np.flatnonzero(below[1:] != below[:-1]) + 1
    if len(edges) and not below[edges[0]]:
        edges = edges[1:]
    count = (len(edges) - 1) // 2
    if count < 1:
        return (np.zeros(0, int),) * 5
    begin, cross, until = edges[0 : 2 * count : 2], edges[1 : 2 * count : 2], edges[2::2][:count]
    return begin, cross, until, _extremes(-x, begin, cross), _extremes(x, cross, until)


def _extremes(x: np.ndarray, begin: np.ndarray, until: np.ndarray) -> np.ndarray:
    """Index of the highest of `x` in each stretch [begin, until)."""
    bounds = np.stack([begin, until], axis=1).ravel()
    padded = np.append(x, -np.inf)
    top = np.maximum.reduceat(padded, bounds)[::2]
    flat, label = inside(begin, until)
    hit = x[flat] == top[label]
    first = np.unique(label[hit], return_index=True)[1]
    return flat[hit][first]


def _alone(trough: np.ndarray, size: np.ndarray, wave: int, rate: float) -> bool:
    first = np.searchsorted(trough, trough[wave] - ALONE_S * rate)
    last = np.searchsorted(trough, trough[wave] + ALONE_S * rate, side="right")
    return int((size[first:last] >= AS_LARGE * size[wave]).sum()) - 1 <= NEIGHBOURS
