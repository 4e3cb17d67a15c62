"""Which part of a recording becomes the night: all of it, lights off to on, or sleep and a margin.

Cuts lie on the recording's own grid of 30-s epochs and whole samples, so that an epoch kept is the
epoch that the whole recording has there. Everything is counted from the cut then: signals, stages,
events, lights, clock.
"""

from __future__ import annotations

import dataclasses
import datetime
import math
from dataclasses import dataclass

import numpy as np

from sleeplm_jax.config import SignalSpec
from sleeplm_jax.errors import UserError
from sleeplm_jax.recordings.night import Event, Provenance, Scoring, Trace
from sleeplm_jax.recordings.stages import EPOCH_S

MODES = ("none", "lights", "sleep")
MARGINS = {"none": 0.0, "lights": 0.0, "sleep": 30.0}  # minutes, where none is given
# A filter's memory: the slowest corner here is 0.1 Hz, whose edge effects fall by e every 4 s.
FILTER_MARGIN_S = 120.0
LONG_AWAKE_S = 4 * 3600.0  # outside sleep: a day's recording rather than a night's
# Lights may be noted on the wall clock, and a recording stopped a little before; farther off it is
# another night's time, or a slip.
LIGHTS_SLACK_S = 3600.0


@dataclass(frozen=True)
class Trim:
    """How nights are trimmed; see `docs/sleep_statistics.md`.

    `none`: not at all. `lights`: to lights off and on, each where the scoring states it. `sleep`:
    to the first and last epoch scored as sleep. `margin_minutes` are kept on either side (default:
    0 for lights, 30 for sleep). Raises UserError for another mode or a margin that is none.
    """

    mode: str = "lights"
    margin_minutes: float | None = None

    def __post_init__(self):
        if self.mode not in MODES:
            raise UserError("--trim", f"is {self.mode!r}", f"choose from {', '.join(MODES)}")
        margin = self.margin_minutes
        if margin is not None and not (math.isfinite(margin) and margin >= 0):
            raise UserError("--trim-margin", f"is {margin}", "give minutes, 0 or more")

    @property
    def margin_s(self) -> float:
        minutes = MARGINS[self.mode] if self.margin_minutes is None else self.margin_minutes
        return 60 * minutes


@dataclass(frozen=True)
class Span:
    """The part of a recording that is kept, s from its start, and what a reader must know."""

    start: float  # a multiple of 30 s and of a sample's length
    end: float
    recorded: float  # the recording's length
    record: dict  # for Night.extra["trim"], JSON-able
    flags: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        return self.end - self.start

    @property
    def lead(self) -> float:
        """Seconds that `around` has before the span."""
        return min(self.start, FILTER_MARGIN_S)

    @property
    def tail(self) -> float:
        """Seconds that `around` has after the span."""
        return min(self.recorded - self.end, FILTER_MARGIN_S)

    def around(self, trace: Trace) -> Trace:
        """The part of a recording's `trace` in the span and a filter's margin on either side.

        A copy where something is left out, so that the rest of the recording can be forgotten.
        """
        if self.lead == self.start and self.tail == self.recorded - self.end:
            return trace
        first, last = self.start - self.lead, self.end + self.tail
        part = _samples(trace, first, None if last >= self.recorded else last)
        railed = None if part.railed is None else part.railed.copy()
        return dataclasses.replace(part, values=part.values.copy(), railed=railed)

    def cut(self, around: Trace) -> Trace:
        """The span itself, a view of what `around` gave."""
        first = self.start - self.lead
        # Counted in the recording's own samples: rounding twice would be a sample off at odd rates.
        skip = round(self.start * around.rate) - round(first * around.rate)
        end = None
        if self.tail > 0:
            end = round(self.end * around.rate) - round(first * around.rate)
        railed = around.railed
        if railed is not None:
            seconds = math.ceil(self.end - first) if self.tail > 0 else None
            railed = railed[int(self.lead) : seconds]
        return dataclasses.replace(around, values=around.values[skip:end], railed=railed)

    def scoring(self, scored: Scoring | None) -> Scoring | None:
        """A scoring of the whole recording, counted from the span's start; events outside go."""
        if scored is None:
            return None
        first = round(self.start / EPOCH_S)
        last = first + int(self.seconds / EPOCH_S + 1e-6)
        return dataclasses.replace(
            scored,
            stages=scored.stages[first:last],
            events=_inside(scored.events, self.start, self.end),
            provenance=self._provenance(scored.provenance),
        )

    def _provenance(self, about: Provenance) -> Provenance:
        """Lights may lie outside the span: what was cut there is still time in bed."""
        off, on, _ = usable_lights(about, self.recorded)
        return dataclasses.replace(
            about,
            lights_off_s=None if off is None else off - self.start,
            lights_on_s=None if on is None else on - self.start,
            start_clock=_later(about.start_clock, self.start),
        )

    def clock(self, start: datetime.time | None) -> str | None:
        """HH:MM:SS at the span's start, of the recording's."""
        return _later(start.isoformat("seconds") if start else None, self.start)


def find_span(
    trim: Trim, scored: Scoring | None, duration_s: float, spec: SignalSpec = SignalSpec()
) -> Span:
    """The part that `trim` keeps of a recording of `duration_s` seconds.

    Where the scoring does not state lights, or knows no sleep, that side (both sides) is kept
    whole, and `record` says so. A flag says when more than 4 h outside sleep are kept.
    """
    flags: list[str] = []
    off, on, doubt = usable_lights(scored.provenance if scored else Provenance(), duration_s)
    if doubt:
        flags.append(doubt)
    sleep = _sleep(scored)
    start, end, why = 0.0, duration_s, None
    if trim.mode == "lights":
        start = start if off is None else off
        end = end if on is None else on
        missing = [name for name, at in (("off", off), ("on", on)) if at is None]
        why = f"lights {' and '.join(missing)} unknown" if missing else None
    elif trim.mode == "sleep":
        if sleep is None:
            why = "no sleep scored"
            flags.append("untrimmed: no sleep is scored")
        else:
            start, end = sleep
    grid = math.lcm(int(EPOCH_S), int(spec.seconds))
    start = max(0.0, math.floor((start - trim.margin_s) / grid + 1e-6) * grid)
    if end < duration_s:  # the recording's own end may lie off the grid
        end = math.ceil((end + trim.margin_s) / grid - 1e-6) * grid
    end = min(end, duration_s)
    if end - start < spec.seconds:  # lights beyond the recording, or no whole sample between them
        flags.append("untrimmed: what would be left is shorter than one sample")
        start, end, why = 0.0, duration_s, "nothing would be left"
    if sleep is not None:
        stages = np.asarray(scored.stages)
        kept = stages[int(start // EPOCH_S) : math.ceil(end / EPOCH_S)]
        lost = int((stages > 0).sum() - (kept > 0).sum())
        if lost:
            flags.append(f"sleep_cut: {lost} epochs of sleep lie outside lights off and on")
        outside = max(0.0, sleep[0] - start) + max(0.0, end - sleep[1])
        if outside > LONG_AWAKE_S:
            flags.append(
                f"long_awake: {outside / 3600:.1f} h lie outside sleep; --trim sleep leaves most "
                "of it out"
            )
    events = scored.events if scored else ()
    record = {
        "mode": trim.mode,
        "margin_minutes": trim.margin_s / 60,
        "recorded_s": round(duration_s, 3),
        "start_s": float(start),
        "end_s": round(float(end), 3),
        "cut_before_s": float(start),
        "cut_after_s": round(float(duration_s - end), 3),
        "events_cut": len(events) - len(_inside(events, start, end)),
        "why_not": why,
    }
    return Span(float(start), float(end), float(duration_s), record, tuple(flags))


def _inside(events: tuple[Event, ...], start: float, end: float) -> tuple[Event, ...]:
    """The events that reach into the span, from its start on, ended with it."""
    out = []
    for event in events:
        onset, until = max(event.onset, start), min(event.end, end)
        if onset >= end or until < onset or (until == onset and event.duration > 0):
            continue
        cut = event.onset < start or event.end > end
        duration = until - onset if cut else event.duration
        out.append(dataclasses.replace(event, onset=onset - start, duration=duration))
    return tuple(out)


def _samples(trace: Trace, start: float, end: float | None) -> Trace:
    """The samples of `trace` from `start` to `end` (s; None: to the last), a view."""
    first, last = round(start * trace.rate), None if end is None else round(end * trace.rate)
    railed = trace.railed
    if railed is not None:
        railed = railed[int(start) : None if end is None else math.ceil(end)]
    return dataclasses.replace(trace, values=trace.values[first:last], railed=railed)


def usable_lights(
    about: Provenance, duration_s: float
) -> tuple[float | None, float | None, str | None]:
    """(lights off, lights on, flag): None for what is not stated or cannot be."""
    off, on = about.lights_off_s, about.lights_on_s
    far = [
        at for at in (off, on)
        if at is not None
        and not (math.isfinite(at) and -LIGHTS_SLACK_S <= at <= duration_s + LIGHTS_SLACK_S)
    ]
    if far or (off is not None and on is not None and on <= off):
        shown = ", ".join("?" if at is None else f"{at:g} s" for at in (off, on))
        return None, None, f"lights_implausible: off and on at {shown}, taken as unknown"
    return off, on, None


def _sleep(scored: Scoring | None) -> tuple[float, float] | None:
    """Begin of the first and end of the last epoch asleep, s."""
    asleep = np.flatnonzero(np.asarray(scored.stages) > 0) if scored is not None else ()
    if not len(asleep):
        return None
    return float(asleep[0] * EPOCH_S), float((asleep[-1] + 1) * EPOCH_S)


def _later(clock: str | None, seconds: float) -> str | None:
    """A clock time HH:MM:SS, `seconds` later; midnight wraps."""
    if clock is None:
        return None
    begin = datetime.datetime.combine(datetime.date(2000, 1, 1), datetime.time.fromisoformat(clock))
    return (begin + datetime.timedelta(seconds=seconds)).time().isoformat("seconds")
