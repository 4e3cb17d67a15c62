"""Waves of the eyes in an EEG are not counted; those of the brain are."""

import numpy as np

from sleeplm_jax.physiology.measure import measure_night

from .nights import drawn_night
from .test_recomputed import measured
from .waves import k_complex, pink, time, trace

EPOCHS, SECONDS = 10, 300
AT = [30 * e + 10.0 for e in range(EPOCHS)]


def night(wave, of_the_eyes, eogs=True):
    """Waves at AT in F3; the eyes show them against each other and larger, or together."""
    t = time(SECONDS)
    drawn = sum(wave(t, x) for x in AT)
    traces = {"F3": trace(pink(SECONDS, 8, seed=3) + drawn)}
    if eogs:
        left = -1.6 * drawn if of_the_eyes else 0.6 * drawn
        traces["EOG-L"] = trace(left + pink(SECONDS, 3, seed=1))
        traces["EOG-R"] = trace((1.6 if of_the_eyes else 0.6) * drawn + pink(SECONDS, 3, seed=2))
    return measure_night(drawn_night(EPOCHS, traces=traces))


def test_a_k_complex_counts_where_the_eyes_see_it_with_one_sign():
    assert measured(night(k_complex, False), "k_complex_count", "F3").tolist() == [1] * EPOCHS


def test_the_same_wave_does_not_count_where_it_is_the_eyes():
    assert measured(night(k_complex, True), "k_complex_count", "F3").sum() == 0
    # Without EOGs nothing tells, and nothing is counted.
    found = night(k_complex, True, eogs=False)
    assert np.isnan(measured(found, "k_complex_count", "F3")).all()


def test_slow_waves_of_the_eyes_do_not_count_either():
    def wave(t, at):
        inside = (t >= at) & (t < at + 5)
        return 60 * np.sin(2 * np.pi * (t - at)) * inside

    assert measured(night(wave, False), "slow_wave_count", "F3").min() >= 3
    assert measured(night(wave, True), "slow_wave_count", "F3").max() == 0


def test_a_stand_in_is_not_searched_for_waves_that_have_a_size():
    traces = {"C3": trace(pink(SECONDS, 20, seed=3))}
    found = {m["feature"] for record in measure_night(
        drawn_night(EPOCHS, traces=traces, stand_ins=("C3",))) for m in record["measurements"]}
    assert found == {f"{band}_power" for band in ("delta", "theta", "alpha", "sigma", "beta")}


def test_no_wave_is_counted_in_volts_called_microvolts():
    for scale in (1e-6, 1e3):
        traces = {"C3": trace(scale * pink(SECONDS, 20, seed=3))}
        found = {m["feature"] for record in measure_night(drawn_night(EPOCHS, traces=traces))
                 for m in record["measurements"]}
        assert found == {f"{band}_power" for band in ("delta", "theta", "alpha", "sigma", "beta")}
