"""The law of size and data, L(N, D) = E + A / N^a + B / D'^b, with its bootstrap.

    N parameters   D hours of sleep seen   U of them different   D' effective hours
    R what repeats are worth, in passes   B resamples   m places where the law is asked

D' is D where nothing is seen twice; else U + U R (1 - exp(-(D/U - 1) / R)).
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from sleeplm_jax.scaling.collect import Table
from sleeplm_jax.scaling.intervals import WIDE_REPEATS, ends, exponent, factor, floor, stated
from sleeplm_jax.scaling.point import Point, fit_point
from sleeplm_jax.scaling.power_sum import (
    EXPONENTS,
    REPEATS,
    Problem,
    descend,
    exponent_grid,
    predicted,
    problem_of,
    starts,
)
from sleeplm_jax.scaling.resample import resamples

GRID, REPEAT_GRID = 12, 6  # where the resamples' descents start
REPEATED = 0.02  # passes after the first from which data count as repeated
GONE = 1e-4  # a term below this share of the typical loss is not there


@dataclasses.dataclass(frozen=True)
class Law:
    """Constants of the law, [1] of the best fit or [B] of the resamples; R inf without repeats.

    `a` and `b` are nan where the term itself is gone.
    """

    E: np.ndarray
    A: np.ndarray
    a: np.ndarray
    B: np.ndarray
    b: np.ndarray
    R: np.ndarray

    def losses(self, n: np.ndarray, hours: np.ndarray, unique: np.ndarray | None = None
               ) -> np.ndarray:
        """Losses [B, m] at `n`, `hours` [m] or [B, m]; of the hours `unique` differ (all)."""
        effective = np.log(hours)
        if unique is not None:
            unique = np.minimum(unique, hours)
            again = hours / unique - 1.0
            constant = np.where(np.isinf(self.R), 1e12, self.R)[:, None]
            effective = np.log(unique) + np.log1p(-constant * np.expm1(-again / constant))
        size = self.A[:, None] * np.exp(-np.nan_to_num(self.a)[:, None] * np.log(n))
        data = self.B[:, None] * np.exp(-np.nan_to_num(self.b)[:, None] * effective)
        return self.E[:, None] + size + data


@dataclasses.dataclass(frozen=True)
class Parametric:
    """The fit to `data`: the best `law` [1], and that of the resamples [B], `drawn` [B, n]."""

    data: Table
    problem: Problem
    point: Point
    law: Law
    resampled: Law
    drawn: np.ndarray
    redrawn: int
    omega: float

    @property
    def repeated(self) -> bool:
        return self.problem.repeats is not None

    def fitted(self) -> np.ndarray:
        """The law's losses of the runs [n]."""
        return predicted(self.problem, self.point.values[None])[0][0]


def repeats_of(data: Table) -> np.ndarray | None:
    """Passes after the first [n], None where no run has any that count."""
    return data.repeats if data.repeats.max() > REPEATED else None


def parameters_of(data: Table) -> int:
    return 5 + (repeats_of(data) is not None)


def fit_parametric(
    data: Table, omega: float, bootstraps: int, generator: np.random.Generator,
    delta: float | None = None,
) -> Parametric:
    """Fits the law to the runs and to `bootstraps` resamples of them.

    `omega` is the power of N in the FLOPs of an hour, `delta` Huber's in log units (see
    `fit_point`). Raises StudyError where the runs cannot be resampled.
    """
    repeats = repeats_of(data)
    problem = problem_of(data.losses, [data.N, data.unique if repeats is not None else data.D],
                         repeats)
    point = fit_point(problem, delta)
    drawn, redrawn = resamples(data, bootstraps, problem.size, generator)
    begun = starts(problem, drawn * point.trust, exponent_grid(problem, GRID, REPEAT_GRID))
    values, _ = descend(problem, drawn, point.delta, begun)
    return Parametric(
        data, problem, point, law_of(problem, point.values[None]), law_of(problem, values),
        drawn, redrawn, omega,
    )


def law_of(problem: Problem, values: np.ndarray) -> Law:
    """Parameters [B, P] about the centres, as constants in parameters, hours and passes."""
    typical = float(np.median(problem.losses))
    parts = np.where(values[:, :3] > GONE * typical, values[:, :3], 0.0)
    powers = np.where(parts[:, 1:] > 0, np.exp(values[:, 3:5]), math.nan)
    scale = np.exp(np.nan_to_num(powers) * problem.centres)
    constant = np.exp(values[:, 5]) if problem.repeats is not None else np.full(len(values), np.inf)
    return Law(
        parts[:, 0], parts[:, 1] * scale[:, 0], powers[:, 0],
        parts[:, 2] * scale[:, 1], powers[:, 1], constant,
    )


def allocation(law: Law, omega: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Powers of compute: of the best N, of the best D, and of how fast L - E falls, each [B].

    From minimising A/N^a + B/D^b under C = kappa N^omega D: a A/N^a = omega b B/D^b, hence
    N ~ C^(b / (a + omega b)) and D ~ C^(a / (a + omega b)).
    """
    total = law.a + omega * law.b
    return law.b / total, law.a / total, law.a * law.b / total


def described(fit: Parametric, best_loss: float) -> dict:
    """The fit as in fit.json; `best_loss` is the lowest of a cell."""
    law, many = fit.law, fit.resampled
    a, b = (exponent(float(getattr(law, k)[0]), getattr(many, k), EXPONENTS) for k in "ab")
    shares = zip(allocation(law, fit.omega), allocation(many, fit.omega))
    powers = [exponent(float(one[0]), resampled) for one, resampled in shares]
    form = "L = E + A / N^a + B / D^b"
    if fit.repeated:
        form = "L = E + A / N^a + B / D'^b, D' = U (1 + R (1 - exp(-(D/U - 1) / R)))"
    return {
        "form": form,
        "E": floor(float(law.E[0]), many.E, best_loss),
        "A": stated(float(law.A[0]), many.A, a["why"] and "its exponent is not identified"),
        "a": a,
        "B": stated(float(law.B[0]), many.B, b["why"] and "its exponent is not identified"),
        "b": b,
        "R": _repetition(float(law.R[0]), many.R) if fit.repeated else None,
        "N_exponent": powers[0], "D_exponent": powers[1], "loss_exponent": powers[2],
        "huber_delta": fit.point.delta, "residual_log_sd": fit.point.sigma,
        "objective": fit.point.objective, "replicates": len(many.E), "redrawn": fit.redrawn,
    }


def _repetition(value: float, replicates: np.ndarray) -> dict:
    low, _ = ends(replicates)
    many, few = np.mean(replicates >= REPEATS[1] / 1.01), np.mean(replicates <= REPEATS[0] * 1.01)
    if many > 0.05:
        return stated(value, replicates, f"{many:.0%} of the resamples take repeats for as good as "
                      f"new data; 95 % are above {low:.3g}")
    if few > 0.05:
        return stated(value, replicates, f"{few:.0%} of the resamples take repeats for worthless")
    return factor(value, replicates, WIDE_REPEATS)
