"""Desaturations, arousals and periodic limb movements per hour of sleep.

Each result is JSON-able: {"text", "value", "unit", "events", "splits", "why_not"}; `value` is None
where the scoring cannot give it, and `why_not` says why. A night without a single event of a kind
may not have been scored for it: that is no index of 0.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from sleeplm_jax.physiology.respiratory_events import is_breathing, per_hour, splits
from sleeplm_jax.physiology.sleep_time import SleepTime
from sleeplm_jax.recordings.night import Event

# Series of limb movements (AASM manual, as tabled in https://pmc.ncbi.nlm.nih.gov/articles/
# PMC9619152, Table 3): each 0.5 to 10 s, four or more, 5 to 90 s between onsets, none from 0.5 s
# before to 0.5 s after a respiratory event.
MOVEMENT_S = (0.5, 10.0)
BETWEEN_S = (5.0, 90.0)
LEAST_IN_SERIES = 4
NEAR_BREATH_S = 0.5  # a movement this near to a respiratory event is part of it


def event_indices(events: Iterable[Event], time: SleepTime) -> dict[str, dict]:
    """ODI at 3 and 4 points, two arousal indices and the PLM index of a night, by name.

    The AASM manual's arousal index counts the arousals between lights off and on, those in epochs
    scored W too, per hour of sleep (Wilson et al. 2022, J Clin Sleep Med 18:1385, which finds the
    contradiction in it); the NSRR's `ai_all` counts those in sleep. Both are given, by name.
    """
    events = tuple(events)
    falls = [e for e in events if e.kind == "desaturation"]
    arousals = [e for e in events if e.kind == "arousal"]
    out = {}
    for depth in (3, 4):
        deep = [e for e in falls if e.depth is not None and e.depth >= depth - 1e-3]
        bare = sum(e.depth is None for e in falls)
        why = f"{bare} desaturations have no depth" if bare else _absent(falls, "desaturation")
        out[f"odi_{depth}_percent"] = _index(
            f"scored desaturations >= {depth} % in sleep", deep, time, why
        )
    why = _absent(arousals, "arousal")
    out["arousal_index_in_bed"] = _index(
        "arousals between lights off and on, in epochs scored W too (AASM)", arousals, time, why,
        anywhere=True,
    )
    out["arousal_index_in_sleep"] = _index(
        "arousals that touch an epoch of sleep (NSRR ai_all)", arousals, time, why
    )
    periodic = [e for e in events if e.kind == "periodic_limb_movement"]
    movements = [e for e in events if e.kind == "limb_movement"]
    if periodic or not movements:
        out["plm_index"] = _index(
            "periodic limb movements in sleep, as scored", periodic, time,
            _absent(periodic, "limb movement"),
        )
    else:
        breaths = [e for e in events if e.timed and (is_breathing(e) or e.kind == "rera")]
        asleep = [e for e in movements if time.epoch_of(e) is not None]
        out["plm_index"] = _index(
            "series of scored limb movements in sleep: 4 or more, 5 to 90 s apart, none at a "
            "respiratory event", periodic_movements(asleep, breaths), time,
            _absent(movements, "limb movement"),
        )
    return out


def periodic_movements(movements: list[Event], breaths: list[Event]) -> list[Event]:
    """The limb movements that belong to a periodic series, by onset.

    Left out first: movements under 0.5 or over 10 s, those that lie within 0.5 s of a respiratory
    event of `breaths`, and those that begin less than 5 s after the one before (both legs' one
    movement).
    """
    ordered = sorted(breaths, key=lambda b: b.onset)
    begins = np.array([b.onset for b in ordered])
    ends = np.maximum.accumulate([b.end for b in ordered]) if ordered else begins
    kept: list[Event] = []
    for event in sorted(movements, key=lambda e: e.onset):
        long = MOVEMENT_S[0] - 1e-6 <= event.duration <= MOVEMENT_S[1] + 1e-6
        before = int(np.searchsorted(begins, event.end + NEAR_BREATH_S))  # begun by then
        breath = before > 0 and ends[before - 1] > event.onset - NEAR_BREATH_S
        apart = not kept or event.onset - kept[-1].onset >= BETWEEN_S[0] - 1e-6
        if long and not breath and apart:
            kept.append(event)
    series: list[list[Event]] = []
    for event in kept:
        if series and event.onset - series[-1][-1].onset <= BETWEEN_S[1] + 1e-6:
            series[-1].append(event)
        else:
            series.append([event])
    return [event for one in series if len(one) >= LEAST_IN_SERIES for event in one]


def _absent(events: list[Event], name: str) -> str | None:
    untimed = sum(not e.timed for e in events)
    if untimed:
        return f"{untimed} of the {name}s have no onset, their epoch alone is known"
    return None if events else f"no {name}s scored"


def _index(
    text: str, events: list[Event], time: SleepTime, why: str | None, anywhere: bool = False
) -> dict:
    """An index of the events asleep; with `anywhere` of those in bed, asleep or not."""
    epochs = [time.epoch_of(event) for event in events]
    asleep = [epoch for epoch in epochs if epoch is not None]
    if anywhere:
        count = sum(
            epoch is not None or time.in_bed(event) for event, epoch in zip(events, epochs)
        )
    else:
        count = len(asleep)
    if not why and time.hours() == 0:
        why = "no sleep"
    return {
        "text": text,
        "value": None if why else per_hour(count, time.hours()),
        "unit": "events per hour of sleep",
        "events": None if why else count,
        "splits": {} if why or anywhere else splits(asleep, time),
        "why_not": why,
    }
