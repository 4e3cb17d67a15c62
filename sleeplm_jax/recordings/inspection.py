"""What a recording holds and how it would be used, before anything is made of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sleeplm_jax.errors import RecordingError
from sleeplm_jax.recordings.channel_choice import choose_channel, trace_flags
from sleeplm_jax.recordings.channels import CHANNELS
from sleeplm_jax.recordings.montage import Montage
from sleeplm_jax.recordings.montage_match import montage_for, unresolved_reasons
from sleeplm_jax.recordings.night import Dialect, Resolution
from sleeplm_jax.recordings.opening import open_recording
from sleeplm_jax.recordings.recording import Recording
from sleeplm_jax.recordings.scoring import (
    OWN_ANNOTATIONS,
    find_scoring,
    read_own_scoring,
    read_scoring,
)


def inspect_recording(
    path: Path | str,
    montage: str | Path | Montage | None = None,
    cohort: str | None = None,
    scoring: Path | str | None = None,
) -> dict:
    """What a recording holds and how it would be used; JSON-able, nothing about the patient.

    {"file", "duration_s", "start_clock", "montage", "channels": {canonical: {source, unit,
    file_unit, rate, scale, stand_in, why, citation, labels} or None}, "signals": [{label, unit,
    rate, physical_min, physical_max, min, max, samples, resolves_to}], "missing", "unresolved":
    {canonical: reasons}, "flags", "scoring"}. A channel that is flat all night is None and missing,
    as `prepare_night` takes it. `scoring`: a scoring file; without one, what lies beside the
    recording, else its own annotations. It is read as well, for its flags; raises RecordingError
    for a given one that cannot be.
    """
    recording = open_recording(path)
    chosen = montage_for(recording, montage, cohort)
    resolved: dict[str, Resolution | None] = {}
    flags, uses, flat = list(recording.flags), {}, {}
    for name in CHANNELS:
        choice = choose_channel(recording, chosen, name)  # as prepare takes it
        resolved[name] = resolution = choice.resolution
        flags += choice.flags
        flat[name] = [f"{one.source}: {reason}" for one, reason in choice.passed_over]
        if resolution is None:
            continue
        for index, _ in resolution.terms:
            uses.setdefault(index, []).append(name)
        if resolution.upright is not None:
            uses.setdefault(resolution.upright[0], []).append(name)
        flags += trace_flags(name, resolution, choice.trace)
    scored_by, more = _scoring(recording, chosen.dialect, scoring)
    flags += more
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
        "scoring": scored_by,
    }


def _scoring(
    recording: Recording, dialect: Dialect, given: Path | str | None
) -> tuple[str | None, list[str]]:
    """What scores the recording, and flags; one that was found and cannot be read is flagged."""
    found = None
    try:
        found = find_scoring(recording.path, dialect) if given is None else Path(given)
        if found is None:
            own, flags = read_own_scoring(recording, dialect)
            return OWN_ANNOTATIONS if own else None, list(flags)
        scored = read_scoring(
            found, recording.duration_s, recording.start, dialect, recording.path
        )
        return found.name, list(scored.flags)
    except RecordingError as error:
        if given is not None:
            raise
        return found.name if found else None, [f"scoring: {error.finding}"]


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
