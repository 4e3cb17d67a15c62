"""Vertex sharp waves: short single negative waves over the centre that stand out.

AASM: sharply contoured waves under 0.5 s, largest over the central region and distinguishable from
the background. It names no amplitude; the criterion here is relative to the background alone, with
30 µV so that the calm of a quiet recording is none. A wave of 0.5 s and longer with a positive wave
behind it is a K complex, and too wide here; an ECG's R wave is too narrow, its T wave regular.
"""

from __future__ import annotations

import numpy as np
from scipy import signal

from sleeplm_jax.physiology.background import calm
from sleeplm_jax.physiology.detections import Detections, detections, filtered, resampled
from sleeplm_jax.physiology.k_complexes import usual_range
from sleeplm_jax.recordings.night import Trace

BAND = (1.0, 15.0)  # Hz: the slow waves away, the sharp edge kept
LOWEST_RATE = 64.0  # Hz: 30 Hz, where muscle shows
SHORTEST = 10.0  # s
LEAST = 30.0  # µV below its surroundings
STANDS_OUT = 1.6  # times the background's usual peak to peak
BACKGROUND_S = 10.0  # s to either side
HALF_WIDTH = (0.07, 0.15)  # s at half depth; an R wave is 0.03, a K complex's half wave over 0.2
ALONE_S, AS_LARGE = 0.6, 0.7  # s to either side; as deep as this share of it
BOTH_S = 0.1  # s between C3's and C4's peaks of one wave


def vertex_waves(trace: Trace, other: Trace | None = None) -> Detections | None:
    """Vertex waves of a central EEG in µV; amplitude is its depth below its surroundings, 1-15 Hz.

    With `other`, the other central channel, only those that both show. Either trace may come from
    `resampled` already.
    """
    found = _of_one(trace)
    if found is None or other is None:
        return found
    theirs = _of_one(other)
    return None if theirs is None else found.with_partner(theirs, BOTH_S)


def _of_one(trace: Trace) -> Detections | None:
    trace = resampled(trace)
    rate = trace.rate
    if rate < LOWEST_RATE or len(trace.values) < SHORTEST * rate:
        return None
    x = filtered(trace, *BAND)
    usual = usual_range(x, rate, BACKGROUND_S)
    peaks, about = signal.find_peaks(-x, prominence=LEAST, wlen=round(rate) + 1)
    depth = about["prominences"]
    second = np.minimum((peaks / int(rate)).astype(int), len(usual) - 1)
    widths, _, first, last = signal.peak_widths(
        -x, peaks, rel_height=0.5,
        prominence_data=(depth, about["left_bases"], about["right_bases"]),
    )
    widths /= rate
    good = (widths >= HALF_WIDTH[0]) & (widths <= HALF_WIDTH[1])
    good &= (depth >= STANDS_OUT * usual[second]) & (-x[peaks] >= depth / 2)
    picked = np.flatnonzero(good)
    alone = [
        int((
            depth[np.searchsorted(peaks, peaks[p] - ALONE_S * rate) : np.searchsorted(
                peaks, peaks[p] + ALONE_S * rate, side="right")] >= AS_LARGE * depth[p]
        ).sum()) == 1
        for p in picked
    ]
    picked = picked[np.array(alone, bool)]
    middle = (first[picked] + last[picked]) / 2 / rate
    # A bell is 1.82 times as wide at a tenth of its height as at half.
    half = 0.91 * widths[picked]
    found = detections(middle - half, middle + half, peaks[picked] / rate, depth[picked])
    return calm(trace, found)
