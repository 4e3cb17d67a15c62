"""What a statement needs from the model's input, and the filter that drops what it cannot show.

A caption teaches the encoder only what its input shows: SleepLM describes SpO2 that it never sees
and learns to invent it. Here every feature and event names its needs in one table.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass

from sleeplm_jax.config import CHANNEL_PAIRS


@dataclass(frozen=True)
class Need:
    """What a measured feature needs: the channel itself, its amplitude in µV or not, its band."""

    # The feature may be measured on any of these, and needs that one; one of CHANNEL_PAIRS needs
    # all of its channels.
    channels: tuple[str, ...]
    upper: float  # Hz: the input's rate must be at least twice this
    absolute: bool = False  # needs physical amplitude; a night's z-score shows only ratios


_CENTRAL, _FRONTAL, _OCCIPITAL = ("C3", "C4"), ("F3", "F4"), ("O1", "O2")
_EEG = Need(_CENTRAL, 30.0)
_EOG = Need(("EOG-L", "EOG-R"), 30.0)
_BEATS = Need(("ECG",), 20.0)  # a QRS complex has most of its power at 5-20 Hz
_PULSE = Need(("HR",), 0.5)
_SATURATION = Need(("SpO2",), 0.5)
_BREATH = Need(("THX", "ABD", "AF"), 0.7)
_CHIN = Need(("EMG",), 30.0)

FEATURES: dict[str, tuple[Need, ...]] = {
    "delta_power": (Need(_CENTRAL + _FRONTAL, 30.0),),
    "theta_power": (_EEG,),
    "alpha_power": (Need(_CENTRAL + _OCCIPITAL, 30.0),),
    "sigma_power": (_EEG,),
    "beta_power": (_EEG,),
    # Counted by shape, and by sizes in µV that the input shows in the night's own terms only
    # (docs/captions.md). A wave's bandwidth, not that of the muscle that hides it.
    "spindle_count": (Need(_CENTRAL, 17.0),),
    "k_complex_count": (Need(_CENTRAL + _FRONTAL, 4.0),),
    "slow_wave_count": (Need(_CENTRAL + _FRONTAL, 2.0),),
    "slow_wave_share": (Need(_CENTRAL + _FRONTAL, 2.0),),
    "slow_wave_amplitude": (Need(_CENTRAL + _FRONTAL, 2.0, absolute=True),),
    "alpha_share": (Need(_OCCIPITAL, 30.0),),
    "slow_eye_movement_power": (_EOG,),
    "rapid_eye_movement_power": (_EOG,),
    "rapid_eye_movement_count": (Need(("EOG",), 5.0),),
    "slow_eye_movement_share": (Need(("EOG",), 8.0),),
    "blink_count": (Need(("EOG",), 10.0),),
    "heart_rate_min": (_BEATS, _PULSE),
    "heart_rate_max": (_BEATS, _PULSE),
    "heart_rate_mean": (_BEATS, _PULSE),
    "heart_rate_trend": (_BEATS, _PULSE),
    "rmssd": (_BEATS,),
    "spo2_min": (_SATURATION,),
    "spo2_mean": (_SATURATION,),
    "spo2_drop": (_SATURATION,),
    "respiratory_rate": (_BREATH,),
    "breath_interval_variability": (_BREATH,),
    "breath_amplitude": (_BREATH,),
    "flow_flatness": (Need(("AF",), 4.0),),
    "belt_phase": (Need(("belts",), 0.7),),
    "paradox": (Need(("belts",), 0.7),),
    "emg_median_frequency": (_CHIN,),
    "burst_ratio": (_CHIN,),
    "muscle_tone": (_CHIN,),
    "position": (Need(("POS",), 0.5),),
}

_FLOW, _EFFORT, _CORTEX = ("AF",), ("THX", "ABD"), ("C3", "C4")
# One channel of every group must be there. Obstructive and central apnoea differ in the effort;
# leg movements need legs, which are no canonical channel; "other" says nothing that can be seen.
EVENTS: dict[str, tuple[tuple[str, ...], ...] | None] = {
    "obstructive_apnea": (_FLOW, _EFFORT),
    "central_apnea": (_FLOW, _EFFORT),
    "mixed_apnea": (_FLOW, _EFFORT),
    "hypopnea": (_FLOW + _EFFORT,),
    "rera": (_FLOW, _CORTEX),
    "desaturation": (("SpO2",),),
    "arousal": (_CORTEX,),
    "limb_movement": None,
    "periodic_limb_movement": None,
    "artefact": None,
    "other": None,
}
# Without these, "no such event" is no finding.
SCORED = {"arousal": (_CORTEX,), "respiratory": (_FLOW, _EFFORT)}
# The groups of SCORED that an event belongs to; "other" may be of any.
GROUPS_OF_EVENT: dict[str, tuple[str, ...]] = {
    "obstructive_apnea": ("respiratory",),
    "central_apnea": ("respiratory",),
    "mixed_apnea": ("respiratory",),
    "hypopnea": ("respiratory",),
    "rera": ("respiratory", "arousal"),  # a respiratory effort-related arousal is both
    "arousal": ("arousal",),
    "other": tuple(SCORED),
}


@functools.cache
def _held(feature: str, channel: str, rate: float) -> bool:
    """Whether an input of `channel` at `rate` Hz, scaled by the night, holds what `feature` needs.

    A loader asks fifty times a sample.
    """
    return any(
        channel in need.channels and not need.absolute and 2 * need.upper <= rate
        for need in FEATURES.get(feature, ())
    )


def _shown(groups: tuple[tuple[str, ...], ...] | None, present: set[str]) -> bool:
    return groups is not None and all(present & set(group) for group in groups)


def grounded_for(record: dict, channels: Iterable[str], rate: float) -> dict:
    """The part of `record` that an input of `channels` at `rate` Hz, scaled by the night, shows.

    Returns a new record of the same form; applying it twice changes nothing more. Measurements,
    events and "scored" lose what the input cannot show, `missing` the channels that are no input,
    and the stage goes where not one signal besides the position is left. A group of events also
    leaves "scored" when an event of it, or one of kind "other", is scored here but not shown: "no
    respiratory event is scored" would be untrue. A sample with dropped channels passes the
    channels it keeps.
    """
    inputs = set(channels)
    missing = [channel for channel in record["missing"] if channel in inputs]
    present = inputs - set(missing)

    named = present | {pair for pair, of in CHANNEL_PAIRS.items() if present.issuperset(of)}
    hidden = {
        group
        for e in record["events"]
        if not _shown(EVENTS.get(e["kind"]), present)
        for group in GROUPS_OF_EVENT.get(e["kind"], ())
    }
    return {
        **record,
        "stage": record["stage"] if present - {"POS"} else None,
        "events": [e for e in record["events"] if _shown(EVENTS.get(e["kind"]), present)],
        "measurements": [
            m for m in record["measurements"]
            if m["channel"] in named and _held(m["feature"], m["channel"], rate)
        ],
        "missing": missing,
        "scored": [
            name
            for name in record["scored"]
            if _shown(SCORED[name], present) and name not in hidden
        ],
        "stand_ins": [channel for channel in record["stand_ins"] if channel in present],
    }
