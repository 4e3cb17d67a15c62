"""Slow waves: AASM's band and amplitude, on drawn waves."""

import numpy as np

from sleeplm_jax.physiology.slow_waves import slow_waves
from tests.physiology.waves import RATE, heart, pink, time, trace


def train(hertz, size, seconds=60):
    return trace(size / 2 * np.sin(2 * np.pi * hertz * time(seconds)) + pink(seconds, 3.0))


def test_every_wave_of_a_train_is_found_with_its_size_and_frequency():
    found = slow_waves(train(1.0, 120.0))
    assert 55 <= len(found) <= 60  # the first and last are cut off
    np.testing.assert_allclose(np.median(found.frequency), 1.0, atol=0.05)
    np.testing.assert_allclose(np.median(found.amplitude), 120, rtol=0.05)
    assert found.seconds(2).sum() > 54


def test_amplitude_and_frequency_have_aasms_edges():
    assert len(slow_waves(train(1.0, 65.0))) == 0  # under 75 µV
    assert len(slow_waves(train(0.25, 150.0))) <= 1  # under 0.5 Hz
    assert len(slow_waves(train(3.5, 150.0))) <= 1  # over 2 Hz


def test_the_negative_peak_is_where_it_was_drawn():
    t = time(60)
    wave = -100 * np.exp(-0.5 * ((t - 30) / 0.2) ** 2)
    wave += 70 * np.exp(-0.5 * ((t - 30.6) / 0.25) ** 2)
    found = slow_waves(trace(wave + pink(60, 3.0)))
    assert len(found) == 1
    np.testing.assert_allclose(found.peak, 30, atol=0.1)


def test_waves_under_muscle_are_not_counted():
    t, rng = time(120), np.random.default_rng(0)
    values = 60 * np.sin(2 * np.pi * t) + pink(120, 3.0)
    moving = (t > 40) & (t < 60)
    values = values + np.where(moving, 40 * rng.standard_normal(len(t)), 0)
    found = slow_waves(trace(values))
    assert not np.any((found.peak > 41) & (found.peak < 59))
    assert len(found) > 80


def test_noise_an_ecg_and_nothing_hold_none():
    rng = np.random.default_rng(1)
    assert len(slow_waves(trace(15 * rng.standard_normal(int(300 * RATE))))) == 0
    assert len(slow_waves(trace(pink(300, 5.0) + heart(time(300))))) == 0
    assert len(slow_waves(trace(np.zeros(int(60 * RATE))))) == 0
    assert slow_waves(trace(pink(10))) is None
    assert slow_waves(trace(pink(60, rate=32.0), 32.0)) is None
