"""The EEG's background: how much of an epoch an alpha rhythm takes, and where muscle lies over it.

AASM: alpha is 8-13 Hz, over the occipital regions; an epoch with more than half of it is W, one in
which it gives way to low-amplitude mixed-frequency activity N1. The share counts half seconds with
a rhythm, not power: one burst of large alpha is not an epoch of it. What makes a rhythm is this
project's: the spectrum of the 2 s about it peaks at 8-13 Hz, and that peak stands out from what the
spectrum does to either side of it.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage, signal

from sleeplm_jax.physiology.detections import Detections, filtered, joined, resampled
from sleeplm_jax.physiology.epochs import EPOCH_SECONDS
from sleeplm_jax.recordings.night import Trace

ALPHA = (8.0, 13.0)  # Hz
LOWEST_RATE = 64.0  # Hz
WINDOW_S, STEP_S = 2.0, 0.5
BELOW, ABOVE = (4.0, 7.0), (14.0, 20.0)  # Hz: what the peak is compared with
PEAK_HALF = 1.0  # Hz to either side of the peak
STANDS_OUT = 2.5  # density of the peak over the geometric mean of theirs
LEAST_SHARE = 0.25  # of the power at 1-30 Hz: on slow waves alpha is a ripple (alpha-delta sleep)
TOTAL = (1.0, 30.0)  # Hz

# Muscle and movement: a second's RMS at 20-30 Hz over the night's median.
FAST = (20.0, 30.0)  # Hz
RESTLESS = 2.0


def calm(trace: Trace, found: Detections) -> Detections:
    """Those of `found` whose peak has no muscle about it, of an EEG of at least 64 Hz.

    A movement throws slow swings of any size into an EEG, and muscle with them: without this,
    waking holds more K complexes and slow waves than N2. Muscle is an RMS at 20-30 Hz of over
    twice the night's median in the peak's second or a neighbour.
    """
    trace = resampled(trace)
    second = max(int(trace.rate), 1)
    fast = filtered(trace, *FAST, order=3)
    count = len(fast) // second
    if not count or not len(found):
        return found
    rms = np.sqrt((fast[: count * second] ** 2).reshape(count, second).mean(axis=1))
    loud = ndimage.maximum_filter1d(rms, 3, mode="nearest") > RESTLESS * np.median(rms)
    where = np.minimum((found.peak * trace.rate / second).astype(int), count - 1)
    return found.where(~loud[where])


def alpha_share(
    trace: Trace, epochs: int, spindles: Detections | None = None
) -> np.ndarray | None:
    """Per cent of each epoch in which the EEG shows an alpha rhythm, float [E]; NaN behind its end.

    O1 or O2 is the place to look; over C3 and C4 alpha is smaller. Where `spindles` were found no
    alpha is counted: a slow one of 11-13 Hz looks the same. None where the rate is too low.
    """
    trace = resampled(trace)
    rate = trace.rate
    length = round(WINDOW_S * rate)
    if rate < LOWEST_RATE or len(trace.values) < length:
        return None
    step = round(STEP_S * rate)
    frequencies, times, density = signal.spectrogram(
        np.asarray(trace.values, np.float32), rate, "hann", nperseg=length,
        noverlap=length - step, detrend="constant",
    )
    rhythm = _rhythm(frequencies, density)
    if spindles is not None:
        for begin, until in zip(*joined(spindles.onset, spindles.end)):
            reach = (begin - WINDOW_S / 2, until + WINDOW_S / 2)
            rhythm[np.searchsorted(times, reach[0]) : np.searchsorted(times, reach[1])] = False
    out = np.full(epochs, np.nan)
    where = np.floor(times / EPOCH_SECONDS).astype(int)
    inside = where < epochs
    whole = np.bincount(where[inside], minlength=epochs)
    found = np.bincount(where[inside], rhythm[inside], minlength=epochs)
    enough = whole >= 0.9 * EPOCH_SECONDS / STEP_S  # the night's first and last second have none
    out[enough] = 100 * found[enough] / whole[enough]
    return out


def _rhythm(frequencies: np.ndarray, density: np.ndarray) -> np.ndarray:
    """Which windows of a spectrogram [F, windows] hold an alpha rhythm, bool."""

    def rows(low: float, high: float) -> np.ndarray:
        return (frequencies >= low - 1e-6) & (frequencies <= high + 1e-6)

    alpha = np.flatnonzero(rows(*ALPHA))
    top = alpha[density[alpha].argmax(axis=0)]
    column = np.arange(density.shape[1])
    bins = max(round(PEAK_HALF * WINDOW_S), 1)
    about = np.clip(top + np.arange(-bins, bins + 1)[:, None], 0, len(frequencies) - 1)
    peak = density[about, column]
    beside = np.sqrt(density[rows(*BELOW)].mean(axis=0) * density[rows(*ABOVE)].mean(axis=0))
    whole = density[rows(*TOTAL)].sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        stands = peak.mean(axis=0) >= STANDS_OUT * beside
        return stands & (peak.sum(axis=0) >= LEAST_SHARE * whole) & (whole > 0)
