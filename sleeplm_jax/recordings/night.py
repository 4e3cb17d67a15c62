"""A recording on its way to tensors: traces, events, scoring, a prepared night."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sleeplm_jax.config import ARTEFACTS, CANONICAL_CHANNELS, SignalSpec


@dataclass(frozen=True)
class Trace:
    """One signal at its own rate, in physical units (µV for EEG, EOG, EMG, ECG)."""

    values: np.ndarray  # float32 [samples]
    rate: float  # Hz
    unit: str
    # Share of each second's samples at a limit of the file's range, float32 [whole seconds], of
    # any signal that enters; None where nothing reaches a limit or the limits are not known.
    railed: np.ndarray | None = None


@dataclass(frozen=True)
class Event:
    """A scored event; `onset` and `duration` in s from the recording's start, both >= 0."""

    kind: str  # of scoring.EVENT_KINDS
    onset: float
    duration: float
    channel: str | None = None  # as written in the scoring file
    value: float | None = None  # desaturation: nadir in %
    text: str | None = None  # the scorer's own wording
    timed: bool = True  # False: the file names the 30-s epoch only; onset and duration are its
    depth: float | None = None  # desaturation: fall in percentage points

    @property
    def end(self) -> float:
        return self.onset + self.duration


@dataclass(frozen=True)
class Provenance:
    """What a file states about how a night was recorded and scored; None where it does not.

    Never a name, a birth date, a calendar date or an id.
    """

    rules: str = "unknown"  # "AASM", "R&K", "unknown"; with a version where stated: "AASM 2.6"
    hypopnea_rule: str | None = None  # one line: what the scorers called a hypopnoea
    scorer: str | None = None  # "1", "2", "consensus", a software's name; never a person's name
    lights_off_s: float | None = None  # s from the recording's start
    lights_on_s: float | None = None
    start_clock: str | None = None  # HH:MM:SS at the recording's start
    age: float | None = None  # years
    sex: str | None = None  # "female", "male"
    bmi: float | None = None  # kg/m2
    night_number: int | None = None  # of the person's nights or visits in the study, from 1
    cohort_flags: tuple[str, ...] = ()  # "sleep_wake_scoring_only", ...


@dataclass(frozen=True)
class Dialect:
    """How a cohort's scoring files are to be read: the `scoring` part of a montage YAML."""

    format: str | None = None  # a parser's name, where the file alone does not tell
    rules: str = "unknown"
    hypopnea_rule: str | None = None
    stages: tuple[tuple[str, str], ...] = ()  # code in the file -> "W".."R", "unscored", "movement"
    events: tuple[tuple[str, str], ...] = ()  # casefolded wording -> one of EVENT_KINDS
    epoch_s: float = 30.0  # length of the scorer's page
    flags: tuple[str, ...] = ()  # become Provenance.cohort_flags
    citation: str = "unverified"


@dataclass(frozen=True)
class Scoring:
    """Stages per 30-s epoch from the recording's start, and events."""

    stages: np.ndarray  # int8 [epochs]: index into config.STAGES, UNSCORED or MOVEMENT
    events: tuple[Event, ...]
    source: str  # parser's name: "edf+", "profusion", "bids"
    rules: str = "unknown"  # "AASM", "R&K", "unknown"
    flags: tuple[str, ...] = ()
    provenance: Provenance = Provenance()


@dataclass(frozen=True)
class Resolution:
    """How a canonical channel was found in a file."""

    channel: str  # canonical name, of config.CANONICAL_CHANNELS
    source: str  # the derivation used, in the file's own labels: "C3-M2", "C3 - (A1 + A2)/2"
    labels: tuple[str, ...]  # the file's labels that enter it
    unit: str  # after conversion
    file_unit: str  # as the file says
    rate: float  # Hz, native
    scale: float  # file unit -> unit
    stand_in: bool  # True where the montage names it as a substitute for the real derivation
    why: str  # one line: montage, candidate, reason
    citation: str  # where the montage row comes from
    # How to read it: (signal index, factor) terms; position codes or degrees; see montage.py.
    terms: tuple[tuple[int, float], ...] = ()
    codes: tuple[tuple[float, int], ...] = ()  # file's position code -> canonical code
    degrees: bool = False  # position given as an angle about the body's long axis
    upright: tuple[int, float] | None = None  # (signal index, threshold) of an elevation signal
    amplitude_unknown: bool = False  # the source's unit is known to be wrong
    transducer: str | None = None  # "nasal_pressure", "thermal", ...: features differ
    polarity: int = 1  # -1 where the montage turns the signal over; `terms` hold it already


@dataclass(frozen=True)
class Night:
    """A recording ready for a corpus. E epochs, C channels of `spec`, T samples an epoch."""

    recording: str  # id made from the file's name, never from its header
    subject: str
    cohort: str
    path: Path
    spec: SignalSpec
    signals: np.ndarray  # float32 [E, C, T]: z units clipped to +-6; POS integer codes
    mask: np.ndarray  # bool [E, C]: False where missing (signals are zeros there, POS -1)
    scale: np.ndarray  # float32 [C]: physical units (µV) per z unit; 1 for POS, 0 where missing
    offset: np.ndarray  # float32 [C]: physical units at z = 0
    stages: np.ndarray  # int8 [E]
    events: tuple[Event, ...]
    channels: dict[str, Resolution | None]  # every canonical channel
    traces: dict[str, Trace]  # resolved channels at native rates, physical units, unfiltered
    flags: tuple[str, ...] = ()
    simulated: bool = False
    rules: str = "unknown"
    provenance: Provenance = Provenance()
    # uint8 [E, all of config.CANONICAL_CHANNELS], bits of ARTEFACTS: why a channel of an epoch is
    # not to be trusted, 0 where nothing is known against it. None: not looked for.
    artefacts: np.ndarray | None = None
    extra: dict = field(default_factory=dict)


def artefact_bits(names: tuple[str, ...]) -> int:
    """The bits of `names` (of ARTEFACTS) together; ValueError for another name."""
    return sum(1 << ARTEFACTS.index(name) for name in set(names))


def trusted(mask: np.ndarray, artefacts: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """`mask` bool [..., C] without the channels that carry one of the artefacts `names`.

    `artefacts` uint8 [..., C]. Where that would leave no channel at all, the sample keeps its mask:
    a sample without input is none.
    """
    left = mask & ((artefacts & np.uint8(artefact_bits(names))) == 0)
    return np.where(left.any(axis=-1, keepdims=True), left, mask)


def shown(night: Night, names: tuple[str, ...]) -> Night:
    """`night` as a model sees it that was trained without channels carrying the artefacts `names`.

    They are masked as missing, their signals zero (codes -1); the rest is as it was.
    """
    if night.artefacts is None or not names:
        return night
    columns = [CANONICAL_CHANNELS.index(channel) for channel in night.spec.channels]
    mask = trusted(night.mask, night.artefacts[:, columns], names)
    signals = night.signals.copy()
    for c, channel in enumerate(night.spec.channels):
        signals[night.mask[:, c] & ~mask[:, c], c] = -1 if channel == "POS" else 0
    return dataclasses.replace(night, mask=mask, signals=signals)
