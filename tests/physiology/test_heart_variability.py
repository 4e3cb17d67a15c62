"""LF and HF power of RR series modulated by sines: half the amplitude's square."""

import numpy as np
import pytest

from sleeplm_jax.physiology.heart import beat_times
from sleeplm_jax.physiology.heart_variability import band_powers

from .test_heart_measures import drawn_ecg


def beats(parts, usual=1.0, seconds=420.0):
    """Beats whose interval is `usual` s and sines of (Hz, ms)."""
    times = [0.4]
    while times[-1] < seconds:
        wave = sum(size * np.sin(2 * np.pi * hertz * times[-1]) for hertz, size in parts)
        times.append(times[-1] + usual + wave / 1000)
    return np.array(times)


@pytest.mark.parametrize("usual", [0.7, 0.9, 1.1])
@pytest.mark.parametrize(("hertz", "name"), [(0.07, "lf_power"), (0.12, "lf_power"),
                                             (0.2, "hf_power"), (0.3, "hf_power")])
def test_the_power_of_one_sine(hertz, name, usual):
    found = band_powers(beats([(hertz, 30)], usual), 60.0)
    other = "hf_power" if name == "lf_power" else "lf_power"
    # A spline through one value a beat: 0.3 Hz at 55 bpm is three beats a period.
    slack = 0.02 if hertz < 0.2 else 0.16
    assert found[name] == pytest.approx(450, rel=slack)
    assert found[other] < 0.01 * found[name]


def test_two_sines_a_trend_and_slower_waves_are_told_apart():
    times = beats([(0.1, 40), (0.25, 20), (0.015, 50)], 0.85)
    found = band_powers(times, 60.0)
    assert found["lf_power"] == pytest.approx(800, rel=0.1)
    assert found["hf_power"] == pytest.approx(200, rel=0.1)


def test_through_an_ecg():
    times = beats([(0.1, 40), (0.25, 20)], 0.9)
    found = band_powers(beat_times(drawn_ecg(times, 425)), 60.0)
    assert found["lf_power"] == pytest.approx(800, rel=0.1)
    assert found["hf_power"] == pytest.approx(200, rel=0.15)


def test_ectopic_beats_are_left_out_and_gaps_make_it_unknown():
    times = beats([(0.1, 40)], 0.9)
    spoilt = np.delete(times, np.arange(100, 400, 60))  # a beat missed every minute
    assert band_powers(spoilt, 60.0)["lf_power"] == pytest.approx(800, rel=0.1)
    assert band_powers(np.delete(times, np.arange(150, 157)), 60.0) == {}
    assert band_powers(times[times < 300], 60.0) == {}
    assert band_powers(np.zeros(0), 0.0) == {} == band_powers(times[:5], 0.0)
