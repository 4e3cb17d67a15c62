"""Sawtooth waves: trains of sharp triangular waves of 2-6 Hz over the centre, of REM sleep.

AASM: trains of sharply contoured or triangular, often serrated, 2-6 Hz waves, largest over the
central regions, often before a burst of rapid eye movements. It names neither number nor amplitude.
Three waves in a row are the usual minimum of the literature (unverified); that they are alike and
stand out from the background, and the figures for both, are this project's.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from sleeplm_jax.physiology.detections import (
    Detections,
    detections,
    filtered,
    none_found,
    resampled,
    runs,
)
from sleeplm_jax.recordings.night import Trace

BAND = (1.5, 8.0)  # Hz: 2-6 Hz and enough above it for the edge
FAST_BAND = (8.0, 30.0)  # Hz
LOWEST_RATE = 64.0  # Hz
SHORTEST = 30.0  # s
HERTZ = (2.0, 6.0)
LEAST_WAVES = 4
SIZE = (15.0, 150.0)  # µV peak to peak
ALIKE = 0.45  # the smaller of two neighbouring waves as a share of the larger; periods likewise
STANDS_OUT = 1.5  # times the local median wave of the band
BACKGROUND_S = 30.0  # s to either side


def sawtooth_trains(trace: Trace) -> Detections | None:
    """Trains of sawtooth waves of a central EEG in µV: amplitude is the median wave's peak to peak,
    frequency the inverse of the median period. `trace` may come from `resampled` already.
    """
    trace = resampled(trace)
    rate = trace.rate
    if rate < LOWEST_RATE or len(trace.values) < SHORTEST * rate:
        return None
    x = filtered(trace, *BAND)
    # Waves from crossing to crossing: a serration in between does not cut them.
    above = x >= 0
    up = np.flatnonzero(above[1:] & ~above[:-1]) + 1
    if len(up) < LEAST_WAVES + 1:
        return none_found()
    top = np.maximum.reduceat(x, up)[:-1]
    bottom = np.minimum.reduceat(x, up)[:-1]
    period, size = np.diff(up) / rate, top - bottom
    count = max(round(2 * BACKGROUND_S / max(np.median(period), 1 / 6)), 3)
    usual = ndimage.median_filter(size, min(count, len(size)), mode="nearest")
    good = (period >= 1 / HERTZ[1]) & (period <= 1 / HERTZ[0])
    good &= (size >= SIZE[0]) & (size <= SIZE[1]) & (size >= STANDS_OUT * usual)
    chained = np.zeros(len(good), bool)  # with the wave before
    ratio = np.minimum(size[1:], size[:-1]) / np.maximum(size[1:], size[:-1])
    pace = np.minimum(period[1:], period[:-1]) / np.maximum(period[1:], period[:-1])
    chained[1:] = good[1:] & good[:-1] & (ratio >= ALIKE) & (pace >= ALIKE)
    first, until = runs(chained)
    first = first - 1
    long = until - first >= LEAST_WAVES
    first, until = first[long], until[long]
    return detections(
        up[first] / rate, up[until] / rate, None,
        [np.median(size[a:b]) for a, b in zip(first, until)],
        [1 / np.median(period[a:b]) for a, b in zip(first, until)],
    )
