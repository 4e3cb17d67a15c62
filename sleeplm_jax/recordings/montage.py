"""Montages: YAML tables that say which of a file's signals is which canonical channel.

A montage file (recordings/montages/*.yaml, or a user's own):

    name: nox
    description: one line
    cohorts: [nox]                  # cohort names that choose it
    matches:                        # or: labels that identify it, and optionally a pattern for
      - {labels: [PosAngle], file: "*", transducer: "*"}    # the file's name or a transducer
    subject: '^(SC4\\d\\d)'         # regular expression on the file name; group 1 is the subject
    channels:
      C3:                           # candidates in order of preference
        - expr: C3-M2               # see expression.py
          citation: where this row comes from, or `unverified`

More keys of a candidate: `unit` (where the file leaves it blank), `scale` (times), `polarity: -1`,
`stand_in: true` (a substitute, marked as one), `min_rate` (Hz), `codes` (the file's codes of each
position: `{right: 0, left: 1, supine: 2, prone: 3, upright: [4, 5]}`), `degrees: true` (position
angle: 0 supine, +-180 prone, positive to the right), `upright: {label, above}` (elevation signal
and its threshold), `amplitude_unknown: true` (the file's unit is known to be wrong).

A label matches exactly, but for case, spaces and underscores; never as a part of a longer one.
"""

from __future__ import annotations

import fnmatch
import functools
import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import yaml

from sleeplm_jax.errors import RecordingError
from sleeplm_jax.recordings.channels import (
    CHANNELS,
    MICROVOLT,
    POSITION_UNKNOWN,
    POSITIONS,
    microvolt_scale,
)
from sleeplm_jax.recordings.edf import Recording
from sleeplm_jax.recordings.expression import parse_expression
from sleeplm_jax.recordings.night import Resolution, Trace

GENERIC = "generic"


@dataclass(frozen=True)
class Candidate:
    """One row of a montage: a derivation that may give a canonical channel."""

    expr: str
    terms: tuple[tuple[str, float], ...]  # (label, factor)
    citation: str
    unit: str | None = None
    scale: float = 1.0
    polarity: int = 1
    stand_in: bool = False
    min_rate: float = 0.0
    codes: tuple[tuple[float, int], ...] = ()
    degrees: bool = False
    upright: tuple[str, float] | None = None
    amplitude_unknown: bool = False
    note: str = ""


@dataclass(frozen=True)
class Montage:
    """A parsed montage file."""

    name: str
    description: str
    cohorts: tuple[str, ...]
    matches: tuple[tuple[tuple[str, ...], str, str], ...]  # (labels, file name, transducer)
    channels: dict[str, tuple[Candidate, ...]]
    subject: str | None = None
    simulated: bool = False


def same_label(text: str) -> str:
    """The form in which labels are compared: without case, spaces and underscores."""
    return re.sub(r"[\s_]+", "", text).casefold()


def known_montages() -> tuple[str, ...]:
    """Names of the montages that come with the package."""
    folder = resources.files(__package__) / "montages"
    return tuple(sorted(p.name[:-5] for p in folder.iterdir() if p.name.endswith(".yaml")))


def load_montage(name_or_path: str | Path) -> Montage:
    """A montage by its name (`known_montages`) or from a YAML file.

    Raises RecordingError naming the file and the row for anything that is not understood.
    """
    text = str(name_or_path)
    if text in known_montages():
        source, raw = (
            text,
            (resources.files(__package__) / "montages" / f"{text}.yaml").read_text(
                encoding="utf-8"
            ),
        )
    elif Path(text).is_file():
        try:
            source, raw = text, Path(text).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RecordingError(
                text, f"not a readable text ({type(error).__name__})", "give a YAML file in UTF-8"
            ) from None
    else:
        raise RecordingError(
            text,
            "no such montage",
            f"give a YAML file or one of: {', '.join(known_montages())}",
        )
    try:
        return _parse(yaml.safe_load(raw))
    except (
        yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError, re.error, RecursionError,
    ) as error:
        raise RecordingError(
            source, f"not a montage: {error}", "see sleeplm_jax/recordings/montage.py for the form"
        ) from None


_CANDIDATE_KEYS = frozenset(
    "expr citation unit scale polarity stand_in min_rate codes degrees upright"
    " amplitude_unknown note".split()
)
_MONTAGE_KEYS = frozenset(
    "name description cohorts matches channels subject simulated".split()
)  # fmt: skip


def _parse(data: dict) -> Montage:
    unknown = set(data) - _MONTAGE_KEYS
    if unknown:
        raise ValueError(f"unknown keys {sorted(unknown)} (allowed {sorted(_MONTAGE_KEYS)})")
    channels = {}
    for name, rows in data["channels"].items():
        if name not in CHANNELS:
            raise ValueError(f"unknown channel {name!r} (allowed {', '.join(CHANNELS)})")
        channels[name] = tuple(_candidate(name, row) for row in rows)
    matches = tuple(
        (
            tuple(str(label) for label in rule["labels"]),
            str(rule.get("file", "*")),
            str(rule.get("transducer", "*")),
        )
        for rule in data.get("matches", ())
    )
    subject = data.get("subject")
    if subject is not None and not re.compile(subject).groups:
        raise ValueError(f"subject: {subject!r} has no group in brackets to take the subject from")
    return Montage(
        name=str(data["name"]),
        description=str(data.get("description", "")),
        cohorts=tuple(str(c).casefold() for c in data.get("cohorts", ())),
        matches=matches,
        channels=channels,
        subject=subject,
        simulated=bool(data.get("simulated", False)),
    )


def _candidate(channel: str, row: dict) -> Candidate:
    unknown = set(row) - _CANDIDATE_KEYS
    if unknown:
        raise ValueError(f"{channel}: unknown keys {sorted(unknown)}")
    if not row.get("citation"):
        raise ValueError(f"{channel}: {row.get('expr')!r} has no citation (or `unverified`)")
    codes = []
    for position, values in (row.get("codes") or {}).items():
        if position not in POSITIONS:
            raise ValueError(f"{channel}: unknown position {position!r} (allowed {POSITIONS})")
        for value in values if isinstance(values, list) else [values]:
            codes.append((float(value), POSITIONS.index(position)))
    if channel == "POS" and not codes and not row.get("degrees"):
        raise ValueError(f"POS: {row['expr']!r} needs `codes` or `degrees`")
    if (polarity := row.get("polarity", 1)) not in (1, -1):
        raise ValueError(f"{channel}: polarity {polarity!r} (allowed 1, -1)")
    upright = row.get("upright")
    return Candidate(
        expr=str(row["expr"]),
        terms=parse_expression(str(row["expr"])),
        citation=str(row["citation"]),
        unit=row.get("unit"),
        scale=float(row.get("scale", 1.0)),
        polarity=polarity,
        stand_in=bool(row.get("stand_in", False)),
        min_rate=float(row.get("min_rate", 0.0)),
        codes=tuple(codes),
        degrees=bool(row.get("degrees", False)),
        upright=(str(upright["label"]), float(upright["above"])) if upright else None,
        amplitude_unknown=bool(row.get("amplitude_unknown", False)),
        note=str(row.get("note", "")),
    )


@functools.cache
def _packaged() -> tuple[Montage, ...]:
    return tuple(load_montage(name) for name in known_montages())


def choose_montage(recording: Recording, cohort: str | None = None) -> Montage:
    """The montage of a named cohort, else the one whose identifying labels are all in the file.

    Of several that fit, the one identified by most labels; `generic` when none fits.
    """
    montages = _packaged()
    if cohort is not None:
        for montage in montages:
            if cohort.casefold() in (montage.name, *montage.cohorts):
                return montage
    labels = {same_label(info.label) for info in recording.signals}
    best, most = None, 0
    for montage in montages:
        for wanted, name, transducer in montage.matches:
            if len(wanted) <= most or not fnmatch.fnmatch(recording.path.name, name):
                continue
            transducers = {s.transducer.casefold() for s in recording.signals}
            if not any(fnmatch.fnmatch(text, transducer) for text in transducers):
                continue
            if all(same_label(label) in labels for label in wanted):
                best, most = montage, len(wanted)
    return best or next(m for m in montages if m.name == GENERIC)


def _find_label(recording: Recording, label: str) -> int | str:
    """Index of the one readable signal with that label, or why there is none."""
    exact = [i for i, s in enumerate(recording.signals) if s.label == label and s.readable]
    if len(exact) == 1:
        return exact[0]
    wanted = same_label(label)
    found = [
        i for i, s in enumerate(recording.signals) if same_label(s.label) == wanted and s.readable
    ]
    if not found:
        return f"no {label!r}"
    return found[0] if len(found) == 1 else f"{label!r} occurs {len(found)} times"


def resolve(recording: Recording, montage: Montage) -> dict[str, Resolution | None]:
    """Every canonical channel's derivation in this file, or None where it has none."""
    resolved: dict[str, Resolution | None] = dict.fromkeys(CHANNELS)
    for name in CHANNELS:
        for number, candidate in enumerate(montage.channels.get(name, ()), start=1):
            found = _try(recording, montage, name, number, candidate)
            if isinstance(found, Resolution):
                resolved[name] = found
                break
    return resolved


def unresolved_reasons(recording: Recording, montage: Montage, channel: str) -> tuple[str, ...]:
    """Why no candidate of `channel` fits, one line each; for people, not for programs.

    Absent labels are not listed: they say nothing beyond the list of signals.
    """
    reasons = (
        _try(recording, montage, channel, number, candidate)
        for number, candidate in enumerate(montage.channels.get(channel, ()), start=1)
    )
    return tuple(r for r in reasons if isinstance(r, str) and not r.startswith("no "))


def _try(
    recording: Recording, montage: Montage, name: str, number: int, candidate: Candidate
) -> Resolution | str:
    channel = CHANNELS[name]
    indices = []
    for label, _ in candidate.terms:
        index = _find_label(recording, label)
        if isinstance(index, str):
            return index
        indices.append(index)
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
            return f"{candidate.expr}: unit {units[scales.index(None)]!r} is no voltage"
        unit = "unknown" if candidate.amplitude_unknown else MICROVOLT
    else:
        if len(set(units)) > 1:
            return f"{candidate.expr}: units differ ({', '.join(sorted(set(units)))})"
        scales, unit = [1.0] * len(infos), channel.unit or units[0]
    by = candidate.scale * candidate.polarity
    upright = None
    if candidate.upright is not None:
        index = _find_label(recording, candidate.upright[0])
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
    )


def _source(candidate: Candidate, infos) -> str:
    """The derivation in the file's own labels: a single label as it is, else the expression."""
    if len(infos) == 1 and candidate.terms[0][1] == 1.0:
        return infos[0].label
    return candidate.expr


def read_channel(recording: Recording, resolution: Resolution) -> Trace:
    """The channel's samples at its native rate in `resolution.unit`; positions as our codes.

    Unfiltered. Raises RecordingError if the file can no longer be read.
    """
    total = None
    for index, factor in resolution.terms:
        values = recording.read(index) * factor
        total = values if total is None else total + values
    if resolution.codes or resolution.degrees:
        codes = _angle_codes(total) if resolution.degrees else _map_codes(total, resolution.codes)
        if resolution.upright is not None:
            index, threshold = resolution.upright
            codes[recording.read(index) >= threshold] = POSITIONS.index("upright")
        total = codes
    return Trace(np.asarray(total, np.float32), resolution.rate, resolution.unit)


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


def subject_of(path: Path | str, cohort: str | None = None, montage: Montage | None = None) -> str:
    """Subject id from the file's name: `ruled_subject`'s, else the stem."""
    return ruled_subject(path, cohort, montage) or recording_name(path)


def ruled_subject(
    path: Path | str, cohort: str | None = None, montage: Montage | None = None
) -> str | None:
    """Subject id by the montage's pattern or BIDS' `sub-X`; None where no rule fits the name.

    Two nights of one person must give one subject, or a split by subject leaks.
    """
    name = Path(path).name
    if montage is None and cohort is not None:
        for known in _packaged():
            if cohort.casefold() in (known.name, *known.cohorts):
                montage = known
    if montage is not None and montage.subject:
        if match := re.search(montage.subject, name):
            return "".join(group for group in match.groups() if group)
    match = re.match(r"(sub-[0-9A-Za-z]+)", name)
    return match[1] if match else None


def recording_name(path: Path | str) -> str:
    """The file's stem as text that can be written anywhere (names need not be valid UTF-8)."""
    return Path(path).stem.encode("utf-8", "backslashreplace").decode()
