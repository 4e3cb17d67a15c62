"""EEG and EOG power by band, relative to one fixed total, so that a share means the same anywhere.

EEG bands are the classical ones with the spindle range apart (Iber et al., AASM manual 2007:
delta below 4 Hz, theta 4-8, alpha 8-13, spindles 11-16; the edges 12 and 16 divide alpha, sigma
and beta without overlap, as YASA does). Slow eye movements deflect for more than 500 ms, rapid
ones for less (AASM manual): half a cycle of 500 ms is 1 Hz, which divides the EOG's bands.
"""

from __future__ import annotations

import numpy as np
from scipy import signal

from sleeplm_jax.physiology.epochs import EPOCH_SECONDS, cut
from sleeplm_jax.recordings.night import Trace

# Hz: an electrode's drift leaks into the lowest band, by half of delta in a DC recording. AASM's
# high-pass for the EEG; the EOG's band begins there, so that half of it is taken for that.
EEG_HIGH_PASS, EOG_HIGH_PASS = 0.3, 0.15
EEG_BANDS = {
    "delta_power": (0.5, 4.0),
    "theta_power": (4.0, 8.0),
    "alpha_power": (8.0, 12.0),
    "sigma_power": (12.0, 16.0),
    "beta_power": (16.0, 30.0),
}
EEG_TOTAL = (0.5, 30.0)
EEG_SEGMENT = 4.0  # s: 0.25-Hz bins, two periods of the slowest delta
EOG_BANDS = {
    "slow_eye_movement_power": (0.3, 1.0),
    "rapid_eye_movement_power": (1.0, 5.0),
}
EOG_TOTAL = (0.3, 30.0)
EOG_SEGMENT = 10.0  # s: 0.1-Hz bins, three periods at 0.3 Hz


def high_passed(trace: Trace, good: np.ndarray, edge: float) -> tuple[np.ndarray, float]:
    """Epochs float32 [E, N] of a finite trace above `edge` Hz, and its rate in Hz.

    Butterworth of fourth order, forwards and backwards. Epochs not `good` (bool [E]) are bridged by
    a straight line before, so that what spoilt them does not ring into their neighbours.
    """
    values = np.asarray(trace.values, np.float64).copy()
    if trace.rate <= 4 * edge or len(values) < 2:
        return cut(trace, len(good)), trace.rate
    epoch = np.minimum((np.arange(len(values)) / trace.rate / EPOCH_SECONDS).astype(int),
                       len(good) - 1)
    known = good[epoch]
    if known.any() and not known.all():
        index = np.arange(len(values))
        values[~known] = np.interp(index[~known], index[known], values[known])
    sos = signal.butter(4, edge, "highpass", fs=trace.rate, output="sos")
    pad = min(int(3 * trace.rate / edge), len(values) - 1)
    values = signal.sosfiltfilt(sos, values, padlen=pad).astype(np.float32)
    out = cut(Trace(values, trace.rate, trace.unit), len(good))
    out[~good] = 0
    return out, trace.rate


def power_spectra(cuts: np.ndarray, rate: float, segment: float) -> tuple[np.ndarray, np.ndarray]:
    """Welch spectra of epochs: frequencies [F] (Hz) and densities [E, F] (unit²/Hz).

    Hann windows of `segment` seconds, half overlapping, each freed of its mean; mean over windows
    (Welch 1967).
    """
    length = min(round(segment * rate), cuts.shape[-1])
    frequencies, densities = signal.welch(
        cuts, rate, "hann", nperseg=length, noverlap=length // 2, detrend="constant"
    )
    return frequencies, densities


def band_shares(
    frequencies: np.ndarray,
    densities: np.ndarray,
    bands: dict[str, tuple[float, float]],
    total: tuple[float, float],
) -> dict[str, np.ndarray]:
    """Power of the half-open bands [low, high) in % of `total`: {band: [E]}; NaN without power."""

    def power(low: float, high: float) -> np.ndarray:
        # Bins lie on multiples of 1/segment up to rounding: the slack keeps 4.0 out of delta.
        inside = (frequencies >= low - 1e-6) & (frequencies < high - 1e-6)
        return densities[:, inside].sum(axis=1, dtype=np.float64)

    whole = power(*total)
    whole = np.where(whole > 0, whole, np.nan)
    return {name: 100 * power(*edges) / whole for name, edges in bands.items()}


def eeg_powers(cuts: np.ndarray, rate: float) -> dict[str, np.ndarray]:
    """Relative EEG band powers in % of 0.5-30 Hz: {feature: [E]}; {} where rate < 60 Hz."""
    if rate < 2 * EEG_TOTAL[1]:
        return {}
    return band_shares(*power_spectra(cuts, rate, EEG_SEGMENT), EEG_BANDS, EEG_TOTAL)


def eog_powers(cuts: np.ndarray, rate: float) -> dict[str, np.ndarray]:
    """Slow (0.3-1 Hz) and rapid (1-5 Hz) share of the EOG's 0.3-30 Hz in %: {feature: [E]}."""
    if rate < 2 * EOG_TOTAL[1]:
        return {}
    return band_shares(*power_spectra(cuts, rate, EOG_SEGMENT), EOG_BANDS, EOG_TOTAL)
