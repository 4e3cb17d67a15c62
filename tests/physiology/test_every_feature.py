"""Every feature of the registry against a signal whose truth is known, through `measure_night`.

Nights of 40 epochs drawn from formulas; `TRUTHS` has a row for each feature. What one feature does
in noise, at borders and with lost channels is in the tests of its own module.
"""

import dataclasses
import functools

import numpy as np
import pytest

from sleeplm_jax.physiology.measure import UNITS, measure_night
from sleeplm_jax.recordings.night import Trace

from .nights import drawn_night
from .test_heart_measures import drawn_ecg
from .test_recomputed import WORDS, measured
from .waves import k_complex, pink, spindle, time, trace

EPOCHS, SLOW = 40, 16.0
SECONDS = 30 * EPOCHS
# What is drawn goes through its truths epoch by epoch.
STEP = np.arange(EPOCHS) % 4
DRAWN = STEP > 0


def per_sample(values, rate=128.0):
    return np.repeat(np.asarray(values, float), int(30 * rate))


def at(first=6.0, apart=6.0):
    """Times of STEP things in each epoch."""
    return [30 * e + first + apart * k for e in range(EPOCHS) for k in range(STEP[e])]


def sines(t, parts):
    return sum(np.sqrt(2) * size * np.sin(2 * np.pi * hertz * t) for hertz, size in parts)


@functools.cache
def eeg():
    """C3: sines of five bands; C4: spindles; F3: trains of slow waves; O1: alpha; F4: K."""
    t = time(SECONDS)
    # RMS of 2, 6, 10, 14 and 20 Hz in µV: powers 100, 36, 25, 16, 9 of 186.
    bands = sines(t, ((2.0, 10), (6.0, 6), (10.0, 5), (14.0, 4), (20.0, 3)))
    inside = (t % 30 >= 5) & (t % 30 < 5 + 5 * per_sample(STEP))
    noise = {c: pink(SECONDS, 8, seed=n) for n, c in enumerate(("C4", "F3", "F4", "O1"))}
    return measure_night(drawn_night(EPOCHS, traces={
        "C3": trace(bands),
        "C4": trace(noise["C4"] + sum(spindle(t, x, 1.2, 13.0, 60.0) for x in at())),
        "F3": trace(noise["F3"] + 60 * np.sin(2 * np.pi * t) * inside),
        "F4": trace(noise["F4"] + sum(k_complex(t, x) for x in at())),
        "O1": trace(noise["O1"] + 30 * np.sin(2 * np.pi * 10 * t) * inside),
        **eyes(0),
    }))


def eyes(movement):
    return {
        "EOG-L": trace(movement + pink(SECONDS, 3, seed=1)),
        "EOG-R": trace(-movement + pink(SECONDS, 3, seed=2)),
    }


@functools.cache
def moving_eyes(what):
    t = time(SECONDS)
    if what == "sines":  # powers 9, 4 and 1
        movement = sines(t, ((0.6, 30), (2.0, 20), (10.0, 10)))
    elif what == "rolling":
        movement = 60 * np.cos(2 * np.pi * 0.4 * t) * (
            (t % 30 >= 5) & (t % 30 < 5 + 5 * per_sample(STEP)))
    elif what == "blinks":
        movement = sum(-150 * np.exp(-0.5 * ((t - x) / 0.07) ** 2) for x in at())
    else:
        from scipy import signal

        gaze = sum(120 * (-1) ** n / (1 + np.exp(-np.clip((t - x) / 0.012, -50, 50)))
                   for n, x in enumerate(at()))
        movement = signal.lfilter(*signal.butter(1, 0.3, "highpass", fs=128.0), gaze)
    return measure_night(drawn_night(EPOCHS, traces=eyes(movement)))


@functools.cache
def body():
    """Heart, oxygen, breathing, chin and position, each with its own truth an epoch."""
    t = np.arange(int(SECONDS * SLOW)) / SLOW
    rng = np.random.default_rng(0)
    # Heart: intervals that alternate by 40 ms about a second, and quicken in every fourth epoch.
    beats = [0.5]
    while beats[-1] < SECONDS - 1:
        epoch, within = divmod(beats[-1], 30)
        faster = 60 + 12 * np.clip((within - 10) / 8, 0, 1) * (epoch % 4 == 3)
        beats.append(beats[-1] + 60 / faster + (0.02 if len(beats) % 2 else -0.02))
    # Oxygen: falls of 4, 5 and 6 points from the tenth to the twentieth second.
    seconds = np.arange(SECONDS)
    depth = np.repeat(np.where(DRAWN, 3 + STEP, 0), 30)
    spo2 = 96 - np.round(depth * np.interp(seconds % 30, (0, 10, 20, 29), (0, 0, 1, 0)))
    # Breaths of 3.2 s and, every other breath, 4 s; half as deep in every fourth epoch.
    phase = np.interp(t, np.cumsum(np.r_[0, np.tile([3.2, 4.0], 200)]), np.arange(401))
    depth = np.where(np.repeat(STEP == 2, int(30 * SLOW)), 0.5, 1.0)
    # The abdomen lags by 40 degrees, in 8 s of every fourth epoch by 180.
    lag = np.where((np.repeat(STEP, int(30 * SLOW)) == 3) & (t % 30 >= 11) & (t % 30 < 23), 180, 40)
    move = depth * np.cos(2 * np.pi * phase)
    abdomen = depth * np.cos(2 * np.pi * phase - np.radians(lag))
    # Flow of half sines: 0.72 of their peak above its fifth, in pressure squared.
    flow = np.sin(2 * np.pi * 0.25 * t)
    fast = np.arange(SECONDS * 256) / 256
    chin = np.sin(2 * np.pi * 22 * fast) * np.repeat(1 + STEP, 30 * 256)
    burst = fast % 30 < 3
    codes = np.repeat(np.where(DRAWN, STEP, 0), 30)
    codes = np.where((seconds % 30 >= 20) & np.repeat(DRAWN, 30), 4, codes)
    traces = {
        "ECG": drawn_ecg(beats, SECONDS, noise=0.005),
        "SpO2": trace(spo2, 1.0, "%"),
        "THX": trace(move + 0.005 * rng.standard_normal(len(t)), SLOW),
        "ABD": trace(abdomen + 0.005 * rng.standard_normal(len(t)), SLOW),
        "AF": trace(np.sign(flow) * flow**2, SLOW),
        "EMG": Trace((chin * np.where(burst, 4, 1)).astype(np.float32), 256.0, "µV"),
        "POS": trace(codes, 1.0, ""),
    }
    night = drawn_night(EPOCHS, traces=traces)
    nasal = dataclasses.replace(night.channels["AF"], transducer="nasal_pressure")
    return measure_night(dataclasses.replace(night, channels={**night.channels, "AF": nasal}))


@functools.cache
def flowing():
    """Nasal pressure of half sines, its belts holding the volume."""
    t = np.arange(int(SECONDS * SLOW)) / SLOW
    flow = np.sin(2 * np.pi * 0.25 * t)
    belt = trace(-np.cos(2 * np.pi * 0.25 * t), SLOW)
    night = drawn_night(EPOCHS, traces={
        "AF": trace(np.sign(flow) * flow**2, SLOW), "THX": belt, "ABD": belt})
    nasal = dataclasses.replace(night.channels["AF"], transducer="nasal_pressure")
    return measure_night(dataclasses.replace(night, channels={**night.channels, "AF": nasal}))


def positions():
    out = np.zeros((EPOCHS, len(WORDS)))
    out[np.arange(EPOCHS), np.where(DRAWN, STEP, 0)] += np.where(DRAWN, 20, 30)
    out[DRAWN, 4] += 10
    return out


ALL = np.ones(EPOCHS, bool)
POWERS = {"delta": 100, "theta": 36, "alpha": 25, "sigma": 16, "beta": 9}
# feature: (night, channel, truth in each epoch, tolerance, epochs, why no nearer). Left out are
# epochs that hold none (an amplitude), that follow a faster one, and noise alone: YASA's thresholds
# are relative, and a ripple in half an hour is a spindle to it.
TRUTHS = {
    **{f"{band}_power": (eeg, "C3", 100 * power / 186, 0.5, ALL, "what is left of five lines' feet")
       for band, power in POWERS.items()},
    "spindle_count": (eeg, "C4", STEP, 0, DRAWN, ""),
    "k_complex_count": (eeg, "F4", STEP, 0, ALL, ""),
    "slow_wave_count": (eeg, "F3", 5 * STEP, 1, ALL, "a wave cut by a train's end"),
    "slow_wave_share": (eeg, "F3", 500 * STEP / 30, 5, ALL, "the same"),
    "slow_wave_amplitude": (eeg, "F3", 120, 15, DRAWN, "noise of 8 µV"),
    "alpha_share": (eeg, "O1", 500 * STEP / 30, 7, ALL, "2-s windows at either end"),
    "slow_eye_movement_power": (lambda: moving_eyes("sines"), "EOG-L", 100 * 9 / 14, 2, ALL,
                                "noise"),
    "rapid_eye_movement_power": (lambda: moving_eyes("sines"), "EOG-R", 100 * 4 / 14, 2, ALL,
                                 "noise"),
    "rapid_eye_movement_count": (lambda: moving_eyes("saccades"), "EOG", STEP, 0, ALL, ""),
    "slow_eye_movement_share": (lambda: moving_eyes("rolling"), "EOG", 500 * STEP / 30, 10, ALL,
                                "a half wave of 1.25 s at either end"),
    "blink_count": (lambda: moving_eyes("blinks"), "EOG", STEP, 0, ALL, ""),
    "heart_rate_min": (body, "ECG", 60, 1.0, STEP < 3, "the alternation's part within 4 s"),
    "heart_rate_max": (body, "ECG", np.where(STEP == 3, 72, 60), 1.5, DRAWN, "the same"),
    "heart_rate_mean": (body, "ECG", np.where(STEP == 3, 60 + 12 * (4 + 12) / 30, 60), 0.7, ALL,
                        "beats at a border"),
    "heart_rate_trend": (body, "ECG", 12, 1.5, STEP == 3, "the same"),
    "rmssd": (body, "ECG", 40, 4, STEP < 3, "R peaks to 2 ms"),
    "spo2_min": (body, "SpO2", 96 - np.where(DRAWN, 3 + STEP, 0), 0, ALL, ""),
    "spo2_mean": (body, "SpO2", 96 - np.where(DRAWN, 3 + STEP, 0) * 0.32, 0.3, ALL,
                  "readings of whole points"),
    "spo2_drop": (body, "SpO2", 3 + STEP, 0, DRAWN, ""),
    "respiratory_rate": (body, "THX", 60 / 3.6, 0.5, ALL, "odd numbers of breaths in an epoch"),
    "breath_interval_variability": (body, "THX", 0.43, 0.12, ALL, "seven or eight of two lengths"),
    "breath_amplitude": (body, "ABD", np.where(STEP == 2, 50, 100), 10, STEP != 3,
                         "the filter at an epoch's border; it is 1 where the belt turns over"),
    "flow_flatness": (flowing, "AF", 0.72, 0.03, ALL, "26 samples an inspiration"),
    "belt_phase": (body, "belts", 40, 5, STEP < 3, "two belts' noise"),
    "paradox": (body, "belts", 180, 25, STEP == 3, "a breath at either end"),
    "emg_median_frequency": (body, "EMG", 22, 0.3, ALL, "bins of 0.5 Hz"),
    "burst_ratio": (body, "EMG", 4, 0.2, ALL, "the filter at a burst's ends"),
    "muscle_tone": (body, "EMG", 100 * (1 + STEP) / 2.5, 2, ALL, "the filter at an epoch's border"),
    "position": (body, "POS", positions(), 0, ALL, ""),
}


def test_every_feature_has_a_truth():
    assert set(TRUTHS) == set(UNITS)


@pytest.mark.parametrize("feature", UNITS)
def test_a_drawn_night_gives_its_truth(feature):
    night, channel, truth, slack, where, _ = TRUTHS[feature]
    inner = where & (np.arange(EPOCHS) > 0) & (np.arange(EPOCHS) < EPOCHS - 1)
    found = measured(night(), feature, channel)
    truth = np.broadcast_to(truth if np.ndim(truth) else np.full(EPOCHS, truth), found.shape)
    assert inner.sum() >= 9
    np.testing.assert_allclose(found[inner], truth[inner], rtol=0, atol=slack + 1e-6)
