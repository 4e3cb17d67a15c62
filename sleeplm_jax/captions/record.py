"""A measured record: its form, its rounding, what a caption of each kind states of it, its keys.

`stated` is the one source of both the sentence (render.py) and the key (`caption_keys`): what is
not in it is neither said nor compared, so that equal keys mean equal captions.
"""

from __future__ import annotations

import functools
import hashlib
import json
from importlib import resources

import numpy as np

from sleeplm_jax.captions.grounding import grounded_for
from sleeplm_jax.captions.levels import at_level
from sleeplm_jax.config import CAPTION_KINDS, CHANNEL_PAIRS, SignalSpec
from sleeplm_jax.errors import CorpusError

# Decimals of a value as it is said and compared (-1: multiples of ten); the record keeps three.
DECIMALS = {
    "delta_power": 0,
    "theta_power": 0,
    "alpha_power": 0,
    "sigma_power": 0,
    "beta_power": 0,
    "slow_eye_movement_power": 0,
    "rapid_eye_movement_power": 0,
    "spindle_count": 0,
    "k_complex_count": 0,
    "slow_wave_count": 0,
    "slow_wave_share": 0,
    "slow_wave_amplitude": -1,
    "alpha_share": 0,
    "rapid_eye_movement_count": 0,
    "slow_eye_movement_share": 0,
    "blink_count": 0,
    "heart_rate_min": 0,
    "heart_rate_max": 0,
    "heart_rate_mean": 0,
    "heart_rate_trend": 0,
    "rmssd": 0,
    "spo2_min": 0,
    "spo2_mean": 0,
    "spo2_drop": 0,
    "respiratory_rate": 0,
    "breath_interval_variability": 1,
    "breath_amplitude": -1,  # of the night's median: roughly what a z-scored input shows
    "flow_flatness": 1,
    "belt_phase": -1,
    "paradox": -1,
    "emg_median_frequency": 0,
    "burst_ratio": 1,
    "muscle_tone": -1,
}
# Features that stand for an interval of their own: stated as a list of [value, start, end].
TIMED = frozenset({"heart_rate_trend", "spo2_drop", "paradox", "position"})
# Of these a zero is not said, which would double a caption's length for what is mostly absent;
# where all of a line are measured and zero, that is said in one phrase.
NONE_OF_THESE = {
    "eeg_waves": ("spindle_count", "k_complex_count", "slow_wave_count"),
    "eye_movements": ("rapid_eye_movement_count", "slow_eye_movement_share", "blink_count"),
}
ZERO_UNSAID = frozenset((
    *sum(NONE_OF_THESE.values(), ()), "slow_wave_share", "alpha_share",
    "breath_interval_variability",  # under 0.05 s: no breathing is without any
))
# A signed feature is stated as one of two, each of the amount.
SIGNED = {"heart_rate_trend": ("heart_rate_fall", "heart_rate_rise")}
EVENT_DECIMALS = 1  # of an event's onset and end, s; a measurement's interval is in whole seconds

SLEEPLM_INPUT = SignalSpec()

KIND_CHANNELS = {
    "brain": ("C3", "C4", "F3", "F4", "O1", "O2", "EOG-L", "EOG-R", "EOG"),
    "heart": ("ECG", "HR", "SpO2"),
    "respiratory": ("THX", "ABD", "AF", "belts"),
    "position_muscle": ("EMG", "POS"),
}


def spoken_as(channel: str) -> str:
    """The name a channel's measurements stand under: heart rate has one, whatever it is from."""
    return "heart" if channel in ("ECG", "HR") else channel


@functools.cache
def _validator():
    import jsonschema

    text = resources.files(__package__).joinpath("record.schema.json").read_text("utf-8")
    return jsonschema.Draft202012Validator(json.loads(text))


def validate(record: dict, where: object = "record") -> None:
    """Raise CorpusError naming the field of `record` that record.schema.json does not allow."""
    import jsonschema

    error = jsonschema.exceptions.best_match(_validator().iter_errors(record))
    if error is not None:
        field = error.json_path.removeprefix("$").lstrip(".") or "record"
        raise CorpusError(
            where, f"{field}: {error.message}", "prepare the corpus again with this version"
        )


# {channel: the name its measurements stand under}, {that name: its kind}.
_SPOKEN = {c: spoken_as(c) for channels in KIND_CHANNELS.values() for c in channels}
_KIND = {_SPOKEN[c]: kind for kind, channels in KIND_CHANNELS.items() for c in channels}


def _round(value: float, decimals: int) -> float | int:
    if decimals == 0:
        return round(value)
    value = round(float(value), decimals) + 0.0  # no -0.0
    return int(value) if decimals < 0 else value


def stated(
    record: dict,
    kind: str,
    spec: SignalSpec | None = SLEEPLM_INPUT,
    level: str | None = None,
) -> dict | None:
    """What a caption of `kind` states of `record`, rounded: a canonical JSON-able dict, or None.

    Only what an input of `spec` shows is stated (grounding.py); `spec` None states all of it.
    stage_event: {"stage", "events": [[kind, onset, end]], "none_of": [groups without an event]}.
    Other kinds: {"channels": {channel: {feature: value}}, "missing", "stand_ins"}, the value of a
    TIMED feature a list of [value, start, end]; heart rate stands under "heart" whichever channel
    it was measured on. `level` keeps the part that belongs to it (levels.py), for all None.
    """
    if level is not None:
        return at_level(stated(record, kind, spec), kind, level)
    if kind not in CAPTION_KINDS:
        raise ValueError(f"caption kind {kind!r} is none of {CAPTION_KINDS}")
    if spec is not None:
        record = grounded_for(record, spec.channels, spec.rate)
    if kind == "stage_event":
        return _stated_events(record)
    return _stated_channels(record, (kind,))[kind]


def stated_kinds(record: dict, level: str | None = None) -> dict[str, dict | None]:
    """What `stated` gives for each kind with `spec` None, of one walk through the record."""
    contents = _stated_channels(record, tuple(KIND_CHANNELS))
    contents["stage_event"] = _stated_events(record)
    if level is not None:
        contents = {kind: at_level(content, kind, level) for kind, content in contents.items()}
    return contents


def _stated_events(record: dict) -> dict | None:
    events = {
        (_round(e["onset"], EVENT_DECIMALS), _round(e["end"], EVENT_DECIMALS), e["kind"])
        for e in record["events"]
    }
    if record["stage"] is None and not events:
        return None
    quiet = record["stage"] is not None and not events
    return {
        "stage": record["stage"],
        "events": [[kind, onset, end] for onset, end, kind in sorted(events)],
        # Arousals are scored in sleep: of wake their absence says nothing.
        "none_of": sorted(
            group for group in record["scored"] if record["stage"] != "W" or group != "arousal"
        ) if quiet else [],
    }


def _stated_channels(record: dict, kinds: tuple[str, ...]) -> dict[str, dict | None]:
    channels: dict[str, dict] = {}
    stood_in, stand_ins = set(), set(record["stand_ins"])
    for m in record["measurements"]:  # a loader comes here fifty times a sample
        channel = m["channel"]
        name = _SPOKEN.get(channel)
        if name is None:
            continue
        feature, value = m["feature"], m["value"]
        if not isinstance(value, str):
            decimals = DECIMALS.get(feature)
            if decimals is None:  # kept in the record, not said
                continue
            value = round(value) if decimals == 0 else _round(value, decimals)
        said = channels.get(name)
        if said is None:
            if _KIND[name] not in kinds:
                continue
            said = channels[name] = {}
        if stand_ins and stand_ins.intersection(CHANNEL_PAIRS.get(channel, (channel,))):
            stood_in.add(name)
        if feature in TIMED:
            start, end = m["interval"]
            if feature in SIGNED:
                feature, value = SIGNED[feature][value > 0], abs(value)
            said.setdefault(feature, []).append([value, round(start), round(end)])
        else:
            said[feature] = value
    contents: dict[str, dict | None] = dict.fromkeys(kinds)
    for name in sorted(channels):
        said = channels[name]
        if 0 in said.values():
            _without_zeros(said)
        if not said:
            continue
        for value in said.values():
            if isinstance(value, list) and len(value) > 1:
                value.sort(key=lambda stretch: stretch[1:])
        content = contents[_KIND[name]]
        if content is None:
            content = contents[_KIND[name]] = {"channels": {}, "missing": [], "stand_ins": []}
        content["channels"][name] = said
        if name in stood_in:
            content["stand_ins"].append(name)
    if record["missing"]:
        for kind, content in contents.items():
            if content is not None:
                content["missing"] = _missing(record["missing"], kind, content["channels"])
    return contents


def _missing(missing: list[str], kind: str, said: dict) -> list[str]:
    """Channels of `kind` that are missing, sorted, of which nothing is said either."""
    # An absent heart-rate channel is no loss while the ECG gives the rate.
    names = [c for c in KIND_CHANNELS[kind] if c in missing and c != "HR" and c not in said]
    return sorted(c for c in names if c != "ECG" or "heart" not in said)


def _without_zeros(said: dict) -> None:
    """Takes the zeros of ZERO_UNSAID out of what is `said` of a channel; names what is none."""
    for name, counts in NONE_OF_THESE.items():
        if all(said.get(count) == 0 for count in counts):
            said[name] = "none"
    for feature in ZERO_UNSAID & said.keys():
        if said[feature] == 0:
            del said[feature]


def caption_keys(
    record: dict, spec: SignalSpec | None = SLEEPLM_INPUT, level: str | None = None
) -> np.ndarray:
    """Keys of a record's captions: int32 [len(CAPTION_KINDS)], 0 where there is no caption.

    Two epochs have equal keys of a kind exactly when their captions of that kind state the same
    (up to collisions of a 32-bit hash: 1 in 4e9 per pair).
    """
    if spec is not None:
        record = grounded_for(record, spec.channels, spec.rate)
    return keys_of(stated_kinds(record, level))


def keys_of(contents: dict[str, dict | None]) -> np.ndarray:
    """`caption_keys` of what `stated` gave for each kind."""
    return np.array([_key(kind, contents[kind]) for kind in CAPTION_KINDS], np.int32)


_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


def _key(kind: str, content: dict | None) -> int:
    if content is None:
        return 0
    digest = hashlib.blake2b(_canonical([kind, content]).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little", signed=True) or 1
