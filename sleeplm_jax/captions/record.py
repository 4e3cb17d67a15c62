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
from sleeplm_jax.config import CAPTION_KINDS, SignalSpec
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
    "heart_rate_min": 0,
    "heart_rate_max": 0,
    "heart_rate_mean": 0,
    "heart_rate_trend": 0,
    "rmssd": 0,
    "spo2_min": 0,
    "spo2_mean": 0,
    "respiratory_rate": 0,
    "breath_interval_variability": 1,
    "breath_amplitude": -1,  # of the night's median: roughly what a z-scored input shows
    "emg_median_frequency": 0,
    "burst_ratio": 1,
    "muscle_tone": -1,
}
# Features that stand for an interval of their own: stated as a list of [value, start, end].
TIMED = frozenset({"heart_rate_trend", "position"})
# A signed feature is stated as one of two, each of the amount.
SIGNED = {"heart_rate_trend": ("heart_rate_fall", "heart_rate_rise")}
EVENT_DECIMALS = 1  # of an event's onset and end, s; a measurement's interval is in whole seconds

SLEEPLM_INPUT = SignalSpec()

KIND_CHANNELS = {
    "brain": ("C3", "C4", "EOG-L", "EOG-R"),
    "heart": ("ECG", "HR", "SpO2"),
    "respiratory": ("THX", "ABD", "AF"),
    "position_muscle": ("EMG", "POS"),
}


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


def _round(value: float, decimals: int) -> float | int:
    value = round(float(value), decimals) + 0.0  # no -0.0
    return int(value) if decimals <= 0 else value


def rounded(record: dict) -> dict:
    """`record` with every number as a caption says it (see DECIMALS); words stay as they are."""
    measurements = [
        {
            **m,
            "value": m["value"]
            if isinstance(m["value"], str)
            else _round(m["value"], DECIMALS[m["feature"]]),
            "interval": [_round(t, 0) for t in m["interval"]],
        }
        for m in record["measurements"]
    ]
    events = [
        {**e, "onset": _round(e["onset"], EVENT_DECIMALS), "end": _round(e["end"], EVENT_DECIMALS)}
        for e in record["events"]
    ]
    return {**record, "measurements": measurements, "events": events}


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
    return _stated_channels(record, kind)


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
        "none_of": sorted(record["scored"]) if quiet else [],
    }


def _stated_channels(record: dict, kind: str) -> dict | None:
    mine = KIND_CHANNELS[kind]
    channels: dict[str, dict] = {}
    stood_in = set()
    # Chosen before rounding: a loader calls this five times a sample.
    measured = [m for m in record["measurements"] if m["channel"] in mine]
    for m in rounded({**record, "events": [], "measurements": measured})["measurements"]:
        feature, value, channel = m["feature"], m["value"], m["channel"]
        name = "heart" if channel in ("ECG", "HR") else channel
        said = channels.setdefault(name, {})
        if channel in record["stand_ins"]:
            stood_in.add(name)
        if feature in SIGNED:
            feature, value = SIGNED[feature][value > 0], abs(value)
        if m["feature"] in TIMED:
            said.setdefault(feature, []).append([value, *m["interval"]])
        else:
            said[feature] = value
    if not channels:
        return None
    for said in channels.values():
        for value in said.values():
            if isinstance(value, list) and len(value) > 1:
                value.sort(key=lambda stretch: stretch[1:])
    # An absent heart-rate channel is no loss while the ECG gives the rate.
    missing = [c for c in mine if c in record["missing"] and c != "HR" and c not in channels]
    if "heart" in channels:
        missing = [c for c in missing if c != "ECG"]
    return {
        "channels": dict(sorted(channels.items())),
        "missing": sorted(missing),
        "stand_ins": sorted(stood_in),
    }


def caption_keys(record: dict, spec: SignalSpec | None = SLEEPLM_INPUT) -> np.ndarray:
    """Keys of a record's captions: int32 [len(CAPTION_KINDS)], 0 where there is no caption.

    Two epochs have equal keys of a kind exactly when their captions of that kind state the same
    (up to collisions of a 32-bit hash: 1 in 4e9 per pair).
    """
    return np.array([_key(kind, stated(record, kind, spec)) for kind in CAPTION_KINDS], np.int32)


def _key(kind: str, content: dict | None) -> int:
    if content is None:
        return 0
    canonical = json.dumps([kind, content], sort_keys=True, separators=(",", ":"))
    digest = hashlib.blake2b(canonical.encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little", signed=True) or 1
