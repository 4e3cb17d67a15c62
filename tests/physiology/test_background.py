"""Alpha's share of an epoch, and moments free of muscle."""

import numpy as np
import pytest

from sleeplm_jax.physiology.background import alpha_share, calm
from sleeplm_jax.physiology.detections import detections
from tests.physiology.waves import RATE, pink, spindle, time, trace


@pytest.mark.parametrize("hertz", [8.5, 10.0, 12.0])
def test_alpha_for_part_of_an_epoch_is_that_share(hertz):
    t = time(120)
    # Epochs 0 to 3: none, 10 s, 20 s, all.
    on = ((t > 30) & (t < 40)) | ((t > 60) & (t < 80)) | (t > 90)
    alpha = np.where(on, 25 * np.sin(2 * np.pi * hertz * t), 0)
    share = alpha_share(trace(pink(120, 6.0) + alpha), 4)
    # A window of 2 s shows alpha from about its middle on: a second at either edge.
    np.testing.assert_allclose(share, [0, 33, 67, 100], atol=6)


def test_other_rhythms_and_noise_are_no_alpha():
    t, rng = time(120), np.random.default_rng(0)
    for values in (
        25 * np.sin(2 * np.pi * 6 * t), 25 * np.sin(2 * np.pi * 15 * t),
        60 * np.sin(2 * np.pi * 1 * t), 0 * t,
    ):
        assert np.max(alpha_share(trace(values + pink(120, 6.0)), 4)) <= 10
    assert np.max(alpha_share(trace(20 * rng.standard_normal(len(t))), 4)) <= 10


def test_spindles_are_left_out_where_they_are_known():
    t = time(60)
    at = np.arange(3.0, 58.0, 4.0)
    values = trace(pink(60, 5.0) + sum(spindle(t, a, 1.5, 12.0, 60.0) for a in at))
    found = detections(at - 0.75, at + 0.75)
    assert np.max(alpha_share(values, 2, found)) < 15 < np.max(alpha_share(values, 2))


def test_epochs_behind_the_trace_are_unknown():
    share = alpha_share(trace(pink(45)), 2)
    assert np.isfinite(share[0]) and np.isnan(share[1])
    assert alpha_share(trace(pink(45, rate=32.0), 32.0), 1) is None


def test_what_lies_under_muscle_is_dropped():
    t, rng = time(60), np.random.default_rng(0)
    values = pink(60) + np.where((t > 20) & (t < 24), 40 * rng.standard_normal(len(t)), 0)
    found = detections([10.0, 22.0, 40.0], [11.0, 23.0, 41.0])
    assert calm(trace(values), found).onset.tolist() == [10.0, 40.0]
    assert len(calm(trace(np.zeros(int(60 * RATE))), found)) == 3
