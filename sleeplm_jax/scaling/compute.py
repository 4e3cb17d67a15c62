"""The saturating power of compute, L(C) = E + K / C^c, of the best cells that compute buys.

The frontier: cells that no other of the same or less compute beats, in the mean of their seeds.
The least of several noisy losses lies low by chance, more so where cells have one seed: the law of
size and data uses all runs and has no such bias, this one assumes less about what N and D do.
"""

from __future__ import annotations

import numpy as np

from sleeplm_jax.scaling.collect import Table
from sleeplm_jax.scaling.intervals import bands, exponent, floor, stated
from sleeplm_jax.scaling.point import fit_point
from sleeplm_jax.scaling.power_sum import (
    EXPONENTS,
    Problem,
    descend,
    exponent_grid,
    predicted,
    problem_of,
    starts,
)

CELLS = 4  # of the frontier; three constants leave one degree of freedom
GRID = 40
CURVE = 40
TOGETHER = 1.001  # FLOPs that count as the same


def frontier(data: Table, weights: np.ndarray) -> np.ndarray:
    """Which runs are of the frontier's cells, under each row of `weights` [B, n]: [B, n]."""
    member = (data.point[:, None] == np.arange(data.point.max() + 1)).astype(float)
    count = weights @ member
    with np.errstate(divide="ignore", invalid="ignore"):
        means = np.where(count > 0, (weights * data.losses) @ member / count, np.inf)
    flops = np.array([data.flops[data.point == k].mean() for k in range(member.shape[1])])
    on = np.zeros(count.shape, bool)
    for k in range(len(flops)):
        rivals = (flops <= flops[k] * TOGETHER) & (np.arange(len(flops)) != k)
        least = means[:, rivals].min(axis=1, initial=np.inf)
        on[:, k] = np.isfinite(means[:, k]) & (means[:, k] < least)
    return on[:, data.point]


def power_of_compute(data: Table, weights: np.ndarray, most: float) -> dict:
    """fit.json's "compute": constants, frontier, and the curve with its band up to `most` FLOPs."""
    on = frontier(data, np.ones((1, len(data.runs))))[0]
    cells = [
        {
            "cell": data.runs[np.flatnonzero(data.point == k)[0]].cell,
            "flops": float(data.flops[data.point == k].mean()),
            "loss": float(data.losses[data.point == k].mean()),
        }
        for k in np.unique(data.point[on])
    ]
    cells.sort(key=lambda cell: cell["flops"])
    result = {"form": "L = E + K / C^c", "frontier": cells}
    if len(cells) < CELLS:
        return result | {"why": f"{len(cells)} cells on the frontier, and three constants need "
                         f"{CELLS}"}
    best = data.only(on)
    problem = problem_of(best.losses, [best.flops])
    point = fit_point(problem)
    drawn = weights * frontier(data, weights)
    sound = ((drawn @ (data.point[:, None] == np.arange(data.point.max() + 1))) > 0).sum(1) >= 3
    whole = problem_of(data.losses, [data.flops])
    begun = starts(whole, drawn[sound], exponent_grid(whole, GRID, 1))
    values, _ = descend(whole, drawn[sound], point.delta, begun)
    curve = np.geomspace(data.flops.min(), most, CURVE)

    def constants(values, problem):
        c = np.where(values[:, 1] > 0, np.exp(values[:, 2]), np.nan)
        k = values[:, 1] * np.exp(np.nan_to_num(c) * problem.centres[0])
        logs = np.log(curve)[None] - problem.centres[:, None]
        asked = Problem(np.ones(CURVE), logs, problem.centres)
        return values[:, 0], k, c, predicted(asked, values)[0]

    one, many = constants(point.values[None], problem), constants(values, whole)
    low, high = bands(many[3])
    power = exponent(float(one[2][0]), _filled(many[2], sound), EXPONENTS)
    unknown = power["why"] and "its exponent is not identified"
    return result | {
        "E": floor(_clean(float(one[0][0])), _filled(many[0], sound), cells[-1]["loss"]),
        "K": stated(float(one[1][0]), _filled(many[1], sound), unknown),
        "c": power,
        "curve": {"flops": curve.tolist(), "value": one[3][0].tolist(), "low": low, "high": high},
    }


def _clean(floor: float) -> float:
    """A floor that the search has driven to nothing is 0, not 5e-324."""
    return floor if floor > 1e-12 else 0.0


def _filled(values: np.ndarray, sound: np.ndarray) -> np.ndarray:
    """The resamples' values [B], nan for those without a frontier of three cells."""
    filled = np.full(len(sound), np.nan)
    filled[sound] = values
    return filled
