"""Random changes of a training sample that leave its text true: amplitude and time.

The text is drawn first. Then a change is made as far as what the text states still holds: an
amplitude changes only on channels of which the text gives no size, and a sample is shifted in time
only under a text of stage and events, which have times of their own (a measured number is of its
epoch and cannot be moved). What the changed sample no longer shows leaves its record, so that keys
stay true as well.

Legend: C channels, T samples an epoch.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from sleeplm_jax.config import CHANNEL_PAIRS, SignalSpec

# Measured features that another amplitude of an epoch changes: their detectors have thresholds in
# µV or in terms of the night. Of the others none changed when epochs were measured again at 0.67
# and 1.5 times their amplitude (tests/corpus/test_random_maps.py).
SIZED = frozenset((
    "breath_amplitude", "muscle_tone", "slow_wave_amplitude", "slow_wave_count", "slow_wave_share",
    "spindle_count", "k_complex_count", "rapid_eye_movement_count", "slow_eye_movement_share",
    "blink_count", "alpha_share", "flow_flatness",
    "eeg_waves", "eye_movements",  # that there are none of them
))
LEAST_PART = 1.0  # s: as in physiology.measure, less of an event at a border is not stated


def sized_channels(contents: Iterable[dict]) -> set[str]:
    """Channels of which what `record.stated_kinds` gave of some kinds states a size."""
    found: set[str] = set()
    for content in contents:
        for name, said in content.get("channels", {}).items():
            if not SIZED.isdisjoint(said):
                found.update(CHANNEL_PAIRS.get(name, (name,)))
    return found


def without_sizes(record: dict, channels: set[str]) -> dict:
    """`record` without the features of SIZED that were measured on any of `channels`."""
    return record | {"measurements": [
        m for m in record["measurements"]
        if m["feature"] not in SIZED
        or channels.isdisjoint(CHANNEL_PAIRS.get(m["channel"], (m["channel"],)))
    ]}


def shift_steps(spec: SignalSpec, most: float) -> int:
    """How many steps of `shift_step` samples a shift of at most `most` s has."""
    return int(most * spec.rate / shift_step(spec) + 1e-9)


def shift_step(spec: SignalSpec) -> int:
    """Samples of a step: half a second where that is whole, so that the tenths of a second that
    events are stated to move by a whole number of tenths."""
    return spec.rate // 2 if spec.rate % 2 == 0 else spec.rate


def shifted(first: dict[str, Any], second: dict[str, Any], start: int, spec: SignalSpec
            ) -> dict[str, Any] | None:
    """The sample that begins `start` samples (0 < start < T) into `first` and ends in `second`.

    Of what the record holds the events are kept, as far as they lie within, and the stage. None
    where it cannot be said what the new window holds: the two are no neighbours of one night,
    their stages differ, or an event's extent within the window is not known from both.
    """
    neighbours = (
        (first["cohort"], first["recording"], first["epoch"] + 1)
        == (second["cohort"], second["recording"], second["epoch"])
    )
    if not neighbours or first["stage"] != second["stage"]:
        return None
    events = joined_events(first["record"]["events"], second["record"]["events"], spec.seconds)
    events = None if events is None else window_events(events, start / spec.rate, spec.seconds)
    if events is None:
        return None
    one, two = first["record"], second["record"]
    return second | {
        "signal": np.concatenate([first["signal"][:, start:], second["signal"][:, :start]], axis=1),
        "mask": first["mask"] & second["mask"],
        "artefact": first["artefact"] | second["artefact"],
        "stage": first["stage"],
        "record": {
            "stage": one["stage"] if one["stage"] == two["stage"] else None,
            "events": events,
            "measurements": [],
            "missing": sorted({*one["missing"], *two["missing"]}),
            "scored": [group for group in one["scored"] if group in two["scored"]],
            "stand_ins": sorted({*one["stand_ins"], *two["stand_ins"]}),
        },
    }


def joined_events(first: list[dict], second: list[dict], seconds: float) -> list[dict] | None:
    """Events of two epochs in a row, times from the first's start; what crosses is one.

    None where an event that crosses is stated in one epoch only (too short in the other), or
    cannot be told from another.
    """
    crossing = [event for event in first if event["continues_into"]]
    came = [event for event in second if event["continues_from"]]
    names = [[(event["kind"], event["channel"]) for event in part] for part in (crossing, came)]
    if set(names[0]) != set(names[1]) or any(len(set(part)) < len(part) for part in names):
        return None
    ends = dict(zip(names[1], came, strict=True))
    out = [event for event in first if not event["continues_into"]]
    for name, event in zip(names[0], crossing, strict=True):
        end = ends[name]
        out.append(event | {
            "end": end["end"] + seconds, "continues_into": end["continues_into"],
        })
    out += [
        event | {"onset": event["onset"] + seconds, "end": event["end"] + seconds}
        for event in second if not event["continues_from"]
    ]
    return out


def window_events(events: list[dict], start: float, seconds: float) -> list[dict] | None:
    """The events within [start, start + seconds], times from `start`; None where too little of
    one lies within to be stated."""
    out = []
    for event in events:
        onset, end = event["onset"] - start, event["end"] - start
        begin, until = max(onset, 0.0), min(end, float(seconds))
        if until <= begin:
            continue
        cut = onset < 0 or end > seconds
        if cut and until - begin < LEAST_PART:
            return None
        out.append(event | {
            "onset": round(begin, 1), "end": round(until, 1),
            "continues_from": onset < 0 or (event["continues_from"] and onset <= 0),
            "continues_into": end > seconds or (event["continues_into"] and end >= seconds),
        })
    return sorted(out, key=lambda event: (event["onset"], event["end"], event["kind"]))
