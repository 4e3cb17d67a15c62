"""Chin EMG and position against analytic signals."""

import numpy as np
import pytest
from scipy import signal

from sleeplm_jax.physiology import muscle
from sleeplm_jax.recordings.night import Trace

GOOD = np.ones(4, bool)


def trace(values, rate):
    return Trace(np.asarray(values, np.float32), rate, "µV")


@pytest.mark.parametrize("rate", [128.0, 256.0, 500.0])
def test_median_frequency_of_sines(rate):
    time = np.arange(int(120 * rate)) / rate
    out = muscle.measure_chin(trace(10 * np.sin(2 * np.pi * 22 * time), rate), 4, GOOD)
    assert out["emg_median_frequency"] == pytest.approx(np.full(4, 22), abs=0.6)
    assert out["burst_ratio"][1:3] == pytest.approx([1, 1], abs=0.02)


def test_median_frequency_of_white_noise_halves_the_band_and_mains_stay_out():
    rate = 200.0
    values = np.random.default_rng(0).standard_normal(int(120 * rate))
    values += 20 * np.sin(2 * np.pi * 50 * np.arange(len(values)) / rate)
    out = muscle.measure_chin(trace(values, rate), 4, GOOD)
    assert out["emg_median_frequency"] == pytest.approx(np.full(4, 20), abs=1.0)


def test_bursts_are_told_from_tone():
    rate = 256.0
    time = np.arange(int(120 * rate)) / rate
    values = np.sin(2 * np.pi * 20 * time)
    burst = (time % 30) < 3  # a tenth of each epoch at four times the amplitude
    out = muscle.measure_chin(trace(np.where(burst, 4 * values, values), rate), 4, GOOD)
    assert out["burst_ratio"] == pytest.approx(np.full(4, 4), abs=0.3)


def test_tone_is_relative_to_the_nights_median():
    rate = 128.0
    values = np.random.default_rng(1).standard_normal(int(120 * rate))
    values[: int(30 * rate)] *= 0.25
    out = muscle.measure_chin(trace(values, rate), 4, GOOD)
    usual = np.median(out["muscle_tone"])
    assert usual == pytest.approx(100, abs=0.01)
    assert out["muscle_tone"][0] == pytest.approx(25, abs=3)
    assert muscle.measure_chin(trace(1000 * values, rate), 4, GOOD)["muscle_tone"] == pytest.approx(
        out["muscle_tone"], rel=1e-3
    )


def test_the_measure_is_the_band_powers_square_root():
    rate = 200.0
    values = np.random.default_rng(2).standard_normal(int(60 * rate))
    out = muscle.measure_chin(trace(values, rate), 2, np.ones(2, bool))
    frequencies, density = signal.periodogram(values.reshape(2, -1), rate)
    inside = (frequencies >= 10) & (frequencies <= 30)
    rms = np.sqrt(density[:, inside].sum(axis=1))
    assert out["muscle_tone"][0] / out["muscle_tone"][1] == pytest.approx(rms[0] / rms[1], rel=0.03)


def test_the_heart_at_the_chin_is_taken_out_and_a_burst_is_not():
    rate, seconds = 256.0, 240
    time = np.arange(int(seconds * rate)) / rate
    rng = np.random.default_rng(5)
    beats = 0.5 + np.cumsum(rng.normal(0.9, 0.03, 260))
    noise = 3 * rng.standard_normal(len(time))
    noise[(time % 30 > 10) & (time % 30 < 12)] *= 5
    qrs = sum(40 * np.exp(-0.5 * ((time - beat) / 0.012) ** 2) for beat in beats)
    good = np.ones(8, bool)
    alone = muscle.measure_chin(trace(noise, rate), 8, good)
    spoilt = muscle.measure_chin(trace(noise + qrs, rate), 8, good)
    mended = muscle.measure_chin(trace(noise + qrs, rate), 8, good, beats)
    # What is left is what the beats' rounding to 4 ms leaves of a complex of 40 µV.
    for name in ("emg_median_frequency", "burst_ratio"):
        left, was = (np.median(np.abs(x[name] - alone[name])) for x in (mended, spoilt))
        assert left < 0.25 * was, (name, left, was)
    # Without anything of the heart in it nothing is lost.
    clean = muscle.measure_chin(trace(noise, rate), 8, good, beats)
    assert clean["burst_ratio"] == pytest.approx(alone["burst_ratio"], rel=0.03)
    tone = muscle.measure_chin(trace(noise * np.where(time < 30, 3, 1), rate), 8, good, beats)
    assert tone["muscle_tone"][0] == pytest.approx(300, rel=0.05)


def test_a_one_hertz_emg_is_not_measured():
    assert muscle.measure_chin(trace(np.ones(120), 1.0), 4, GOOD) == {}


def test_positions_and_their_change():
    codes = np.full(120, 2.0)
    codes[42:] = 1
    codes[70:72] = 0  # two seconds of turning are no position
    codes[90:] = -1
    out = muscle.positions(trace(codes, 1.0), 4)
    assert out[0] == [("supine", 0, 30)]
    assert out[1] == [("supine", 0, 12), ("left", 12, 30)]
    assert out[2] == [("left", 0, 30)]
    assert out[3] == []


def test_position_at_a_fast_rate_with_non_finite_samples():
    codes = np.repeat([4.0, np.nan, 3.0], [35 * 200, 5 * 200, 20 * 200])
    out = muscle.positions(trace(codes, 200.0), 2)
    assert out == [[("upright", 0, 30)], [("upright", 0, 5), ("prone", 10, 30)]]
