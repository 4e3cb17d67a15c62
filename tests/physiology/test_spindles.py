"""Spindles: found where they were drawn, with their frequency, and nowhere else."""

import logging

import numpy as np
import pytest

from sleeplm_jax.physiology.spindles import spindles
from tests.physiology.waves import RATE, heart, pink, spindle, time, trace

SECONDS = 300
AT = np.arange(20.0, 290.0, 15.0)


@pytest.fixture(scope="module", params=[100.0, 128.0, 256.0])
def drawn(request):
    rate = request.param
    t = time(SECONDS, rate)
    values = pink(SECONDS, 8.0, rate=rate)
    for number, at in enumerate(AT):
        values = values + spindle(t, at, 1.2, (12.0, 13.5, 15.0)[number % 3], 60.0)
    return spindles(trace(values, rate))


def test_drawn_spindles_are_found_at_their_time(drawn):
    assert len(drawn) == len(AT)
    # The envelope's feet sink into the noise: the middle is what can be compared.
    np.testing.assert_allclose(drawn.onset + drawn.duration / 2, AT, atol=0.3)
    # 1.2 s drawn; YASA joins what lies within half a second of one, noise in one or two cases.
    assert 0.9 < np.median(drawn.duration) < 1.3


def test_their_frequency_is_the_drawn_one(drawn):
    wanted = np.array([(12.0, 13.5, 15.0)[n % 3] for n in range(len(AT))])
    np.testing.assert_allclose(drawn.frequency, wanted, atol=0.5)


def test_an_alpha_rhythm_is_no_spindle():
    t = time(SECONDS)
    for hertz in (9.0, 10.5, 11.5):  # the last lies within the spindles' band
        alpha = 30 * np.sin(2 * np.pi * hertz * t)
        assert len(spindles(trace(alpha + pink(SECONDS)))) <= 1


def test_noise_and_an_ecg_hold_next_to_none():
    rng = np.random.default_rng(1)
    assert len(spindles(trace(10 * rng.standard_normal(int(SECONDS * RATE))))) <= 2
    assert len(spindles(trace(pink(SECONDS) + heart(time(SECONDS))))) <= 2


def test_flat_short_and_broken_traces(caplog):
    with caplog.at_level(logging.WARNING):
        assert len(spindles(trace(np.zeros(int(60 * RATE))))) == 0
        assert len(spindles(trace(np.full(int(60 * RATE), np.nan)))) == 0
    assert not caplog.records  # an empty result is no news
    assert spindles(trace(pink(5))) is None
    assert spindles(trace(pink(60, rate=50.0), 50.0)) is None


def test_a_gap_hides_what_lies_in_it_only():
    t = time(SECONDS)
    values = pink(SECONDS) + sum(spindle(t, at, 1.2, 13.0, 60.0) for at in AT)
    values[int(30 * RATE) : int(60 * RATE)] = np.nan
    found = spindles(trace(values))
    assert len(found) == len(AT) - np.sum((AT > 30) & (AT < 60))


def test_real_spindles_of_yasas_sample(psg):
    """YASA's documentation shows two spindles in these 15 s, and none in the 30 s of N3."""
    n2 = np.loadtxt(psg / "yasa" / "data_N2_spindles_15sec_200Hz.txt")
    n3 = np.loadtxt(psg / "yasa" / "data_N3_no-spindles_30sec_100Hz.txt")
    found = spindles(trace(n2, 200.0))
    assert len(found) == 2
    np.testing.assert_allclose(found.onset, [3.3, 13.1], atol=0.3)
    assert len(spindles(trace(n3, 100.0))) == 0
