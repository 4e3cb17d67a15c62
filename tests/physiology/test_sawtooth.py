"""Sawtooth trains: 2-6 Hz for 2 s and longer above the background; not alpha, delta, noise."""

import numpy as np
import pytest
from scipy import signal

from sleeplm_jax.physiology.sawtooth import sawtooth_trains
from tests.physiology.waves import RATE, heart, pink, time, trace

SECONDS = 300
AT = np.arange(30.0, 280.0, 50.0)


@pytest.mark.parametrize("hertz", [2.5, 3.5, 5.0])
def test_drawn_trains_are_found_with_time_and_frequency(hertz):
    t = time(SECONDS)
    on = sum(((t >= at) & (t < at + 4)).astype(float) for at in AT)
    wave = 25 * signal.sawtooth(2 * np.pi * hertz * t, 0.7) * on
    found = sawtooth_trains(trace(pink(SECONDS, 7.0) + wave))
    assert len(found) == len(AT)
    np.testing.assert_allclose(found.onset + found.duration / 2, AT + 2, atol=0.5)
    np.testing.assert_allclose(np.median(found.frequency), hertz, rtol=0.15)


def test_one_that_is_too_short_is_none():
    t = time(SECONDS)
    wave = np.where((t > 100) & (t < 100.7), 40 * np.sin(2 * np.pi * 3 * t), 0)
    assert len(sawtooth_trains(trace(pink(SECONDS, 7.0) + wave))) == 0


def test_other_rhythms_noise_and_an_ecg_are_none():
    t, rng = time(SECONDS), np.random.default_rng(0)
    on = (t % 50 > 30) & (t % 50 < 34)
    for values in (
        np.where(on, 40 * np.sin(2 * np.pi * 10 * t), 0) + pink(SECONDS),  # alpha
        np.where(on, 60 * np.sin(2 * np.pi * 1.0 * t), 0) + pink(SECONDS),  # delta
        20 * rng.standard_normal(len(t)), pink(SECONDS), pink(SECONDS) + heart(t),
        25 * np.sin(2 * np.pi * 4 * t) + pink(SECONDS),  # theta all night stands out of nothing
    ):
        assert len(sawtooth_trains(trace(values))) == 0


def test_flat_and_short_traces():
    assert len(sawtooth_trains(trace(np.zeros(int(60 * RATE))))) == 0
    assert sawtooth_trains(trace(pink(10))) is None
