"""Desaturations: drawn falls with their onset, nadir and depth; drifts and losses are none."""

import numpy as np
import pytest

from sleeplm_jax.physiology.desaturations import desaturations
from tests.physiology.waves import trace


def saturation(*falls, seconds=600, base=96.0):
    """Falls of (begin, nadir, end in s; depth), linear, in whole per cent at 1 Hz."""
    t, out = np.arange(seconds), np.full(seconds, base)
    for begin, nadir, end, depth in falls:
        out -= depth * np.interp(t, [begin, nadir, end], [0, 1, 0])
    return np.rint(out)


def test_a_drawn_fall_has_its_onset_nadir_and_depth():
    found = desaturations(trace(saturation((100, 125, 145, 6.0)), 1.0, "%"))
    assert len(found) == 1 and found.amplitude[0] == 6
    # Whole per cents: the first step down shows after half a per cent, 2 s.
    np.testing.assert_allclose([found.onset[0], found.peak[0]], [102, 124], atol=2)
    np.testing.assert_allclose(found.end[0], 138, atol=2)  # two thirds made up


def test_three_points_count_and_two_do_not():
    values = saturation((100, 120, 140, 2.0), (300, 320, 340, 3.0), (450, 470, 490, 4.0))
    assert desaturations(trace(values, 1.0)).amplitude.tolist() == [3, 4]
    assert desaturations(trace(values, 1.0), least=4.0).amplitude.tolist() == [4]


def test_falls_in_a_row_are_told_apart():
    falls = [(60 * n + 20, 60 * n + 45, 60 * n + 60, 5.0) for n in range(9)]
    assert len(desaturations(trace(saturation(*falls), 1.0))) == 9


def test_a_step_back_on_the_way_down_ends_no_fall():
    values = saturation((100, 130, 150, 8.0))
    values[112] += 1
    assert desaturations(trace(values, 1.0)).amplitude.tolist() == [8]


def test_a_slow_drift_is_none():
    assert len(desaturations(trace(np.rint(np.linspace(98, 90, 3600)), 1.0))) == 0


@pytest.mark.parametrize("lost", [0.0, 127.0, np.nan])
def test_lost_readings_are_no_fall(lost):
    values = saturation((100, 125, 145, 6.0))
    values[300:340] = lost
    values[112:114] = lost  # bridged
    found = desaturations(trace(values, 1.0))
    assert found.amplitude.tolist() == [6]


def test_a_jump_of_the_probe_is_none():
    values = saturation()
    values[200:203] = 85  # eleven points within a second
    assert len(desaturations(trace(values, 1.0))) == 0


@pytest.mark.parametrize("rate", [4.0, 16.0, 0.5])
def test_the_sampling_rate_does_not_matter(rate):
    values = saturation((100, 125, 145, 6.0), (300, 340, 380, 9.0))
    at = (np.arange(int(600 * rate)) / rate).astype(int)
    found = desaturations(trace(values[at], rate))
    assert found.amplitude.tolist() == [6, 9]
    np.testing.assert_allclose(found.peak, [124, 340], atol=3)


def test_short_and_empty_traces():
    assert desaturations(trace(np.full(30, 96.0), 1.0)) is None
    assert len(desaturations(trace(np.full(600, np.nan), 1.0))) == 0
    assert len(desaturations(trace(np.full(600, 96.0), 1.0))) == 0
