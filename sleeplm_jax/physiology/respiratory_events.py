"""Apnoeas and hypopnoeas with the desaturation and arousal that follow them, and AHI by rule.

NSRR cohorts mark a hypopnoea by the fall of the breathing amplitude alone ("additional criteria
can be applied to limit events based on associated desaturation and/or arousal":
https://sleepdata.org/datasets/mesa/pages/polysomnography-introduction.md), so that one scoring
gives an AHI for every rule. There is no AHI without its rule here. How events are linked follows
the SHHS reading centre (manual of operations 6.6.1, "Overview of scoring":
https://sleepdata.org/datasets/shhs/pages/mop/6-610-mop-overview-of-scoring.md): the nadir within
30 s of the event's end, an arousal that begins 0 to 4.9 s after it. See docs/sleep_statistics.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from sleeplm_jax.errors import RecordingError
from sleeplm_jax.physiology.sleep_time import SPLITS, SleepTime
from sleeplm_jax.recordings.events import is_bare_apnea
from sleeplm_jax.recordings.night import Event, Trace

APNEAS = ("obstructive_apnea", "central_apnea", "mixed_apnea")
HYPOPNEA = "hypopnea"


def is_apnea(event: Event) -> bool:
    """Whether the scorer marked an apnoea, of whatever kind or none."""
    if event.kind != "other" or not event.text:
        return event.kind in APNEAS
    return is_bare_apnea(event.text)  # `other` among the events, and an apnoea all the same


def is_breathing(event: Event) -> bool:
    """Whether the event is an apnoea or a hypopnoea."""
    return event.kind == HYPOPNEA or is_apnea(event)


@dataclass(frozen=True)
class Windows:
    """How far from an event its desaturation and arousal may lie, s (SHHS, see above)."""

    desaturation_after: float = 30.0  # beginning at most this long after the event's end
    arousal_before: float = 0.0  # beginning at most this long before the event's end
    arousal_after: float = 5.0  # and less than this long after it


SHHS = Windows()


@dataclass(frozen=True)
class Rule:
    """What a hypopnoea needs to count; an apnoea always counts."""

    name: str
    text: str
    depth: float | None  # points of desaturation; None: not asked for
    arousal: bool  # an arousal stands in for the desaturation
    nsrr: str | None  # the NSRR variable of this rule


# Names of NSRR variables and their rules: data dictionary of SHHS, variables ahi_a0h3 (apnoeas
# with any or no desaturation, hypopnoeas with >= 3 %), ahi_a0h3a (>= 3 % or arousal: AASM 2012
# recommended), ahi_a0h4 (>= 4 %: AASM 2012 alternative, acceptable in 2.2).
RULES = (
    Rule("all_events", "all apnoeas and hypopnoeas scored", None, False, None),
    Rule("3_percent", "all apnoeas, hypopnoeas with a desaturation >= 3 %", 3.0, False, "ahi_a0h3"),
    Rule("3_percent_or_arousal",
         "all apnoeas, hypopnoeas with a desaturation >= 3 % or an arousal (AASM 1A)",
         3.0, True, "ahi_a0h3a"),
    Rule("4_percent", "all apnoeas, hypopnoeas with a desaturation >= 4 % (AASM 1B)",
         4.0, False, "ahi_a0h4"),
)


@dataclass(frozen=True)
class Linked:
    """An apnoea or hypopnoea and what follows it."""

    event: Event
    desaturation: Event | None  # the scored one
    arousal: Event | None
    depth: float | None  # fall in percentage points, scored or measured; None: none, or not known
    measured: bool = False  # the depth is measured in the SpO2 trace, not scored

    def counts(self, rule: Rule) -> bool:
        """Whether the event counts under `rule`."""
        if self.event.kind != HYPOPNEA or rule.depth is None:
            return True
        # Depths are whole or measured in the file's steps: a rounding must not decide.
        deep = self.depth is not None and self.depth >= rule.depth - 1e-3
        return deep or (rule.arousal and self.arousal is not None)


def link_events(
    events: Iterable[Event], windows: Windows = SHHS, spo2: Trace | None = None
) -> tuple[Linked, ...]:
    """Every timed apnoea and hypopnoea of a night with its desaturation and arousal, by onset.

    Scored desaturations are shared out one to one, see `pair_desaturations`. With `spo2` (%, from
    the recording's start), and only where the night has no scored desaturation at all, the depth
    is measured by `measured_depth` and `measured` is True. An arousal is the first one that begins
    in the window about the event's end. An event whose epoch alone is known is never linked.
    """
    events = tuple(events)
    timed = [event for event in events if event.timed]
    breaths = sorted(
        (event for event in timed if is_breathing(event)), key=lambda e: (e.onset, e.end)
    )
    falls = sorted((e for e in timed if e.kind == "desaturation"), key=lambda e: (e.onset, e.end))
    arousals = sorted((e for e in timed if e.kind == "arousal"), key=lambda e: e.onset)
    begins = np.array([arousal.onset for arousal in arousals])
    pairs = pair_desaturations(breaths, falls, windows)
    linked = []
    for i, event in enumerate(breaths):
        # Times are written in tenths of a second: 1e-6 keeps 4.9 in and 5.0 out.
        first = int(np.searchsorted(begins, event.end - windows.arousal_before - 1e-6))
        near = first < len(begins) and begins[first] < event.end + windows.arousal_after - 1e-6
        fall = falls[pairs[i]] if i in pairs else None
        depth = fall.depth if fall is not None else None
        measured = spo2 is not None and not any(e.kind == "desaturation" for e in events)
        if measured:
            depth = measured_depth(event, spo2, windows)
        linked.append(Linked(event, fall, arousals[first] if near else None, depth, measured))
    return tuple(linked)


# Leaving an event and a desaturation of its window apart costs APART; pairing them costs the lag's
# distance from the night's usual one, at most FARTHEST. A lone pair is therefore always made, and
# to shift a row of n pairs by one for the sake of one pair more never pays at the spacing of real
# events (onsets 15 s apart or more).
APART, FARTHEST = 30.0, 25.0
MOST_PAIRS = 1_000_000  # a severe night has some thousand


def pair_desaturations(
    events: list[Event], falls: list[Event], windows: Windows = SHHS
) -> dict[int, int]:
    """Which of `falls` (desaturations) follows which of `events`: index -> index, one to one.

    A desaturation can follow an event if it begins at or after the event's onset and at most
    `windows.desaturation_after` after its end. In a row of apnoeas several can: the pairs made are
    those whose lags, onset to onset, lie closest to the night's usual one (circulation and oximeter
    delay blood and box by the same time all night; the SHHS scorers set it by hand). It is the
    median lag of the desaturations that only one event can have caused, else of all pairs. Raises
    RecordingError for more events at one time than a night can hold.
    """
    from scipy import sparse
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching

    if not events or not falls:
        return {}
    begins = np.array([fall.onset for fall in falls])
    low = np.searchsorted(begins, [event.onset - 1e-6 for event in events])
    ends = [event.end + windows.desaturation_after + 1e-6 for event in events]
    several = np.maximum(np.searchsorted(begins, ends) - low, 0)
    if several.sum() > MOST_PAIRS:
        raise RecordingError(
            "events", f"{len(events)} respiratory events and {len(falls)} desaturations lie so "
            "close that none can be told apart", "correct the scoring",
        )
    if not several.any():
        return {}
    rows = np.repeat(np.arange(len(events)), several)
    columns = np.concatenate([np.arange(b, b + n) for b, n in zip(low, several)])
    lags = begins[columns] - np.array([event.onset for event in events])[rows]
    lone = np.bincount(columns, minlength=len(falls))[columns] == 1
    usual = np.median(lags[lone] if lone.any() else lags)
    # Every event may also take a column of its own: that is to go without. Weights are > 0, since
    # a sparse zero is no edge.
    costs = 1 + np.minimum(np.abs(lags - usual), FARTHEST)
    alone = np.arange(len(events))
    graph = sparse.csr_matrix(
        (
            np.concatenate([costs, np.full(len(events), 1 + APART)]),
            (np.concatenate([rows, alone]), np.concatenate([columns, len(falls) + alone])),
        ),
        shape=(len(events), len(falls) + len(events)),
    )
    matched = zip(*min_weight_full_bipartite_matching(graph))
    return {int(i): int(j) for i, j in matched if j < len(falls)}


# A saturation outside is a sensor off the finger. The SHHS manual (6.7) calls minima below 40 %
# outliers; a pulse oximeter's accuracy is stated down to 70 % at most.
PLAUSIBLE_SPO2 = (40.0, 100.0)
MOST_UNMEASURED = 0.1  # share of the events after which SpO2 may be lost


def measured_depth(event: Event, spo2: Trace, windows: Windows = SHHS) -> float | None:
    """Fall of the saturation after an event, in points, measured in the trace and not scored.

    From the greatest saturation during the event to the lowest after that moment and within
    `windows.desaturation_after` of the event's end (SHHS manual 6.6.1). Implausible samples are
    left out; None where during the event, or after it, less than half of the time is left.
    """
    values = np.asarray(spo2.values, np.float64)
    begin = int(round(event.onset * spo2.rate))
    until = int(round(event.end * spo2.rate)) + 1
    after = int(round((event.end + windows.desaturation_after) * spo2.rate)) + 1
    low, high = PLAUSIBLE_SPO2
    piece = values[begin:after]
    piece = np.where((piece >= low) & (piece <= high), piece, np.nan)
    during = piece[: until - begin]
    known = np.isfinite(piece)
    if known[: until - begin].sum() * 2 < until - begin or known.sum() * 2 < after - begin:
        return None
    greatest = np.nanmax(during)
    peak = int(np.flatnonzero(during == greatest)[-1])
    return float(greatest - np.nanmin(piece[peak:]))


def ahi_by_rule(
    events: Iterable[Event],
    time: SleepTime,
    windows: Windows = SHHS,
    spo2: Trace | None = None,
) -> dict[str, dict]:
    """Apnoea-hypopnoea indices of a night: {rule's name: result}, JSON-able.

    A result: {"rule", "nsrr_variable", "value" and "unit" (events per hour of sleep), "events",
    "apneas", "hypopneas", "desaturations" ("scored", "measured"), "splits": {"rem", "nrem",
    "supine", "non_supine": {"value", "events", "hours"}}, "why_not"}. An event counts if it touches
    an epoch asleep, in the split of the first such epoch; "outside_sleep" counts the others. Where
    the scoring cannot give a number, `value` is None and `why_not` says why: no apnoea or hypopnoea
    in the whole night (it may not have been scored for them, and 0 would say it was), a rule that
    asks for desaturations or arousals of which the night has not one scored, desaturations without
    a depth, a measured SpO2 that is lost after more than a tenth of the events ("unmeasured"
    counts them), respiratory events of which the epoch alone is known, a night without sleep.
    """
    events = tuple(events)
    crowd = None
    try:
        linked = link_events(events, windows, spo2)
    except RecordingError as error:
        linked, crowd = (), error.finding
    epochs = [time.epoch_of(link.event) for link in linked]
    kinds = {event.kind for event in events}
    vague = {event.kind for event in events if not event.timed}
    untimed = any(is_breathing(event) for event in events if not event.timed)
    nameless = sum(
        link.event.kind == HYPOPNEA and link.desaturation is not None and link.depth is None
        for link in linked
    )
    unmeasured = sum(
        link.event.kind == HYPOPNEA and link.measured and link.depth is None for link in linked
    )
    measured = "desaturation" not in kinds and spo2 is not None
    basis = "measured" if measured else "scored" if "desaturation" in kinds else None
    out = {}
    for rule in RULES:
        counted = [
            (link, epoch) for link, epoch in zip(linked, epochs)
            if epoch is not None and link.counts(rule)
        ]
        why = None
        if crowd:
            why = crowd
        elif untimed:
            why = "respiratory events without an onset: their epoch alone is known"
        elif not linked:
            why = "no apnoeas or hypopnoeas scored"
        elif time.hours() == 0:
            why = "no sleep"
        elif rule.depth is not None and "desaturation" not in kinds and spo2 is None:
            why = "no desaturations scored and no SpO2"
        elif rule.depth is not None and "desaturation" in vague:
            why = "desaturations without an onset: their epoch alone is known"
        elif rule.depth is not None and nameless:
            why = f"{nameless} desaturations after hypopnoeas have no depth"
        elif rule.depth is not None and unmeasured > MOST_UNMEASURED * len(linked):
            why = f"no usable SpO2 after {unmeasured} hypopnoeas"
        elif rule.arousal and "arousal" not in kinds:
            why = "no arousals scored"
        elif rule.arousal and "arousal" in vague:
            why = "arousals without an onset: their epoch alone is known"
        apneas = sum(link.event.kind != HYPOPNEA for link, _ in counted)
        result = {
            "rule": rule.text,
            "nsrr_variable": rule.nsrr,
            "value": None if why else per_hour(len(counted), time.hours()),
            "unit": "events per hour of sleep",
            "events": None if why else len(counted),
            "apneas": None if why else apneas,
            "hypopneas": None if why else len(counted) - apneas,
            "outside_sleep": sum(epoch is None for epoch in epochs),
            "desaturations": None if rule.depth is None else basis,
            "splits": {},
            "why_not": why,
        }
        if measured and rule.depth is not None:
            result["unmeasured"] = unmeasured  # hypopnoeas without a usable SpO2, taken as 0 %
        if not why:
            result["splits"] = splits([epoch for _, epoch in counted], time)
        out[rule.name] = result
    return out


def per_hour(count: int, hours: float) -> float | None:
    """Events an hour, to two decimals; None without time."""
    return round(count / hours, 2) if hours > 0 else None


def splits(epochs: list[int], time: SleepTime) -> dict[str, dict]:
    """Events an hour in each part of the sleep that the night has, from the events' epochs."""
    out = {}
    for name in SPLITS:
        part, hours = time.part(name), time.hours(name)
        if hours > 0:
            count = int(part[epochs].sum()) if epochs else 0
            out[name] = {
                "value": per_hour(count, hours), "events": count, "hours": round(hours, 4),
            }
    return out
