"""IsoFLOP parabolas: at each budget the loss over ln N, its lowest point, and their line.

Approach 2 of Hoffmann et al. 2022 (arXiv:2203.15556). It assumes no law, but that a parabola is
one near its vertex: sizes spread far to both sides, or unevenly, move the vertex. A lowest point
counts where the lowest measured loss lies between the sizes too.
"""

from __future__ import annotations

import math

import numpy as np

from sleeplm_jax.scaling.collect import Table
from sleeplm_jax.scaling.intervals import exponent
from sleeplm_jax.scaling.parametric import REPEATED

TOLERANCE = 1.10  # FLOPs of one budget differ at most by this factor
SIZES = 3
FAR = math.log(10.0)  # a resample's vertex further than this beyond the sizes is none


def budgets_of(data: Table) -> list[tuple[float | None, np.ndarray]]:
    """Runs of each budget that has three sizes: (hours that are different, indices).

    The hours are None for data that never repeat. A budget's runs on U different hours are those
    that repeated them, and those that saw so little that they need not: what is one curve.
    """
    order = np.argsort(data.flops, kind="stable")
    groups: list[list[int]] = []
    for i in order:
        if groups and data.flops[i] <= TOLERANCE * data.flops[groups[-1][0]]:
            groups[-1].append(i)
        else:
            groups.append([i])
    new = data.repeats <= REPEATED
    found = []
    for pool in (None, *np.unique(data.unique[~new])):
        for group in map(np.array, groups):
            mine = new[group]
            if pool is not None:
                repeating = ~mine & (np.abs(data.unique[group] / pool - 1) < 1e-6)
                mine = (repeating | (mine & (data.D[group] <= pool))) & repeating.any()
            chosen = group[mine]
            if len(np.unique(data.N[chosen])) >= SIZES:
                found.append((None if pool is None else float(pool), chosen))
    return found


def isoflop(data: Table, weights: np.ndarray) -> dict:
    """fit.json's "isoflop", with the exponents' intervals from resamples `weights` [B, n].

    The exponents are of data that never repeat where two budgets or more of them have a lowest
    point, else of the U different hours at which most have: "unique_hours" says which.
    """
    parts, lines = [], {}
    for pool, group in budgets_of(data):
        x, losses = np.log(data.N[group]), data.losses[group]
        budget = float(np.exp(np.log(data.flops[group]).mean()))
        middle = x.mean()
        both = np.concatenate([np.ones((1, len(group))), weights[:, group]])
        curves = _parabolas(x - middle, losses, both)
        with np.errstate(divide="ignore", invalid="ignore"):
            found = middle - curves[:, 1] / (2 * curves[:, 2])
        inside = x.min() <= found[0] <= x.max()
        why = None
        if not curves[0, 2] > 0:
            why = "the losses over N have no lowest point"
        elif not inside:
            why = "the lowest point lies outside the sizes tried"
        elif edge := _edge(data.N[group], losses):
            why = f"the lowest loss is that of the {edge} size tried"
        beyond = (found < x.min() - FAR) | (found > x.max() + FAR)
        found[~(curves[:, 2] > 0) | beyond] = math.nan
        # Of one budget the hours are a smooth function of the size: read off where the vertex is.
        line = np.polyfit(x - middle, np.log(data.D[group]), 2 if len(np.unique(x)) > 3 else 1)
        c2, c1, c0 = curves[0, 2], curves[0, 1], curves[0, 0]
        at = found[0] - middle
        parts.append({
            "flops": budget, "unique_hours": pool, "N": [float(v) for v in data.N[group]],
            "losses": [float(v) for v in losses],
            "vertex_N": None if why else float(np.exp(found[0])),
            "vertex_D_hours": None if why else float(np.exp(np.polyval(line, at))),
            "vertex_loss": None if why else float(c0 + c1 * at + c2 * at**2),
            "coefficients": [  # of 1, ln N and its square
                float(c0 - c1 * middle + c2 * middle**2), float(c1 - 2 * c2 * middle), float(c2)
            ],
            "used": why is None, "why": why,
        })
        if why is None:
            row = math.log(budget), found, np.polyval(line, found - middle)
            lines.setdefault(pool, []).append(row)
    result = {
        "budgets": parts, "unique_hours": None, "N_exponent": None, "D_exponent": None, "why": None
    }
    # Of data that never repeat where they make a line, else of the hours with most points.
    new = len(lines.get(None, [])) >= 2
    pool = None if new else max(lines, key=lambda key: len(lines[key]), default=None)
    if len(lines.get(pool, [])) < 2:
        used = sum(part["used"] for part in parts)
        result["why"] = (
            f"{used} of {len(parts)} curves of {SIZES} sizes or more (FLOPs within "
            f"{TOLERANCE - 1:.0%}, one kind of data) have their lowest point between the sizes "
            "tried; a line needs 2 of one kind"
        )
        return result
    middles, *both = map(np.array, zip(*lines[pool]))
    result["unique_hours"] = pool
    for name, rows in zip(("N_exponent", "D_exponent"), both):
        slopes = _slopes(middles, rows)
        result[name] = exponent(float(slopes[0]), slopes[1:])
    return result


def _edge(n: np.ndarray, losses: np.ndarray) -> str:
    """"smallest" or "largest" where that size has the lowest loss: a parabola may turn between it
    and the next, but no measurement says that the losses do."""
    sizes = np.unique(n)
    lowest = np.argmin([losses[n == size].mean() for size in sizes])
    return {0: "smallest", len(sizes) - 1: "largest"}.get(int(lowest), "")


def _parabolas(x: np.ndarray, losses: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """c0 + c1 x + c2 x^2 by least squares under each row of `weights` [B, n]: [B, 3].

    nan where a row holds fewer than three sizes.
    """
    columns = np.stack([np.ones_like(x), x, x**2], axis=1)
    gram = np.einsum("bn,ni,nj->bij", weights, columns, columns)
    right = np.einsum("bn,ni,n->bi", weights, columns, losses)
    different = np.unique(x)
    there = (weights @ (x[:, None] == different)) > 0
    sound = there.sum(axis=1) >= SIZES
    gram[~sound] = np.eye(3)
    found = np.linalg.solve(gram, right[:, :, None])[:, :, 0]
    found[~sound] = math.nan
    return found


def _slopes(x: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Slopes [B] of `rows` [k, B] over x [k], each where they are numbers; of two or more."""
    there = np.isfinite(rows)
    count = there.sum(axis=0)
    filled = np.where(there, rows, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        left = np.where(there, x[:, None] - (there * x[:, None]).sum(axis=0) / count, 0.0)
        slopes = (left * filled).sum(axis=0) / (left**2).sum(axis=0)
    return np.where(count >= 2, slopes, math.nan)
