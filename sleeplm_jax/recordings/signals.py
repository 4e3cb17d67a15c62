"""From native rates to the model's: zero-phase filters, one polyphase resample, robust scaling."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from scipy import signal, stats

# The last cut-off a filter may have, as a share of the Nyquist frequency.
_NYQUIST_SHARE = 0.95
# A 30-s window is an artefact where its variance is this many times the night's median (10 times
# the amplitude), or this small a part of it (a hundredth of the amplitude: a lead that is off).
ARTEFACT_RATIO = 100.0
_QUIETEST = 1e-4
_ENOUGH = 0.1  # share of the windows that must be left when artefacts' neighbours go as well
CLIP = 6.0  # z units, as SleepLM's sibling loader clamps


def band_pass(values: np.ndarray, rate: float, band: tuple[float, float] | None) -> np.ndarray:
    """Zero-phase Butterworth pass band along the last axis (a whole night), float64, same shape.

    4th order each way, second-order sections (a 0.3 Hz b,a filter at 512 Hz is numerically
    unstable). A cut-off the native rate cannot hold is left out: a 1-Hz signal passes whole.
    """
    values = np.asarray(values, np.float64)
    if band is None:
        return values
    nyquist = rate / 2
    low = band[0] if band[0] < _NYQUIST_SHARE * nyquist else None
    high = band[1] if band[1] < _NYQUIST_SHARE * nyquist else None
    if low is None:
        return values
    if high is None:
        sos = signal.butter(4, low, "highpass", fs=rate, output="sos")
    else:
        sos = signal.butter(4, (low, high), "bandpass", fs=rate, output="sos")
    # Some time constants of the slowest corner at either end; less where the piece is short.
    padding = min(values.shape[-1] - 1, int(3 * rate / low))
    return signal.sosfiltfilt(sos, values, padlen=max(padding, 0))


def _ratio(rate: float, target: float, samples: int) -> Fraction:
    """target / rate as the simplest fraction that drifts less than half an output sample."""
    exact = Fraction(target) / Fraction(rate)
    for bound in (64, 256, 1024, 4096, 16_384, 65_536):
        ratio = exact.limit_denominator(bound)
        if ratio and abs(float(ratio - exact)) * samples < 0.5:
            return ratio
    return exact.limit_denominator(262_144)


def to_rate(values: np.ndarray, rate: float, target: float, samples: int) -> np.ndarray:
    """Anti-aliased polyphase resample from `rate` to `target` Hz, [samples], float32 or float64.

    One pass of scipy.signal.resample_poly (Kaiser FIR at the lower of the two Nyquist
    frequencies); sample 0 stays at time 0. Cut to `samples`, or ended with the last value where
    the file ends a fraction of a sample early. Rates may be odd (EDF records not of 1 s).
    """
    values = np.asarray(values)
    if values.dtype != np.float32:  # a trace is: half the memory, and its 24 bits outlast a filter
        values = values.astype(np.float64)
    ratio = _ratio(rate, target, len(values))
    if ratio != 1:
        values = signal.resample_poly(values, ratio.numerator, ratio.denominator, padtype="median")
    if len(values) < samples:
        values = np.concatenate([values, np.full(samples - len(values), values[-1])])
    return values[:samples]


def filtered(
    values: np.ndarray, rate: float, band: tuple[float, float] | None, target: float, samples: int
) -> np.ndarray:
    """`values` within `band` (Hz) and at `target` Hz: float64 [samples].

    A faster signal is brought down first and filtered at `target`, where it costs a fraction
    (8 times less from 512 Hz) and the resampler has taken care of what lies above. Within the pass
    band the two orders give the same; on the slopes (chin above 10 Hz, belts about 15 Hz, EEG above
    20 Hz, where a 35-Hz low-pass took 8 % of 26 Hz) they differ by up to a tenth. A slower signal
    is filtered at its own rate, where the cut-offs that it cannot hold are left out.
    """
    if rate > target:
        return band_pass(to_rate(values, rate, target, samples), target, band)
    return to_rate(band_pass(values, rate, band), rate, target, samples)


def hold(values: np.ndarray, rate: float, target: float, samples: int) -> np.ndarray:
    """Step signal at `target` Hz, [samples]: each output takes the last input at or before it."""
    index = np.floor(np.arange(samples) * (rate / target) + 1e-6).astype(np.int64)
    return np.asarray(values)[np.minimum(index, len(values) - 1)]


def flat_epochs(values: np.ndarray, rate: float, seconds: float, epochs: int) -> np.ndarray:
    """bool [epochs]: True where the native signal does not change at all (lead off, saturation).

    Epochs of fewer than 3 samples are never called flat.
    """
    edges = np.round(np.arange(epochs + 1) * seconds * rate).astype(np.int64)
    edges = np.minimum(edges, len(values))
    return np.array(
        [b - a >= 3 and bool(np.ptp(values[a:b]) == 0) for a, b in zip(edges, edges[1:])],
        dtype=bool,
    )


def robust_scale(
    values: np.ndarray, window: int, flat: np.ndarray, loudest: float = ARTEFACT_RATIO
) -> tuple[float, float, float] | None:
    """(offset, scale, artefact) of a night that artefacts do not move; None if nothing varies.

    `values` [samples], windows of `window` samples (30 s), `flat` bool [windows] are left out.
    So are artefacts: windows with more than `loudest` times, or less than 1e-4 times, the median
    of the windows' positive variances; `artefact` is their share of all windows. The neighbours
    of the loud ones go too, where a tenth of the windows or more remains. Scale: root of
    the mean of the remaining variances, 10 % trimmed on both sides. Offset: median of the
    remaining windows' means. Holds while artefacts fill less than half of the night.
    """
    count = min(len(values) // window, len(flat))
    blocks = np.asarray(values[: count * window], np.float64).reshape(count, window)
    blocks = blocks[~flat[:count]]
    if not len(blocks):
        return None
    variances = blocks.var(axis=1)
    varying = variances[variances > 0]
    if not len(varying):
        return None
    usual = float(np.median(varying))
    loud = np.pad(variances > loudest * usual, 1)
    kept = ~loud[1:-1] & (variances >= _QUIETEST * usual)
    artefact = float((~kept).sum() / count)
    # The filters carry a loud artefact's edges into the windows next to it.
    undisturbed = kept & ~loud[:-2] & ~loud[2:]
    if undisturbed.sum() >= _ENOUGH * len(kept):
        kept = undisturbed
    scale = float(np.sqrt(stats.trim_mean(variances[kept], 0.1)))
    offset = float(np.median(blocks[kept].mean(axis=1)))
    if not np.isfinite(scale) or scale <= 0:
        return None
    return offset, scale, artefact


def standardise(values: np.ndarray, offset: float, scale: float) -> np.ndarray:
    """z units clipped to +-6, float32, same shape."""
    return np.clip((values - offset) / scale, -CLIP, CLIP).astype(np.float32)
