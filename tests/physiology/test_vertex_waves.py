"""Vertex waves: short, sharp, single, negative, in both central channels."""

import numpy as np

from sleeplm_jax.physiology.vertex_waves import vertex_waves
from tests.physiology.waves import RATE, heart, k_complex, pink, time, trace

SECONDS = 200
AT = np.arange(15.0, 190.0, 12.0)


def sharp(t, width=0.045, size=90.0):
    return sum(-size * np.exp(-0.5 * ((t - at) / width) ** 2) for at in AT)


def test_drawn_waves_are_found():
    found = vertex_waves(trace(pink(SECONDS) + sharp(time(SECONDS))))
    assert len(found) == len(AT)
    np.testing.assert_allclose(found.peak, AT, atol=0.03)
    assert np.all(found.duration < 0.5)


def test_both_central_channels_must_show_it():
    t = time(SECONDS)
    here, there = trace(pink(SECONDS, seed=1) + sharp(t)), trace(pink(SECONDS, seed=2))
    assert len(vertex_waves(here, there)) == 0
    assert len(vertex_waves(here, trace(pink(SECONDS, seed=2) + 0.8 * sharp(t)))) == len(AT)


def test_positive_wide_and_narrow_waves_are_none():
    t = time(SECONDS)
    assert len(vertex_waves(trace(pink(SECONDS) - sharp(t)))) == 0
    assert len(vertex_waves(trace(pink(SECONDS) + sharp(t, 0.2)))) <= 1  # noise rides on it
    assert len(vertex_waves(trace(pink(SECONDS) + sharp(t, 0.012)))) == 0
    assert len(vertex_waves(trace(pink(SECONDS) + sum(k_complex(t, at) for at in AT)))) <= 1


def test_noise_alpha_trains_and_an_ecg_hold_next_to_none():
    rng, t = np.random.default_rng(1), time(SECONDS)
    for values in (
        15 * rng.standard_normal(len(t)), pink(SECONDS) + 30 * np.sin(2 * np.pi * 10 * t),
        pink(SECONDS) + 60 * np.sin(2 * np.pi * 1.0 * t), pink(SECONDS) + heart(t),
        pink(SECONDS) - heart(t),
    ):
        assert len(vertex_waves(trace(values))) <= 1


def test_flat_short_and_slow_traces():
    assert len(vertex_waves(trace(np.zeros(int(60 * RATE))))) == 0
    assert vertex_waves(trace(pink(5))) is None
    assert vertex_waves(trace(pink(60, rate=32.0), 32.0)) is None
