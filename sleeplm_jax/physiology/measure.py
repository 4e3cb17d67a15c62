"""A prepared night measured: one record of numbers, times and events per 30-s epoch, no words.

What each feature means, its formula and source: docs/captions.md and the modules named here.
"""

from __future__ import annotations

import math

import numpy as np

from sleeplm_jax.config import CAPTION_CHANNELS, CHANNEL_PAIRS, SLEEPLM_CHANNELS, STAGES
from sleeplm_jax.errors import ConfigError
from sleeplm_jax.physiology import (
    breathing,
    heart,
    measure_brain,
    measure_breaths,
    muscle,
)
from sleeplm_jax.physiology.artefacts import unmeasurable
from sleeplm_jax.physiology.epochs import EPOCH_SECONDS, GROSS, cut, usable
from sleeplm_jax.physiology.flow_shape import flow_flatness
from sleeplm_jax.physiology.ocular import eyes_against
from sleeplm_jax.physiology.polarity import polarity
from sleeplm_jax.physiology.statistics import SLEEP_WAKE_ONLY
from sleeplm_jax.recordings.channels import CHANNELS
from sleeplm_jax.recordings.night import Event, Night, Trace

UNITS = {
    **measure_brain.UNITS,
    **measure_breaths.UNITS,
    "heart_rate_min": "bpm",
    "heart_rate_max": "bpm",
    "heart_rate_mean": "bpm",
    "heart_rate_trend": "bpm",
    "rmssd": "ms",
    "spo2_min": "%",
    "spo2_mean": "%",
    "respiratory_rate": "/min",
    "breath_interval_variability": "s",
    "breath_amplitude": "% of night",
    "emg_median_frequency": "Hz",
    "burst_ratio": "ratio",
    "muscle_tone": "% of night",
    "position": "word",
}
AROUSALS = frozenset({"arousal"})
RESPIRATORY = frozenset(
    {"obstructive_apnea", "central_apnea", "mixed_apnea", "hypopnea", "rera"}
)
# Kinds that a record has no word for: what may be a breathing event is `other` there, the rest is
# nothing that an epoch could be said to be free of.
RECORD_KINDS = {
    "cheyne_stokes": "other", "snore": "other",
    "heart_rhythm": None, "body_position": None, "note": None,
}  # fmt: skip
LEAST_EVENT = 0.5  # s: what is shorter is a mark of a moment, not an interval
LEAST_PART = 1.0  # s: less of an event at an epoch's border belongs to the epoch next door
CANONICAL = SLEEPLM_CHANNELS + CAPTION_CHANNELS
# Measured where the recording has them, and missing only where they are an input.
FURTHER = measure_brain.FRONTAL + measure_brain.OCCIPITAL


class _Records:
    """The night's records while they are filled, feature by feature."""

    def __init__(self, night: Night):
        self.epochs = len(night.stages)
        scored = scored_events(night.events)
        staged = SLEEP_WAKE_ONLY not in night.provenance.cohort_flags  # else sleep is only that
        further = [c for c in FURTHER if c in night.traces or c in night.spec.channels]
        self.channels = (*CANONICAL, *further)
        # Missing until measured or found usable.
        self.missing = [set(self.channels) for _ in range(self.epochs)]
        self.records = [
            {
                "stage": STAGES[stage] if stage == 0 or stage > 0 and staged else None,
                "events": [],
                "measurements": [],
                "missing": [],
                "scored": list(scored),
                "stand_ins": [],
            }
            for stage in np.asarray(night.stages, int)
        ]

    def found(self, channel: str, good: np.ndarray) -> None:
        for epoch in np.flatnonzero(good):
            self.missing[epoch].discard(channel)

    def add(self, epoch, feature, value, channel, interval=(0.0, EPOCH_SECONDS)) -> None:
        if not isinstance(value, str):
            if not math.isfinite(value):
                return
            value = round(float(value), 3)
        self.records[epoch]["measurements"].append(
            {
                "feature": feature,
                "value": value,
                "unit": UNITS[feature],
                "channel": channel,
                "interval": [round(float(t), 3) for t in interval],
            }
        )

    def add_all(self, channel: str, good: np.ndarray, values: dict[str, np.ndarray]) -> None:
        for epoch in np.flatnonzero(good):
            for feature, column in values.items():
                self.add(int(epoch), feature, float(column[epoch]), channel)


def measure_night(night: Night) -> list[dict]:
    """Measure `night`: one JSON-able record per epoch of `night.stages`, in order.

    Works on `night.traces` (native rates, physical units). A channel that is absent, masked in
    `night.mask`, flat, non-finite or grossly disturbed in an epoch, or marked in
    `night.artefacts` by what `artefacts.UNMEASURABLE` names, gives no number there and stands in
    that record's `missing`. The form of a record is captions/record.schema.json.
    Raises ConfigError where a sample of the night's spec is no 30-s epoch.
    """
    if night.spec.seconds != EPOCH_SECONDS:
        raise ConfigError(
            "signal spec",
            f"seconds = {night.spec.seconds:g}, and captions are measured per 30-s epoch",
            "prepare with seconds = 30",
        )
    out = _Records(night)
    good: dict[str, np.ndarray] = {}
    eyes: tuple[Trace, np.ndarray] | None = None
    beats: np.ndarray | None = None
    for channel in out.channels:  # the ECG before the chin, EOGs before EEGs
        trace = night.traces.get(channel)
        if trace is None or not len(trace.values):
            continue
        shown = _shown(night, channel) & ~unmeasurable(night, channel)
        if channel in ("POS", "HR", "SpO2"):  # steps: judged by their values, below
            good[channel] = shown
            continue
        cuts = cut(trace, out.epochs)
        rests = channel in ("ECG", "ABD", "THX", "AF")
        good[channel] = shown & usable(
            cuts, trace.rate, may_rest=rests, gross=GROSS if channel != "EMG" else np.inf
        )
        if channel in measure_brain.EEG:
            if eyes is None:
                eyes = _eyes(night, good)
            values = measure_brain.measure_eeg(
                channel, trace, good[channel], _sized(night, channel, good[channel]), eyes
            )
            out.add_all(channel, good[channel], values)
        elif channel in ("EOG-L", "EOG-R"):
            out.add_all(channel, good[channel], measure_brain.eog_powers(trace, good[channel]))
        elif channel in ("THX", "ABD", "AF"):
            values = breathing.measure_breathing(trace, out.epochs, good[channel])
            out.add_all(channel, good[channel], values)
            if values:  # a sensor that shows no breathing is not usable
                good[channel] = good[channel] & np.isfinite(values["breath_amplitude"])
        elif channel == "EMG":
            values = muscle.measure_chin(trace, out.epochs, good[channel], beats)
            out.add_all(channel, good[channel], values)
        elif channel == "ECG":
            beats = _beats(night, good[channel])
        if channel != "ECG":
            out.found(channel, good[channel])
    _measure_pairs(night, good, out)
    _measure_heart(night, good, beats, out)
    _measure_position(night, good, out)
    _place_events(night.events, out.records)
    stood_in = [name for name, how in night.channels.items() if how is not None and how.stand_in]
    for record, missing in zip(out.records, out.missing):
        record["missing"] = [channel for channel in out.channels if channel in missing]
        record["stand_ins"] = [c for c in out.channels if c in stood_in and c not in missing]
    return out.records


def _shown(night: Night, channel: str) -> np.ndarray:
    """Epochs in which the model's input shows `channel`; all of them for a channel beside it."""
    if channel not in night.spec.channels:
        return np.ones(len(night.stages), bool)
    return np.asarray(night.mask[:, night.spec.channels.index(channel)], bool)


def _sized(night: Night, channel: str, good: np.ndarray) -> bool:
    """Whether the channel's microvolts are microvolts, of the derivation that it is named after.

    A stand-in has other sizes, and may see the eyes as much as the brain (Fpz-Cz). Outside of
    what `channels.CHANNELS` calls plausible the file's unit is wrong. `good` bool [E].
    """
    how = night.channels.get(channel)
    if not good.any() or how is not None and (how.amplitude_unknown or how.stand_in):
        return False
    low, high = CHANNELS[channel].plausible
    sizes = _spread(cut(night.traces[channel], len(good))[good])
    return low <= float(np.median(sizes)) <= high


def _spread(cuts: np.ndarray) -> np.ndarray:
    """Median over an epoch's seconds of their standard deviation, [E]: a drift does not count."""
    tenths = cuts[:, : cuts.shape[1] // 30 * 30].reshape(len(cuts), 30, -1)
    return np.median(tenths.std(axis=2), axis=1)


def _eyes(night: Night, good: dict[str, np.ndarray]) -> tuple[Trace, np.ndarray] | None:
    """How the eyes move against each other, and the epochs in which both EOGs tell it in µV."""
    one, two = CHANNEL_PAIRS["EOG"]
    if one not in good or two not in good or not all(_sized(night, c, good[c]) for c in (one, two)):
        return None
    both = good[one] & good[two]
    return eyes_against(night.traces[one], night.traces[two], both), both


def _measure_pairs(night: Night, good: dict[str, np.ndarray], out: _Records) -> None:
    """What takes two channels, both usable in the epoch, and the flow's shape beside the belts."""
    both = {
        pair: good[one] & good[two]
        for pair, (one, two) in CHANNEL_PAIRS.items() if one in good and two in good
    }
    if "EOG" in both and all(
        _sized(night, channel, good[channel]) for channel in CHANNEL_PAIRS["EOG"]
    ):
        left, right = (night.traces[channel] for channel in CHANNEL_PAIRS["EOG"])
        out.add_all("EOG", both["EOG"], measure_brain.measure_eyes(left, right, both["EOG"]))
    if not any(channel in good and good[channel].any() for channel in CHANNEL_PAIRS["belts"]):
        return
    signs = polarity(night)
    if "belts" in both and measure_breaths.belts_agree(signs):
        thorax, abdomen = (night.traces[channel] for channel in CHANNEL_PAIRS["belts"])
        values, paradox = measure_breaths.measure_belts(thorax, abdomen, both["belts"])
        out.add_all("belts", both["belts"], values)
        for epoch, degrees, start, end in paradox:
            out.add(epoch, "paradox", degrees, "belts", (start, end))
    up, how = measure_breaths.inspiration_up(signs), night.channels.get("AF")
    if "AF" in good and how is not None and up is not None:
        flat = flow_flatness(night.traces["AF"], how.transducer, out.epochs, up)
        if flat is not None:
            out.add_all("AF", good["AF"], {"flow_flatness": flat})


def _beats(night: Night, good: np.ndarray) -> np.ndarray | None:
    """Times of R peaks; None where the ECG is too slow or nowhere usable."""
    if not good.any() or night.traces["ECG"].rate < heart.LOWEST_ECG_RATE:
        return None
    times = night.extra.get(heart.BEATS)
    return heart.beat_times(night.traces["ECG"]) if times is None else times


def _measure_heart(
    night: Night, good: dict[str, np.ndarray], beats: np.ndarray | None, out: _Records
) -> None:
    curves: dict[str, np.ndarray] = {}
    if beats is not None:
        curves["ECG"] = heart.curve_from_beats(beats, out.epochs)
        good["ECG"] = good["ECG"] & np.isfinite(curves["ECG"]).all(axis=1)
        out.add_all("ECG", good["ECG"], {"rmssd": heart.rmssd(beats, out.epochs)})
        out.found("ECG", good["ECG"])
    if "HR" in good:
        curves["HR"] = heart.curve_from_channel(night.traces["HR"], out.epochs)
        good["HR"] = good["HR"] & np.isfinite(curves["HR"]).all(axis=1)
        out.found("HR", good["HR"])
    taken = np.zeros(out.epochs, bool)
    for channel, curve in curves.items():  # the ECG first: the HR channel only where it fails
        here = good[channel] & ~taken
        taken |= here
        values = {
            "heart_rate_min": curve.min(axis=1),
            "heart_rate_max": curve.max(axis=1),
            "heart_rate_mean": curve.mean(axis=1),
        }
        out.add_all(channel, here, values)
        for epoch in np.flatnonzero(here):
            for change, start, end in heart.trends(curve[epoch]):
                out.add(int(epoch), "heart_rate_trend", change, channel, (start, end))
    if "SpO2" in good:
        lowest, mean = heart.saturation(night.traces["SpO2"], out.epochs)
        measured = good["SpO2"] & np.isfinite(mean)
        out.add_all("SpO2", measured, {"spo2_min": lowest, "spo2_mean": mean})
        for epoch, points, start, end in measure_breaths.spo2_drops(night.traces["SpO2"], measured):
            out.add(epoch, "spo2_drop", points, "SpO2", (start, end))
        out.found("SpO2", measured)


def _measure_position(night: Night, good: dict[str, np.ndarray], out: _Records) -> None:
    if "POS" not in good:
        return
    stretches = muscle.positions(night.traces["POS"], out.epochs)
    for epoch in np.flatnonzero(good["POS"]):
        for word, start, end in stretches[epoch]:
            out.add(int(epoch), "position", word, "POS", (start, end))
    out.found("POS", good["POS"] & np.array([bool(s) for s in stretches], bool))


def scored_events(events: tuple[Event, ...]) -> list[str]:
    """Kinds of event whose absence from an epoch means something: "arousal", "respiratory".

    A scoring without a single arousal (or apnoea, hypopnoea) in the whole night may not have been
    scored for them, so that their absence is then no finding.
    """
    kinds = {event.kind for event in events}
    groups = (("arousal", AROUSALS), ("respiratory", RESPIRATORY))
    return [name for name, members in groups if kinds & members]


def _groups(kind: str) -> frozenset[str]:
    """The groups whose absence an event denies; an unclassified one may be any of them."""
    groups = {"respiratory"} if kind in RESPIRATORY | {"other"} else set()
    return frozenset(groups | ({"arousal"} if kind in AROUSALS | {"rera", "other"} else set()))


def _place_events(events: tuple[Event, ...], records: list[dict]) -> None:
    """Puts every event into the epochs that it can be stated of, as an interval.

    Not stated are events under LEAST_EVENT (zero-length marks) and, of an event across a border,
    a part under LEAST_PART unless it is the event's longest. Such an epoch cannot claim to be
    free of the event's group either: the group leaves its "scored". The same holds for the epoch
    of an event whose time in it is not known (`Event.timed`): an interval would be invented.
    """
    for event in sorted(events, key=lambda e: (e.onset, e.end, e.kind)):
        kind = RECORD_KINDS.get(event.kind, event.kind)
        if kind is None:
            continue
        first = int(event.onset // EPOCH_SECONDS)
        last = int(max(math.ceil(event.end / EPOCH_SECONDS) - 1, first))
        parts = {
            epoch: (max(event.onset - zero, 0.0), min(event.end - zero, EPOCH_SECONDS))
            for epoch in range(first, min(last, len(records)) + 1)  # and what lies behind the night
            for zero in (epoch * EPOCH_SECONDS,)
        }
        longest = max(parts, key=lambda epoch: parts[epoch][1] - parts[epoch][0], default=None)
        for epoch, (begin, until) in parts.items():
            if epoch >= len(records):
                continue
            zero = epoch * EPOCH_SECONDS
            if not event.timed or event.duration < LEAST_EVENT - 1e-6 or (
                epoch != longest and until - begin < LEAST_PART - 1e-6
            ):
                if until - begin >= 0.05 or first == last:  # else its 0.1-s times show nothing
                    record = records[epoch]
                    denied = _groups(kind)
                    record["scored"] = [g for g in record["scored"] if g not in denied]
                continue
            onset, end = round(begin, 1), round(until, 1)
            records[epoch]["events"].append(
                {
                    "kind": kind,
                    "onset": onset,
                    "end": end,
                    "continues_from": event.onset < zero,
                    "continues_into": event.end > zero + EPOCH_SECONDS,
                    "channel": event.channel,
                }
            )
    for record in records:
        record["events"].sort(key=lambda e: (e["onset"], e["end"], e["kind"]))
