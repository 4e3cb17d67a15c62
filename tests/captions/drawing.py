"""Random measured records with every feature, event and channel that the code's tables know."""

import numpy as np

from sleeplm_jax.captions.grounding import EVENTS, FEATURES, SCORED
from sleeplm_jax.captions.record import (
    DECIMALS,
    KIND_CHANNELS,
    NONE_OF_THESE,
    SIGNED,
    TIMED,
    spoken_as,
)
from sleeplm_jax.captions.wording import groups, templates
from sleeplm_jax.config import CHANNEL_PAIRS

# What a feature's values may be; others are drawn from 0 to 100.
RANGES = {
    "heart_rate_min": (40, 60), "heart_rate_max": (60, 110), "heart_rate_mean": (38, 95),
    "rmssd": (0, 120), "spo2_min": (70, 95), "spo2_mean": (80, 99), "heart_rate_trend": (5, 30),
    "respiratory_rate": (6, 40), "breath_interval_variability": (0, 4),
    "breath_amplitude": (0, 300), "emg_median_frequency": (12, 28), "burst_ratio": (1, 9),
    "muscle_tone": (5, 900),
}  # fmt: skip
CHANNELS = tuple(dict.fromkeys(c for channels in KIND_CHANNELS.values() for c in channels))


def features_of(channel):
    """Those that are said of a channel: with a number of decimals, or in words."""
    return [
        f for f, needs in FEATURES.items() if any(channel in need.channels for need in needs)
        and (f in DECIMALS or f == "position" or words_of(f, spoken_as(channel)))
    ]  # fmt: skip


def words_of(feature, channel):
    """The words that a feature without a number may have."""
    rows = templates()["groups"][groups()[channel].name]["features"]
    own = [key.partition(":")[2] for key in rows if key.startswith(f"{feature}:")]
    return list(templates()["words"]) if feature == "position" else own


def measurement(feature, value, channel, interval=(0.0, 30.0)):
    return {
        "feature": feature, "value": value, "unit": "", "channel": channel,
        "interval": [float(t) for t in interval],
    }  # fmt: skip


def _value(rng, feature):
    low, high = RANGES.get(feature, (0, 100))
    # Nothing, one and two of a thing are said in words of their own.
    return float(rng.integers(0, 3)) if rng.random() < 0.1 else rng.uniform(low, high)


def _stretches(rng, most):
    """Up to `most` intervals in order of time, in whole seconds, none at all now and then."""
    cuts = np.sort(rng.choice(np.arange(0, 31), 2 * int(rng.integers(0, most + 1)), False))
    return [(float(a), float(b)) for a, b in zip(cuts[::2], cuts[1::2])]


def _timed(rng, feature, channel):
    if feature == "position":  # all of the epoch, one word after the other
        cuts = [0.0, *sorted(rng.choice(np.arange(2, 29), rng.integers(0, 3), False)), 30.0]
        words = rng.choice(words_of(feature, channel), len(cuts), False)
        return [(str(w), (a, b)) for w, a, b in zip(words, cuts[:-1], cuts[1:])]
    if feature in SIGNED:  # one of either sign at most
        signs = (1, -1) if rng.random() < 0.5 else (-1, 1)
        return [(s * _value(rng, feature), at) for s, at in zip(signs, _stretches(rng, 2))]
    return [(_value(rng, feature), at) for at in _stretches(rng, 2)]


def drawn_record(seed):
    """A record with channels lost, features unmeasured, events and changes of position."""
    rng = np.random.default_rng([77, seed])
    single = [c for c in CHANNELS if c not in CHANNEL_PAIRS]
    lost = [c for c in single if rng.random() < 0.2]
    found = []
    for channel in CHANNELS:
        if set(lost) & set(CHANNEL_PAIRS.get(channel, (channel,))):
            continue
        if channel == "HR" and "ECG" not in lost:
            continue
        for feature in features_of(channel):
            if feature in TIMED:
                for value, interval in _timed(rng, feature, channel):
                    found.append(measurement(feature, value, channel, interval))
            elif rng.random() < 0.9:
                worded = feature not in DECIMALS
                value = (str(rng.choice(words_of(feature, spoken_as(channel)))) if worded
                         else _value(rng, feature))  # fmt: skip
                found.append(measurement(feature, value, channel))
    for kinds in NONE_OF_THESE.values():  # an epoch without any of them, now and then
        if rng.random() < 0.2:
            for m in found:
                m["value"] = 0.0 if m["feature"] in kinds else m["value"]
    if rng.random() < 0.2:  # a steady heart
        low = [m["value"] for m in found if m["feature"] == "heart_rate_min"]
        for m in found:
            if low and m["feature"] == "heart_rate_max":
                m["value"] = low[0]
    events = []
    for _ in range(rng.integers(0, 4)):
        a, b = np.sort(rng.uniform(0, 30, 2).round(1))
        events.append(
            {"kind": str(rng.choice(list(EVENTS))), "onset": float(a), "end": float(b),
             "continues_from": False, "continues_into": False, "channel": None}
        )  # fmt: skip
    events.sort(key=lambda e: e["onset"])
    scored = list(SCORED)
    return {
        "stage": [None, "W", "N1", "N2", "N3", "R"][rng.integers(6)],
        "events": events,
        "measurements": found,
        "missing": lost,
        "scored": [scored, scored[:1], []][rng.integers(3)],
        "stand_ins": [c for c in single if c not in lost and rng.random() < 0.15],
    }
