"""Traces cut into 30-s epochs, and which epochs of a trace can be measured at all.

E epochs, N samples of an epoch at the trace's own rate.
"""

from __future__ import annotations

import numpy as np
from scipy import signal

from sleeplm_jax.recordings.night import Trace

EPOCH_SECONDS = 30.0
# An epoch is flat when more than this share of its seconds holds one value (a loose electrode,
# an amplifier at its rail). AASM gives no number; a third of an epoch leaves too little to judge.
FLAT_SHARE = 1 / 3
# Against the night's median standard deviation: below, nothing is connected; above, an artefact in
# EEG and EOG (a chin's contraction may well be ten times its tone asleep).
SILENT, GROSS = 0.01, 10.0


def cut(trace: Trace, epochs: int) -> np.ndarray:
    """A copy of `trace` in epochs from the recording's start: float32 [E, N], NaN past its end."""
    samples = int(trace.rate * EPOCH_SECONDS + 1e-6)
    values = np.asarray(trace.values, np.float32)
    exact = trace.rate * EPOCH_SECONDS
    if abs(exact - samples) < 1e-9:
        out = values[: epochs * samples].copy()
    else:  # an epoch is no whole number of samples: each starts at the nearest one
        starts = np.rint(np.arange(epochs) * exact).astype(int)
        index = starts[:, None] + np.arange(samples)
        out = np.where(index < len(values), values[np.minimum(index, len(values) - 1)], np.nan)
        return out.astype(np.float32)
    short = epochs * samples - len(out)
    if short:
        out = np.concatenate([out, np.full(short, np.nan, np.float32)])
    return out.reshape(epochs, samples)


def usable(
    cuts: np.ndarray, rate: float, *, may_rest: bool, gross: float = GROSS
) -> np.ndarray:
    """Which epochs of `cuts` [E, N] hold a measurable signal: bool [E].

    Not usable: any non-finite sample, no variance at all. For signals that never rest (EEG, EOG,
    EMG; `may_rest` False) also: flat for more than a third of the epoch, or a standard deviation
    under 1 % or over `gross` times the night's median. Breathing may rest (an apnoea is no lost
    sensor), an ECG is flat between beats.
    """
    finite = np.isfinite(cuts).all(axis=1)
    clean = np.where(finite[:, None], cuts, 0)
    # float64: the variance of a small signal on a large offset is lost in float32.
    spread = clean.std(axis=1, dtype=np.float64)
    good = finite & (np.ptp(clean, axis=1) > 0)
    if may_rest:
        return good
    second = max(int(rate), 2)
    whole = clean.shape[1] // second * second
    seconds = clean[:, :whole].reshape(len(clean), -1, second)
    flat = (np.ptp(seconds, axis=2) == 0).mean(axis=1)
    good &= flat <= FLAT_SHARE
    if good.any():
        usual = np.median(spread[good])
        good &= (spread >= SILENT * usual) & (spread <= gross * usual)
    return good


def slower(trace: Trace, at_least: float) -> Trace:
    """`trace` decimated by a whole factor, anti-aliased, to the lowest rate >= `at_least` Hz.

    Non-finite samples become zero about the median, so that they reach no neighbour: epochs with
    such samples are refused by `usable` anyway.
    """
    values = np.asarray(trace.values, np.float32)
    finite = np.isfinite(values)
    centre = np.median(values[finite]) if finite.any() else 0.0
    values = np.where(finite, values - np.float32(centre), np.float32(0))
    factor = max(int(trace.rate / at_least + 1e-9), 1)
    if factor > 1:
        values = signal.resample_poly(values, 1, factor).astype(np.float32)
    return Trace(values, trace.rate / factor, trace.unit)


def bandpass(trace: Trace, low: float, high: float, order: int = 2) -> Trace:
    """Zero-phase Butterworth band-pass of a finite trace (each pass of `order`), edges in Hz."""
    sos = signal.butter(order, (low, high), "bandpass", fs=trace.rate, output="sos")
    pad = min(int(3 * trace.rate / low), max(len(trace.values) - 1, 0))
    filtered = signal.sosfiltfilt(sos, trace.values, padlen=pad)
    return Trace(filtered.astype(np.float32), trace.rate, trace.unit)
