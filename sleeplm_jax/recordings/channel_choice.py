"""Which of a montage's candidates for a channel is used: the first that is alive and plausible.

montage_match.py says which rows fit a file's labels; this looks at their samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sleeplm_jax.errors import RecordingError
from sleeplm_jax.recordings import signals as dsp
from sleeplm_jax.recordings.channels import CHANNELS, MICROVOLT, Channel
from sleeplm_jax.recordings.montage import Montage
from sleeplm_jax.recordings.montage_match import (
    NO_VOLTAGE,
    ambiguity,
    candidates,
    check_ambiguity,
    unresolved_reasons,
)
from sleeplm_jax.recordings.montage_read import read_live_channel
from sleeplm_jax.recordings.night import Resolution, Trace
from sleeplm_jax.recordings.recording import Recording
from sleeplm_jax.recordings.stages import EPOCH_S

AMPLITUDE_PIECES = 60  # half an hour, spread over the night, tells volts from microvolts
# Samples of one channel that are filtered at once, at some 40 bytes each; a week at 400 Hz.
MOST_SAMPLES = 1 << 28


@dataclass(frozen=True)
class Choice:
    """What a channel is in a recording; `resolution` and `trace` are None where it is missing."""

    resolution: Resolution | None
    trace: Trace | None
    passed_over: tuple[tuple[Resolution, str], ...]  # preferred candidates, and why not
    flags: tuple[str, ...]


def choose_channel(
    recording: Recording, montage: Montage, name: str, wanted: bool = False
) -> Choice:
    """The first candidate that can be used, read; what was passed over is in the flags.

    Passed over is what is flat all night, and what has no plausible amplitude where a later
    candidate does (a bad reference); where none does, the first is taken. Raises RecordingError
    where the channel is `wanted` and missing because a label is ambiguous.
    """
    resolution, trace, dead = _first_alive(recording, montage, name)
    if resolution is None and wanted:
        check_ambiguity(recording, montage, name)
    flags = _passed_over(name, resolution, dead)
    if resolution is None and (alike := ambiguity(recording, montage, name)):
        flags.append(f"ambiguous: {name}: {alike}, taken as missing")
    if resolution is not None and resolution.stand_in:
        flags.append(f"stand_in: {name} is {resolution.source}")
    return Choice(resolution, trace, tuple(dead), tuple(flags))


def _first_alive(recording: Recording, montage: Montage, name: str):
    """(resolution, trace, passed over), the first two None where nothing can be used."""
    dead: list[tuple[Resolution, str]] = []
    doubtful: list[tuple[Resolution, Trace, str]] = []
    for resolution in candidates(recording, montage, name):
        if doubtful and resolution.stand_in:
            break  # the channel itself, doubtful, before another in its place
        trace = _trace(recording, resolution)
        if not isinstance(trace, Trace):
            dead.append((resolution, trace))
        elif doubt := _implausible(name, resolution, trace):
            doubtful.append((resolution, trace, doubt))
        else:
            return resolution, trace, dead + [(one, why) for one, _, why in doubtful]
    if doubtful:
        return *doubtful[0][:2], dead
    return None, None, dead


def _passed_over(name: str, resolution: Resolution | None, dead: list) -> list[str]:
    """One line of what was flat all night, and whether anything took its place."""
    if not dead:
        return []
    found = "; ".join(f"{one.source}: {reason}" for one, reason in dead)
    if resolution is None:
        return [f"flat: {name} ({found}), taken as missing"]
    return [f"fallback: {name} is {resolution.source} ({found})"]


def unit_flags(recording: Recording, montage: Montage, name: str) -> list[str]:
    """The flag of a channel whose signal is there and whose unit nobody knows."""
    reasons = [r for r in unresolved_reasons(recording, montage, name) if r.endswith(NO_VOLTAGE)]
    remedy = "name its unit in a montage"
    return [f"unit_unknown: {name}: {reasons[0]}, taken as missing; {remedy}"] if reasons else []


def _trace(recording: Recording, resolution: Resolution) -> Trace | str:
    """`read_live_channel`, refused where filtering it would not fit a machine's memory."""
    samples = recording.signals[resolution.terms[0][0]].samples
    if samples > MOST_SAMPLES:
        raise RecordingError(
            recording.path,
            f"{resolution.source} has {samples} samples ({recording.duration_s / 3600:.0f} h at "
            f"{resolution.rate:g} Hz), at most {MOST_SAMPLES} a signal are read",
            "split the recording, or export it at a lower sampling rate",
        )
    return read_live_channel(recording, resolution)


def trace_flags(name: str, resolution: Resolution, trace: Trace) -> list[str]:
    """What a reader must know before trusting the values."""
    flags = []
    if resolution.amplitude_unknown:
        flags.append(f"amplitude_unknown: {name} ({resolution.source}), its unit is not trusted")
    elif doubt := _implausible(name, resolution, trace):
        flags.append(
            f"implausible_amplitude: {name} ({resolution.source}) is {doubt}; the file's unit is "
            f"{resolution.file_unit!r}"
        )
    if name == "SpO2" and np.median(trace.values) <= 1.5 and trace.values.max() > 0:
        flags.append(f"implausible_oximetry: {resolution.source} looks like a fraction, not %")
    if resolution.degrees and "unverified" in resolution.citation:
        flags.append("position_unverified: left and right of the position angle may be exchanged")
    return flags


def _implausible(name: str, resolution: Resolution, trace: Trace) -> str | None:
    """The amplitude beside what is expected, where it is another; None where all is well."""
    channel = CHANNELS[name]
    if resolution.amplitude_unknown or channel.plausible is None or resolution.unit != MICROVOLT:
        return None
    amplitude = _amplitude(channel, trace)
    low, high = channel.plausible
    if low <= amplitude <= high:
        return None
    return f"{amplitude:.3g} µV, {low:g} to {high:g} expected"


def _amplitude(channel: Channel, trace: Trace) -> float:
    """Median standard deviation of 30-s pieces of the filtered signal (whole signal if shorter).

    Of at most AMPLITUDE_PIECES, evenly spread: filtering all of a night would take as long as
    preparing it.
    """
    window = min(len(trace.values), max(1, round(EPOCH_S * trace.rate)))
    blocks = trace.values[: len(trace.values) // window * window].reshape(-1, window)
    chosen = np.unique(np.linspace(0, len(blocks) - 1, AMPLITUDE_PIECES).astype(int))
    pieces = dsp.band_pass(blocks[chosen], trace.rate, channel.band)
    return float(np.median(pieces.std(axis=1)))
