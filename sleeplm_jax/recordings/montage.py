"""Montages: YAML tables that say which of a file's signals is which canonical channel.

A montage file (recordings/montages/*.yaml, or a user's own):

    name: nox
    description: one line
    extends: mros1                  # a packaged montage: what is not given here is taken from it
    cohorts: [nox]                  # cohort names that choose it
    verified: true                  # labels compared with the cohort's own documentation or files
    sources: [...]                  # which ones: addresses or files
    matches:                        # or: labels that identify it, and a pattern (with * ? [])
      - {labels: [PosAngle], file: "*", transducer: "*"}    # of the file's name or a transducer
    subject: '^(SC4\\d\\d)'         # regular expression on the file name; its groups, joined, are
    family: '^(fam\\d+)'            # the subject; likewise the family, where the name tells it
    night: '^SC4\\d\\d(\\d)'         # its first group that fits is the night's or visit's number
    person: '^(?P<age>\\d+) (?P<sex>[MF]) '  # on a WFDB header's comments: age and sex
    scoring: {...}                  # how the cohort's scoring is to be read, see `_dialect`
    others: {Light: room light}     # labels that are none of our channels, or not settled which,
                                    # and what they are
    channels:                       # (not required where the file `extends` another)
      C3:                           # candidates in order of preference
        - expr: C3-M2               # see expression.py
          citation: where this row comes from, or `unverified`

More keys of a candidate: `unit` (where the file leaves it blank), `scale` (times), `polarity: -1`,
`stand_in: true` (a substitute, marked as one), `min_rate` (Hz), `transducer` (one of TRANSDUCERS),
`occurrence: 2` (the label occurs more than once in a file: its second signal in the file's order),
`codes` (the file's codes of each
position: `{right: 0, left: 1, supine: 2, prone: 3, upright: [4, 5]}`), `degrees: true` (position
angle: 0 supine, +-180 prone, positive to the right), `upright: {label, above}` (elevation signal
and its threshold), `amplitude_unknown: true` (the file's unit is known to be wrong), `unusable:
why` (the label is this channel's, but must not be read: codes documented nowhere, a faulty sensor),
`note`.

How labels are compared is in montage_match.py. docs/montages.md is the guide for users.
"""

from __future__ import annotations

import functools
import math
import re
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

import yaml

from sleeplm_jax.config import STAGES
from sleeplm_jax.errors import RecordingError
from sleeplm_jax.recordings.channels import CHANNELS, MICROVOLT, POSITIONS, microvolt_scale
from sleeplm_jax.recordings.events import EVENT_KINDS
from sleeplm_jax.recordings.expression import parse_expression
from sleeplm_jax.recordings.night import Dialect

GENERIC = "generic"
MOST_BYTES = 1 << 20  # of a montage file
# What a signal was measured with, where features differ by it.
TRANSDUCERS = (
    "nasal_pressure",  # cannula
    "thermal",  # thermistor or thermocouple, nasal, oral or both
    "cpap_flow",  # the flow output of a pressure device
    "pneumotachograph",
    "derived",  # computed from other signals: flow from belts, heart rate from the ECG
    "rip",  # respiratory inductance plethysmography belt
    "piezo",
    "strain_gauge",
    "impedance",
    "oximeter",
    "ecg",
    "microphone",
    "accelerometer",
)


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
    transducer: str | None = None
    occurrence: int | None = None  # of a label that the file holds more than once, from 1
    codes: tuple[tuple[float, int], ...] = ()
    degrees: bool = False
    upright: tuple[str, float] | None = None
    amplitude_unknown: bool = False
    unusable: str = ""  # why it is known but not read
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
    subject_path: str | None = None
    subject_column: str | None = None  # of a BIDS participants.tsv
    family: str | None = None
    night: str | None = None
    person: str | None = None  # of a WFDB header's comments
    simulated: bool = False
    verified: bool = False
    sources: tuple[str, ...] = ()
    others: tuple[tuple[str, str], ...] = ()  # (label, what it is): none of our channels
    dialect: Dialect = Dialect()


def known_montages() -> tuple[str, ...]:
    """Names of the montages that come with the package."""
    folder = resources.files(__package__) / "montages"
    return tuple(sorted(p.name[:-5] for p in folder.iterdir() if p.name.endswith(".yaml")))


# libyaml's form of the safe loader takes a tenth of the time, which every process pays.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@functools.cache
def packaged_montages() -> tuple[Montage, ...]:
    """Every montage that comes with the package, parsed."""
    return tuple(load_montage(name) for name in known_montages())


def cohort_montages(cohort: str) -> tuple[Montage, ...]:
    """The packaged montages that have `cohort` as name or among their cohorts, in any case.

    Several where a cohort's visits were recorded differently.
    """
    return tuple(
        montage for montage in packaged_montages()
        if cohort.casefold() in (montage.name, *montage.cohorts)
    )  # fmt: skip


def load_montage(name_or_path: str | Path) -> Montage:
    """A montage by its name (`known_montages`) or from a YAML file.

    Raises RecordingError naming the file and the row for anything that is not understood.
    """
    text = str(name_or_path)
    if text in known_montages():
        file = resources.files(__package__) / "montages" / f"{text}.yaml"
        raw = file.read_text(encoding="utf-8")
    elif Path(text).is_file():
        try:
            if Path(text).stat().st_size > MOST_BYTES:
                raise RecordingError(
                    text, f"is larger than {MOST_BYTES >> 20} MiB", "give a montage's YAML file"
                )
            raw = Path(text).read_text(encoding="utf-8")
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
        if text not in known_montages():  # a few lines of aliases can stand for gigabytes
            if any(isinstance(e, yaml.AliasEvent) for e in yaml.parse(raw, Loader=_LOADER)):
                raise ValueError("an alias (*name) is not taken here: write the value out")
        _no_twins(yaml.compose(raw, Loader=_LOADER))
        return parse_montage(yaml.load(raw, Loader=_LOADER))
    except (
        yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError, re.error, RecursionError,
        OverflowError,
    ) as error:
        finding = f"lacks the key {error}" if isinstance(error, KeyError) else str(error)
        raise RecordingError(
            text, f"not a montage: {finding}", "see docs/montages.md for the form"
        ) from None


def _no_twins(node: yaml.Node | None) -> None:
    """ValueError for a key that stands twice in a table: YAML would take the last, silently."""
    if isinstance(node, yaml.SequenceNode):
        for one in node.value:
            _no_twins(one)
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    line = key.start_mark.line + 1
                    raise ValueError(f"line {line}: {key.value!r} stands twice in a table")
                seen.add(key.value)
            _no_twins(value)


_CANDIDATE_KEYS = frozenset(
    "expr citation unit scale polarity stand_in min_rate transducer occurrence codes degrees"
    " upright amplitude_unknown unusable note".split()
)
_MONTAGE_KEYS = frozenset(
    "name description extends cohorts matches channels subject subject_path subject_column family"
    " night person simulated verified sources others scoring".split()
)
_SCORING_KEYS = frozenset(
    "format rules hypopnea_rule stages events epoch_s flags citation".split()
)  # fmt: skip


def parse_montage(data: dict) -> Montage:
    """A montage from the YAML file's content. Raises ValueError and its kin, naming the row."""
    if not isinstance(data, dict):
        raise ValueError("its content is no table of keys")
    _only(data, _MONTAGE_KEYS, "")
    if "channels" not in data and "extends" in data:
        data = data | {"channels": {}}
    if not isinstance(data["channels"], dict):
        raise ValueError("channels: is no table of channels")
    channels = {}
    for name, rows in data["channels"].items():
        if name not in CHANNELS:
            raise ValueError(f"unknown channel {name!r} (allowed {', '.join(CHANNELS)})")
        if not isinstance(rows, list):
            raise ValueError(f"{name}: is no list of rows")
        channels[name] = tuple(_row(name, number, row) for number, row in enumerate(rows, 1))
    matches = tuple(
        (
            tuple(str(label) for label in _list(rule["labels"], "matches, labels")),
            str(rule.get("file", "*")),
            str(rule.get("transducer", "*")),
        )
        for rule in data.get("matches") or ()
    )
    for key in ("subject", "subject_path", "family", "night"):
        pattern = data.get(key)
        if pattern is not None and not re.compile(pattern).groups:
            raise ValueError(f"{key}: {pattern!r} has no group in brackets to take the {key} from")
    if (pattern := data.get("person")) is not None:
        if not {"age", "sex"} <= set(re.compile(pattern).groupindex):
            raise ValueError(f"person: {pattern!r} lacks a group (?P<age>...) or (?P<sex>...)")
    made = Montage(
        name=str(data["name"]),
        description=str(data.get("description", "")),
        cohorts=tuple(c.casefold() for c in _list(data.get("cohorts"), "cohorts")),
        matches=matches,
        channels=channels,
        subject=data.get("subject"),
        subject_path=data.get("subject_path"),
        subject_column=data.get("subject_column"),
        family=data.get("family"),
        night=data.get("night"),
        person=data.get("person"),
        simulated=_flag(data, "simulated"),
        verified=_flag(data, "verified"),
        sources=_list(data.get("sources"), "sources"),
        others=tuple((str(k), str(v)) for k, v in (data.get("others") or {}).items()),
        dialect=_dialect(data.get("scoring") or {}),
    )
    return _extended(made, data) if "extends" in data else made


def _extended(made: Montage, data: dict) -> Montage:
    """`made`, with what its file does not give taken from the packaged montage that it extends."""
    if (name := data["extends"]) not in known_montages():
        raise ValueError(f"extends: {name!r} (allowed {', '.join(known_montages())})")
    base = load_montage(name)
    inherited = {
        field: getattr(base, field)
        for key, field in (("subject", "subject"), ("subject_path", "subject_path"),
                           ("subject_column", "subject_column"), ("family", "family"),
                           ("night", "night"), ("person", "person"),
                           ("others", "others"), ("scoring", "dialect"), ("simulated", "simulated"))
        if key not in data
    }  # fmt: skip
    return replace(made, channels=base.channels | made.channels, **inherited)


def _only(data: dict, allowed: frozenset, where: str) -> None:
    if unknown := sorted(str(key) for key in set(data) - allowed):
        raise ValueError(f"{where}unknown keys {unknown} (allowed {sorted(allowed)})")


def _list(value, where: str) -> tuple[str, ...]:
    if value is not None and not isinstance(value, list):
        raise ValueError(f"{where}: {value!r} is no list")
    return tuple(str(one) for one in value or ())


def _flag(data: dict, key: str) -> bool:
    if not isinstance(value := data.get(key, False), bool):
        raise ValueError(f"{key}: {value!r} (allowed true, false)")
    return value


def _row(channel: str, number: int, row: dict) -> Candidate:
    """A candidate; whatever is wrong with it is said with the row."""
    if not isinstance(row, dict) or "expr" not in row:
        raise ValueError(f"{channel}, row {number}: {row!r} has no `expr`")
    try:
        return _candidate(channel, row)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        finding = f"lacks the key {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{channel}, row {number} ({row['expr']}): {finding}") from None


def _candidate(channel: str, row: dict) -> Candidate:
    _only(row, _CANDIDATE_KEYS, "")
    if not row.get("citation"):
        raise ValueError("has no citation (or `unverified`)")
    codes = []
    for position, values in (row.get("codes") or {}).items():
        if position not in POSITIONS:
            raise ValueError(f"unknown position {position!r} (allowed {', '.join(POSITIONS)})")
        for value in values if isinstance(values, list) else [values]:
            codes.append((float(value), POSITIONS.index(position)))
    if len({value for value, _ in codes}) < len(codes):
        raise ValueError("one code stands for two positions")
    if channel == "POS" and not codes and not row.get("degrees") and not row.get("unusable"):
        raise ValueError("a position needs `codes` or `degrees` (or `unusable`, saying why)")
    if (polarity := row.get("polarity", 1)) not in (1, -1):
        raise ValueError(f"polarity {polarity!r} (allowed 1, -1)")
    scale, min_rate = float(row.get("scale", 1.0)), float(row.get("min_rate", 0.0))
    if not 0 < scale < math.inf or not 0 <= min_rate < math.inf:
        raise ValueError(
            f"scale {scale:g}, min_rate {min_rate:g} (allowed above 0; polarity turns over)"
        )
    transducer = row.get("transducer")
    if transducer is not None and transducer not in TRANSDUCERS:
        raise ValueError(f"transducer {transducer!r} (allowed {', '.join(TRANSDUCERS)})")
    unit = row.get("unit")
    if unit is not None and CHANNELS[channel].unit == MICROVOLT and not microvolt_scale(str(unit)):
        raise ValueError(f"unit {unit!r} is no voltage (allowed V, mV, uV, nV)")
    occurrence = row.get("occurrence")
    terms = parse_expression(str(row["expr"]))
    if occurrence is not None and (
        not isinstance(occurrence, int) or occurrence < 1 or len(terms) > 1
    ):
        raise ValueError("`occurrence` is a whole number from 1 and goes with a single label")
    upright = row.get("upright")
    return Candidate(
        expr=str(row["expr"]),
        terms=terms,
        citation=str(row["citation"]),
        unit=None if unit is None else str(unit),
        scale=scale,
        polarity=polarity,
        stand_in=_flag(row, "stand_in"),
        min_rate=min_rate,
        transducer=transducer,
        occurrence=occurrence,
        codes=tuple(codes),
        degrees=_flag(row, "degrees"),
        upright=(str(upright["label"]), float(upright["above"])) if upright else None,
        amplitude_unknown=_flag(row, "amplitude_unknown"),
        unusable=str(row.get("unusable") or ""),
        note=str(row.get("note", "")),
    )


_STAGE_NAMES = (*STAGES, "unscored", "movement")


def _dialect(data: dict) -> Dialect:
    """The `scoring` part: {format, rules, hypopnea_rule, stages: {code: stage}, events: {wording:
    kind}, epoch_s, flags, citation}; a stage is one of W, N1, N2, N3, R, unscored, movement, a kind
    one of EVENT_KINDS."""
    _only(data, _SCORING_KEYS, "scoring: ")
    stages = tuple((str(code), str(stage)) for code, stage in (data.get("stages") or {}).items())
    events = tuple(
        (str(text).casefold(), str(kind)) for text, kind in (data.get("events") or {}).items()
    )
    for what, pairs, allowed in (
        ("stages", stages, _STAGE_NAMES), ("events", events, EVENT_KINDS)
    ):  # fmt: skip
        for key, value in pairs:
            if value not in allowed:
                raise ValueError(
                    f"scoring, {what}: {key!r} is {value!r} (allowed {', '.join(allowed)})"
                )
    if data and not data.get("citation"):
        raise ValueError("scoring: has no citation (or `unverified`)")
    epoch_s = float(data.get("epoch_s", 30.0))
    if not 0 < epoch_s <= 600:
        raise ValueError(f"scoring: epoch_s {epoch_s:g} (allowed above 0, up to 600 s)")
    return Dialect(
        format=None if data.get("format") is None else str(data["format"]),
        rules=str(data.get("rules", "unknown")),
        hypopnea_rule=None if data.get("hypopnea_rule") is None else str(data["hypopnea_rule"]),
        stages=stages,
        events=events,
        epoch_s=epoch_s,
        flags=_list(data.get("flags"), "scoring, flags"),
        citation=str(data.get("citation", "unverified")),
    )
