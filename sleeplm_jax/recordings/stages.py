"""Scored spans become one stage per 30-s epoch, and a scoring is fitted to its recording."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np

from sleeplm_jax.config import MOVEMENT, STAGES, UNSCORED
from sleeplm_jax.errors import RecordingError
from sleeplm_jax.recordings.night import Event, Scoring

EPOCH_S = 30.0
LONGEST_S = 30 * 86_400.0  # a time beyond it is a slip of the pen, or a date taken for seconds
W, N1, N2, N3, R = range(len(STAGES))

# Wordings of a stage without any "Sleep stage" before it, compared without case.
STAGE_WORDS = {
    "w": W, "wake": W, "awake": W, "n1": N1, "n2": N2, "n3": N3, "r": R, "rem": R,
    "s1": N1, "s2": N2, "s3": N3, "s4": N3, "1": N1, "2": N2, "3": N3, "4": N3,
    # Rechtschaffen & Kales 1968 S3 and S4 are both N3 (AASM manual, 2007).
    "?": UNSCORED, "unscored": UNSCORED, "unknown": UNSCORED, "n": UNSCORED, "nrem": UNSCORED,
    "m": MOVEMENT, "mt": MOVEMENT,
}  # fmt: skip
_RK_WORDS = frozenset(("1", "2", "3", "4", "s1", "s2", "s3", "s4", "m", "mt"))


def rules_of(words) -> str:
    """ "R&K" or "AASM" as the stage words used tell, else "unknown"."""
    plain = {word.casefold() for word in words}
    if plain & _RK_WORDS:
        return "R&K"
    return "AASM" if plain & {"n1", "n2", "n3"} else "unknown"


def stages_from_spans(
    spans: list[tuple[float, float, int]], path: Path
) -> tuple[np.ndarray, tuple[str, ...]]:
    """int8 [epochs] from (onset s, duration s, stage) spans, and flags.

    An epoch takes the span that holds its middle; a span without duration lasts 30 s. Epochs
    in no span are UNSCORED; of overlapping spans the later one counts. Raises RecordingError
    naming `path` for times that no recording lasts.
    """
    flags = []
    spans = sorted((onset, duration or EPOCH_S, stage) for onset, duration, stage in spans)
    end = max((onset + duration for onset, duration, _ in spans), default=0.0)
    if end > LONGEST_S:
        raise RecordingError(
            path,
            f"scores until {end:g} s, which no recording lasts",
            "correct its onsets and durations (in seconds from the recording's start)",
        )
    stages = np.full(max(0, math.ceil(end / EPOCH_S - 1e-6)), UNSCORED, np.int8)
    middles = (np.arange(len(stages)) + 0.5) * EPOCH_S
    unaligned = overlaps = 0
    reached = -math.inf
    for onset, duration, stage in spans:
        first, last = np.searchsorted(middles, (onset, onset + duration))
        stages[first:last] = stage
        unaligned += abs(onset / EPOCH_S - round(onset / EPOCH_S)) * EPOCH_S > 0.5
        overlaps += onset < reached - 0.5
        reached = max(reached, onset + duration)
    if unaligned:
        flags.append(
            f"stages_off_the_30_s_grid: {unaligned} of {len(spans)} stage onsets, each epoch "
            "takes the stage at its middle"
        )
    if overlaps:
        flags.append(f"overlapping_stages: {overlaps} of {len(spans)}, the later one counts")
    return stages, tuple(flags)


def fit_to_recording(scoring: Scoring, duration_s: float) -> Scoring:
    """Cut or fill (UNSCORED) to the recording's whole 30-s epochs, with a flag saying so.

    Events beginning after the end are dropped, events running past it end with it.
    """
    epochs = int(duration_s / EPOCH_S + 1e-6)
    scored, flags = len(scoring.stages), list(scoring.flags)
    stages = np.full(epochs, UNSCORED, np.int8)
    stages[: min(epochs, scored)] = scoring.stages[:epochs]
    if scored > math.ceil(duration_s / EPOCH_S - 1e-6):  # a begun last epoch is often scored
        flags.append(f"scoring_longer_than_signal: {scored} epochs scored, {epochs} recorded")
    elif scored < epochs:
        flags.append(f"scoring_shorter_than_signal: {scored} epochs scored, {epochs} recorded")
    events, lost = [], 0
    for event in scoring.events:
        onset, end = max(0.0, event.onset), min(event.end, duration_s)
        if event.onset >= duration_s or event.end < 0:
            lost += 1
        else:
            events.append(dataclasses.replace(event, onset=onset, duration=max(0.0, end - onset)))
    if lost:
        flags.append(f"events_outside_signal: {lost} of {len(scoring.events)} left out")
    return dataclasses.replace(scoring, stages=stages, events=tuple(events), flags=tuple(flags))


def shifted(scoring_spans, events: list[Event], seconds: float):
    """The same spans and events, `seconds` later."""
    spans = [(onset + seconds, duration, stage) for onset, duration, stage in scoring_spans]
    events = [dataclasses.replace(event, onset=event.onset + seconds) for event in events]
    return spans, events


def reject_codes(path: Path, codes, allowed: str) -> None:
    """Raise for stage codes outside a format's vocabulary, listing them (at most eight)."""
    if codes:
        shown = ", ".join(repr(code[:24]) for code in sorted(map(str, codes))[:8])
        raise RecordingError(
            path,
            f"unknown stage codes: {shown}",
            f"allowed are {allowed}; correct the file or convert it",
        )
