"""Filters, resampling and scaling against analytic signals."""

import numpy as np
import pytest

from sleeplm_jax.recordings import signals as dsp


def rms(x):
    return float(np.sqrt(np.mean(np.square(x))))


def sine(hz, rate, seconds, phase=0.0):
    return np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate + phase)


@pytest.mark.parametrize("rate", [100, 125, 200, 256, 512, 128 / 1.5, 64])
def test_resampling_keeps_a_tone_in_time_and_size(rate):
    seconds, hz = 120, 7.3
    out = dsp.to_rate(sine(hz, rate, seconds, 0.4), rate, 64, seconds * 64)
    assert out.shape == (seconds * 64,)
    np.testing.assert_allclose(out[640:-640], sine(hz, 64, seconds, 0.4)[640:-640], atol=0.01)


def test_resampling_does_not_alias():
    # 45 Hz would come out at 19 Hz without an anti-alias filter.
    out = dsp.to_rate(sine(45, 256, 60), 256, 64, 60 * 64)
    assert rms(out[64:-64]) < 0.002


def test_an_odd_rate_does_not_drift_over_a_night():
    rate, seconds = 1281 / 9.59375, 8 * 3600  # as in a real file with records of 9.59375 s
    values = np.zeros(int(rate * seconds))
    at = int(rate * (seconds - 60))
    values[at] = 1.0
    out = dsp.to_rate(values, rate, 64, seconds * 64)
    assert abs(np.argmax(out) - at / rate * 64) <= 1


def test_band_pass_keeps_the_band_without_delay():
    rate = 200
    kept = sine(10, rate, 60)
    out = dsp.band_pass(kept + 300 + sine(0.02, rate, 60) + sine(60, rate, 60), rate, (0.3, 35))
    assert rms(out[rate * 10 : -rate * 10] - kept[rate * 10 : -rate * 10]) < 0.02


def test_cut_offs_the_rate_cannot_hold_are_left_out():
    values = 5 + sine(0.1, 1, 600)
    np.testing.assert_array_equal(dsp.band_pass(values, 1, (10, 100)), values)
    out = dsp.band_pass(sine(12, 50, 60) + 3, 50, (0.3, 35))  # 35 Hz is above 25 Hz
    assert abs(out.mean()) < 0.01 and rms(out[500:-500]) == pytest.approx(2**-0.5, rel=0.02)


@pytest.mark.parametrize("rate", [125, 200, 256, 512])
@pytest.mark.parametrize(
    "band, tones",
    [((0.3, 35.0), (0.02, 0.1, 0.5, 2, 6, 12, 18, 21)), ((0.3, 70.0), (0.1, 0.5, 6, 18, 25.6)),
     ((10.0, 100.0), (2, 6, 18, 21, 25.6)), ((0.1, 15.0), (0.02, 0.1, 0.3, 0.5, 2, 6))],
)
def test_filtering_after_the_resample_gives_what_filtering_before_it_does(rate, band, tones):
    seconds = 120
    for hz in tones:
        values = sine(hz, rate, seconds) + 250
        before = dsp.to_rate(dsp.band_pass(values, rate, band), rate, 64, seconds * 64)
        after = dsp.filtered(values, rate, band, 64, seconds * 64)
        # 1.5 %: the slope of a 35-Hz low-pass at 21 Hz, the bilinear transform's about 10 Hz.
        np.testing.assert_allclose(after[1280:-1280], before[1280:-1280], atol=0.015)


def test_very_short_signals_pass_the_filter():
    for n in (1, 2, 5, 30):
        assert dsp.band_pass(np.ones(n), 100, (0.3, 35)).shape == (n,)


def test_steps_are_held_not_interpolated():
    out = dsp.hold(np.array([2.0, 0, 1]), 1, 64, 192)
    assert out.tolist() == [2.0] * 64 + [0.0] * 64 + [1.0] * 64
    assert set(dsp.hold(np.array([2.0, 0]), 0.5, 64, 400).tolist()) == {2.0, 0.0}
    np.testing.assert_array_equal(dsp.hold(np.arange(60.0), 3, 1, 20), np.arange(20) * 3)


def test_scale_is_not_moved_by_artefacts_flat_stretches_or_drift():
    rng = np.random.default_rng([1, 2])
    night = 25 * rng.standard_normal(200 * 1920) + 4
    clean = dsp.robust_scale(night, 1920, np.zeros(200, bool))
    assert clean == pytest.approx((4, 25, 0), rel=0.05)
    night[10 * 1920 : 20 * 1920] *= 500  # 5 % of epochs are artefact
    night[100 * 1920 : 140 * 1920] = 7  # 20 % flat
    flat = dsp.flat_epochs(night, 64, 30, 200)
    assert flat.sum() == 40 and flat[100:140].all()
    assert dsp.robust_scale(night, 1920, flat) == pytest.approx((4, 25, 0.05), rel=0.05)


@pytest.mark.parametrize("share", [0, 0.05, 0.12, 0.3])
@pytest.mark.parametrize("artefact", [5000.0, 0.01])
def test_scale_holds_however_much_of_the_night_is_artefact(share, artefact):
    rng = np.random.default_rng([1, 3])
    night = rng.normal(0, 30, (240, 1920))
    bad = rng.permutation(240)[: round(240 * share)]
    night[bad] = rng.normal(700, artefact, (len(bad), 1920))
    offset, scale, left_out = dsp.robust_scale(night.reshape(-1), 1920, np.zeros(240, bool))
    assert scale == pytest.approx(30, rel=0.1) and abs(offset) < 1
    assert left_out == pytest.approx(len(bad) / 240)


def test_nothing_to_scale():
    values = np.full(3 * 1920, 8.0)
    assert dsp.robust_scale(values, 1920, dsp.flat_epochs(values, 64, 30, 3)) is None


def test_z_units_are_clipped():
    z = dsp.standardise(np.array([-1e9, 10.0, 1e9]), 10.0, 2.0)
    assert z.dtype == np.float32 and z.tolist() == [-6, 0, 6]
