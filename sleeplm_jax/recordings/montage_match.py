"""Which of a recording's signals a montage's rows mean: comparing labels, choosing, resolving.

Labels are compared whole, in the form that `same_label` gives them, and never by a part. Where a
candidate's label fits two signals, the one that is written exactly so is meant; signals that are
copies of each other are one; anything else is an ambiguity, which is not guessed.
"""

from __future__ import annotations

import fnmatch
import functools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from sleeplm_jax.errors import RecordingError
from sleeplm_jax.recordings.channels import CHANNELS, MICROVOLT, microvolt_scale
from sleeplm_jax.recordings.montage import (
    GENERIC,
    Montage,
    cohort_montages,
    load_montage,
    packaged_montages,
)
from sleeplm_jax.recordings.montage_row import Candidate
from sleeplm_jax.recordings.night import Resolution
from sleeplm_jax.recordings.recording import Recording, SignalInfo

NO_VOLTAGE = "is no voltage"  # ends the reason why a signal of an unknown unit is not taken
# Electrodes of the 10-10 system, mastoids and ears, and the two eyes' names.
_ELECTRODE = (
    r"(?:fp[12z]|af[3478z]|f(?:10|[1-9z])|fc[1-6z]|ft[7-9]|ft10|c[1-6z]|t(?:10|[3-9])|tp[7-9]|tp10"
    r"|cp[1-6z]|p(?:10|[1-9z])|po[3478z]|o[12z]|[am][12]|e[12]|loc|roc)"
)
# "C3-M2", "C3M2", "C3:M2", "C3/M2", "EEG C3-M2", "EOG(LOC-A2)"; and "EEG C3" for C3.
_DERIVATION = re.compile(
    rf"(?:eeg|eog)?(?P<open>\()?(?P<plus>{_ELECTRODE})[-:/]?(?P<minus>{_ELECTRODE})(?(open)\))"
)
_LEAD = re.compile(rf"(?:eeg|eog)(?P<open>\()?(?P<lead>{_ELECTRODE})(?(open)\))")
# Running numbers, "X-0", "X-1", that a reader put behind the labels of signals named alike.
_NUMBERED = re.compile(r"(.+)-(\d{1,2})")


@functools.lru_cache(maxsize=1 << 14)
def same_label(text: str) -> str:
    """The form in which labels are compared.

    Without case, spaces and underscores; and where what is left is two electrodes (or EEG or EOG
    and an electrode or two: the EDF+ specification's own form), without that word, brackets and
    the sign between them: `C3_M2`, `EEG C3-M2`, `C3:M2` and `C3M2` are `c3-m2`.
    """
    plain = re.sub(r"[\s_]+", "", text).casefold()
    if match := _DERIVATION.fullmatch(plain):
        return f"{match['plus']}-{match['minus']}"
    if match := _LEAD.fullmatch(plain):
        return match["lead"]
    return plain


def numbered_labels(labels: Iterable[str]) -> tuple[str, ...]:
    """The labels, without the running numbers that readers give to signals named alike.

    MNE writes `X-0`, `X-1`, ... for a file's several `X`; so numbers are taken off where both 0
    and 1 are there and no plain `X` is. `EEG 1-0` alone keeps its name.
    """
    labels = tuple(labels)
    numbers: dict[str, set[int]] = {}
    for label in labels:
        if match := _NUMBERED.fullmatch(label):
            numbers.setdefault(match[1], set()).add(int(match[2]))
    taken = {
        base for base, found in numbers.items()
        if base not in labels and found == set(range(len(found))) and len(found) > 1
    }  # fmt: skip
    return tuple(
        match[1] if (match := _NUMBERED.fullmatch(label)) and match[1] in taken else label
        for label in labels
    )


@functools.lru_cache(maxsize=64)
def _same_labels(labels: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(same_label(label) for label in numbered_labels(labels))


def choose_montage(recording: Recording, cohort: str | None = None) -> Montage:
    """The montage of a named cohort, else the one whose identifying labels are all in the file.

    Of several that fit, the one identified by most labels, a file name's pattern counting as one;
    the cohort's first, or `generic`, when none fits.
    """
    name = recording.path.name
    present = set(_same_labels(tuple(s.label for s in recording.signals)))
    transducers = {s.transducer.casefold() for s in recording.signals}
    named = cohort_montages(cohort) if cohort is not None else ()
    best, most = None, 0
    for montage in named or packaged_montages():
        for wanted, file, transducer in montage.matches:
            weight = len(wanted) + (file != "*")  # a cohort's way to name files tells as much
            if weight <= most or not fnmatch.fnmatch(name, file):
                continue
            if not any(fnmatch.fnmatch(text, transducer) for text in transducers):
                continue
            if all(same_label(label) in present for label in wanted):
                best, most = montage, weight
    return best or (named or [m for m in packaged_montages() if m.name == GENERIC])[0]


def montage_for(
    recording: Recording, given: str | Path | Montage | None = None, cohort: str | None = None
) -> Montage:
    """The montage that was given, by name, file or itself; without one `choose_montage` decides."""
    if given is None:
        return choose_montage(recording, cohort)
    return given if isinstance(given, Montage) else load_montage(given)


class Ambiguous(str):
    """A reason why a candidate is not taken: its label fits signals that differ."""


class Absent(str):
    """A reason why a candidate is not taken: a label is not in the file."""


def find_label(recording: Recording, label: str, occurrence: int | None = None) -> int | str:
    """Index of the one readable signal that `label` means, or the reason why there is none.

    The reason is `Absent`, `Ambiguous` or another str. Copies of one signal (same rate, unit and
    samples) count as one. `occurrence` takes the n-th of those named alike, in the file's order.
    """
    signals = recording.signals
    names = _same_labels(tuple(s.label for s in signals))
    wanted = same_label(label)
    found = [i for i, name in enumerate(names) if name == wanted]
    readable = [i for i in found if signals[i].readable]
    if occurrence is not None:
        if len(found) < occurrence:
            return Absent(f"no {label!r} number {occurrence}")
        index = found[occurrence - 1]
        return index if index in readable else f"{label!r} number {occurrence} is unreadable"
    exact = [i for i in readable if signals[i].label == label]
    best = exact if len(exact) == 1 else readable
    if not best:
        return Absent(f"no {label!r}")
    if len(best) == 1 or all(_copies(recording, best[0], other) for other in best[1:]):
        return best[0]
    shown = ", ".join(f"signal {i + 1} {signals[i].label!r}" for i in best)
    return Ambiguous(f"{label!r} fits {len(best)} signals that differ ({shown})")


def _copies(recording: Recording, one: int, other: int) -> bool:
    """Whether two signals are the same samples at the same rate in the same unit."""
    a, b = recording.signals[one], recording.signals[other]
    if (a.rate, a.unit, a.samples) != (b.rate, b.unit, b.samples):
        return False
    return np.array_equal(recording.read(one), recording.read(other))


def candidates(recording: Recording, montage: Montage, channel: str) -> Iterator[Resolution]:
    """What the montage offers for a channel in this file, the preferred first.

    An ambiguity ends it: the rows below the ambiguous one are second choices, and which signal
    was the first is not known.
    """
    for number, candidate in enumerate(montage.channels.get(channel, ()), start=1):
        found = _try(recording, montage, channel, number, candidate)
        if isinstance(found, Resolution):
            yield found
        elif isinstance(found, Ambiguous):
            return


def resolve(
    recording: Recording, montage: Montage, wanted: Iterable[str] = ()
) -> dict[str, Resolution | None]:
    """Every canonical channel's derivation in this file, or None where it has none.

    Raises RecordingError where an ambiguity leaves one of the `wanted` channels open.
    """
    resolved = {name: next(candidates(recording, montage, name), None) for name in CHANNELS}
    for name in wanted:
        if resolved.get(name) is None:
            check_ambiguity(recording, montage, name)
    return resolved


def ambiguity(recording: Recording, montage: Montage, channel: str) -> str | None:
    """Which label of the channel's rows fits signals that differ, in one line, or None."""
    for number, candidate in enumerate(montage.channels.get(channel, ()), start=1):
        found = _try(recording, montage, channel, number, candidate)
        if isinstance(found, Ambiguous):
            return f"{found} (montage {montage.name}, row {number})"
    return None


def check_ambiguity(recording: Recording, montage: Montage, channel: str) -> None:
    """Raises RecordingError if `channel` is missing because a label fits signals that differ."""
    if found := ambiguity(recording, montage, channel):
        raise RecordingError(
            recording.path,
            f"{channel} is ambiguous: {found}",
            "give a montage (YAML) whose row has `occurrence: 1` (or 2, ...), or leave the "
            "channel out",
        )


def unresolved_reasons(recording: Recording, montage: Montage, channel: str) -> tuple[str, ...]:
    """Why no candidate of `channel` fits, one line each; for people, not for programs.

    Absent labels are not listed: they say nothing beyond the list of signals.
    """
    reasons = (
        _try(recording, montage, channel, number, candidate)
        for number, candidate in enumerate(montage.channels.get(channel, ()), start=1)
    )
    return tuple(str(r) for r in reasons if isinstance(r, str) and not isinstance(r, Absent))


def _try(
    recording: Recording, montage: Montage, name: str, number: int, candidate: Candidate
) -> Resolution | str:
    channel = CHANNELS[name]
    indices = []
    for label, _ in candidate.terms:
        index = find_label(recording, label, candidate.occurrence)
        if isinstance(index, str):
            return index
        indices.append(index)
    if candidate.unusable:
        return f"{candidate.expr}: {candidate.unusable}"
    infos = [recording.signals[i] for i in indices]
    rates = {info.rate for info in infos}
    if len(rates) > 1:
        return f"{candidate.expr}: rates differ ({', '.join(f'{r:g}' for r in sorted(rates))} Hz)"
    rate = infos[0].rate
    if rate < (least := max(candidate.min_rate, channel.min_rate)):
        return f"{candidate.expr}: {rate:g} Hz, at least {least:g} Hz wanted"
    units = [info.unit.strip() or (candidate.unit or "") for info in infos]
    if channel.unit == MICROVOLT:
        scales = [microvolt_scale(unit) for unit in units]
        if candidate.amplitude_unknown:
            scales = [1.0] * len(infos)
        if None in scales:
            return f"{candidate.expr}: unit {units[scales.index(None)]!r} {NO_VOLTAGE}"
        unit = "unknown" if candidate.amplitude_unknown else MICROVOLT
    else:
        if len(set(units)) > 1:
            return f"{candidate.expr}: units differ ({', '.join(sorted(set(units)))})"
        scales, unit = [1.0] * len(infos), channel.unit or units[0]
    by = candidate.scale * candidate.polarity
    upright = None
    if candidate.upright is not None:
        index = find_label(recording, candidate.upright[0])
        if not isinstance(index, str) and recording.signals[index].rate == rate:
            upright = (index, candidate.upright[1])
    row = f"montage {montage.name}, row {number} of {name}"
    why = (
        f"{row}: "
        + ("stand-in, " if candidate.stand_in else "")
        + (candidate.note or "its labels are in the file")
    )
    return Resolution(
        channel=name,
        source=_source(candidate, infos),
        labels=tuple(info.label for info in infos),
        unit=unit,
        file_unit=infos[0].unit,
        rate=rate,
        scale=scales[0] * by,
        stand_in=candidate.stand_in,
        why=why,
        citation=candidate.citation,
        terms=tuple(
            (index, factor * scale * by)
            for index, (_, factor), scale in zip(indices, candidate.terms, scales, strict=True)
        ),
        codes=candidate.codes,
        degrees=candidate.degrees,
        upright=upright,
        amplitude_unknown=candidate.amplitude_unknown,
        transducer=candidate.transducer,
        polarity=candidate.polarity,
    )


def _source(candidate: Candidate, infos: list[SignalInfo]) -> str:
    """The derivation in the file's own labels: a single label as it is, else the expression."""
    if len(infos) == 1 and candidate.terms[0][1] == 1.0:
        return infos[0].label
    return candidate.expr
