"""Sawtooth waves: trains of 2-6 Hz over the centre that stand out of a low background, in REM.

AASM: trains of sharply contoured or triangular, often serrated, 2-6 Hz waves, largest over the
central regions, often before a burst of rapid eye movements. It names neither number nor amplitude.
Here: 2 s and longer in which 2-6 Hz holds most of the power and is larger than the minutes around
it. That is all that power can tell: other rhythmic theta is found as well (see docs/detectors.md
for how much), the triangular shape is not judged.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from sleeplm_jax.physiology.detections import Detections, detections, filtered, resampled, runs
from sleeplm_jax.recordings.night import Trace

HERTZ = (2.0, 6.0)
SLOW, FAST = (0.3, 1.5), (7.0, 30.0)  # Hz: what it is compared with
LOWEST_RATE = 64.0  # Hz
SHORTEST = 30.0  # s
WINDOW_S = 2.0  # four waves at 2 Hz
STEPS = 10.0  # Hz: of the powers
LEAST_S = 2.0
LARGEST = 40.0  # µV RMS: above, a movement
SHARE = 0.55  # of the power of the three bands
STANDS_OUT = 1.25  # times the median RMS of the seconds around
# One wave of three times the size would do for a window: the quietest quarter of a train's half
# seconds has at least this share of its RMS.
SUSTAINED = 0.55
BACKGROUND_S = 60.0  # s to either side


def sawtooth_trains(trace: Trace) -> Detections | None:
    """Trains of sawtooth waves of a central EEG in µV, at least 2 s long.

    Amplitude is peak to peak of a sine of the train's RMS at 2-6 Hz, frequency its upward zero
    crossings per second. `trace` may come from `resampled` already.
    """
    trace = resampled(trace)
    rate = trace.rate
    if rate < LOWEST_RATE or len(trace.values) < SHORTEST * rate:
        return None
    x = filtered(trace, *HERTZ, order=3)
    step = max(round(rate / STEPS), 1)

    def power(band: np.ndarray) -> np.ndarray:
        return ndimage.uniform_filter1d(band**2, max(round(WINDOW_S * rate), 1))[::step]

    wanted = power(x)
    whole = wanted + power(filtered(trace, *SLOW, order=3)) + power(filtered(trace, *FAST, order=3))
    pace = rate / step
    rms = np.sqrt(np.maximum(wanted, 0))
    each = max(round(pace), 1)
    usual = ndimage.median_filter(rms[::each], 2 * round(BACKGROUND_S) + 1, mode="nearest")
    usual = np.repeat(usual, each)[: len(rms)]
    found = (rms >= STANDS_OUT * usual) & (wanted >= SHARE * whole) & (rms <= LARGEST) & (rms > 0)
    begin, until = runs(found)
    long = (until - begin) / pace >= LEAST_S
    begin, until = begin[long], until[long]
    half = np.sqrt(ndimage.uniform_filter1d(x**2, max(round(0.5 * rate), 1))[::step])
    lasting = [
        np.percentile(half[a:b], 25) >= SUSTAINED * np.sqrt(np.mean(half[a:b] ** 2))
        for a, b in zip(begin, until)
    ]
    begin, until = begin[np.array(lasting, bool)], until[np.array(lasting, bool)]
    above = x >= 0
    crossings = np.concatenate([[0], np.cumsum(above[1:] & ~above[:-1]), [0]])
    first, last = begin * step, np.minimum(until * step, len(x) - 1)
    hertz = (crossings[last] - crossings[first]) * rate / np.maximum(last - first, 1)
    size = [2 * np.sqrt(2 * np.mean(x[a:b] ** 2)) for a, b in zip(first, last)]
    return detections(first / rate, last / rate, None, size, hertz)
