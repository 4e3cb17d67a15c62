"""Windows longer than an epoch, measured: five minutes, a sleep cycle, the night. E 30-s epochs.

The figures of the night are those of physiology.statistics; heart rate, SpO2 and position come
from the epochs' records. What the night cannot say is in the record's `unknown`, with the reason.
Form: night.schema.json. Definitions and sources: docs/night_captions.md.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources

import numpy as np

from sleeplm_jax.captions.cycles import sleep_cycles
from sleeplm_jax.config import MOVEMENT, UNSCORED
from sleeplm_jax.errors import CorpusError
from sleeplm_jax.physiology.epochs import EPOCH_SECONDS
from sleeplm_jax.physiology.event_indices import event_indices
from sleeplm_jax.physiology.heart import BEATS, LOWEST_ECG_RATE, beat_times
from sleeplm_jax.physiology.heart_variability import band_powers
from sleeplm_jax.physiology.respiratory_events import ahi_by_rule, is_apnea, is_breathing
from sleeplm_jax.physiology.sleep_time import SleepTime, sleep_time
from sleeplm_jax.physiology.statistics import SLEEP_WAKE_ONLY, sleep_statistics
from sleeplm_jax.recordings.night import Event, Trace

FIVE_MINUTES = 10  # epochs
HOUR = 120  # epochs
LEAST_KNOWN = 0.5  # share of a window's epochs that must be measured before it is spoken of
UNUSABLE = "no usable signal"
SELDOM = "usable in less than half of the window"
WAKE_ONLY = "scored for sleep and wake only"
NO_ECG, NO_ECG_TRACE = "no ECG", "a night file keeps no ECG trace"
SELDOM_ECG = "no usable ECG in a part of the window"
FEW_BEATS = "too few sinus beats in a row"
NO_TRACE = "no desaturations scored, and a night file keeps no SpO2 trace"

# Of sleep_statistics: feature, name there, unit.
SLEEP = (
    ("total_sleep_time", "TST", "min"),
    ("sleep_efficiency", "SE", "%"),
    ("sleep_onset_latency", "SOL", "min"),
    ("n3_latency", "N3_latency", "min"),
    ("rem_latency", "REM_latency", "min"),
    ("wake_after_sleep_onset", "WASO", "min"),
    ("awakenings", "awakenings", "count"),
    ("n1_share", "N1_percent", "% of sleep"),
    ("n2_share", "N2_percent", "% of sleep"),
    ("n3_share", "N3_percent", "% of sleep"),
    ("rem_share", "REM_percent", "% of sleep"),
)
# Curves that the epochs' records hold: name here, features of mean, lowest and highest, unit.
CURVES = (
    ("heart_rate", "heart_rate_mean", "heart_rate_min", "heart_rate_max", "bpm"),
    ("spo2", "spo2_mean", "spo2_min", None, "%"),
)
SHARES = {"wake": 0, "n1": 1, "n2": 2, "n3": 3, "rem": 4, "movement": MOVEMENT,
          "unscored": UNSCORED}  # fmt: skip


@dataclass(frozen=True)
class Course:
    """A night as its windows need it; traces only where the recording's own are at hand."""

    stages: np.ndarray  # int8 [E]
    events: tuple[Event, ...]
    records: tuple[dict, ...]  # one an epoch, see record.schema.json
    time: SleepTime
    rules: str
    hypopnea_rule: str | None
    cohort_flags: tuple[str, ...]
    simulated: bool
    spo2: Trace | None
    ecg: Trace | None
    known_beats: np.ndarray | None
    from_file: bool

    @functools.cached_property
    def beats(self) -> np.ndarray | None:
        """Times of R peaks in s, looked for when first asked; None without an ECG."""
        if self.known_beats is not None or self.ecg is None:
            return self.known_beats
        return beat_times(self.ecg)

    @property
    def sleep_wake_only(self) -> bool:
        """Whether a code of sleep says only that: its stage means nothing."""
        return SLEEP_WAKE_ONLY in self.cohort_flags


@dataclass(frozen=True)
class Window:
    """Epochs `begin` to `end` (not with it) of a night."""

    kind: str  # "five_minutes", "sleep_cycle", "night"
    begin: int
    end: int
    number: int | None = None  # of a sleep cycle, from 1
    complete: bool | None = None  # of a sleep cycle: whether REM sleep ends it


def course_of(night, records: Iterable[dict] | None = None) -> Course:
    """The course of a prepared `Night` with its measured `records`, or of a corpus' NightFile.

    A NightFile brings its records. Raises CorpusError where the records are not one an epoch.
    """
    held = records is None
    found = tuple(json.loads(r) for r in night.records) if held else tuple(records)
    stages = np.asarray(night.stages, np.int8)
    if len(found) != len(stages):
        raise CorpusError(
            night.recording, f"{len(found)} measured records for {len(stages)} epochs",
            "measure the night again",
        )
    events = tuple(Event(**e) if isinstance(e, dict) else e for e in night.events)
    about = night.provenance if isinstance(night.provenance, dict) else vars(night.provenance)
    traces = getattr(night, "traces", {})
    ecg = traces.get("ECG")
    time = sleep_time(
        stages, about.get("lights_off_s"), about.get("lights_on_s"), traces.get("POS")
    )
    return Course(
        stages, events, found, time, night.rules, about.get("hypopnea_rule"),
        tuple(about.get("cohort_flags", ())), bool(night.simulated), traces.get("SpO2"),
        ecg if ecg is not None and ecg.rate >= LOWEST_ECG_RATE else None,
        None if held else night.extra.get(BEATS), held,
    )


def windows_of(course: Course) -> list[Window]:
    """The night, its sleep cycles, and all whole five minutes from the recording's start."""
    epochs = len(course.stages)
    cycles = [
        Window("sleep_cycle", begin, end, number, complete)
        for number, (begin, end, complete) in enumerate(sleep_cycles(course.stages), 1)
        if not course.sleep_wake_only
    ]
    fives = [
        Window("five_minutes", begin, begin + FIVE_MINUTES)
        for begin in range(0, epochs - FIVE_MINUTES + 1, FIVE_MINUTES)
    ]
    return [Window("night", 0, epochs), *cycles, *fives]


class _Filling:
    """A window's record while it is filled."""

    def __init__(self, course: Course, window: Window):
        self.span = [window.begin * EPOCH_SECONDS, window.end * EPOCH_SECONDS]
        self.measurements: list[dict] = []
        self.unknown: list[dict] = []
        self.notes: list[str] = []
        self.head = {
            "window": {
                "kind": window.kind, "onset": self.span[0], "end": self.span[1],
                "number": window.number, "complete": window.complete,
            },
            "rules": course.rules,
            "hypopnea_rule": course.hypopnea_rule,
            "simulated": course.simulated,
        }

    def add(self, feature, value, unit, channel=None, interval=None, **more) -> None:
        value = value if isinstance(value, str) else round(float(value), 3) + 0.0
        self.measurements.append({
            "feature": feature, "value": value, "unit": unit, "channel": channel,
            "interval": [round(float(t), 3) for t in interval or self.span], **more,
        })

    def lack(self, feature: str, why: str) -> None:
        self.unknown.append({"feature": feature, "why": why})

    def record(self) -> dict:
        return {**self.head, "measurements": self.measurements, "unknown": self.unknown,
                "notes": self.notes}


def measure_window(course: Course, window: Window) -> dict:
    """The record of a window: JSON-able, of the form night.schema.json."""
    out = _Filling(course, window)
    if window.kind == "night":
        _sleep(course, out)
        _indices(course, out)
    else:
        _shares(course, window, out)
        _counts(course, window, out)
    for curve in CURVES:
        _curve(course, window, curve, out)
    if window.kind == "five_minutes":
        _variability(course, window, out)
    _positions(course, window, out)
    return out.record()


def _sleep(course: Course, out: _Filling) -> None:
    time = course.time
    if not (course.stages != UNSCORED).any():
        out.lack("sleep", "the night is not staged")
        return
    found = sleep_statistics(time, course.cohort_flags)
    bed = time.off_known and time.on_known
    span = [time.off, time.on]
    trt = found["measures"]["TRT"]["value"]
    out.add("time_in_bed" if bed else "scored_period", trt, "min", interval=span)
    why = {"n3_latency": "no N3 scored", "rem_latency": "no REM sleep scored"}
    for feature, name, unit in SLEEP:
        value = found["measures"][name]["value"]
        if value is not None:
            out.add(feature, value, unit, interval=span)
        elif not time.asleep.any():
            out.lack(feature, "no sleep")
        elif feature == "n3_latency" and "R&K" in course.rules:
            out.lack(feature, "no stages 3 or 4 scored")
        else:
            out.lack(feature, WAKE_ONLY if course.sleep_wake_only else why[feature])
    for name, known in (("lights_off_unknown", time.off_known),
                        ("lights_on_unknown", time.on_known)):
        if not known:
            out.notes.append(name)
    for name in ("unscored", "movement"):
        if minutes := found["measures"][name]["value"]:
            out.add(f"{name}_time", minutes, "min", interval=span)


def _indices(course: Course, out: _Filling) -> None:
    if not (course.stages != UNSCORED).any():
        return
    span = [course.time.off, course.time.on]
    indices = {
        f"ahi_{name}": result
        for name, result in ahi_by_rule(course.events, course.time, spo2=course.spo2).items()
    } | event_indices(course.events, course.time)
    for name, result in indices.items():
        if name == "plm_index":  # two definitions, by what was scored: never one name
            name += "_series" if result["text"].startswith("series") else "_scored"
        if result["value"] is None:
            why = result["why_not"]
            if course.from_file and why == "no desaturations scored and no SpO2":
                why = NO_TRACE
            out.lack(name, why)
            continue
        more = {"basis": "measured"} if result.get("desaturations") == "measured" else {}
        out.add(name, result["value"], "/h", interval=span, count=result["events"], **more)


def _shares(course: Course, window: Window, out: _Filling) -> None:
    stages = course.stages[window.begin : window.end]
    if not (stages != UNSCORED).any():
        out.lack("sleep", "the window is not staged")
        return
    for name, code in SHARES.items():
        if course.sleep_wake_only and code > 0:
            out.lack(f"{name}_share", WAKE_ONLY)
        elif (share := float((stages == code).mean())) > 0:
            out.add(f"{name}_share", 100 * share, "% of window")


COUNTED = {
    "apnea_count": ("respiratory event", is_apnea),
    "hypopnea_count": ("respiratory event", lambda e: e.kind == "hypopnea"),
    "desaturation_count": ("desaturation", lambda e: e.kind == "desaturation"),
    "arousal_count": ("arousal", lambda e: e.kind == "arousal"),
}


def _counts(course: Course, window: Window, out: _Filling) -> None:
    """Events that begin in the window; a night without one of a kind was not scored for it."""
    begin, end = out.span
    here = [event for event in course.events if begin <= event.onset < end]
    scored = {
        "respiratory event": any(is_breathing(event) for event in course.events),
        "desaturation": any(event.kind == "desaturation" for event in course.events),
        "arousal": any(event.kind == "arousal" for event in course.events),
    }
    for feature, (group, belongs) in COUNTED.items():
        if scored[group]:
            out.add(feature, sum(map(belongs, here)), "count")
        else:
            out.lack(feature, "none scored in this night")


def _column(records: Iterable[dict], feature: str) -> tuple[np.ndarray, str | None]:
    """A feature's value in every epoch (nan where unmeasured), and the channel of the first."""
    out, channel = [], None
    for record in records:
        hit = next((m for m in record["measurements"] if m["feature"] == feature), None)
        out.append(np.nan if hit is None else hit["value"])
        channel = channel or (hit and hit["channel"])
    return np.array(out, float), channel


def _curve(course: Course, window: Window, curve: tuple, out: _Filling) -> None:
    name, mean_of, lowest_of, highest_of, unit = curve
    records = course.records[window.begin : window.end]
    mean, channel = _column(records, mean_of)
    known = np.isfinite(mean)
    share = float(known.mean()) if len(mean) else 0.0
    if not known.any():
        out.lack(name, UNUSABLE)
        return
    if share < LEAST_KNOWN:
        out.lack(name, SELDOM)
        return
    out.add(f"{name}_known", 100 * share, "% of window", channel)
    out.add(f"{name}_mean", mean[known].mean(), unit, channel)
    for which, feature, pick in (("lowest", lowest_of, np.nanargmin),
                                 ("highest", highest_of, np.nanargmax)):
        values = _column(records, feature)[0] if feature else mean
        if feature and np.isfinite(values).any():
            at = int(pick(values))
            begin = (window.begin + at) * EPOCH_SECONDS
            out.add(f"{name}_{which}", values[at], unit, channel, [begin, begin + EPOCH_SECONDS])
    thirds = np.array_split(known, 3)
    if len(mean) >= 6 and thirds[0].any() and thirds[-1].any():  # else no line spans the window
        x = np.flatnonzero(known)
        out.add(f"{name}_change", np.polyfit(x, mean[known], 1)[0] * len(mean), unit, channel)
    if window.kind != "night":
        return
    for begin in range(0, len(mean), HOUR):
        part = mean[begin : begin + HOUR]
        if len(part) >= HOUR / 2 and np.isfinite(part).mean() >= LEAST_KNOWN:
            first = (window.begin + begin) * EPOCH_SECONDS
            span = [first, first + len(part) * EPOCH_SECONDS]
            out.add(f"{name}_hour", part[np.isfinite(part)].mean(), unit, channel, span)


def _variability(course: Course, window: Window, out: _Filling) -> None:
    if course.beats is None:
        out.lack("heart_rate_variability", NO_ECG_TRACE if course.from_file else NO_ECG)
        return
    records = course.records[window.begin : window.end]
    usable = all("ECG" not in record["missing"] for record in records)
    found = band_powers(course.beats, out.span[0]) if usable else {}
    for feature, power in found.items():
        out.add(feature, power, "ms²", "ECG")
    if not found:
        out.lack("heart_rate_variability", FEW_BEATS if usable else SELDOM_ECG)


def _positions(course: Course, window: Window, out: _Filling) -> None:
    """Share of each position in the sleep of a night (in another window's time) where it is known.

    Sleep in bed, as everywhere here; a night that is not staged is taken whole.
    """
    chosen = np.zeros(len(course.stages), bool)
    chosen[window.begin : window.end] = True
    asleep = course.time.asleep
    in_sleep = window.kind == "night" and bool(asleep.any())
    if in_sleep:
        chosen &= asleep
    seconds: dict[str, float] = {}
    for epoch in np.flatnonzero(chosen):
        for m in course.records[epoch]["measurements"]:
            if m["feature"] == "position":
                held = m["interval"][1] - m["interval"][0]
                seconds[m["value"]] = seconds.get(m["value"], 0.0) + held
    total = chosen.sum() * EPOCH_SECONDS
    known = sum(seconds.values())
    if not known:
        out.lack("position", UNUSABLE)
        return
    if known < LEAST_KNOWN * total:
        out.lack("position", SELDOM)
        return
    unit = "% of sleep of known position" if in_sleep else "% of window of known position"
    for word, held in sorted(seconds.items(), key=lambda item: (-item[1], item[0])):
        out.add("position_share", 100 * held / known, unit, "POS", position=word)


# Channels that a statement was made from, one of every group (as in grounding.EVENTS).
_BREATH, _CORTEX = ("AF", "THX", "ABD"), ("C3", "C4", "F3", "F4", "O1", "O2")
NEEDS: dict[str, tuple[tuple[str, ...], ...]] = {
    "ahi_all_events": (_BREATH,), "apnea_count": (_BREATH,), "hypopnea_count": (_BREATH,),
    "ahi_3_percent": (_BREATH, ("SpO2",)), "ahi_4_percent": (_BREATH, ("SpO2",)),
    "ahi_3_percent_or_arousal": (_BREATH, ("SpO2",), _CORTEX),
    "odi_3_percent": (("SpO2",),), "odi_4_percent": (("SpO2",),),
    "desaturation_count": (("SpO2",),), "arousal_count": (_CORTEX,),
    "arousal_index_in_bed": (_CORTEX,), "arousal_index_in_sleep": (_CORTEX,),
    "plm_index_scored": (("LEG-L", "LEG-R"),), "plm_index_series": (("LEG-L", "LEG-R"),),
    "lf_power": (("ECG",),), "hf_power": (("ECG",),),
}  # fmt: skip


def grounded_window(record: dict, channels: Iterable[str]) -> dict:
    """The part of a window's record that an input of `channels` can show, the rest left out.

    Heart rate, SpO2 and position need the channel that they were measured on, indices and counts
    the channels that their events are scored on (NEEDS), stages any signal but the position.
    """
    present = set(channels)

    def shows(feature: str, channel: str | None) -> bool:
        if feature.startswith(("heart_rate", "spo2", "position")):
            return channel in present
        groups = NEEDS.get(feature)
        if groups is None:
            return bool(present - {"POS"})
        return all(present & set(group) for group in groups)

    kept = [m for m in record["measurements"] if shows(m["feature"], m["channel"])]
    sources = {"heart_rate": {"ECG", "HR"}, "spo2": {"SpO2"}, "position": {"POS"},
               "heart_rate_variability": {"ECG"}}
    unknown = [
        u for u in record["unknown"]
        if (present & sources[u["feature"]] if u["feature"] in sources
            else shows(u["feature"], None))
    ]
    return {**record, "measurements": kept, "unknown": unknown}


@functools.cache
def _validator():
    import jsonschema

    text = resources.files(__package__).joinpath("night.schema.json").read_text("utf-8")
    return jsonschema.Draft202012Validator(json.loads(text))


def validate_window(record: dict, where: object = "window") -> None:
    """Raise CorpusError naming the field of `record` that night.schema.json does not allow."""
    import jsonschema

    error = jsonschema.exceptions.best_match(_validator().iter_errors(record))
    if error is not None:
        field = error.json_path.removeprefix("$").lstrip(".") or "record"
        raise CorpusError(where, f"{field}: {error.message}", "measure the night again")
