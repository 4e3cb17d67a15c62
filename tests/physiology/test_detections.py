"""Detections: what of them falls into each epoch, and the one resample before them."""

import numpy as np
import pytest

from sleeplm_jax.physiology.detections import (
    detections,
    joined,
    none_found,
    resampled,
    turning_points,
)
from tests.physiology.waves import time, trace


def test_epochs_count_by_the_peak_and_cover_by_the_second():
    found = detections([10.0, 28.0, 29.0], [11.5, 33.0, 31.0], [10.5, 31.0, 29.5])
    assert found.counts(3).tolist() == [2, 1, 0]
    assert found.density(3).tolist() == [4, 2, 0]
    # The two overlap: 28 to 33 once.
    np.testing.assert_allclose(found.seconds(3), [1.5 + 2.0, 3.0, 0.0])
    assert found.share(3)[0] == pytest.approx(100 * 3.5 / 30)
    assert found.within(1) == [(0.0, 3.0)]


def test_a_detection_longer_than_an_epoch_covers_all_it_crosses():
    np.testing.assert_allclose(detections([20.0], [95.0]).seconds(4), [10, 30, 30, 5])


def test_detections_are_sorted_and_those_in_bad_epochs_go():
    found = detections([70.0, 5.0, 29.5, 200.0], [71.0, 6.0, 30.5, 201.0])
    assert found.onset.tolist() == [5.0, 29.5, 70.0, 200.0]
    left = found.outside(np.array([False, True, False]))
    assert left.onset.tolist() == [5.0, 70.0]  # the one reaches into epoch 1, one lies behind


def test_a_partner_must_be_near():
    here, there = detections([1.0, 5.0, 9.0], [1.2, 5.2, 9.2]), detections([5.05], [5.25])
    assert here.with_partner(there, 0.1).onset.tolist() == [5.0]
    assert len(here.with_partner(none_found(), 0.1)) == 0


def test_medians_are_of_the_epoch():
    found = detections([1.0, 2.0, 3.0, 40.0], [1.1, 2.1, 3.1, 40.1], None, [10, 20, 90, 5])
    np.testing.assert_allclose(found.medians(3), [20, 5, np.nan])


def test_intervals_join_where_they_touch():
    begin, until = joined(np.array([0.0, 1.0, 5.0]), np.array([3.0, 2.0, 6.0]), gap=1.0)
    assert (begin.tolist(), until.tolist()) == ([0.0, 5.0], [3.0, 6.0])


@pytest.mark.parametrize("rate", [128.0, 200.0, 256.0, 500.0, 512.0])
def test_resampling_keeps_waves_and_lets_nothing_alias(rate):
    t = time(60, rate)
    made = resampled(trace(20 * np.sin(2 * np.pi * 13 * t) + 20 * np.sin(2 * np.pi * 60 * t), rate))
    assert made.rate == pytest.approx(100, abs=0.2)
    middle = slice(500, -500)
    wanted = 20 * np.sin(2 * np.pi * 13 * np.arange(len(made.values)) / made.rate)
    # 60 Hz would come back at 40 Hz with 14 µV RMS: under 2 % of it is left.
    left = made.values[middle] - wanted[middle]
    assert np.sqrt(np.mean(left**2)) < 0.5


def test_a_slow_trace_keeps_its_rate_and_gaps_become_silence():
    values = np.full(600, 50.0)
    values[100:200] = np.nan
    made = resampled(trace(values, 64.0))
    assert made.rate == 64.0 and np.all(made.values == 0)


def test_turning_points_alternate():
    turns = turning_points(np.array([0.0, 1, 2, 2, 1, 0, 3]))
    assert turns.tolist() == [3, 5]
