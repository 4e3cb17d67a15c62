"""A trace second by second: extremes, stillness, fast and mains power; what artefacts are told by.

S whole seconds, N samples of one. Worked in stretches, so that memory does not grow with the night.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import fft

from sleeplm_jax.recordings.night import Trace

LEAST_RATE = 3.0  # Hz: below, a second holds too few samples to be still or not
# Muscle: Brunner et al. (J Sleep Res 1996, 5:155-164) take 26.25-32 Hz of the sleep EEG. Upwards it
# goes as far as the first mains frequency leaves it clean, at most what the sampling rate holds.
FAST = (26, 45)  # Hz
SPECTRAL_RATE = 64.0  # Hz: below, no fast band is left
BODY = (1, 35)  # Hz: where the EEG, the EOG and an ECG have their power
MAINS = (50, 60)  # Hz
_STRETCH = 600  # s worked at once


@dataclass(frozen=True)
class Seconds:
    """Arrays [S] of one trace; spectral ones are None where its rate does not hold them."""

    low: np.ndarray  # the trace's unit
    high: np.ndarray
    lost: np.ndarray  # share of samples that are not finite
    still: np.ndarray  # bool: one value throughout
    edge: np.ndarray  # share of samples within 0.1 % of the range from either extreme
    body: np.ndarray | None  # mean square within BODY, unit²
    fast: np.ndarray | None  # within FAST
    wide: np.ndarray | None  # everything from 1 Hz up but the mains
    mains: dict[int, np.ndarray]  # mean square of the line itself above its surroundings, unit²

    def __len__(self) -> int:
        return len(self.low)

    @property
    def range(self) -> np.ndarray:
        """Peak to peak, [S]."""
        return self.high - self.low


def by_second(trace: Trace, seconds: int, spectral: bool = True) -> Seconds | None:
    """Statistics of the first `seconds` of a trace; None where its rate is under LEAST_RATE.

    What lies behind the trace's end counts as lost. Non-finite samples count as zero elsewhere.
    """
    if trace.rate < LEAST_RATE:
        return None
    values = np.asarray(trace.values, np.float32)
    samples = int(trace.rate + 1e-6)
    spectral = spectral and trace.rate >= SPECTRAL_RATE
    parts = []
    for first in range(0, seconds, _STRETCH):
        rows = np.arange(first, min(first + _STRETCH, seconds))
        parts.append(_stretch(_blocks(values, trace.rate, rows, samples), trace.rate, spectral))
    joined = {
        name: np.concatenate([part[name] for part in parts]) for name in parts[0]
    } if parts else {}
    mains = {line: joined[f"mains{line}"] for line in MAINS if f"mains{line}" in joined}
    return Seconds(
        joined["low"], joined["high"], joined["lost"], joined["still"], joined["edge"],
        joined.get("body"), joined.get("fast"), joined.get("wide"), mains,
    )


def _blocks(values: np.ndarray, rate: float, rows: np.ndarray, samples: int) -> np.ndarray:
    """[len(rows), samples], NaN behind the end; each second starts at its nearest sample."""
    starts = np.rint(rows * rate).astype(np.int64)
    if len(rows) and rate == samples and starts[-1] + samples <= len(values):
        return values[starts[0] : starts[-1] + samples].reshape(len(rows), samples)
    index = starts[:, None] + np.arange(samples)
    return np.where(index < len(values), values[np.minimum(index, len(values) - 1)], np.nan)


def _stretch(blocks: np.ndarray, rate: float, spectral: bool) -> dict[str, np.ndarray]:
    finite = np.isfinite(blocks)
    lost = 1 - finite.mean(axis=1)
    if lost.any():
        blocks = np.where(finite, blocks, np.float32(0))
    low, high = blocks.min(axis=1), blocks.max(axis=1)
    slack = (high - low) / 1000
    edge = ((blocks >= (high - slack)[:, None]) | (blocks <= (low + slack)[:, None])).mean(axis=1)
    out = {"low": low, "high": high, "lost": lost.astype(np.float32), "still": low == high,
           "edge": edge.astype(np.float32)}
    if not spectral:
        return out
    samples = blocks.shape[1]
    window = np.hanning(samples + 1)[:-1].astype(np.float32)
    centred = (blocks - blocks.mean(axis=1, keepdims=True, dtype=np.float64)).astype(np.float32)
    found = fft.rfft(centred * window, axis=1)
    power = found.real**2 + found.imag**2
    power *= 2 / (samples * float((window**2).sum()))
    hertz = np.arange(power.shape[1]) * rate / samples

    def within(low: float, high: float) -> np.ndarray:
        return power[:, (hertz >= low - 0.5) & (hertz < min(high, 0.45 * rate) + 0.5)]

    out["body"] = within(*BODY).sum(axis=1)
    out["fast"] = within(*FAST).sum(axis=1)
    whole = power[:, hertz >= 0.5].sum(axis=1)
    for line in MAINS:
        if rate < 2 * line + 3:  # the line and a bin above it
            continue
        peak = power[:, np.abs(hertz - line) < 1.5]  # a Hann window's main lobe: three bins
        beside = (np.abs(hertz - line) >= 2.5) & (np.abs(hertz - line) < 6.5)
        floor = np.median(power[:, beside], axis=1)
        out[f"mains{line}"] = np.maximum(peak.sum(axis=1) - peak.shape[1] * floor, 0)
        whole = whole - out[f"mains{line}"]
    out["wide"] = np.maximum(whole, 0)
    return out
