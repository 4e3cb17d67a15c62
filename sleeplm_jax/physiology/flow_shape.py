"""The shape of inspiration: how flat the flow is on its top, by nasal pressure alone.

A narrow airway holds the flow at a constant value through most of the inspiration (flow limitation,
AASM's sign of a hypopnoea's obstruction and of a RERA). Nasal pressure goes with the square of the
flow, so that its root is taken; a thermal sensor follows the temperature and shows no shape at all,
and a flow derived from the belts has another one.

Flatness here is the mean inspiratory flow over its peak, of the part over a fifth of the peak: 1
for a rectangle, 0.72 for half a sine, 0.6 for a triangle. The foot is left out because the root
makes a slip of the zero by 1 % of the pressure one of 10 % of the flow. It needs neither a unit nor
the flow's size. It is not the "flattening
index" of ResMed's devices, which falls from 0.3 (a sine) to 0 (flat): the deviation from the mean
in the middle half of an inspiration (support.noxmedical.com, "How does the flow limitation
quantification work").
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from sleeplm_jax.physiology.detections import (
    Detections,
    detections,
    filtered,
    inside,
    none_found,
    runs,
)
from sleeplm_jax.physiology.epochs import slower
from sleeplm_jax.recordings.night import Trace

TRANSDUCER = "nasal_pressure"
LOWEST_RATE = 10.0  # Hz: a 1-s inspiration is ten samples
WORK_RATE = 20.0  # Hz
SMOOTH = 4.0  # Hz: below snoring, above the shape
ZERO_S = 30.0  # s: between breaths flow is zero, in and out take about as long
INSPIRATION = (0.5, 4.0)  # s
FOOT = 0.2  # of the peak
LEAST_BREATH = 0.25  # of the night's usual peak: in an apnoea there is no shape


def inspirations(trace: Trace, transducer: str | None, up: bool = True) -> Detections | None:
    """Inspirations of a nasal pressure: duration in s, amplitude their flatness (mean / peak), 0-1.

    None where `transducer` (of the channel's resolution) is not "nasal_pressure" or the rate is
    under 10 Hz. `up`: whether inspiration is positive; see polarity.py. Zero flow is the running
    median of half a minute.
    """
    if transducer != TRANSDUCER or trace.rate < LOWEST_RATE:
        return None
    slow = slower(trace, WORK_RATE)
    if len(slow.values) < 2 * ZERO_S * slow.rate:
        return None
    flow = filtered(slow, None, min(SMOOTH, 0.4 * slow.rate)) * (1 if up else -1)
    flow = _rooted(flow - _zero(flow, slow.rate))
    begin, until = runs(flow > 0)
    lasts = (until - begin) / slow.rate
    kept = (lasts >= INSPIRATION[0]) & (lasts <= INSPIRATION[1])
    begin, until = begin[kept], until[kept]
    if not len(begin):
        return none_found()
    bounds = np.stack([begin, until], axis=1).ravel()
    padded = np.append(flow, 0.0)
    peak = np.maximum.reduceat(padded, bounds)[::2]
    samples, row = inside(begin, until)
    high = padded[samples] >= FOOT * peak[row]
    mean = np.bincount(row[high], padded[samples[high]]) / np.bincount(row[high])
    breath = peak >= LEAST_BREATH * np.median(peak)
    return detections(
        begin[breath] / slow.rate, until[breath] / slow.rate, None, (mean / peak)[breath]
    )


def flow_flatness(
    trace: Trace, transducer: str | None, epochs: int, up: bool = True
) -> np.ndarray | None:
    """Median flatness of each epoch's inspirations, float [E], NaN under three; None as above."""
    breaths = inspirations(trace, transducer, up)
    if breaths is None:
        return None
    out = breaths.medians(epochs)
    out[breaths.counts(epochs) < 3] = np.nan
    return out


def _rooted(pressure: np.ndarray) -> np.ndarray:
    return np.sign(pressure) * np.sqrt(np.abs(pressure))


def _zero(flow: np.ndarray, rate: float) -> np.ndarray:
    """Median of half a minute about each second, drawn out to samples."""
    second = max(round(rate), 1)
    # One sample of every fourth of a second is enough for a median of 120.
    thin = flow[:: max(second // 4, 1)]
    size = max(round(ZERO_S * rate / max(second // 4, 1)), 3)
    middle = ndimage.median_filter(thin, size, mode="nearest")
    return np.interp(np.arange(len(flow)), np.arange(len(thin)) * max(second // 4, 1), middle)
