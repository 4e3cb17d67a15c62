"""One recording becomes a Night: resolve, filter, resample, scale, mask, stage. And `inspect`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sleeplm_jax.config import UNSCORED, SignalSpec
from sleeplm_jax.errors import RecordingError
from sleeplm_jax.recordings import signals as dsp
from sleeplm_jax.recordings.channels import CHANNELS, MICROVOLT, POSITION_UNKNOWN, Channel
from sleeplm_jax.recordings.edf import Recording, open_recording
from sleeplm_jax.recordings.montage import (
    Montage,
    choose_montage,
    load_montage,
    read_channel,
    recording_name,
    resolve,
    ruled_subject,
    subject_of,
    unresolved_reasons,
)
from sleeplm_jax.recordings.night import Night, Resolution, Scoring, Trace
from sleeplm_jax.recordings.scoring import (
    OWN_ANNOTATIONS,
    find_scoring,
    read_own_scoring,
    read_scoring,
)
from sleeplm_jax.recordings.stages import EPOCH_S

SLEEPLM = SignalSpec()
ARTEFACT_FLAG = 0.01  # share of epochs left out of the scale that is worth a flag
AMPLITUDE_PIECES = 60  # half an hour, spread over the night, tells volts from microvolts
# Samples of one channel that are filtered at once, at some 40 bytes each; a week at 400 Hz.
MOST_SAMPLES = 1 << 28


def prepare_night(
    path: Path | str,
    *,
    scoring: Path | str | None = "auto",
    cohort: str | None = None,
    montage: str | Path | Montage | None = None,
    spec: SignalSpec = SLEEPLM,
) -> Night:
    """A recording and its scoring as tensors: signals [E, C, T] for C = spec.channels.

    `scoring`: a file, None, or "auto": what `find_scoring` finds beside the recording, else stages
    among the recording's own annotations. `montage`:
    a name, a file or a Montage; without one `choose_montage` decides. E is the number of whole
    samples of `spec.seconds`. Raises RecordingError for what cannot be turned into tensors;
    everything doubtful but usable is one line in `Night.flags`.
    """
    recording = open_recording(path)
    chosen = _montage(recording, cohort, montage)
    epochs = int(recording.duration_s / spec.seconds + 1e-6)
    if epochs == 0:
        raise RecordingError(
            recording.path,
            f"lasts {recording.duration_s:g} s, less than one sample of {spec.seconds} s",
            "give a longer recording",
        )
    unknown = [name for name in spec.channels if name not in CHANNELS]
    if unknown:
        raise RecordingError(
            recording.path,
            f"channels {', '.join(unknown)} are not canonical",
            f"choose from {', '.join(CHANNELS)}",
        )
    resolved = resolve(recording, chosen)
    flags = list(recording.flags)
    traces: dict[str, Trace] = {}
    for name, resolution in tuple(resolved.items()):
        if resolution is None:
            continue
        trace = _trace(recording, resolution)
        if reason := _dead(name, resolution, trace):
            flags.append(reason)
            resolved[name] = None
            continue
        if resolution.stand_in:
            flags.append(f"stand_in: {name} is {resolution.source}")
        flags += _trace_flags(name, resolution, trace)
        traces[name] = trace

    samples = epochs * spec.samples
    out = np.zeros((epochs, len(spec.channels), spec.samples), np.float32)
    mask = np.zeros((epochs, len(spec.channels)), bool)
    scale = np.zeros(len(spec.channels), np.float32)
    offset = np.zeros(len(spec.channels), np.float32)
    for c, name in enumerate(spec.channels):
        if name == "POS":
            out[:, c], mask[:, c] = _positions(traces.get(name), spec, epochs)
            scale[c] = 1.0 if mask[:, c].any() else 0.0
            continue
        if name not in traces:
            continue
        found, more = _standardised(CHANNELS[name], traces[name], spec, epochs, samples)
        flags += more
        if found is None:
            del traces[name]
            resolved[name] = None
            continue
        out[:, c], mask[:, c], offset[c], scale[c] = found
    # A body position alone says nothing of sleep, and an all-zero file reads as "right side".
    if not any(mask[:, c].any() for c, name in enumerate(spec.channels) if name != "POS"):
        raise RecordingError(
            recording.path,
            f"no usable channel: none of {', '.join(spec.channels)} among its "
            f"{len(recording.signals)} signals under the montage {chosen.name!r}",
            "look at `sleeplm inspect` and give a montage (YAML) that names its signals",
        )
    scored, more = _scoring(recording, scoring)
    return Night(
        recording=recording_name(path),
        subject=subject_of(path, cohort, chosen),
        cohort=cohort or chosen.name,
        path=Path(path),
        spec=spec,
        signals=out,
        mask=mask,
        scale=scale,
        offset=offset,
        stages=_stages(scored, spec, epochs),
        events=scored.events if scored else (),
        channels=resolved,
        traces=traces,
        flags=tuple(flags) + more,
        simulated=chosen.simulated,
        rules=scored.rules if scored else "unknown",
        extra={
            "montage": chosen.name,
            "ruled_subject": ruled_subject(path, cohort, chosen),
            "duration_s": recording.duration_s,
            "start_clock": recording.start.isoformat("seconds") if recording.start else None,
        },
    )


def _montage(recording: Recording, cohort, montage) -> Montage:
    if isinstance(montage, Montage):
        return montage
    return choose_montage(recording, cohort) if montage is None else load_montage(montage)


def _trace(recording: Recording, resolution: Resolution) -> Trace:
    """`read_channel`, refused where filtering it would not fit a machine's memory."""
    samples = recording.signals[resolution.terms[0][0]].samples
    if samples > MOST_SAMPLES:
        raise RecordingError(
            recording.path,
            f"{resolution.source} has {samples} samples ({recording.duration_s / 3600:.0f} h at "
            f"{resolution.rate:g} Hz), at most {MOST_SAMPLES} a signal are read",
            "split the recording, or export it at a lower sampling rate",
        )
    return read_channel(recording, resolution)


def _dead(name: str, resolution: Resolution, trace: Trace) -> str | None:
    """The flag of a channel that is flat all night, as a lead never put on is; else None."""
    flat = name != "POS" and np.ptp(trace.values) == 0
    if not flat and not CHANNELS[name].step:  # a level that only steps between epochs is no signal
        epochs = int(len(trace.values) / trace.rate / EPOCH_S + 1e-6)
        flat = epochs > 0 and dsp.flat_epochs(trace.values, trace.rate, EPOCH_S, epochs).all()
    return f"flat: {name} ({resolution.source}) never changes, taken as missing" if flat else None


def _trace_flags(name: str, resolution: Resolution, trace: Trace) -> list[str]:
    """What a reader must know before trusting the values."""
    flags = []
    channel = CHANNELS[name]
    if resolution.amplitude_unknown:
        flags.append(f"amplitude_unknown: {name} ({resolution.source}), its unit is not trusted")
    elif channel.plausible is not None and resolution.unit == MICROVOLT:
        amplitude = _amplitude(channel, trace)
        low, high = channel.plausible
        if not low <= amplitude <= high:
            flags.append(
                f"implausible_amplitude: {name} ({resolution.source}) is {amplitude:.3g} µV, "
                f"{low:g} to {high:g} expected; the file's unit is {resolution.file_unit!r}"
            )
    if name == "SpO2" and np.median(trace.values) <= 1.5 and trace.values.max() > 0:
        flags.append(f"implausible_oximetry: {resolution.source} looks like a fraction, not %")
    if resolution.degrees and "unverified" in resolution.citation:
        flags.append("position_unverified: left and right of the position angle may be exchanged")
    return flags


def _amplitude(channel: Channel, trace: Trace) -> float:
    """Median standard deviation of 30-s pieces of the filtered signal (whole signal if shorter).

    Of at most AMPLITUDE_PIECES, evenly spread: filtering all of a night would take as long as
    preparing it.
    """
    window = min(len(trace.values), max(1, round(EPOCH_S * trace.rate)))
    blocks = trace.values[: len(trace.values) // window * window].reshape(-1, window)
    chosen = np.unique(np.linspace(0, len(blocks) - 1, AMPLITUDE_PIECES).astype(int))
    pieces = [dsp.band_pass(blocks[i], trace.rate, channel.band) for i in chosen]
    return float(np.median([piece.std() for piece in pieces]))


def _standardised(channel: Channel, trace: Trace, spec: SignalSpec, epochs: int, samples: int):
    """((signals [E, T], mask [E], offset, scale) or None, flags) of one channel but POS."""
    if channel.step:
        values = dsp.hold(trace.values, trace.rate, spec.rate, samples).astype(np.float64)
        flat = np.zeros(epochs, bool)  # a held value is information, not a dead lead
    else:
        values = dsp.filtered(trace.values, trace.rate, channel.band, spec.rate, samples)
        flat = dsp.flat_epochs(trace.values, trace.rate, spec.seconds, epochs)
    windows = max(1, int(samples / spec.rate / EPOCH_S + 1e-6))
    window = min(samples, round(EPOCH_S * spec.rate))
    flat_windows = (
        np.zeros(windows, bool)
        if channel.step
        else dsp.flat_epochs(trace.values, trace.rate, window / spec.rate, windows)
    )
    found = dsp.robust_scale(values, window, flat_windows, channel.loudest)
    if found is None:
        return None, [f"flat: {channel.name} never changes, taken as missing"]
    offset, scale, artefact = found
    signals = dsp.standardise(values, offset, scale).reshape(epochs, spec.samples)
    signals[flat] = 0.0
    flags = []
    if artefact > ARTEFACT_FLAG and not channel.step:
        flags.append(f"artefact: {channel.name} in {100 * artefact:.0f} % of epochs")
    if flat.any():
        still = int(flat.sum())
        flags.append(f"flat_epochs: {channel.name} does not change in {still} of {epochs}")
    return (signals, ~flat, offset, scale), flags


def _positions(trace: Trace | None, spec: SignalSpec, epochs: int):
    """Integer codes as float [E, T], and mask [E]: False where an epoch holds no known position."""
    if trace is None:
        return np.full((epochs, spec.samples), POSITION_UNKNOWN, np.float32), False
    held = dsp.hold(trace.values, trace.rate, spec.rate, epochs * spec.samples)
    held = held.astype(np.float32).reshape(epochs, spec.samples)
    return held, (held != POSITION_UNKNOWN).any(axis=1)


def _scoring(recording: Recording, scoring) -> tuple[Scoring | None, tuple[str, ...]]:
    if scoring == "auto":
        scoring = find_scoring(recording.path)
        if scoring is None:
            scored, flags = read_own_scoring(recording)
            return scored, flags or ("unscored: no scoring file",)
    if scoring is None:
        return None, ("unscored: no scoring file",)
    scored = read_scoring(scoring, recording.duration_s, recording.start)
    return scored, scored.flags


def _stages(scored: Scoring | None, spec: SignalSpec, epochs: int) -> np.ndarray:
    """Stage of the 30-s epoch that holds each sample's middle, int8 [E]."""
    stages = np.full(epochs, UNSCORED, np.int8)
    if scored is not None:
        index = ((np.arange(epochs) + 0.5) * spec.seconds / EPOCH_S).astype(int)
        inside = index < len(scored.stages)
        stages[inside] = scored.stages[index[inside]]
    return stages


def inspect_recording(
    path: Path | str, montage: str | Path | Montage | None = None, cohort: str | None = None
) -> dict:
    """What a recording holds and how it would be used; JSON-able, nothing about the patient.

    {"file", "duration_s", "start_clock", "montage", "channels": {canonical: {source, unit,
    file_unit, rate, scale, stand_in, why, citation, labels} or None}, "signals": [{label, unit,
    rate, physical_min, physical_max, min, max, samples, resolves_to}], "missing", "unresolved":
    {canonical: reasons}, "flags", "scoring"}. A channel that is flat all night is None and missing,
    as `prepare_night` takes it.
    """
    recording = open_recording(path)
    chosen = _montage(recording, cohort, montage)
    resolved = resolve(recording, chosen)
    flags, uses, dead = list(recording.flags), {}, {}
    for name, resolution in tuple(resolved.items()):
        if resolution is None:
            continue
        trace = _trace(recording, resolution)
        if reason := _dead(name, resolution, trace):  # as prepare takes it
            flags.append(reason)
            dead[name] = f"{resolution.source}: never changes"
            resolved[name] = None
            continue
        for index, _ in resolution.terms:
            uses.setdefault(index, []).append(name)
        if resolution.upright is not None:
            uses.setdefault(resolution.upright[0], []).append(name)
        if resolution.stand_in:
            flags.append(f"stand_in: {name} is {resolution.source}")
        flags += _trace_flags(name, resolution, trace)
    scoring = None
    try:
        if found := find_scoring(recording.path):
            scoring = found.name
        else:
            own, more = read_own_scoring(recording)
            scoring = OWN_ANNOTATIONS if own else None
            flags += more
    except RecordingError as error:
        flags.append(f"scoring: {error.finding}")
    return {
        "file": recording.path.name,
        "duration_s": recording.duration_s,
        "start_clock": recording.start.isoformat("seconds") if recording.start else None,
        "montage": chosen.name,
        "channels": {
            name: None if resolution is None else _described(resolution)
            for name, resolution in resolved.items()
        },
        "signals": [_signal(recording, i, uses.get(i, [])) for i in range(len(recording.signals))],
        "missing": [name for name, resolution in resolved.items() if resolution is None],
        "unresolved": {
            name: list(reasons)
            for name, resolution in resolved.items()
            if resolution is None and (reasons := [dead[name]] if name in dead
                                       else unresolved_reasons(recording, chosen, name))
        },
        "flags": flags,
        "scoring": scoring,
    }


def _described(resolution: Resolution) -> dict:
    keys = ("source", "unit", "file_unit", "rate", "scale", "stand_in", "why", "citation")
    return {key: getattr(resolution, key) for key in keys} | {"labels": list(resolution.labels)}


def _signal(recording: Recording, index: int, resolves_to: list[str]) -> dict:
    info = recording.signals[index]
    values = recording.read(index) if info.readable else np.zeros(0)
    return {
        "label": info.label,
        "unit": info.unit,
        "rate": info.rate,
        "physical_min": info.physical_min if np.isfinite(info.physical_min) else None,
        "physical_max": info.physical_max if np.isfinite(info.physical_max) else None,
        "min": float(values.min()) if len(values) else None,
        "max": float(values.max()) if len(values) else None,
        "samples": info.samples,
        "resolves_to": resolves_to,
    }
