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
import re
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

import yaml

from sleeplm_jax.config import STAGES
from sleeplm_jax.errors import RecordingError
from sleeplm_jax.recordings.channels import CHANNELS
from sleeplm_jax.recordings.events import EVENT_KINDS
from sleeplm_jax.recordings.montage_row import Candidate, flag, only, parse_row
from sleeplm_jax.recordings.night import Dialect

GENERIC = "generic"
MOST_BYTES = 1 << 20  # of a montage file
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
    return tuple(_packaged(name) for name in known_montages())


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

    Raises RecordingError naming the file and the row for anything that is not understood, and
    where a file and a packaged montage have one name: nights keep it, and it must tell which.
    """
    text = str(name_or_path)
    if text in known_montages():
        if Path(text).is_file():
            raise RecordingError(
                text, "is a packaged montage's name and a file here", "rename the file"
            )
        return _packaged(text)
    if not Path(text).is_file():
        raise RecordingError(
            text,
            "no such montage",
            f"give a YAML file or one of: {', '.join(known_montages())}",
        )
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
    try:
        # A few lines of aliases can stand for gigabytes.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(raw, Loader=_LOADER)):
            raise ValueError("an alias (*name) is not taken here: write the value out")
        montage = _parsed(raw)
    except (
        yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError, re.error, RecursionError,
        OverflowError,
    ) as error:
        finding = f"lacks the key {error}" if isinstance(error, KeyError) else str(error)
        raise RecordingError(
            text, f"not a montage: {finding}", "see docs/montages.md for the form"
        ) from None
    name = montage.name.casefold()
    if name in known_montages() and montage != _packaged(name):
        raise RecordingError(
            text,
            f"has the name of the packaged montage {name!r}, and says other things",
            "give it a name of its own (`extends` takes over what the packaged one says)",
        )
    return montage


def _packaged(name: str) -> Montage:
    file = resources.files(__package__) / "montages" / f"{name}.yaml"
    return _parsed(file.read_text(encoding="utf-8"))


def _parsed(raw: str) -> Montage:
    _no_twins(yaml.compose(raw, Loader=_LOADER))
    return parse_montage(yaml.load(raw, Loader=_LOADER))


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
    only(data, _MONTAGE_KEYS, "")
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
        channels[name] = tuple(parse_row(name, number, row) for number, row in enumerate(rows, 1))
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
        simulated=flag(data, "simulated"),
        verified=flag(data, "verified"),
        sources=_list(data.get("sources"), "sources"),
        others=tuple((str(k), str(v)) for k, v in (data.get("others") or {}).items()),
        dialect=_dialect(data.get("scoring") or {}),
    )
    return _extended(made, data) if "extends" in data else made


def _extended(made: Montage, data: dict) -> Montage:
    """`made`, with what its file does not give taken from the packaged montage that it extends."""
    if (name := data["extends"]) not in known_montages():
        raise ValueError(f"extends: {name!r} (allowed {', '.join(known_montages())})")
    base = _packaged(name)
    inherited = {
        field: getattr(base, field)
        for key, field in (("subject", "subject"), ("subject_path", "subject_path"),
                           ("subject_column", "subject_column"), ("family", "family"),
                           ("night", "night"), ("person", "person"),
                           ("others", "others"), ("scoring", "dialect"), ("simulated", "simulated"))
        if key not in data
    }  # fmt: skip
    return replace(made, channels=base.channels | made.channels, **inherited)


def _list(value, where: str) -> tuple[str, ...]:
    if value is not None and not isinstance(value, list):
        raise ValueError(f"{where}: {value!r} is no list")
    return tuple(str(one) for one in value or ())


_STAGE_NAMES = (*STAGES, "unscored", "movement")


def _dialect(data: dict) -> Dialect:
    """The `scoring` part: {format, rules, hypopnea_rule, stages: {code: stage}, events: {wording:
    kind}, epoch_s, flags, citation}; a stage is one of W, N1, N2, N3, R, unscored, movement, a kind
    one of EVENT_KINDS."""
    only(data, _SCORING_KEYS, "scoring: ")
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
