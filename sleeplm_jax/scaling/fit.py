"""`sleeplm scaling fit`: from results' rows to exponents with intervals and a recommendation.

Everything that is drawn at random comes from one seed: the same rows give the same fit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np

from sleeplm_jax.scaling.collect import Run, StudyError, Table, collect, table, table_of
from sleeplm_jax.scaling.compute import power_of_compute
from sleeplm_jax.scaling.direct import checked, fit_direct
from sleeplm_jax.scaling.held_out import predict_largest
from sleeplm_jax.scaling.intervals import INTERVAL
from sleeplm_jax.scaling.isoflop import isoflop
from sleeplm_jax.scaling.optimum import Cost, cost_of, curves, recommended
from sleeplm_jax.scaling.parametric import described, fit_parametric, parameters_of
from sleeplm_jax.scaling.resample import enough

FORMAT = 1
AHEAD = (3.0, 10.0)  # budgets that are answered unasked, in multiples of the largest run's
LEAST_BOOTSTRAPS = 100
ROUGH_COST = 0.10
MISFIT = 0.01  # lack of fit that is less probable than this is none of the seeds'


def fit_study(
    paths: Sequence[str],
    losses: Sequence[str] = (),
    bootstraps: int = 1000,
    seed: int = 0,
    budgets: Sequence[float] = (),
    unique_hours: float | None = None,
    huber_delta: float | None = None,
    threads: int = 1,
) -> dict:
    """Fits every loss of the runs in `paths` (studies' folders, or JSONL files of results).

    Args:
        losses: their names; all that the rows have, where none is given.
        bootstraps: resamples of whole runs, behind every 90 % interval.
        budgets: FLOPs to recommend a size and data for; 3 and 10 times the largest run's.
        unique_hours: hours of sleep that are to be had; without it data never run out.
        huber_delta: in units of ln(loss); from the residuals, where none is given (`fit_point`).
        threads: of the linear algebra.

    Returns a dict of plain values, as docs/scaling_fit.md lists it, for fit.json. Raises StudyError
    for results that cannot be fitted, in one line.
    """
    from threadpoolctl import threadpool_limits

    _check(bootstraps, seed, budgets, unique_hours, huber_delta)
    began = time.perf_counter()
    found = collect(paths)
    runs, warnings = found.runs, list(found.warnings)
    names = sorted({name for run in runs for name in run.losses})
    if unknown := [name for name in losses if name not in names]:
        raise StudyError(
            "--losses", f"no run has {unknown[0]}", f"name some of {', '.join(names) or 'none'}"
        )
    with threadpool_limits(threads):
        whole = table(runs, np.ones(len(runs)))
        if why := enough(whole, parameters_of(whole)):
            raise StudyError(paths[0], f"holds {why}", "run more cells")
        cost = cost_of(whole)
        if cost.worst > ROUGH_COST:
            warnings.append(
                f"FLOPs of an hour are a power of N to within {cost.worst:.0%} only: best sizes "
                "and data are as rough"
            )
        asked = [float(b) for b in budgets] or [m * float(whole.flops.max()) for m in AHEAD]
        fitted = {
            name: _fit_loss(runs, name, cost, bootstraps, seed, asked, unique_hours, huber_delta)
            for name in losses or names
        }
    if all("why" in one for one in fitted.values()):
        name, one = next(iter(fitted.items()), ("none", {"why": "no row has any loss"}))
        raise StudyError(paths[0], f"no loss can be fitted ({name}: {one['why']})",
                         "run more cells")
    return {
        "format": FORMAT, "made": _made(found.files, bootstraps, seed, began),
        "runs": len(runs), "cells": int(whole.point.max() + 1), "sizes": _sizes(runs),
        "range": {
            "N": _range(whole.N), "D_hours": _range(whole.D),
            "unique_hours": _range(whole.unique), "passes": _range(whole.repeats + 1),
            "flops": _range(whole.flops),
        },
        "excluded": found.excluded, "warnings": warnings,
        "cost_model": {
            "kappa": cost.kappa, "omega": cost.omega, "worst_relative_error": cost.worst,
        },
        "losses": fitted,
    }


def _fit_loss(
    runs: list[Run], name: str, cost: Cost, bootstraps: int, seed: int, budgets: list[float],
    unique_hours: float | None, delta: float | None,
) -> dict:
    data, excluded = table_of(runs, name)
    if not len(data.runs):
        return {"why": f"no run has a {name} above 0", "excluded": excluded}
    if why := enough(data, parameters_of(data)):
        return {"why": why, "excluded": excluded}
    generators = [np.random.default_rng([seed, part]) for part in range(2)]
    try:
        fit = fit_parametric(data, cost.omega, bootstraps, generators[0], delta)
    except StudyError as error:
        return {"why": error.finding, "excluded": excluded}
    try:
        held_out = predict_largest(data, cost.omega, bootstraps, generators[1], delta)
    except StudyError as error:
        held_out = {"why": error.finding}
    points = _points(data, fit.fitted())
    best = min(point["mean"] for point in points)
    law = described(fit, best)
    second = fit_direct(
        data.losses, data.N, data.unique if fit.repeated else data.D,
        data.repeats + 1 if fit.repeated else None, fit.point.delta,
    )
    most = max(10 * float(data.flops.max()), *budgets)
    misfit = _misfit(points, data, fit)
    return {
        "runs": len(data.runs), "cells": len(points), "excluded": excluded, "points": points,
        "seed_noise": _seed_noise(data), "parametric": law,
        "check": checked(law, second, len(data.runs)), "misfit": misfit,
        "doubt": _doubt(misfit, held_out),
        "isoflop": isoflop(data, fit.drawn), "compute": power_of_compute(data, fit.drawn, most),
        "held_out": held_out, "optimum": curves(fit, cost, most),
        "recommended": [recommended(fit, cost, b, unique_hours, best) for b in budgets],
    }


def _points(data: Table, fitted: np.ndarray) -> list[dict]:
    """One for all seeds of a cell: what was measured, and what the law says."""
    points = []
    for k in range(int(data.point.max()) + 1):
        here = np.flatnonzero(data.point == k)
        run, values = data.runs[here[0]], data.losses[here]
        points.append({
            "cell": run.cell, "size": run.size, "N": run.N, "D_hours": run.D_hours,
            "unique_hours": float(data.unique[here[0]]), "passes": float(data.repeats[here[0]] + 1),
            "flops": float(data.flops[here].mean()), "mean": float(values.mean()),
            "seeds": len(here), "sd": float(values.std(ddof=1)) if len(here) > 1 else None,
            "predicted": float(fitted[here[0]]),
            "residual": float(np.log(values).mean() - math.log(fitted[here[0]])),
        })
    return points


def _seed_noise(data: Table) -> dict | None:
    """The standard deviation of ln(loss) between seeds, pooled over the cells that have several."""
    squares, free, cells, runs = 0.0, 0, 0, 0
    for k in range(int(data.point.max()) + 1):
        values = np.log(data.losses[data.point == k])
        if len(values) > 1:
            squares += float(((values - values.mean()) ** 2).sum())
            free, cells, runs = free + len(values) - 1, cells + 1, runs + len(values)
    return {"log_sd": math.sqrt(squares / free), "cells": cells, "runs": runs} if free else None


def _misfit(points: list[dict], data: Table, fit) -> dict | None:
    """Lack of fit against what seeds differ by: {"ratio" of variances, "p"}, by the F test.

    None where no cell has two seeds, or no freedom is left; "doubted" below a hundredth.
    """
    from scipy.stats import f

    noise = _seed_noise(data)
    free, seeds = len(points) - fit.problem.size, len(data.runs) - len(points)
    if noise is None or free < 1 or not noise["log_sd"] > 0:
        return None
    lost = sum(one["seeds"] * one["residual"] ** 2 for one in points) / free
    ratio = lost / noise["log_sd"] ** 2
    p = float(f.sf(ratio, free, seeds))
    return {"ratio": ratio, "p": p, "doubted": p < MISFIT}


def _doubt(misfit: dict | None, held_out: dict) -> str:
    """Why a recommendation is no more than a direction; nothing where no test failed."""
    why = []
    if misfit and misfit["doubted"]:
        why.append("cells miss the law by more than seeds explain")
    if held_out.get("within_band") is False:
        why.append("the law of the rest missed the largest compute")
    return "; ".join(why)


def _sizes(runs: list[Run]) -> list[dict]:
    sizes = {run.size: run.N for run in runs}
    return [{"size": name, "N": sizes[name]} for name in sorted(sizes, key=sizes.get)]


def _range(values: np.ndarray) -> list[float]:
    return [float(values.min()), float(values.max())]


def _made(files: list[dict], bootstraps: int, seed: int, began: float) -> dict:
    import scipy

    return {
        "files": files, "bootstraps": bootstraps, "seed": seed, "interval": INTERVAL,
        "seconds": round(time.perf_counter() - began, 2), "numpy": np.__version__,
        "scipy": scipy.__version__,
    }


def _check(bootstraps, seed, budgets, unique_hours, huber_delta) -> None:
    if bootstraps < LEAST_BOOTSTRAPS:
        raise StudyError("--bootstraps", f"{bootstraps} is too few for the ends of an interval",
                         f"give {LEAST_BOOTSTRAPS} or more (1000 for results)")
    if seed < 0:
        raise StudyError("--seed", f"is {seed}", "give 0 or more")
    for name, values in (("--budgets", budgets), ("--unique-hours", [unique_hours]),
                         ("--huber-delta", [huber_delta])):
        for value in values:
            if value is not None and not 0 < value < math.inf:
                raise StudyError(name, f"{value} is not above 0", "give a positive number")
