"""The spectrogram of a night's EEG, in decibels, one column a stretch of seconds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import signal as dsp

from sleeplm_jax.recordings.night import Night

HIGHEST = 30.0  # Hz
WINDOW = 4.0  # s: 0.25-Hz bins


@dataclass(frozen=True)
class Spectrogram:
    power: np.ndarray  # dB [frequencies, columns]
    frequencies: np.ndarray  # Hz
    start: float  # s, left edge of the first column
    seconds: float  # of one column
    channel: str
    source: str  # the derivation, in the file's labels


def spectrogram(night: Night, columns: int = 900) -> Spectrogram | None:
    """Multi-window periodogram (Hann, 4 s, half overlapping) averaged to about `columns` columns.

    C4, else C3: the trace at its native rate in µV, or the night's own samples where no trace was
    kept. None without an EEG channel, or under 4 s of it.
    """
    for channel in ("C4", "C3"):
        found = _samples(night, channel)
        if found is None:
            continue
        values, rate, source = found
        window = int(round(WINDOW * rate))
        if len(values) < window:
            return None
        values = np.nan_to_num(values - np.nanmedian(values))
        step = window // 2 if len(values) / rate > 900 else max(window // 8, 1)
        frequencies, _, power = dsp.spectrogram(
            values, rate, "hann", nperseg=window, noverlap=window - step, mode="psd"
        )
        keep = frequencies <= HIGHEST
        group = max(1, power.shape[1] // columns)
        whole = power.shape[1] // group * group
        power = power[keep][:, :whole].reshape(keep.sum(), -1, group).mean(-1)
        return Spectrogram(
            10 * np.log10(power + 1e-6), frequencies[keep], (window - step) / 2 / rate,
            group * step / rate, channel, source,
        )
    return None


def _samples(night: Night, channel: str) -> tuple[np.ndarray, float, str] | None:
    resolution = night.channels.get(channel)
    source = resolution.source if resolution is not None else channel
    if channel in night.traces:
        trace = night.traces[channel]
        return np.asarray(trace.values, np.float32), trace.rate, source
    if channel in night.spec.channels:
        row = night.spec.channels.index(channel)
        if night.mask[:, row].any():
            return night.signals[:, row].reshape(-1), float(night.spec.rate), source
    return None
