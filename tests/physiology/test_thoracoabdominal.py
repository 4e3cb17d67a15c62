"""Thorax against abdomen: drawn phases come back, signs turn them over, rest has none."""

import numpy as np
import pytest

from sleeplm_jax.physiology.thoracoabdominal import belt_phase, epoch_phase, paradox
from tests.physiology.waves import time, trace

RATE, SECONDS = 16.0, 300


def belts(degrees, hertz=0.25, noise=0.02, thorax=1.0, abdomen=1.0):
    t = time(SECONDS, RATE)
    rng = np.random.default_rng(0)
    angle = 2 * np.pi * hertz * t
    one = thorax * np.sin(angle + np.radians(degrees)) + noise * rng.standard_normal(len(t))
    two = abdomen * np.sin(angle) + noise * rng.standard_normal(len(t))
    return trace(one, RATE, ""), trace(two, RATE, "")


@pytest.mark.parametrize("degrees", [-120, -30, 0, 60, 90, 150])
@pytest.mark.parametrize("hertz", [0.2, 0.4])
def test_a_drawn_phase_is_measured(degrees, hertz):
    breaths = belt_phase(*belts(degrees, hertz, abdomen=40.0))
    assert abs(len(breaths.phase) - SECONDS * hertz) <= 2
    np.testing.assert_allclose(breaths.phase[2:-2], degrees, atol=4)
    np.testing.assert_allclose(epoch_phase(breaths, 10), abs(degrees), atol=4)


def test_a_belt_known_to_be_inverted_is_turned_over():
    one, two = belts(160)
    assert np.median(np.abs(belt_phase(one, two).phase)) == pytest.approx(160, abs=3)
    assert np.median(np.abs(belt_phase(one, two, thorax_sign=-1).phase)) == pytest.approx(20, abs=3)


def test_a_stretch_of_paradox_has_its_time():
    t = time(SECONDS, RATE)
    angle = 2 * np.pi * 0.25 * t
    lead = np.where((t > 100) & (t < 140), np.radians(170), 0)
    one, two = trace(np.sin(angle + lead), RATE), trace(np.sin(angle), RATE)
    found = paradox(belt_phase(one, two))
    assert len(found) == 1
    np.testing.assert_allclose([found.onset[0], found.end[0]], [100, 140], atol=5)
    np.testing.assert_allclose(found.amplitude, 170, atol=10)
    assert len(paradox(belt_phase(*belts(60)))) == 0


def test_at_rest_there_is_no_phase():
    t = time(SECONDS, RATE)
    still = np.where((t > 120) & (t < 180), 0.001, 1.0)
    one, two = belts(0)
    rests = trace(one.values * still, RATE), trace(two.values * still, RATE)
    found = epoch_phase(belt_phase(*rests), 10)
    # The band's own ringing reaches a breath into the rest.
    assert np.isnan(found[[4, 5]]).any() and np.isfinite(found[[0, 1, 8, 9]]).all()
    nothing = belt_phase(trace(np.zeros(len(t)), RATE), trace(np.zeros(len(t)), RATE))
    assert not np.isfinite(nothing.phase).any()


def test_two_rates_meet_and_slow_belts_do_not():
    one, _ = belts(60)
    other = trace(np.sin(2 * np.pi * 0.25 * time(SECONDS, 32.0)), 32.0)
    np.testing.assert_allclose(np.median(belt_phase(one, other).phase), 60, atol=4)
    assert belt_phase(trace(np.zeros(300), 1.0), one) is None
