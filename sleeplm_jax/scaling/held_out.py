"""The largest compute, predicted from all that is less: how far the law may be trusted beyond."""

from __future__ import annotations

import numpy as np

from sleeplm_jax.scaling.collect import Table
from sleeplm_jax.scaling.intervals import ends, stated
from sleeplm_jax.scaling.isoflop import TOLERANCE
from sleeplm_jax.scaling.parametric import Parametric, fit_parametric, parameters_of
from sleeplm_jax.scaling.resample import enough


def predict_largest(
    data: Table, omega: float, bootstraps: int, generator: np.random.Generator,
    delta: float | None = None,
) -> dict:
    """fit.json's "held_out": the fit without the cell of most FLOPs, and what it says of it.

    Where several cells share the largest budget all of them are held out (one alone would be
    known from its neighbours); the entry is then of the one with the lowest loss, and "cells" has
    them all. The interval is of what should have been measured: the resamples' predictions, each
    with noise (Student's, for its standard deviation is estimated too) of the residuals' standard
    deviation over the root of the cell's seeds.
    """
    largest = data.flops > data.flops.max() / TOLERANCE
    largest = np.isin(data.point, data.point[largest])
    rest = data.only(~largest)
    if why := enough(rest, parameters_of(rest)) if len(rest.runs) else "no others":
        return {"why": f"without the largest cell there are {why}"}
    fit = fit_parametric(rest, omega, bootstraps, generator, delta)
    said = [
        _said(data.only(largest & (data.point == k)), rest, fit, generator)
        for k in np.unique(data.point[largest])
    ]
    best = min(said, key=lambda one: one["observed"])
    return best | {
        "cells": said, "worst_relative_error": max(abs(one["relative_error"]) for one in said),
        "baseline_relative_error": float(_lowest(rest) / best["observed"] - 1),
    }


def _said(cell: Table, rest: Table, fit: Parametric, generator: np.random.Generator) -> dict:
    """What the fit to the rest says of one cell, beside what was measured."""
    asked = cell.N[:1], cell.D[:1], cell.unique[:1] if fit.repeated else None
    observed = float(cell.losses.mean())
    said = float(fit.law.losses(*asked)[0, 0])
    free = max(1, len(rest.runs) - fit.problem.size)
    drawn = generator.standard_t(free, len(fit.drawn))
    noise = fit.point.sigma / np.sqrt(len(cell.runs)) * drawn
    many = fit.resampled.losses(*asked)[:, 0] * np.exp(noise)
    low, high = ends(many)
    return {
        "cell": cell.runs[0].cell, "flops": float(cell.flops.mean()), "seeds": len(cell.runs),
        "factor": float(cell.flops.mean() / rest.flops.max()), "observed": observed,
        "predicted": stated(said, many), "relative_error": said / observed - 1,
        "within_band": bool(low <= observed <= high),
    }


def _lowest(data: Table) -> float:
    return min(data.losses[data.point == k].mean() for k in np.unique(data.point))
