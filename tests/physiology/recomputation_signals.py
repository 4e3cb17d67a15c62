"""Channels of a file as MNE reads and filters them, for what is recomputed of them."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from scipy import signal

EPOCH = 30.0
EEG, EOG = ("C3", "C4", "F3", "F4", "O1", "O2"), ("EOG-L", "EOG-R")
BELTS = ("THX", "ABD", "AF")


@dataclass(frozen=True, eq=False)  # hashed by identity: what costs time is kept by channel
class Channel:
    """float64 [samples] in physical units, and their rate in Hz."""

    values: np.ndarray
    rate: float


def read_edf(path, labels: dict[str, str]) -> dict[str, Channel]:
    """Channels of a file by MNE, each label at its own rate; volts become microvolts."""
    import mne

    out = {}
    for channel, label in labels.items():
        raw = mne.io.read_raw_edf(path, include=[label], encoding="latin1", verbose="error")
        values = raw.get_data()[0]
        scale = 1e6 if raw._orig_units[label] in ("µV", "mV", "V") else 1.0
        out[channel] = Channel(values * scale, float(raw.info["sfreq"]))
    return out


def cut(channel: Channel, epochs: int) -> np.ndarray:
    samples = int(round(EPOCH * channel.rate))
    return channel.values[: epochs * samples].reshape(epochs, samples)


def fir(
    channel: Channel, low: float | None, high: float | None, flank: float | str = "auto"
) -> np.ndarray:
    """MNE's zero-phase FIR; `flank` in Hz (MNE's own: a quarter of the edge, 2 Hz and more)."""
    import mne

    return mne.filter.filter_data(
        channel.values - np.median(channel.values), channel.rate, low, high, phase="zero",
        l_trans_bandwidth=flank, h_trans_bandwidth=flank, verbose="error",
    )


def slower(channel: Channel, rate: float) -> Channel:
    """Brought down by the Fourier method (ours: polyphase)."""
    if channel.rate <= rate:
        return channel
    count = int(round(len(channel.values) * rate / channel.rate))
    return Channel(signal.resample(channel.values, count), rate)


# Bands ------------------------------------------------------------------------------------------


@functools.cache
def above_drift(channel: Channel, edge: float) -> Channel:
    return Channel(fir(channel, edge, None, edge / 2), channel.rate)


def crossings(values: np.ndarray) -> np.ndarray:
    """Samples after which `values` rise through zero."""
    return np.flatnonzero((values[:-1] < 0) & (values[1:] >= 0))
