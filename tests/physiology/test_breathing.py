"""Breathing of drawn sensors whose breaths are known."""

import numpy as np
import pytest

from sleeplm_jax.physiology import breathing
from sleeplm_jax.recordings.night import Trace

GOOD = np.ones(6, bool)


def wave(per_minute, rate, seconds=180, amplitude=1.0, noise=0.0, seed=0):
    time = np.arange(int(seconds * rate)) / rate
    values = amplitude * np.sin(2 * np.pi * per_minute / 60 * time)
    values += np.random.default_rng(seed).normal(0, noise, len(time)) if noise else 0
    return Trace(values.astype(np.float32), rate, "a.u.")


@pytest.mark.parametrize("per_minute", [8, 12, 15, 20, 33])
@pytest.mark.parametrize("rate", [10.0, 32.0, 200.0])
def test_the_rate_of_a_sine(per_minute, rate):
    out = breathing.measure_breathing(wave(per_minute, rate, noise=0.05), 6, GOOD)
    assert out["respiratory_rate"][1:5] == pytest.approx(np.full(4, per_minute), abs=0.3)
    assert (out["breath_interval_variability"][1:5] < 0.25).all()
    assert out["breath_amplitude"][1:5] == pytest.approx(np.full(4, 100), abs=5)


def test_an_offset_a_drift_and_the_heart_do_not_count_as_breaths():
    plain = wave(15, 25.0)
    time = np.arange(len(plain.values)) / 25
    drift = 5 * np.sin(2 * np.pi * time / 60) + 0.15 * np.sin(2 * np.pi * 1.1 * time)
    values = (plain.values + drift + 1000).astype(np.float32)
    out = breathing.measure_breathing(Trace(values, 25.0, "a.u."), 6, GOOD)
    assert out["respiratory_rate"][1:5] == pytest.approx(np.full(4, 15), abs=0.5)


def test_variability_is_the_standard_deviation_of_the_drawn_intervals():
    rng = np.random.default_rng(3)
    intervals = rng.normal(4.0, 0.5, 60)
    peaks = np.cumsum(intervals)
    time = np.arange(int(180 * 32)) / 32
    phase = np.interp(time, np.concatenate([[0], peaks]), np.arange(61))
    trace = Trace(np.cos(2 * np.pi * phase).astype(np.float32), 32.0, "a.u.")
    out = breathing.measure_breathing(trace, 6, GOOD)
    for epoch in range(1, 5):
        inside = peaks[(peaks >= 30 * epoch) & (peaks < 30 * epoch + 30)]
        expected = np.diff(inside)
        assert out["respiratory_rate"][epoch] == pytest.approx(60 / expected.mean(), abs=0.6)
        found = out["breath_interval_variability"][epoch]
        assert found == pytest.approx(expected.std(ddof=1), abs=0.2)


def test_an_apnoea_lowers_the_amplitude_and_noise_in_it_is_no_breath():
    trace = wave(15, 32.0, noise=0.02)
    trace.values[60 * 32 : 90 * 32] *= 0.02
    out = breathing.measure_breathing(trace, 6, GOOD)
    assert out["breath_amplitude"][2] < 25
    assert np.isnan(out["respiratory_rate"][2]) or out["respiratory_rate"][2] < 8
    assert out["respiratory_rate"][4] == pytest.approx(15, abs=0.3)


def test_amplitude_follows_the_signal():
    trace = wave(15, 32.0)
    trace.values[90 * 32 : 120 * 32] *= 0.5
    out = breathing.measure_breathing(trace, 6, GOOD)
    assert out["breath_amplitude"][3] == pytest.approx(50, abs=6)


def test_a_sensor_at_one_hertz_is_not_measured():
    assert breathing.measure_breathing(wave(15, 1.0), 6, GOOD) == {}
