"""Every feature once more, by other tools: MNE's reader and filters, YASA, numpy, scipy.

`RECOMPUTED` names for each feature the tool, what may differ and in how many epochs. Nothing here
comes from sleeplm_jax: files are read by MNE, bands cut by its FIR filters (ours are Butterworth)
or taken from spectra, peaks found by zero crossings where ours look for extremes and the reverse.

E epochs of 30 s.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.physiology.recomputation_body import (
    belt_phase,
    breath_amplitude,
    breath_interval_variability,
    burst_ratio,
    emg_median_frequency,
    flow_flatness,
    heart,
    largest_change,
    muscle_tone,
    paradox,
    position_seconds,
    respiratory_rate,
    rmssd,
    spo2,
    spo2_drop,
)
from tests.physiology.recomputation_brain import (
    alpha_share,
    blink_count,
    eeg_band,
    eog_band,
    k_complex_count,
    rapid_eye_movement_count,
    slow_eye_movement_share,
    slow_wave,
    spindle_count,
)
from tests.physiology.recomputation_signals import BELTS, EOG


@dataclass(frozen=True)
class Recomputation:
    """How a feature is recomputed, and what has to agree: within `within` (in its unit) or, where
    that is more, `relative` of the value, in `share` of the epochs that hold the feature."""

    tool: str
    channels: tuple[str, ...]  # each of them
    function: Callable
    within: float
    share: float
    why: str  # the two may differ
    relative: float = 0.0
    pair: tuple[str, ...] = ()  # measured together, under the name of `channels`


_ESTIMATOR = "another estimator with other leakage at the bands' edges"
_COUNT = "a wave at the edge of a criterion is one filter's and not the other's"
_PEAKS = "another detector, other edges of a breath"
_EYES = ("EOG-L", "EOG-R")
_WAVES = ("C3", "C4", "F3", "F4")
_ECG = ("ECG",)
RECOMPUTED: dict[str, Recomputation] = {
    **{
        f"{band}_power": Recomputation(
            "MNE `psd_array_multitaper`, 0.5 Hz", channels, eeg_band(band), 3, 0.9, _ESTIMATOR, 0.1
        )
        for band, channels in (
            ("delta", _WAVES), ("theta", ("C3", "C4")), ("alpha", ("C3", "C4", "O1", "O2")),
            ("sigma", ("C3", "C4")), ("beta", ("C3", "C4")),
        )
    },
    **{
        f"{speed}_eye_movement_power": Recomputation(
            "MNE `psd_array_multitaper`, 0.2 Hz", EOG, eog_band(edges), 6.0, 0.9, _ESTIMATOR
        )
        for speed, edges in (("slow", (0.3, 1)), ("rapid", (1, 5)))
    },
    "spindle_count": Recomputation(
        "YASA at the file's rate, sigma envelope by MNE's FIR", ("C3", "C4"), spindle_count, 1, 0.9,
        _COUNT),
    "k_complex_count": Recomputation(
        "zero crossings behind MNE's FIR", _WAVES, k_complex_count, 1, 0.9, _COUNT),
    "slow_wave_count": Recomputation(
        "zero crossings behind MNE's FIR", _WAVES, slow_wave("count"), 1, 0.9, _COUNT, 0.2),
    "slow_wave_share": Recomputation(
        "the same", _WAVES, slow_wave("share"), 5, 0.9, _COUNT, 0.2),
    "slow_wave_amplitude": Recomputation(
        "the same", _WAVES, slow_wave("size"), 10, 0.9, _COUNT, 0.1),
    "alpha_share": Recomputation(
        "numpy's FFT of each half second", ("O1", "O2"), alpha_share, 5, 0.9,
        "windows at the peak's borderline"),
    "rapid_eye_movement_count": Recomputation(
        "YASA at the file's rate", ("EOG",), rapid_eye_movement_count, 1, 0.9, _COUNT, 0.15, _EYES),
    "slow_eye_movement_share": Recomputation(
        "extremes behind MNE's FIR", ("EOG",), slow_eye_movement_share, 10, 0.9, _COUNT, 0, _EYES),
    "blink_count": Recomputation(
        "numpy's extremes behind MNE's FIR", ("EOG",), blink_count, 1, 0.9, _COUNT, 0.15, _EYES),
    **{
        f"heart_rate_{name}": Recomputation(
            "MNE `qrs_detector`, 60/RR", _ECG, heart(name), 0.5, 0.95,
            "another place of the R peak, another moving average")
        for name in ("min", "mean", "max")
    },
    "heart_rate_trend": Recomputation(
        "MNE `qrs_detector`, running extremes", _ECG, largest_change, 1, 0.9,
        "reversals under 5 bpm are passed over differently", 0.1),
    "rmssd": Recomputation(
        "MNE `qrs_detector`, Task Force's formula", _ECG, rmssd, 3, 0.9,
        "the R peak's place to 1-2 ms", 0.1),
    "spo2_min": Recomputation("numpy", ("SpO2",), spo2("min"), 0.01, 1.0, "rounding of the file"),
    "spo2_mean": Recomputation("numpy", ("SpO2",), spo2("mean"), 0.01, 1.0, "rounding of the file"),
    "spo2_drop": Recomputation(
        "scipy `find_peaks`, prominence 2", ("SpO2",), spo2_drop, 0.6, 0.9,
        "falls that follow each other at once"),
    "respiratory_rate": Recomputation(
        "rises through zero behind MNE's FIR", BELTS, respiratory_rate, 1.0, 0.9, _PEAKS),
    "breath_interval_variability": Recomputation(
        "the same", BELTS, breath_interval_variability, 0.3, 0.85, _PEAKS, 0.15),
    "breath_amplitude": Recomputation(
        "standard deviation behind MNE's FIR", BELTS, breath_amplitude, 4, 0.9,
        "the filters' flanks"),
    "flow_flatness": Recomputation(
        "zero crossings, breath by breath", ("AF",), flow_flatness, 0.03, 0.9, _PEAKS),
    "belt_phase": Recomputation(
        "first harmonic of each breath", ("belts",), belt_phase, 15, 0.9, _PEAKS, 0, BELTS[:2]),
    "paradox": Recomputation(
        "the same, breaths over 90 degrees", ("belts",), paradox, 20, 0.85, _PEAKS, 0, BELTS[:2]),
    "emg_median_frequency": Recomputation(
        "MNE `psd_array_multitaper`, cumulated", ("EMG",), emg_median_frequency, 0.5, 0.95,
        "another estimator, no filter's flanks"),
    "burst_ratio": Recomputation(
        "RMS behind MNE's FIR", ("EMG",), burst_ratio, 0.1, 0.9, "the filters' flanks", 0.1),
    "muscle_tone": Recomputation(
        "RMS behind MNE's FIR", ("EMG",), muscle_tone, 5, 0.95, "the filters' flanks", 0.05),
    "position": Recomputation(
        "numpy: seconds of each code", ("POS",), position_seconds, 3, 0.95,
        "stretches under 3 s belong to the one before"),
}
