"""Scored spans become one stage per 30-s epoch, and a scoring is fitted to its recording."""

from __future__ import annotations

import collections
import dataclasses
import heapq
import math
from pathlib import Path

import numpy as np

from sleeplm_jax.config import MOVEMENT, STAGES, UNSCORED
from sleeplm_jax.errors import RecordingError
from sleeplm_jax.recordings.night import Dialect, Scoring

EPOCH_S = 30.0
LONGEST_S = 30 * 86_400.0  # a time beyond it is a slip of the pen, or a date taken for seconds
MAX_SPANS = 300_000
W, N1, N2, N3, R = range(len(STAGES))
STAGE_NAMES = dict(zip(STAGES, range(len(STAGES)))) | {"unscored": UNSCORED, "movement": MOVEMENT}

# Wordings of a stage without any "Sleep stage" before it, compared without case.
STAGE_WORDS = {
    "w": W, "wake": W, "awake": W, "n1": N1, "n2": N2, "n3": N3, "r": R, "rem": R,
    "s1": N1, "s2": N2, "s3": N3, "s4": N3, "1": N1, "2": N2, "3": N3, "4": N3,
    # Rechtschaffen & Kales 1968 S3 and S4 are both N3 (AASM manual, 2007).
    "?": UNSCORED, "unscored": UNSCORED, "unknown": UNSCORED, "n": UNSCORED, "nrem": UNSCORED,
    "m": MOVEMENT, "mt": MOVEMENT, "movement": MOVEMENT,
}  # fmt: skip
_RK_WORDS = frozenset(("1", "2", "3", "4", "s1", "s2", "s3", "s4", "m", "mt"))
STAGE_4_WORDS = frozenset(("4", "s4", "n4", "nrem4"))


def rules_of(words) -> str:
    """ "R&K" or "AASM" as the stage words used tell, else "unknown"."""
    plain = {word.casefold() for word in words}
    if plain & (_RK_WORDS | STAGE_4_WORDS):
        return "R&K"
    return "AASM" if plain & {"n1", "n2", "n3"} else "unknown"


def code_map(base: dict[str, int], dialect: Dialect, path: Path) -> dict[str, int]:
    """`base` with the cohort's own codes (`Dialect.stages`) over it; keys without case.

    Raises RecordingError where a cohort's code stands for no stage.
    """
    own = {}
    for code, stage in dialect.stages:
        if stage not in STAGE_NAMES:
            raise RecordingError(
                path,
                f"the montage reads the stage code {code!r} as {stage!r}",
                f"allowed are {', '.join(STAGE_NAMES)}",
            )
        own[code.strip().casefold()] = STAGE_NAMES[stage]
    return base | own


def stages_from_spans(
    spans: list[tuple[float, float, int]], path: Path
) -> tuple[np.ndarray, tuple[str, ...]]:
    """int8 [epochs] from (onset s, duration s, stage) spans, and flags.

    An epoch takes the stage of most of its time, unscored time counted as one; of equal shares
    the one at its middle. So pages of 20 s become epochs of 30 s. A span without duration lasts
    30 s; where spans overlap the later one counts. Flags tell of both, and of gaps. Raises
    RecordingError naming `path` for times that no recording lasts.
    """
    spans = sorted((onset, duration or EPOCH_S, stage) for onset, duration, stage in spans)
    end = max((onset + duration for onset, duration, _ in spans), default=0.0)
    begin = min((onset for onset, _, _ in spans), default=0.0)
    if end > LONGEST_S or begin < -LONGEST_S:
        raise RecordingError(
            path,
            f"scores until {end:g} s, which no recording lasts"
            if end > LONGEST_S
            else f"scores from {begin:g} s on, which no recording lasts",
            "correct its onsets and durations (in seconds from the recording's start)",
        )
    if len(spans) > MAX_SPANS:
        raise RecordingError(path, f"holds {len(spans)} stages", "give one night's scoring")
    segments, overlaps = _without_overlaps(spans)
    epochs = max(0, math.ceil(end / EPOCH_S - 1e-6))
    stages = _majority(segments, epochs)
    return stages, _span_flags(spans, segments, overlaps)


def _without_overlaps(spans) -> tuple[list[tuple[float, float, int]], int]:
    """(start, end, stage) segments in order, the span that began last counting; and how many
    spans begin before an earlier one has ended."""
    overlaps, reached = 0, -math.inf
    for onset, duration, _ in spans:
        overlaps += onset < reached - 0.5
        reached = max(reached, onset + duration)
    ends = [onset + duration for onset, duration, _ in spans]
    if all(spans[i + 1][0] >= ends[i] for i in range(len(spans) - 1)):
        return [(onset, end, stage) for (onset, _, stage), end in zip(spans, ends)], overlaps
    cuts = sorted({s[0] for s in spans} | set(ends))
    active: list[tuple[int, float, int]] = []  # by the latest beginning
    segments, following = [], 0
    for left, right in zip(cuts, cuts[1:]):
        while following < len(spans) and spans[following][0] <= left:
            heapq.heappush(active, (-following, ends[following], spans[following][2]))
            following += 1
        while active and active[0][1] <= left:
            heapq.heappop(active)
        if active:
            segments.append((left, right, active[0][2]))
    return segments, overlaps


def _majority(segments, epochs: int) -> np.ndarray:
    """int8 [epochs]: the stage (or UNSCORED) that most of each epoch's 30 s belongs to."""
    if not epochs:
        return np.zeros(0, np.int8)
    bounds = np.arange(epochs + 1) * EPOCH_S
    table = np.array(segments, np.float64).reshape(-1, 3)
    values = (W, N1, N2, N3, R, MOVEMENT, UNSCORED)
    share = np.zeros((len(values), epochs))
    for row, value in enumerate(values):
        mine = table[table[:, 2] == value]
        if len(mine):  # seconds of this stage before each bound, and so in each epoch
            sums = np.cumsum(mine[:, 1] - mine[:, 0])
            before = np.column_stack((np.concatenate(([0.0], sums[:-1])), sums)).ravel()
            share[row] = np.diff(np.interp(bounds, mine[:, :2].ravel(), before, 0.0, sums[-1]))
    share[-1] += np.maximum(0.0, EPOCH_S - share.sum(0))  # what nobody scored
    middles = bounds[:-1] + EPOCH_S / 2
    at = np.searchsorted(table[:, 0], middles, side="right") - 1
    inside = (at >= 0) & (table[np.maximum(at, 0), 1] > middles)
    middle = np.where(inside, table[np.maximum(at, 0), 2], UNSCORED)
    rows = np.array([values.index(int(value)) for value in middle])
    share[rows, np.arange(epochs)] += 1e-6
    return np.array(values, np.int8)[share.argmax(0)]


def _span_flags(spans, segments, overlaps: int) -> tuple[str, ...]:
    flags = []
    unaligned = sum(abs(s[0] / EPOCH_S - round(s[0] / EPOCH_S)) * EPOCH_S > 0.5 for s in spans)
    if unaligned:
        page, pages = collections.Counter(round(s[1], 1) for s in spans).most_common(1)[0]
        if pages > len(spans) / 2 and page % EPOCH_S:
            flags.append(
                f"stage_pages: scored in pages of {page:g} s, each 30-s epoch takes the stage of "
                "most of its time"
            )
        else:
            flags.append(
                f"stages_off_the_30_s_grid: {unaligned} of {len(spans)} stage onsets, each epoch "
                "takes the stage of most of its time"
            )
    if overlaps:
        flags.append(f"overlapping_stages: {overlaps} of {len(spans)}, the later one counts")
    gaps = [b[0] - a[1] for a, b in zip(segments, segments[1:]) if b[0] - a[1] > 0.5]
    if gaps:
        flags.append(f"gaps_in_scoring: {len(gaps)}, {sum(gaps):g} s in all, left unscored")
    if segments and segments[0][0] >= EPOCH_S / 2:
        flags.append(f"scoring_begins_late: {segments[0][0]:g} s after the recording")
    return tuple(flags)


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
        elif onset == event.onset and end == event.end:
            events.append(event)
        else:
            events.append(dataclasses.replace(event, onset=onset, duration=max(0.0, end - onset)))
    if lost:
        flags.append(f"events_outside_signal: {lost} of {len(scoring.events)} left out")
    return dataclasses.replace(scoring, stages=stages, events=tuple(events), flags=tuple(flags))


def reject_codes(path: Path, codes, allowed: str) -> None:
    """Raise for stage codes outside a format's vocabulary, listing them (at most eight)."""
    if codes:
        shown = ", ".join(repr(code[:24]) for code in sorted(map(str, codes))[:8])
        raise RecordingError(
            path,
            f"unknown stage codes: {shown}",
            f"allowed are {allowed}; correct the file or convert it",
        )
