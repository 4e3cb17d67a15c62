"""Which time of a night counts: in bed, asleep, in REM sleep, on the back. E 30-s epochs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sleeplm_jax.config import STAGES, UNSCORED
from sleeplm_jax.errors import RecordingError
from sleeplm_jax.physiology.epochs import EPOCH_SECONDS
from sleeplm_jax.recordings.channels import POSITION_UNKNOWN, POSITIONS
from sleeplm_jax.recordings.night import Event, Trace

_REM = STAGES.index("R")
SPLITS = ("rem", "nrem", "supine", "non_supine")


@dataclass(frozen=True)
class SleepTime:
    """A hypnogram between lights off and lights on."""

    stages: np.ndarray  # int8 [E], as scored
    seconds: np.ndarray  # float64 [E]: how much of an epoch lies between lights off and on
    supine: np.ndarray  # int8 [E]: 1 on the back, 0 otherwise, -1 unknown
    off: float  # s from the recording's start
    on: float
    off_known: bool
    on_known: bool

    @property
    def asleep(self) -> np.ndarray:
        """bool [E]: scored N1, N2, N3 or R, and in bed."""
        return (self.stages > 0) & (self.seconds > 0)

    def part(self, split: str) -> np.ndarray:
        """bool [E]: asleep and in this part of SPLITS; "sleep" is all of it."""
        chosen = {
            "sleep": self.stages > 0,
            "rem": self.stages == _REM,
            "nrem": (self.stages > 0) & (self.stages != _REM),
            "supine": self.supine == 1,
            "non_supine": self.supine == 0,
        }[split]
        return self.asleep & chosen

    def hours(self, split: str = "sleep") -> float:
        """Hours asleep in this part."""
        return float(self.seconds[self.part(split)].sum() / 3600)

    def epoch_of(self, event: Event) -> int | None:
        """The first epoch asleep that the event touches; None where it touches none."""
        first = int(event.onset // EPOCH_SECONDS)
        last = int(max(event.onset, event.end - 1e-6) // EPOCH_SECONDS)
        touched = np.flatnonzero(self.asleep[first : last + 1])
        return first + int(touched[0]) if len(touched) else None

    def in_bed(self, event: Event) -> bool:
        """Whether the event begins between lights off and lights on."""
        return self.off <= event.onset < self.on


def sleep_time(
    stages: np.ndarray,
    lights_off_s: float | None = None,
    lights_on_s: float | None = None,
    position: Trace | None = None,
) -> SleepTime:
    """The time that counts of `stages`, int8 [E] (W, N1, N2, N3, R = 0..4, below 0 unscored).

    Lights in s from the recording's start; they may lie outside the hypnogram, as those of a
    trimmed night do: the time between is in bed, and not asleep. Where one is unknown, the begin of
    the first (the end of the last) epoch that is not unscored stands for it, and `off_known`
    (`on_known`) says so. `position` holds canonical codes. Raises RecordingError where lights on
    is not after lights off.
    """
    stages = np.asarray(stages, np.int8)
    end = len(stages) * EPOCH_SECONDS
    scored = np.flatnonzero(stages != UNSCORED)
    first = scored[0] * EPOCH_SECONDS if len(scored) else 0.0
    last = (scored[-1] + 1) * EPOCH_SECONDS if len(scored) else end
    if lights_off_s is not None and lights_on_s is not None and lights_on_s <= lights_off_s:
        raise RecordingError(
            "lights", f"off at {lights_off_s:g} s and on at {lights_on_s:g} s",
            "give lights on after lights off, in seconds from the recording's start",
        )
    off = lights_off_s if lights_off_s is not None else first
    on = lights_on_s if lights_on_s is not None else last
    if on < off:  # one is known, and the scored part lies wholly on its other side
        off, on = (off, off) if lights_off_s is not None else (on, on)
    starts = np.arange(len(stages)) * EPOCH_SECONDS
    seconds = np.clip(np.minimum(starts + EPOCH_SECONDS, on) - np.maximum(starts, off), 0, None)
    return SleepTime(
        stages, seconds, _supine(position, len(stages)), float(off), float(on),
        lights_off_s is not None, lights_on_s is not None,
    )


def _supine(position: Trace | None, epochs: int) -> np.ndarray:
    """The position held longest in each epoch: 1 supine, 0 another, -1 none known."""
    out = np.full(epochs, -1, np.int8)
    if position is None:
        return out
    values = np.asarray(position.values)
    edges = np.rint(np.arange(epochs + 1) * EPOCH_SECONDS * position.rate).astype(int)
    for epoch, (begin, until) in enumerate(zip(edges, edges[1:])):
        held = values[begin:until]
        held = held[np.isfinite(held) & (held != POSITION_UNKNOWN)].astype(int)
        if len(held):
            out[epoch] = np.bincount(held).argmax() == POSITIONS.index("supine")
    return out
