"""Band powers against analytic signals and an independent periodogram."""

import numpy as np
import pytest
from scipy import integrate, signal

from sleeplm_jax.physiology import spectral
from sleeplm_jax.physiology.epochs import cut, usable
from sleeplm_jax.recordings.night import Trace

RATE = 128.0
TIME = np.arange(int(60 * RATE)) / RATE


def epochs(values, rate=RATE, count=2):
    return cut(Trace(np.asarray(values, np.float32), rate, "µV"), count)


@pytest.mark.parametrize(
    "hertz, band",
    [(2, "delta_power"), (6, "theta_power"), (10, "alpha_power"), (14, "sigma_power"),
     (20, "beta_power")],
)  # fmt: skip
def test_a_sine_is_all_in_its_band(hertz, band):
    shares = spectral.eeg_powers(epochs(40 * np.sin(2 * np.pi * hertz * TIME)), RATE)
    assert shares[band] == pytest.approx([100, 100], abs=0.1)


def test_two_sines_share_by_their_squared_amplitudes():
    values = 30 * np.sin(2 * np.pi * 2 * TIME) + 10 * np.sin(2 * np.pi * 10 * TIME)
    shares = spectral.eeg_powers(epochs(values), RATE)
    assert shares["delta_power"] == pytest.approx(90, abs=0.3)
    assert shares["alpha_power"] == pytest.approx(10, abs=0.3)


def test_shares_sum_to_all_and_do_not_depend_on_scale_offset_mains_or_rate():
    rng = np.random.default_rng(0)
    pink = np.cumsum(rng.standard_normal(len(TIME)))
    plain = spectral.eeg_powers(epochs(pink), RATE)
    assert sum(plain.values()) == pytest.approx([100, 100], abs=1e-3)
    mains = 50 * np.sin(2 * np.pi * 50 * TIME)
    moved = spectral.eeg_powers(epochs(3 * (pink + mains) + 500), RATE)
    faster = spectral.eeg_powers(epochs(signal.resample(pink, 2 * len(pink)), 2 * RATE), 2 * RATE)
    for band in plain:
        assert moved[band] == pytest.approx(plain[band], abs=0.2)
        assert faster[band] == pytest.approx(plain[band], abs=1.0)


def test_bands_agree_with_the_known_spectrum_of_a_random_process():
    rng = np.random.default_rng(1)
    values = signal.lfilter([1], [1, -0.9], rng.standard_normal(int(300 * 30 * RATE)))
    ours = spectral.eeg_powers(epochs(values, count=300), RATE)

    def power(low, high):  # of the autoregressive process, integrated
        omega = np.linspace(low, high, 2001) * 2 * np.pi / RATE
        return integrate.simpson(1 / np.abs(1 - 0.9 * np.exp(-1j * omega)) ** 2, x=omega)

    for band, edges in spectral.EEG_BANDS.items():
        expected = 100 * power(*edges) / power(*spectral.EEG_TOTAL)
        assert ours[band].mean() == pytest.approx(expected, abs=1.0), band


def test_slow_and_rapid_eye_movements_are_told_apart():
    slow = spectral.eog_powers(epochs(100 * np.sin(2 * np.pi * 0.5 * TIME)), RATE)
    rapid = spectral.eog_powers(epochs(100 * np.sin(2 * np.pi * 2.0 * TIME)), RATE)
    assert slow["slow_eye_movement_power"] == pytest.approx([100, 100], abs=0.5)
    assert rapid["rapid_eye_movement_power"] == pytest.approx([100, 100], abs=0.5)
    assert rapid["slow_eye_movement_power"] == pytest.approx([0, 0], abs=0.5)


def test_a_rate_that_cannot_hold_the_bands_gives_nothing():
    assert spectral.eeg_powers(epochs(np.ones(100), 1.0), 1.0) == {}
    assert spectral.eog_powers(epochs(np.ones(3000), 50.0), 50.0) == {}


def test_silence_has_no_shares():
    assert np.isnan(spectral.eeg_powers(epochs(np.zeros(len(TIME))), RATE)["delta_power"]).all()


def test_epochs_of_an_odd_rate_start_at_the_nearest_sample():
    rate = 100.013
    values = np.arange(int(95 * rate)) / rate  # the value is the time
    cuts = cut(Trace(values.astype(np.float32), rate, "s"), 4)
    assert cuts[:3, 0] == pytest.approx([0, 30, 60], abs=0.5 / rate + 1e-4)
    assert np.isnan(cuts[3, -1]) and np.isfinite(cuts[3, 0])


def test_flat_non_finite_silent_and_gross_epochs_are_not_usable():
    rng = np.random.default_rng(2)
    cuts = rng.standard_normal((8, 3840)).astype(np.float32)
    cuts[0, 7] = np.nan
    cuts[1] = 3
    cuts[2, : 11 * 128] = 0  # eleven seconds of thirty
    cuts[3, : 9 * 128] = 0  # nine: still usable
    cuts[4] *= 1e-4
    cuts[5] *= 100
    good = usable(cuts, RATE, may_rest=False)
    assert good.tolist() == [False, False, False, True, False, False, True, True]
    assert usable(cuts, RATE, may_rest=True).tolist() == [False, False] + [True] * 6
