"""One recording becomes a Night: resolve, filter, resample, scale, mask, stage. And `inspect`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from sleeplm_jax.config import UNSCORED, SignalSpec
from sleeplm_jax.errors import RecordingError
from sleeplm_jax.recordings import signals as dsp
from sleeplm_jax.recordings.channels import CHANNELS, MICROVOLT, POSITION_UNKNOWN, Channel
from sleeplm_jax.recordings.events import is_bare_apnea
from sleeplm_jax.recordings.header_person import HeaderPerson, person_of_comments
from sleeplm_jax.recordings.montage import Montage, load_montage
from sleeplm_jax.recordings.montage_match import (
    NO_VOLTAGE,
    ambiguity,
    candidates,
    check_ambiguity,
    choose_montage,
    same_label,
    unresolved_reasons,
)
from sleeplm_jax.recordings.montage_read import read_live_channel
from sleeplm_jax.recordings.montage_subjects import (
    Person,
    family_of,
    person_of,
    recording_name,
)
from sleeplm_jax.recordings.night import Event, Night, Provenance, Resolution, Scoring, Trace
from sleeplm_jax.recordings.opening import open_recording
from sleeplm_jax.recordings.recording import Recording
from sleeplm_jax.recordings.scoring import (
    OWN_ANNOTATIONS,
    find_scoring,
    read_own_scoring,
    read_scoring,
)
from sleeplm_jax.recordings.stages import EPOCH_S
from sleeplm_jax.recordings.trim import Span, Trim, find_span

SLEEPLM = SignalSpec()
TRIM = Trim()
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
    trim: Trim = TRIM,
) -> Night:
    """A recording and its scoring as tensors: signals [E, C, T] for C = spec.channels.

    `scoring`: a file, None, or "auto": what `find_scoring` finds beside the recording, else stages
    among the recording's own annotations. `montage`:
    a name, a file or a Montage; without one `choose_montage` decides. `trim` says which part of
    the recording becomes the night (where stated, lights off to on); all times of the night count
    from there, and `extra["trim"]` says what was cut. E is the number of whole samples of
    `spec.seconds` in it. Raises RecordingError for what cannot be turned into tensors; everything
    doubtful but usable is one line in `Night.flags`.
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
    scored, more = _scoring(recording, scoring, chosen.dialect)
    span = find_span(trim, scored, recording.duration_s, spec)
    scored, more = span.scoring(scored), more + span.flags
    epochs = int(span.seconds / spec.seconds + 1e-6)
    resolved: dict[str, Resolution | None] = {}
    flags = list(recording.flags)
    traces: dict[str, Trace] = {}
    around: dict[str, Trace] = {}  # the same with a filter's margin, where there is more
    for name in CHANNELS:
        resolution, trace, dead = _live(recording, chosen, name, wanted=name in spec.channels)
        flags += _dead_flags(name, resolution, dead)
        if resolution is None and (alike := ambiguity(recording, chosen, name)):
            flags.append(f"ambiguous: {name}: {alike}, taken as missing")
        resolved[name] = resolution
        if resolution is None:
            flags += _unit_flags(recording, chosen, name)
            continue
        if resolution.stand_in:
            flags.append(f"stand_in: {name} is {resolution.source}")
        around[name] = span.around(trace)
        traces[name] = span.cut(around[name])
        flags += _trace_flags(name, resolution, traces[name])

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
        found, doubts = _standardised(
            CHANNELS[name], traces[name], around[name], span, spec, epochs, samples
        )
        flags += doubts
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
    person = person_of(path, cohort, chosen)
    return Night(
        recording=recording_name(path),
        subject=person.subject,
        cohort=cohort or chosen.name,
        path=Path(path),
        spec=spec,
        signals=out,
        mask=mask,
        scale=scale,
        offset=offset,
        stages=_stages(scored, spec, epochs),
        events=_anonymous(scored.events, recording) if scored else (),
        channels=resolved,
        traces=traces,
        flags=tuple(flags) + more,
        simulated=chosen.simulated,
        rules=scored.rules if scored else "unknown",
        provenance=_provenance(scored, person, _headed(recording, chosen)),
        extra={
            "montage": chosen.name,
            "ruled_subject": person.ruled,
            "placed": person.placed,
            "family": family_of(path, cohort, chosen),
            "duration_s": span.seconds,
            "start_clock": span.clock(recording.start),
            "trim": span.record,
        },
    )


def _anonymous(events: tuple[Event, ...], recording: Recording) -> tuple[Event, ...]:
    """Events without free text: scorers write names and dates into it, and it serves no model.

    What stays of it is that an apnoea of no kind was marked; the channel stays where it is one of
    the recording's labels or of ours.
    """
    known = {same_label(signal.label) for signal in recording.signals}
    known |= {same_label(name) for name in CHANNELS}
    return tuple(
        replace(event, text="apnea" if is_bare_apnea(event.text or "") else None,
                channel=event.channel if same_label(event.channel or "") in known else None)
        for event in events
    )


def _headed(recording: Recording, montage: Montage) -> HeaderPerson:
    """Age and sex that the header states; of WFDB comments, what the montage has them mean."""
    if montage.person is None:
        return recording.person
    return person_of_comments(recording.path, montage.person) or recording.person


def _provenance(scored: Scoring | None, person: Person, header: HeaderPerson) -> Provenance:
    """What the scoring states; of the person, a table of participants goes before the header."""
    stated = scored.provenance if scored else Provenance()
    known = {
        "age": header.age if person.age is None else person.age,
        "sex": person.sex or header.sex,
        "bmi": person.bmi,
        "night_number": person.night,
    }
    return replace(stated, **{
        key: value for key, value in known.items() if getattr(stated, key) is None
    })


def _montage(recording: Recording, cohort, montage) -> Montage:
    if isinstance(montage, Montage):
        return montage
    return choose_montage(recording, cohort) if montage is None else load_montage(montage)


def _live(recording: Recording, montage: Montage, name: str, wanted: bool = False):
    """(resolution, trace, passed over) of the first candidate that can be used, else Nones.

    Passed over, as (resolution, why), is what is flat all night, and what has no plausible
    amplitude where a later candidate does (a bad reference); where none does, the first is taken
    and flagged. Raises RecordingError where the channel is `wanted` and missing because a label is
    ambiguous.
    """
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
    if wanted:
        check_ambiguity(recording, montage, name)
    return None, None, dead


def _unit_flags(recording: Recording, montage: Montage, name: str) -> list[str]:
    """The flag of a channel whose signal is there and whose unit nobody knows."""
    reasons = [r for r in unresolved_reasons(recording, montage, name) if r.endswith(NO_VOLTAGE)]
    remedy = "name its unit in a montage"
    return [f"unit_unknown: {name}: {reasons[0]}, taken as missing; {remedy}"] if reasons else []


def _dead_flags(name: str, resolution: Resolution | None, dead: list) -> list[str]:
    """One line of what was flat all night, and whether anything took its place."""
    if not dead:
        return []
    found = "; ".join(f"{one.source}: {reason}" for one, reason in dead)
    if resolution is None:
        return [f"flat: {name} ({found}), taken as missing"]
    return [f"fallback: {name} is {resolution.source} ({found})"]


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


def _trace_flags(name: str, resolution: Resolution, trace: Trace) -> list[str]:
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


def _standardised(
    channel: Channel, trace: Trace, around: Trace, span: Span, spec: SignalSpec, epochs: int,
    samples: int,
):
    """((signals [E, T], mask [E], offset, scale) or None, flags) of one channel but POS.

    Filtered with what lies `around` the span, so that a cut is no edge; scaled by the span alone.
    """
    if channel.step:
        values = dsp.hold(trace.values, trace.rate, spec.rate, samples).astype(np.float64)
        flat = np.zeros(epochs, bool)  # a held value is information, not a dead lead
    else:
        lead, tail = int(span.lead * spec.rate), int(span.tail * spec.rate)
        whole = dsp.filtered(
            around.values, around.rate, channel.band, spec.rate, lead + samples + tail
        )
        values = whole[lead : lead + samples]
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


def _scoring(recording: Recording, scoring, dialect) -> tuple[Scoring | None, tuple[str, ...]]:
    if scoring == "auto":
        scoring = find_scoring(recording.path, dialect)
        if scoring is None:
            scored, flags = read_own_scoring(recording, dialect)
            return scored, flags or ("unscored: no scoring file",)
    if scoring is None:
        return None, ("unscored: no scoring file",)
    scored = read_scoring(
        scoring, recording.duration_s, recording.start, dialect, recording.path
    )
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
    resolved: dict[str, Resolution | None] = {}
    flags, uses, flat = list(recording.flags), {}, {}
    for name in CHANNELS:
        resolution, trace, dead = _live(recording, chosen, name)  # as prepare takes it
        flags += _dead_flags(name, resolution, dead)
        if resolution is None and (alike := ambiguity(recording, chosen, name)):
            flags.append(f"ambiguous: {name}: {alike}, taken as missing")
        flat[name] = [f"{one.source}: {reason}" for one, reason in dead]
        resolved[name] = resolution
        if resolution is None:
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
        if found := find_scoring(recording.path, chosen.dialect):
            scoring = found.name
        else:
            own, more = read_own_scoring(recording, chosen.dialect)
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
            name: reasons
            for name, resolution in resolved.items()
            if resolution is None
            and (reasons := [*flat[name], *unresolved_reasons(recording, chosen, name)])
        },
        "flags": flags,
        "scoring": scoring,
    }


def _described(resolution: Resolution) -> dict:
    keys = ("source", "unit", "file_unit", "rate", "scale", "stand_in", "transducer", "polarity",
            "why", "citation")  # fmt: skip
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
