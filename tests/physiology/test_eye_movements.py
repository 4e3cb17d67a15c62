"""Eye movements: rapid, slow and blinks told apart on drawn ones, and brain waves from either."""

import numpy as np
import pytest

from sleeplm_jax.physiology.eye_movements import blinks, rapid_eye_movements, slow_eye_movements
from tests.physiology.waves import RATE, pink, time, trace

SECONDS = 120
AT = np.arange(10.0, 115.0, 8.0)


def eyes(movement, both=0.0, noise=3.0):
    """E1 and E2 of a conjugate `movement` and of what is of one sign in the two."""
    return (
        trace(movement + both + pink(SECONDS, noise, seed=1)),
        trace(-0.95 * movement + both + pink(SECONDS, noise, seed=2)),
    )


def saccades(t, at, size=120.0):
    """Steps to and fro in 60 ms, held, through an amplifier's 0.3-Hz high-pass."""
    from scipy import signal

    gaze = 0
    for number, begin in enumerate(at):
        step = 1 / (1 + np.exp(-np.clip((t - begin) / 0.012, -50, 50)))
        gaze = gaze + size * (-1) ** number * step
    return signal.lfilter(*signal.butter(1, 0.3, "highpass", fs=RATE), gaze)


def test_saccades_are_rapid_and_not_slow():
    left, right = eyes(saccades(time(SECONDS), AT))
    rapid = rapid_eye_movements(left, right)
    assert len(rapid) == len(AT)
    np.testing.assert_allclose(rapid.peak, AT, atol=0.3)
    assert len(slow_eye_movements(left, right)) == 0


@pytest.mark.parametrize("hertz", [0.25, 0.4, 0.6])
def test_rolling_is_slow_and_not_rapid(hertz):
    t = time(SECONDS)
    movement = np.where((t > 30) & (t < 90), 60 * np.sin(2 * np.pi * hertz * t), 0)
    left, right = eyes(movement)
    slow = slow_eye_movements(left, right)
    inside = (slow.onset > 29) & (slow.end < 91)
    # One deflection a half wave; the first and last are cut off.
    assert abs(inside.sum() - 120 * hertz) <= 3
    np.testing.assert_allclose(np.median(slow.frequency), hertz, rtol=0.05)
    np.testing.assert_allclose(np.median(slow.amplitude), 120 * 0.975, rtol=0.1)
    assert np.all(slow.duration > 0.5)
    # Where the rolling breaks off at 90 s, one turning point has no slow neighbour.
    assert len(rapid_eye_movements(left, right)) <= 1 and len(blinks(left, right)) == 0


def test_a_deflection_under_half_a_second_is_not_slow():
    left, right = eyes(60 * np.sin(2 * np.pi * 1.3 * time(SECONDS)))  # 385 ms
    assert len(slow_eye_movements(left, right)) == 0


def test_slow_waves_of_the_brain_are_no_eye_movements():
    t = time(SECONDS)
    for hertz in (0.4, 0.9):
        left, right = eyes(0 * t, both=80 * np.sin(2 * np.pi * hertz * t))
        assert len(slow_eye_movements(left, right)) == 0
        assert len(rapid_eye_movements(left, right)) == 0
        assert len(blinks(left, right)) == 0


def test_blinks_come_back_at_once_and_go_up():
    t = time(SECONDS)
    lid = sum(120 * np.exp(-0.5 * ((t - at) / 0.06) ** 2) for at in AT)
    up = trace(-0.5 * lid + pink(SECONDS, 3.0, seed=1)), trace(lid + pink(SECONDS, 3.0, seed=2))
    found = blinks(*up)
    assert len(found) == len(AT)
    np.testing.assert_allclose(found.peak, AT, atol=0.05)
    # Downwards the same movement is none, and a saccade stays away too long.
    assert len(blinks(up[1], up[0])) == 0
    assert len(blinks(*eyes(saccades(t, AT)))) == 0


def test_two_rates_and_lengths_are_brought_together():
    t = time(SECONDS)
    movement = 60 * np.sin(2 * np.pi * 0.4 * t)
    left, right = eyes(movement)
    coarse = trace(-0.95 * 60 * np.sin(2 * np.pi * 0.4 * time(SECONDS - 5, 64.0)), 64.0)
    assert abs(len(slow_eye_movements(left, coarse)) - len(slow_eye_movements(left, right))) <= 5


def test_flat_noisy_and_short_pairs():
    rng = np.random.default_rng(0)
    flat = trace(np.zeros(int(60 * RATE)))
    noise = [trace(20 * rng.standard_normal(int(300 * RATE))) for _ in range(2)]
    for detector in (rapid_eye_movements, slow_eye_movements, blinks):
        assert len(detector(flat, flat)) == 0
        assert len(detector(*noise)) == 0
        assert detector(trace(pink(5)), trace(pink(5))) is None


def test_real_rem_sleep_holds_rapid_ones(psg):
    """YASA's 14.3 min of REM: what YASA finds, less what is not under 500 ms or rolls."""
    import yasa

    content = np.load(psg / "yasa" / "data_EOGs_REM_256Hz.npz")
    left, right = (trace(row, 256.0) for row in content["data"])
    found = rapid_eye_movements(left, right)
    whole = yasa.rem_detect(
        content["data"][0], content["data"][1], 256.0, amplitude=(30, 325), verbose="critical"
    )
    assert 0.8 * len(whole.summary()) < len(found) < len(whole.summary())
    assert len(found) > 2 * len(blinks(left, right))
