"""Waves of the EEG that are the eyes' own: what moves E1 against E2 spreads to frontal leads.

A slow wave or K complex reaches both EOGs with one sign, an eye movement or blink with opposite
ones, and it is larger at the eyes than over the brain. So a wave of the EEG during which E1 and E2
move against each other by more than the wave's own size is taken for the eyes'. The comparison is
this project's. No hypnogram enters.
"""

from __future__ import annotations

import numpy as np

from sleeplm_jax.physiology.detections import Detections, filtered, resampled
from sleeplm_jax.physiology.epochs import EPOCH_SECONDS
from sleeplm_jax.recordings.night import Trace

BAND = (0.3, 4.0)  # Hz: of K complexes and slow waves, and of blinks and most of a saccade
AROUND_S = 0.1  # s to either side of the wave: what spreads is filtered differently


def eyes_against(left: Trace, right: Trace, good: np.ndarray) -> Trace:
    """(E1 - E2) / 2 of both EOGs in µV at 100 Hz, 0.3-4 Hz; zero where not `good`, bool [E]."""
    left, right = resampled(left), resampled(right)
    count = min(len(left.values), len(right.values))
    both = Trace((left.values[:count] - right.values[:count]) / 2, left.rate, left.unit)
    values = filtered(both, *BAND)
    epoch = (np.arange(count) / left.rate / EPOCH_SECONDS).astype(int)
    values[~good[np.minimum(epoch, len(good) - 1)] | (epoch >= len(good))] = 0
    return Trace(values.astype(np.float32), left.rate, left.unit)


def not_of_the_eyes(found: Detections, eyes: Trace | None) -> Detections:
    """`found` (amplitude peak to peak in µV) less the waves in which the eyes move by more."""
    if eyes is None or not len(found):
        return found
    rate, count = eyes.rate, len(eyes.values)
    begin = np.clip(((found.onset - AROUND_S) * rate).astype(int), 0, count - 1)
    until = np.clip(((found.end + AROUND_S) * rate).astype(int) + 1, begin + 1, count)
    moved = np.array([np.ptp(eyes.values[a:b]) for a, b in zip(begin, until)])
    return found.where(moved < found.amplitude)
