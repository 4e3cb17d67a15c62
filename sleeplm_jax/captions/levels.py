"""SensorLM's three levels of a caption: numbers, changes with times, and words.

Statistical and structural share out what a caption states; nothing is in both. Semantic says
stage, events and a steady position, and puts numbers into words by the thresholds of WORDS, on the
rounded values, so that a word can be recomputed from what the other levels state.
Source of the levels: SensorLM (arXiv 2506.09108), `captioning.py` of its release.
"""

from __future__ import annotations

import math

LEVELS = ("statistical", "structural", "semantic")
WHOLE = [0, 30]

# feature: ((below, word), ...) in rising order; None says nothing. Sources: docs/captions.md.
WORDS: dict[str, tuple[tuple[float, str | None], ...]] = {
    "delta_power": ((40, "low"), (80, None), (math.inf, "high")),
    "alpha_power": ((25, None), (math.inf, "high")),
    "sigma_power": ((15, None), (math.inf, "high")),
    "beta_power": ((20, None), (math.inf, "high")),
    "slow_eye_movement_power": ((60, None), (math.inf, "high")),
    "rapid_eye_movement_power": ((60, None), (math.inf, "high")),
    "alpha_share": ((50, None), (math.inf, "high")),
    "spindle_count": ((1, None), (math.inf, "some")),
    "k_complex_count": ((1, None), (math.inf, "some")),
    "slow_wave_share": ((20, None), (math.inf, "high")),
    "rapid_eye_movement_count": ((1, None), (math.inf, "some")),
    "slow_eye_movement_share": ((50, None), (math.inf, "high")),
    "blink_count": ((1, None), (math.inf, "some")),
    "heart_rate_mean": ((40, "low"), (91, "middle"), (math.inf, "high")),
    "spo2_min": ((90, "low"), (math.inf, "middle")),
    "respiratory_rate": ((12, "low"), (21, "middle"), (math.inf, "high")),
    "breath_interval_variability": ((0.4, "low"), (1.0, None), (math.inf, "high")),
    "breath_amplitude": ((71, "low"), (150, None), (math.inf, "high")),
    "flow_flatness": ((0.8, None), (math.inf, "high")),
    "belt_phase": ((50, "low"), (90, None), (math.inf, "high")),
    "muscle_tone": ((51, "low"), (151, "middle"), (math.inf, "high")),
    "burst_ratio": ((2.0, None), (math.inf, "high")),
}


def word(feature: str, value: float) -> str | None:
    """The word for a stated value; None where the feature has none, or none for this value."""
    return next((w for below, w in WORDS.get(feature, ()) if value < below), None)


def at_level(content: dict | None, kind: str, level: str) -> dict | None:
    """The part of what `record.stated` gave that belongs to a level, or None where none does.

    Raises ValueError for an unknown level.
    """
    if level not in LEVELS:
        raise ValueError(f"caption level {level!r} is none of {LEVELS}")
    if content is None:
        return None
    if kind == "stage_event":
        return content if level == "semantic" else None
    channels = {}
    for channel, said in content["channels"].items():
        kept = {f: _kept(f, value, level) for f, value in said.items()}
        kept = {f: value for f, value in kept.items() if value is not None}
        if kept:
            channels[channel] = kept
    if not channels:
        return None
    return content | {
        "channels": channels,
        "stand_ins": [channel for channel in content["stand_ins"] if channel in channels],
    }


def _kept(feature: str, value, level: str):
    if isinstance(value, list):
        steady = isinstance(value[0][0], str) and [s[1:] for s in value] == [WHOLE]
        return value if level == ("semantic" if steady else "structural") else None
    if level == "semantic":
        return value if isinstance(value, str) else word(feature, value)
    return value if level == "statistical" and not isinstance(value, str) else None
