"""A recording on its way to tensors: traces, events, scoring, a prepared night."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sleeplm_jax.config import SignalSpec


@dataclass(frozen=True)
class Trace:
    """One signal at its own rate, in physical units (µV for EEG, EOG, EMG, ECG)."""

    values: np.ndarray  # float32 [samples]
    rate: float  # Hz
    unit: str


@dataclass(frozen=True)
class Event:
    """A scored event; `onset` and `duration` in s from the recording's start, both >= 0."""

    kind: str  # of scoring.EVENT_KINDS
    onset: float
    duration: float
    channel: str | None = None  # as written in the scoring file
    value: float | None = None  # desaturation: nadir in %

    @property
    def end(self) -> float:
        return self.onset + self.duration


@dataclass(frozen=True)
class Scoring:
    """Stages per 30-s epoch from the recording's start, and events."""

    stages: np.ndarray  # int8 [epochs]: index into config.STAGES, UNSCORED or MOVEMENT
    events: tuple[Event, ...]
    source: str  # parser's name: "edf+", "profusion", "bids"
    rules: str = "unknown"  # "AASM", "R&K", "unknown"
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Resolution:
    """How a canonical channel was found in a file."""

    channel: str  # canonical name, of config.SLEEPLM_CHANNELS + CAPTION_CHANNELS
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
    extra: dict = field(default_factory=dict)
