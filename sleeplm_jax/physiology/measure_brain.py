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
from sleeplm_jax.physiology.slow_waves import slow_waves
from sleeplm_jax.physiology.spindles import spindles
from sleeplm_jax.recordings.night import Trace

CENTRAL, FRONTAL, OCCIPITAL = ("C3", "C4"), ("F3", "F4"), ("O1", "O2")
EEG = CENTRAL + FRONTAL + OCCIPITAL
# Bands beside the centre, which has them all.
BANDS = {**dict.fromkeys(FRONTAL, ("delta_power",)), **dict.fromkeys(OCCIPITAL, ("alpha_power",))}
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
    channel: str, trace: Trace, cuts: np.ndarray, good: np.ndarray, sized: bool
) -> dict[str, np.ndarray]:
    """Features of an EEG per epoch: {feature: [E]}; what its rate or length cannot hold left out.

    cuts float32 [E, N] of epochs.cut for the band powers; `good` bool [E]: a wave that reaches
    into another epoch is not counted. `sized`: the trace is in microvolts. Without that, waves
    that have a size are not looked for.
    """
    epochs = len(good)
    values = spectral.eeg_powers(cuts, trace.rate)
    values = {band: values[band] for band in BANDS.get(channel, values) if band in values}
    slow = resampled(trace)
    if channel in OCCIPITAL:
        share = alpha_share(slow, epochs)
        return values if share is None else values | {"alpha_share": share}
    if not sized or not good.any():
        return values
    if channel in CENTRAL:
        values |= _counted("spindle_count", spindles(slow), good)
    values |= _counted("k_complex_count", k_complexes(slow), good)
    waves = slow_waves(slow)
    if waves is not None:
        waves = waves.outside(~good)
        values |= {
            "slow_wave_count": waves.counts(epochs),
            "slow_wave_share": waves.share(epochs),
            "slow_wave_amplitude": waves.medians(epochs),
        }
    return values


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


def _counted(feature: str, found: Detections | None, good: np.ndarray) -> dict[str, np.ndarray]:
    return {} if found is None else {feature: found.outside(~good).counts(len(good))}
