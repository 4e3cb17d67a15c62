"""Beats, heart rate, trends and RMSSD of drawn ECGs whose beats are known."""

import numpy as np
import pytest

from sleeplm_jax.physiology import heart
from sleeplm_jax.recordings.night import Trace


def drawn_ecg(beats, seconds, rate=256.0, noise=0.02, sign=1.0, seed=0):
    """An ECG in mV: a QRS of 25 ms and a T wave at every beat, baseline wander, noise."""
    time = np.arange(int(seconds * rate)) / rate
    values = np.random.default_rng(seed).normal(0, noise, len(time))
    values += 0.1 * np.sin(2 * np.pi * 0.25 * time)
    for beat in beats:
        a, b = np.searchsorted(time, (beat - 0.2, beat + 0.6))
        t = time[a:b] - beat
        qrs = np.exp(-0.5 * (t / 0.012) ** 2) - 0.2 * np.exp(-0.5 * ((t - 0.035) / 0.015) ** 2)
        values[a:b] += sign * (qrs + 0.25 * np.exp(-0.5 * ((t - 0.28) / 0.05) ** 2))
    return Trace(values.astype(np.float32), rate, "mV")


def beats_of(intervals):
    return 0.4 + np.concatenate([[0], np.cumsum(intervals)])


@pytest.mark.parametrize("rate, sign", [(256.0, 1), (128.0, -1), (500.0, 1)])
def test_beats_are_found_within_a_few_milliseconds(rate, sign):
    true = beats_of(0.85 + 0.05 * np.sin(np.arange(130)))
    found = heart.beat_times(drawn_ecg(true, true[-1] + 1, rate, sign=sign))
    inner = true[2:-2]
    nearest = found[np.abs(found[:, None] - inner).argmin(axis=0)]
    assert np.abs(nearest - inner).max() < 0.006
    assert len(found) <= len(true)


def test_a_beat_a_second_is_60_bpm_with_no_variability():
    times = heart.beat_times(drawn_ecg(beats_of(np.ones(119)), 120))
    curve = heart.curve_from_beats(times, 4)
    assert curve[1:3] == pytest.approx(np.full((2, 120), 60), abs=0.5)
    assert heart.rmssd(times, 4)[1:3] == pytest.approx([0, 0], abs=4)  # ms: jitter of the noise


def test_rmssd_of_alternating_intervals_is_their_difference():
    times = beats_of(np.tile([0.9, 0.95], 60))
    assert heart.rmssd(times, 3) == pytest.approx([50] * 3, abs=1e-6)
    through_ecg = heart.rmssd(heart.beat_times(drawn_ecg(times, 120)), 3)
    assert through_ecg[1] == pytest.approx(50, abs=3)


def test_an_ectopic_beat_and_a_pause_stay_out_of_rmssd_and_of_the_extremes():
    intervals = np.ones(100)
    intervals[40:42] = 0.5, 1.5
    times = beats_of(intervals)
    assert heart.rmssd(times, 3) == pytest.approx([0] * 3, abs=1e-6)
    curve = heart.curve_from_beats(times, 3)
    assert curve.min() == pytest.approx(60) and curve.max() == pytest.approx(60)


def test_an_epoch_without_beats_has_no_rate():
    times = np.concatenate([np.arange(0.5, 30), np.arange(60.5, 90)])
    curve = heart.curve_from_beats(times, 3)
    assert np.isfinite(curve[[0, 2]]).all() and np.isnan(curve[1]).all()


def test_breathing_does_not_pass_for_a_trend_but_a_ramp_does():
    def trends_of(rate_at):
        beats, phase = [0.0], 0.0
        for t in np.arange(0, 30, 0.001):  # beats where the integrated rate passes a whole number
            phase += rate_at(t) / 60 * 0.001
            if phase >= len(beats):
                beats.append(t)
        return heart.trends(heart.curve_from_beats(np.array(beats), 1)[0])

    assert trends_of(lambda t: 60 + 4 * np.sin(2 * np.pi * t / 4)) == []
    (ramp,) = trends_of(lambda t: 60 + 12 * np.clip((t - 10) / 8, 0, 1))
    change, start, end = ramp
    assert change == pytest.approx(12, abs=1)
    assert (start, end) == (pytest.approx(10, abs=1.5), pytest.approx(18, abs=1.5))
    rise, fall = trends_of(lambda t: 60 + 15 * np.exp(-0.5 * ((t - 15) / 3) ** 2))
    assert rise[0] > 10 and fall[0] < -10 and rise[2] <= fall[1]
    assert rise[2] == pytest.approx(15, abs=1.5)


def test_only_the_largest_rise_and_fall_are_kept():
    knots = [60, 66, 60, 75, 55, 61]
    curve = np.interp(np.linspace(0, 5, 120), range(6), knots)
    rise, fall = heart.trends(curve)
    assert rise[0] == pytest.approx(15, abs=0.5) and fall[0] == pytest.approx(-20, abs=0.5)


def test_a_heart_rate_channel_gives_the_same_curve():
    values = np.full(90, 72.0, np.float32)
    values[30:60] = 0  # the sensor's "no value"
    curve = heart.curve_from_channel(Trace(values, 1.0, "bpm"), 3)
    assert curve[0] == pytest.approx(np.full(120, 72)) and np.isnan(curve[1]).all()


def test_saturation_of_a_drawn_desaturation():
    values = np.full(90, 96.0, np.float32)
    values[40:50] = np.linspace(96, 87, 10)
    values[60:90] = 0  # probe off
    lowest, mean = heart.saturation(Trace(values, 1.0, "%"), 3)
    assert lowest[:2].tolist() == [96, 87] and np.isnan(lowest[2])
    assert mean[1] == pytest.approx(values[30:60].mean()) and np.isnan(mean[2])
