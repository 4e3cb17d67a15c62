"""The engine of the fits, against scipy's own solvers."""

import numpy as np
import pytest
from scipy.optimize import least_squares, nnls

from sleeplm_jax.scaling.power_sum import (
    descend,
    effective_log,
    exponent_grid,
    huber,
    non_negative,
    predicted,
    problem_of,
    starts,
)


@pytest.fixture
def problem():
    """20 cells, repeated data in some; noise of 1 % and one run gone wrong. Simulated."""
    generator = np.random.default_rng(3)
    n, hours = (v.ravel() for v in np.meshgrid(np.geomspace(1e5, 1e7, 5), [10.0, 50, 250, 1000]))
    unique = np.minimum(hours, np.where(np.arange(20) % 2, 100.0, 2000.0))
    losses = (1 + 40 / n**0.3 + 2 / unique**0.4) * np.exp(0.01 * generator.normal(size=20))
    losses[7] *= 1.2
    return problem_of(losses, [n, unique], hours / unique - 1)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_least_squares_are_non_negative_as_scipys(count):
    generator = np.random.default_rng(count)
    columns = generator.normal(size=(200, 8, count)) + 0.3
    aims = generator.normal(size=(200, 8))
    found, least = non_negative(
        columns.transpose(0, 2, 1) @ columns, np.einsum("bnk,bn->bk", columns, aims)
    )
    zero = 0
    for b in range(200):
        expected, norm = nnls(columns[b], aims[b])
        np.testing.assert_allclose(found[b], expected, atol=1e-9)
        np.testing.assert_allclose(least[b] + (aims[b] ** 2).sum(), norm**2, atol=1e-9)
        zero += (expected == 0).any()
    assert zero > 20  # the bound was met


def test_slopes_are_those_of_the_predictions(problem):
    values = np.array([[1.0, 0.5, 0.7, np.log(0.3), np.log(0.4), np.log(5.0)]])
    _, slopes = predicted(problem, values)
    for k in range(6):
        step = np.zeros(6)
        step[k] = 1e-6
        up, down = (np.log(predicted(problem, values + sign * step)[0]) for sign in (1, -1))
        np.testing.assert_allclose(slopes[0, :, k], ((up - down) / 2e-6)[0], atol=1e-8)


def test_repeats_are_worth_what_the_formula_says():
    """Muennighoff et al.: few passes are as good as new data, endless ones are worth R of them."""
    gained, _ = effective_log(np.array([0.0, 0.1, 1e6]), np.array([15.0]))
    # U (1 + R (1 - exp(-s / R))): s far below R counts fully, to second order s^2 / 2R.
    np.testing.assert_allclose(np.exp(gained), [1.0, 1.1, 16.0], atol=4e-4)


def test_resamples_descend_to_where_scipy_does(problem):
    """Each resample's objective is scipy's from the same start, or below it."""
    weights = np.random.default_rng(0).multinomial(20, np.full(20, 0.05), size=12).astype(float)
    begun = starts(problem, weights, exponent_grid(problem, 10, 5))
    values, reached = descend(problem, weights, 0.01, begun)
    low, high = problem.bounds()
    for row, start, mine, value in zip(weights, begun, values, reached):
        times = np.repeat(np.arange(20), row.astype(int))

        def left(v, times=times):
            return (np.log(problem.losses) - np.log(predicted(problem, v[None])[0][0]))[times]

        inside = np.clip(start, low + 1e-9, high - 1e-9)
        found = least_squares(left, inside, bounds=(low, high), loss="huber", f_scale=0.01,
                              x_scale="jac", max_nfev=2000)
        assert value == pytest.approx(huber(left(mine), 0.01)[0].sum(), rel=1e-9)
        assert value <= found.cost * (1 + 1e-4)  # both stop where a step gains under 1e-8 or so


def test_a_term_that_is_not_there_gets_no_coefficient(problem):
    flat = problem_of(np.full(20, 2.0), [np.exp(problem.logs[0])])
    begun = starts(flat, np.ones((1, 20)), exponent_grid(flat, 10, 1))
    values, reached = descend(flat, np.ones((1, 20)), 0.01, begun)
    assert values[0, 0] + values[0, 1] == pytest.approx(2.0, abs=1e-6) and reached[0] < 1e-12
