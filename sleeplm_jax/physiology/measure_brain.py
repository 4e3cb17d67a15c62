"""What the detectors find in EEG and EOG, per 30-s epoch: waves, rhythms, movements of the eyes.

Each feature is looked for where AASM finds it largest and where it is worth its time: spindles over
the centre, K complexes and slow waves over centre and front, alpha over the occiput. Vertex waves
and sawtooth trains are not measured: docs/detectors.md says how few of them are found.

E epochs.
"""

from __future__ import annotations

import numpy as np

from sleeplm_jax.physiology import spectral
from sleeplm_jax.physiology.background import alpha_share
from sleeplm_jax.physiology.detections import Detections, resampled
from sleeplm_jax.physiology.eye_movements import blinks, rapid_eye_movements, slow_eye_movements
from sleeplm_jax.physiology.k_complexes import k_complexes
from sleeplm_jax.physiology.ocular import not_of_the_eyes
from sleeplm_jax.physiology.slow_waves import slow_waves
from sleeplm_jax.physiology.spindles import spindles
from sleeplm_jax.recordings.night import Trace

CENTRAL, FRONTAL, OCCIPITAL = ("C3", "C4"), ("F3", "F4"), ("O1", "O2")
EEG = CENTRAL + FRONTAL + OCCIPITAL
# Bands beside the centre, which has them all.
BANDS = {**dict.fromkeys(FRONTAL, ("delta_power",)), **dict.fromkeys(OCCIPITAL, ("alpha_power",))}
SLOW_WAVE_SLEEP = 20.0  # % of the epoch: AASM's N3
UNITS = {
    **{band: "%" for band in (*spectral.EEG_BANDS, *spectral.EOG_BANDS)},
    "spindle_count": "count",
    "k_complex_count": "count",
    "slow_wave_count": "count",
    "slow_wave_share": "% of epoch",
    "slow_wave_amplitude": "µV",
    "alpha_share": "% of epoch",
    "rapid_eye_movement_count": "count",
    "slow_eye_movement_share": "% of epoch",
    "blink_count": "count",
}


def measure_eeg(
    channel: str,
    trace: Trace,
    good: np.ndarray,
    sized: bool,
    eyes: tuple[Trace, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """Features of an EEG per epoch: {feature: [E]}; what its rate or length cannot hold left out.

    `good` bool [E]: a wave that reaches into another epoch is not counted. `sized`: the trace is in
    microvolts, of the derivation that the sizes are defined on. Without that, waves that have a
    size are not looked for. `eyes`: what `ocular.eyes_against` gave, and in which epochs (bool
    [E]); waves of theirs are not counted, and K complexes only where they can be told from them.
    """
    epochs = len(good)
    slow = resampled(trace)
    values = spectral.eeg_powers(*spectral.high_passed(slow, good, spectral.EEG_HIGH_PASS))
    values = {band: values[band] for band in BANDS.get(channel, values) if band in values}
    if channel in OCCIPITAL:
        share = alpha_share(slow, epochs)
        return values if share is None else values | {"alpha_share": share}
    if not sized or not good.any():
        return values
    if channel in CENTRAL:
        values |= _counted("spindle_count", spindles(slow), good)
    moved, seen = eyes if eyes is not None else (None, np.zeros(epochs, bool))
    if seen.any():
        counted = _counted("k_complex_count", k_complexes(slow), good, moved)
        values |= {name: np.where(seen, count, np.nan) for name, count in counted.items()}
    waves = slow_waves(slow)
    if waves is not None:
        waves = not_of_the_eyes(waves.outside(~good), moved)
        values |= {
            "slow_wave_count": waves.counts(epochs),
            "slow_wave_share": waves.share(epochs),
            "slow_wave_amplitude": waves.medians(epochs),
        }
        if "k_complex_count" in values:  # none can be told in a train of slow waves
            among = values["slow_wave_share"] >= SLOW_WAVE_SLEEP
            values["k_complex_count"] = np.where(among, np.nan, values["k_complex_count"])
    return values


def eog_powers(trace: Trace, good: np.ndarray) -> dict[str, np.ndarray]:
    """Slow and rapid share of an EOG's power per epoch: {feature: [E]}; {} where rate < 60 Hz."""
    slow = resampled(trace)
    return spectral.eog_powers(*spectral.high_passed(slow, good, spectral.EOG_HIGH_PASS))


def measure_eyes(left: Trace, right: Trace, good: np.ndarray) -> dict[str, np.ndarray]:
    """Eye movements per epoch of both EOGs in µV, `good` bool [E] in both: {feature: [E]}."""
    if not good.any():
        return {}
    left, right = resampled(left), resampled(right)
    values = _counted("rapid_eye_movement_count", rapid_eye_movements(left, right), good)
    slow = slow_eye_movements(left, right)
    if slow is not None:
        values["slow_eye_movement_share"] = slow.outside(~good).share(len(good))
    return values | _counted("blink_count", blinks(left, right), good)


def _counted(
    feature: str, found: Detections | None, good: np.ndarray, eyes: Trace | None = None
) -> dict[str, np.ndarray]:
    if found is None:
        return {}
    return {feature: not_of_the_eyes(found.outside(~good), eyes).counts(len(good))}
