"""One recording becomes a Night: resolve, filter, resample, scale, mask, stage."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from sleeplm_jax.config import UNSCORED, SignalSpec
from sleeplm_jax.errors import RecordingError
from sleeplm_jax.recordings import signals as dsp
from sleeplm_jax.recordings.channel_choice import choose_channel, trace_flags, unit_flags
from sleeplm_jax.recordings.channels import CHANNELS, POSITION_UNKNOWN, Channel
from sleeplm_jax.recordings.events import is_bare_apnea
from sleeplm_jax.recordings.header_person import HeaderPerson, person_of_comments
from sleeplm_jax.recordings.montage import Montage
from sleeplm_jax.recordings.montage_match import montage_for, same_label
from sleeplm_jax.recordings.montage_subjects import (
    Person,
    family_of,
    person_of,
    recording_name,
)
from sleeplm_jax.recordings.night import Event, Night, Provenance, Resolution, Scoring, Trace
from sleeplm_jax.recordings.opening import open_recording
from sleeplm_jax.recordings.recording import Recording
from sleeplm_jax.recordings.scoring import find_scoring, read_own_scoring, read_scoring
from sleeplm_jax.recordings.stages import EPOCH_S
from sleeplm_jax.recordings.trim import Span, Trim, find_span

SLEEPLM = SignalSpec()
TRIM = Trim()
ARTEFACT_FLAG = 0.01  # share of epochs left out of the scale that is worth a flag


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
    chosen = montage_for(recording, montage, cohort)
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
        choice = choose_channel(recording, chosen, name, wanted=name in spec.channels)
        resolved[name] = resolution = choice.resolution
        flags += choice.flags
        if resolution is None:
            flags += unit_flags(recording, chosen, name)
            continue
        around[name] = span.around(choice.trace)
        traces[name] = span.cut(around[name])
        flags += trace_flags(name, resolution, traces[name])

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
