"""Reading a resolved channel: the sum of its signals, its positions as our codes, dead leads."""

from __future__ import annotations

import numpy as np

from sleeplm_jax.recordings import signals as dsp
from sleeplm_jax.recordings.channels import CHANNELS, POSITION_UNKNOWN, POSITIONS
from sleeplm_jax.recordings.night import Resolution, Trace
from sleeplm_jax.recordings.recording import Recording, SignalInfo
from sleeplm_jax.recordings.stages import EPOCH_S


def read_channel(recording: Recording, resolution: Resolution) -> Trace:
    """The channel's samples at its native rate in `resolution.unit`; positions as our codes.

    Unfiltered. Raises RecordingError if the file can no longer be read.
    """
    return _read(recording, resolution)[0]


def read_live_channel(recording: Recording, resolution: Resolution) -> Trace | str:
    """`read_channel`, or what is dead in it, as a lead never put on is: flat all night.

    Every signal of a difference is looked at: C3 - M2 with a dead M2 moves, but it is no C3-M2.
    A position may stay the same all night; any other signal that does not change is dead, and so
    is a level that only steps between epochs, except in signals that hold their value (HR, SpO2).
    Raises RecordingError if the file can no longer be read.
    """
    trace, dead = _read(recording, resolution, look=resolution.channel != "POS")
    return dead or trace


def _read(recording: Recording, resolution: Resolution, look: bool = False):
    total, dead, railed = None, None, None
    for index, factor in resolution.terms:
        values = recording.read(index)
        if not CHANNELS[resolution.channel].step:
            railed = _railed(recording.signals[index], values, railed)
        if look and dead is None and _flat(resolution.channel, values, resolution.rate):
            dead = f"{recording.signals[index].label} never changes"
        values = values * factor
        total = values if total is None else total + values
    if look and dead is None and len(resolution.terms) > 1:
        if _flat(resolution.channel, total, resolution.rate):
            dead = f"{resolution.source} never changes"
    if resolution.codes or resolution.degrees:
        codes = _angle_codes(total) if resolution.degrees else _map_codes(total, resolution.codes)
        if resolution.upright is not None:
            index, threshold = resolution.upright
            codes[recording.read(index) >= threshold] = POSITIONS.index("upright")
        total = codes
    values = np.asarray(total, np.float32)
    return Trace(values, resolution.rate, resolution.unit, railed), dead


def _railed(info: SignalInfo, values: np.ndarray, before: np.ndarray | None) -> np.ndarray | None:
    """Share of each second's samples at the file's limits, float32 [whole seconds], or None.

    With `before`, that of the other signals of a difference: the larger one. What one signal loses
    at its rail cannot be seen in a difference any more.
    """
    low, high = sorted((info.physical_min, info.physical_max))
    slack = (high - low) / (1 << 17)  # half a step of 16 bits
    if not np.isfinite(slack) or not len(values):
        return before
    # Two reductions for most nights: nothing of them is at a rail.
    if values.min() > low + slack and values.max() < high - slack:
        return before
    at = np.flatnonzero((values <= low + slack) | (values >= high - slack))
    whole = int(len(values) / info.rate + 1e-6)
    counts = np.bincount((at / info.rate).astype(np.int64), minlength=whole)[:whole]
    share = (counts / max(info.rate, 1.0)).astype(np.float32)
    if before is None or len(before) != len(share):
        return share
    return np.maximum(before, share)


def _flat(channel: str, values: np.ndarray, rate: float) -> bool:
    if np.ptp(values) == 0:
        return True
    if CHANNELS[channel].step:
        return False
    epochs = int(len(values) / rate / EPOCH_S + 1e-6)
    return epochs > 0 and bool(dsp.flat_epochs(values, rate, EPOCH_S, epochs).all())


def _map_codes(values: np.ndarray, codes: tuple[tuple[float, int], ...]) -> np.ndarray:
    out = np.full(values.shape, POSITION_UNKNOWN, np.int8)
    for value, code in codes:
        out[np.abs(values - value) < 0.5] = code  # calibration leaves 1.9999 for 2
    return out


def _angle_codes(degrees: np.ndarray) -> np.ndarray:
    """Quarter turns about supine: |angle| < 45 supine, > 135 prone, else the side it leans to."""
    angle = (np.asarray(degrees, float) + 180.0) % 360.0 - 180.0
    out = np.where(angle > 0, POSITIONS.index("right"), POSITIONS.index("left")).astype(np.int8)
    out[np.abs(angle) < 45.0] = POSITIONS.index("supine")
    out[np.abs(angle) > 135.0] = POSITIONS.index("prone")
    return out
