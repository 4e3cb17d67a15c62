"""Breathing of a belt or flow sensor: rate, variability of its interval, relative amplitude."""

from __future__ import annotations

import numpy as np
from scipy import ndimage, signal

from sleeplm_jax.physiology.epochs import EPOCH_SECONDS, bandpass, cut, slower
from sleeplm_jax.physiology.spectral import power_spectra
from sleeplm_jax.recordings.night import Trace

BAND = (0.1, 0.7)  # Hz: 6 to 42 breaths a minute
WORK_RATE = 8.0  # Hz: ten times the band
# Breathing it is where the band holds at least LEAST_SHARE of the power of AASM's 0.1-15 Hz (in
# clinical belts and nasal pressure 0.8 to 1, in a dislodged sensor's noise 0.1 to 0.25), and its
# breaths span LEAST_SPAN of the epoch without a pause longer than the band's slowest breath.
WIDE = (0.1, 15.0)  # Hz
WIDE_RATE = 32.0  # Hz
LEAST_SHARE = 0.3
LEAST_SPAN = 20.0  # s
LONGEST_PAUSE = 10.0  # s
SHARE_SEGMENT = 10.0  # s of a Welch window: 0.1-Hz bins
HARDLY = 30.0  # % of usual: so little needs no sign of breathing to be told
LOWEST_RATE = 4.0  # Hz: below it neither the band nor the time of a breath is safe
# A breath's peak rises above its surroundings by the local standard deviation (a third of the
# height of a sine), and by a tenth of the night's usual breath, so that noise in an apnoea is none.
LOCAL, USUAL = 1.0, 0.1


def breaths(trace: Trace) -> tuple[Trace, np.ndarray]:
    """The breathing band of `trace` at 8-16 Hz and the times (s) of its breaths' peaks."""
    slow = slower(trace, WORK_RATE)
    band = bandpass(slow, *BAND)
    values = band.values.astype(np.float64)
    window = round(EPOCH_SECONDS * band.rate)
    local = np.sqrt(np.maximum(ndimage.uniform_filter1d(values**2, window), 0))
    usual = 2 * np.sqrt(2) * np.median(local)  # peak to trough of a sine of that deviation
    needed = np.maximum(LOCAL * local, USUAL * usual)
    peaks, _ = signal.find_peaks(values, prominence=needed, wlen=2 * window + 1)
    if not len(peaks):
        return band, np.zeros(0)
    before, top, after = values[peaks - 1], values[peaks], values[peaks + 1]
    bend = before - 2 * top + after
    shift = np.where(bend < 0, 0.5 * (before - after) / np.where(bend < 0, bend, -1), 0.0)
    return band, (peaks + np.clip(shift, -0.5, 0.5)) / band.rate


def measure_breathing(trace: Trace, epochs: int, good: np.ndarray) -> dict[str, np.ndarray]:
    """Breathing per epoch: {feature: [E]}, NaN where it cannot be told; {} where rate < 4 Hz.

    respiratory_rate: 60 / mean interval of breaths (peak to peak) that lie wholly in the epoch,
        per minute, at least two intervals that span 20 s, none over 10 s.
    breath_interval_variability: standard deviation (n - 1) of those intervals in s, at least three.
    breath_amplitude: standard deviation of the 0.1-0.7-Hz band in per cent of the night's median
        over the epochs that are `good` [E] and hold breathing.
    None of them where less than 0.3 of the power lies in the band (but for an amplitude under 30 %:
    what is left in an apnoea may be noise).
    """
    if trace.rate < LOWEST_RATE:
        return {}
    wide = slower(trace, WIDE_RATE)
    breathing = good & (band_share(wide, epochs) >= LEAST_SHARE)
    band, times = breaths(wide)
    rate, variability = np.full(epochs, np.nan), np.full(epochs, np.nan)
    edges = np.searchsorted(times, np.arange(epochs + 1) * EPOCH_SECONDS)
    for epoch in np.flatnonzero(breathing & (np.diff(edges) >= 3)):
        intervals = np.diff(times[edges[epoch] : edges[epoch + 1]])
        if intervals.sum() < LEAST_SPAN or intervals.max() > LONGEST_PAUSE:
            continue
        rate[epoch] = 60 / intervals.mean()
        if len(intervals) >= 3:
            variability[epoch] = intervals.std(ddof=1)
    spread = cut(band, epochs).std(axis=1, dtype=np.float64)
    usual = np.nanmedian(spread[breathing]) if breathing.any() else np.nan
    amplitude = 100 * spread / usual if usual > 0 else np.full(epochs, np.nan)
    with np.errstate(invalid="ignore"):
        amplitude[~(breathing | (amplitude <= HARDLY))] = np.nan
    return {
        "respiratory_rate": rate,
        "breath_interval_variability": variability,
        "breath_amplitude": amplitude,
    }


def band_share(trace: Trace, epochs: int) -> np.ndarray:
    """Share of the power at 0.1-15 Hz that lies in the breathing band, per epoch: float [E]."""
    cuts = np.nan_to_num(cut(trace, epochs))
    frequencies, densities = power_spectra(cuts, trace.rate, SHARE_SEGMENT)

    def power(low: float, high: float) -> np.ndarray:
        inside = (frequencies >= low - 1e-6) & (frequencies <= high + 1e-6)
        return densities[:, inside].sum(axis=1, dtype=np.float64)

    whole = power(*WIDE)
    return np.divide(power(*BAND), whole, out=np.zeros(epochs), where=whole > 0)
