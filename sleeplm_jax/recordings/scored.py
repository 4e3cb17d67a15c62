"""What every parser of scoring is given and gives back, and how that becomes a Scoring.

A parser returns spans and events at times of its own; here they are moved to the recording's
start, turned into 30-s epochs, cut to the recording and given their provenance.
"""

from __future__ import annotations

import dataclasses
import datetime
import re
from dataclasses import dataclass, field
from pathlib import Path

from sleeplm_jax.errors import RecordingError
from sleeplm_jax.recordings.clock import difference, seconds_of
from sleeplm_jax.recordings.events import event_kind, plain
from sleeplm_jax.recordings.night import Dialect, Event, Provenance, Scoring
from sleeplm_jax.recordings.stages import (
    EPOCH_S,
    LONGEST_S,
    code_map,
    fit_to_recording,
    stages_from_spans,
)

MAX_EVENTS = 200_000
_LIGHTS = re.compile(r"(lights?|lumieres?|licht)\b\W*(on|off|out|an|aus)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Reading:
    """One scoring file to be read, and what is known of its recording."""

    path: Path
    duration_s: float | None = None  # the recording's; None: as long as the scoring
    start: datetime.time | None = None  # the recording's clock time
    dialect: Dialect = Dialect()
    recording: Path | None = None  # its name chooses among several sessions in one file

    def codes(self, base: dict[str, int]) -> dict[str, int]:
        return code_map(base, self.dialect, self.path)

    def event(self, wording: str, onset: float, duration: float, **more) -> Event:
        """An event of the kind that its wording (in this cohort) means; the text is kept.

        A wording "text@@channel" (EDF+, EDFbrowser's form) names its channel.
        """
        wording = wording.strip()
        text, _, channel = wording.partition("@@")
        if channel and not more.get("channel"):
            more["channel"] = channel.strip()[:80]
        more.setdefault("kind", event_kind(text, self.dialect.events))
        more.setdefault("text", text[:200] or None)
        if more["kind"] != "desaturation":  # a value is a nadir, whatever the file's column says
            more |= {"value": None, "depth": None}
        return Event(onset=onset, duration=duration, **more)


@dataclass
class Scored:
    """A parser's yield. Times in s from the scoring's own zero; `clock` is its time of day."""

    source: str
    spans: list[tuple[float, float, int]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    rules: str = "unknown"
    stage_4: bool = False  # an S4 was scored: certainly R&K
    flags: tuple[str, ...] = ()
    clock: float | None = None  # s after midnight at the scoring's zero
    clocked: bool = False  # the file gives times of day only: its zero means nothing
    scorer: str | None = None
    lights_off_s: float | None = None
    lights_on_s: float | None = None


def finish(scored: Scored, reading: Reading) -> Scoring:
    """The Scoring of a parser's yield, on the recording's epochs.

    Raises RecordingError for a scoring without stages, for absurd times, and for one that shares
    no epoch with its recording.
    """
    path, spans, events = reading.path, scored.spans, scored.events
    if not spans:
        raise RecordingError(
            path,
            f"holds no sleep stages ({len(events)} events)",
            "give the night's scored file: stages are needed",
        )
    if len(events) > MAX_EVENTS:
        raise RecordingError(path, f"holds {len(events)} events", "give one night's scoring")
    for event in events:
        if abs(event.onset) > LONGEST_S or event.duration > LONGEST_S:
            raise RecordingError(
                path,
                f"has an event at {event.onset:g} s of {event.duration:g} s, which no recording "
                "lasts",
                "correct its onsets and durations (in seconds from the recording's start)",
            )
    page = reading.dialect.epoch_s  # of a stage whose length the file does not give
    spans = [(onset, duration or page, stage) for onset, duration, stage in spans]
    flags = list(scored.flags)
    seconds = _shift(scored, reading, flags)
    if seconds:
        spans = [(onset + seconds, duration, stage) for onset, duration, stage in spans]
        events = [dataclasses.replace(event, onset=event.onset + seconds) for event in events]
        _check_overlap(path, spans, reading.duration_s, seconds)
    stages, more = stages_from_spans(spans, path)
    events = sorted(events, key=lambda event: (event.onset, event.end, event.kind))
    off, on = _lights(events)
    off = off if scored.lights_off_s is None else scored.lights_off_s + seconds
    on = on if scored.lights_on_s is None else scored.lights_on_s + seconds
    rules = _rules(scored, reading.dialect, flags)
    provenance = Provenance(
        rules=rules,
        hypopnea_rule=reading.dialect.hypopnea_rule,
        scorer=scored.scorer,
        lights_off_s=off,
        lights_on_s=on,
        start_clock=reading.start.isoformat("seconds") if reading.start else None,
        cohort_flags=reading.dialect.flags,
    )
    scoring = Scoring(
        stages, tuple(events), scored.source, rules, (*flags, *more), provenance
    )
    return scoring if reading.duration_s is None else fit_to_recording(scoring, reading.duration_s)


def _shift(scored: Scored, reading: Reading, flags: list[str]) -> float:
    """Seconds from the recording's start to the scoring's zero, with a flag where they differ."""
    if scored.clock is None:
        return 0.0
    if reading.start is None:
        if scored.clocked:
            flags.append(
                "start_unknown: the scoring has clock times and the recording none; its first "
                "stage is taken for the recording's start"
            )
        return 0.0
    seconds = difference(scored.clock, seconds_of(reading.start))
    if abs(seconds) < 0.5:
        return 0.0
    if not scored.clocked:
        flags.append(f"scoring_shifted: it starts {seconds:g} s after the recording")
    return seconds


def _check_overlap(path: Path, spans, duration_s: float | None, seconds: float) -> None:
    """Start times that leave nothing in common belong to two nights, or one was changed."""
    first = min(onset for onset, _, _ in spans)
    last = max(onset + (duration or EPOCH_S) for onset, duration, _ in spans)
    if last <= 0 or (duration_s is not None and first >= duration_s):
        raise RecordingError(
            path,
            f"by its start time it begins {seconds:g} s after the recording and shares no epoch "
            "with it",
            "check that it scores this night, or correct the start time in its header",
        )


def _rules(scored: Scored, dialect: Dialect, flags: list[str]) -> str:
    """The cohort's rules where its montage states them, else what the codes tell."""
    if dialect.rules == "unknown":
        return scored.rules
    if scored.stage_4 and dialect.rules.startswith("AASM"):
        flags.append(
            f"rules_contradicted: the montage says {dialect.rules}, but stage 4 is scored: R&K"
        )
        return "R&K"
    return dialect.rules


def _lights(events) -> tuple[float | None, float | None]:
    """First lights off and last lights on among the events, s; None where not marked."""
    off = on = None
    for event in events:
        if event.timed and (match := _LIGHTS.match(plain(event.text or ""))):
            if match[2].casefold() in ("on", "an"):
                on = event.onset
            elif off is None:
                off = event.onset
    if off is not None and on is not None and on <= off:
        on = None  # that of the evening: the morning's was not marked
    return off, on
