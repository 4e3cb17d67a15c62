"""One fit of a sum of power laws: grid and non-negative least squares, then scipy's refinement."""

from __future__ import annotations

import dataclasses

import numpy as np

from sleeplm_jax.scaling.power_sum import (
    Problem,
    exponent_grid,
    features,
    huber,
    non_negative,
    predicted,
)

GRID, REPEAT_GRID = 16, 8  # points of each exponent and of the repetition's constant
STARTS = 4
# Hoffmann et al. 2022 (arXiv:2203.15556), appendix D.3 (unverified): as good as |residual|
FIRST_DELTA = 1e-3
EFFICIENT = 1.345  # Huber's constant: 95 % of least squares' efficiency on normal noise
CLIPPED = 0.7102  # the mean square of a standard normal variable clipped there
LEAST_DELTA = 1e-4  # seeds scatter by more; below it descents only crawl


@dataclasses.dataclass(frozen=True)
class Point:
    """`values` [P] of the best fit, Huber's `delta` (log units), the objective and residuals [n].

    `sigma` is the robust standard deviation of the residuals, their degrees of freedom allowed
    for; `trust` [n] are the weights that Huber's loss gives the runs.
    """

    values: np.ndarray
    delta: float
    objective: float
    residuals: np.ndarray
    sigma: float
    trust: np.ndarray


def fit_point(problem: Problem, delta: float | None = None) -> Point:
    """The best fit to the problem's runs.

    Without `delta` (in log units) Huber's loss turns linear at 1.345 robust standard deviations
    of the residuals of a first fit under delta 1e-3: wide enough to lose little on noise that is
    normal, so narrow that a diverged run does not decide. A fixed 1e-3, the field's habit, is the
    median's loss wherever seeds scatter by more, and costs a third of the data.
    """
    first = _fit(problem, FIRST_DELTA, _starts(problem, FIRST_DELTA))
    if delta is None:
        delta = max(EFFICIENT * first.sigma, LEAST_DELTA)
    if delta == FIRST_DELTA:
        return first
    # Under a delta far below the residuals descents crawl: the first fit is a start near the end.
    return _fit(problem, delta, np.concatenate([first.values[None], _starts(problem, delta)]))


def _fit(problem: Problem, delta: float, begun: np.ndarray) -> Point:
    from scipy.optimize import least_squares

    low, high = problem.bounds()
    aim = np.log(problem.losses)

    def left(values):
        return aim - np.log(predicted(problem, values[None])[0][0])

    def slopes(values):
        return -predicted(problem, values[None])[1][0]

    found = [
        least_squares(
            left, np.clip(start, low + 1e-12, high - 1e-12), slopes, bounds=(low, high),
            loss="huber", f_scale=delta, x_scale="jac", xtol=1e-12, ftol=1e-13, gtol=1e-14,
            max_nfev=400,
        )
        for start in begun
    ]
    best = min(found, key=lambda one: one.cost)
    residuals = left(best.x)
    return Point(
        best.x, delta, float(best.cost), residuals, scatter(residuals, problem.size),
        huber(residuals, delta)[1],
    )


def scatter(residuals: np.ndarray, parameters: int) -> float:
    """A robust standard deviation of residuals [n] that a fit of so many parameters left.

    Beyond 1.345 of those that the median absolute residual says, residuals count as that much:
    nearly as precise as the plain formula on normal noise, for which it is made unbiased.
    """
    free = max(1, len(residuals) - parameters)
    rough = 1.4826 * float(np.median(np.abs(residuals))) * np.sqrt(len(residuals) / free)
    clipped = np.clip(residuals, -EFFICIENT * rough, EFFICIENT * rough)
    return float(np.sqrt((clipped**2).sum() / (free * CLIPPED)))


def _starts(problem: Problem, delta: float) -> np.ndarray:
    """The grid's best points, Huber's weights found anew at each of its points: [STARTS, P]."""
    grid = exponent_grid(problem, GRID, REPEAT_GRID)
    made = features(problem, grid)
    trust = np.ones(made.shape[:2])
    for _ in range(12):  # reweighted least squares; more rounds move no start
        pulled = made * trust[:, :, None]
        coefficients, _ = non_negative(made.transpose(0, 2, 1) @ pulled, pulled.sum(axis=1))
        relative = (made @ coefficients[:, :, None])[:, :, 0] - 1.0
        trust = huber(relative, delta)[1]
    cost = huber(relative, delta)[0].sum(axis=1)
    best = np.argsort(cost, kind="stable")[:STARTS]
    return np.concatenate([coefficients[best], grid[best]], axis=1)
