"""K complexes: single waves at known times, not slow-wave trains, noise, alpha or an ECG."""

import numpy as np
import pytest

from sleeplm_jax.physiology.k_complexes import k_complexes
from tests.physiology.waves import RATE, heart, k_complex, pink, spindle, time, trace

SECONDS = 300
AT = np.arange(20.0, 290.0, 20.0)


@pytest.mark.parametrize("rate", [100.0, 128.0, 256.0])
def test_drawn_k_complexes_are_found(rate):
    t = time(SECONDS, rate)
    values = pink(SECONDS, 10.0, rate=rate) + sum(k_complex(t, at) for at in AT)
    found = k_complexes(trace(values, rate))
    assert len(found) == len(AT)
    np.testing.assert_allclose(found.peak, AT, atol=0.05)
    # 150 µV drawn, less what the negative and the positive wave take from one another and 4 Hz.
    np.testing.assert_allclose(found.amplitude, 150, rtol=0.25)
    assert np.all((found.duration >= 0.5) & (found.duration <= 2.0))


def test_a_spindle_riding_on_it_hides_none():
    t = time(SECONDS)
    values = pink(SECONDS, 10.0) + sum(
        k_complex(t, at) + spindle(t, at + 0.9, 1.0, 13.0, 60.0) for at in AT
    )
    assert len(k_complexes(trace(values))) == len(AT)


def test_waves_of_a_slow_wave_train_are_none():
    t = time(SECONDS)
    train = 75 * np.sin(2 * np.pi * 0.9 * t)
    assert len(k_complexes(trace(train + pink(SECONDS, 10.0)))) == 0
    # A burst of six waves in a calm background stands out, and is a train nonetheless.
    burst = np.where((t > 100) & (t < 106.6), train, 0)
    found = k_complexes(trace(burst + pink(SECONDS, 10.0)))
    assert not np.any((found.peak > 101.5) & (found.peak < 105))


def test_a_pair_is_two():
    t = time(120)
    values = pink(120, 10.0) + k_complex(t, 60.0) + k_complex(t, 61.8)
    assert len(k_complexes(trace(values))) == 2


def test_upside_down_and_small_and_short_waves_are_none():
    t = time(120)
    calm = pink(120, 4.0)
    assert len(k_complexes(trace(calm + k_complex(t, 60.0, 50.0)))) == 0  # under 75 µV
    short = -120 * np.exp(-0.5 * ((t - 60) / 0.05) ** 2)  # a vertex wave: no positive one behind
    assert len(k_complexes(trace(calm + short))) == 0


def test_noise_alpha_and_an_ecg_hold_none():
    rng, t = np.random.default_rng(1), time(SECONDS)
    assert len(k_complexes(trace(15 * rng.standard_normal(int(SECONDS * RATE))))) == 0
    assert len(k_complexes(trace(40 * np.sin(2 * np.pi * 10 * t) + pink(SECONDS)))) == 0
    assert len(k_complexes(trace(pink(SECONDS) + heart(t, 150.0)))) == 0


def test_flat_short_and_slow_traces():
    assert len(k_complexes(trace(np.zeros(int(60 * RATE))))) == 0
    assert len(k_complexes(trace(np.full(int(60 * RATE), np.nan)))) == 0
    assert k_complexes(trace(pink(5))) is None
    assert k_complexes(trace(pink(60, rate=32.0), 32.0)) is None


def test_real_k_complexes_that_experts_marked(psg):
    """DREAMS: five 30-s epochs, 15 marked. At least 12 are found, at most 2 more."""
    from scipy.io import loadmat

    marked = hit = found = 0
    for path in sorted((psg / "dreams_epochs").glob("*_kcomplex.mat")):
        content = loadmat(path)
        shown = np.isfinite(content["x_ex3"][0]).astype(int)  # the expert's marks
        edges = np.flatnonzero(np.diff(np.concatenate([[0], shown, [0]]))) / 200
        mine = k_complexes(trace(content["x_in"][0], 200.0))
        found += len(mine)
        for begin, end in zip(edges[::2], edges[1::2]):
            marked += 1
            hit += bool(np.any((mine.peak > begin) & (mine.peak < end)))
    assert marked == 15
    assert hit >= 12 and found - hit <= 2
