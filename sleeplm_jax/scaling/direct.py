"""The law of size and data a second time, by other means: L-BFGS from many starts.

As in approach 3 of Hoffmann et al. 2022 (arXiv:2203.15556): the logarithm of the prediction is a
log-sum-exp of e, a - alpha ln N and b - beta ln D, Huber's loss of its difference from ln L is
summed, and L-BFGS started from a grid. Nothing is shared with `point` and `power_sum`: what the
two agree on is neither's slip. The objective is divided by delta^2, since L-BFGS stops early on
small objectives (the flaw that Besiroglu et al. 2024, arXiv:2404.10102, found in the original).
"""

from __future__ import annotations

import itertools

import numpy as np

EXPONENTS = (0.15, 0.4, 0.9)
FLOORS = (0.2, 0.6, 0.9)  # of the lowest loss
PASSES = (3.0, 30.0)
LEAST_OBJECTIVE = 1e-8  # a run, of residuals of some 1e-4: below it both have the law exactly
ROUNDS = 3  # L-BFGS is started anew from where it stopped, its memory emptied


def fit_direct(
    losses: np.ndarray, n: np.ndarray, unique: np.ndarray, passes: np.ndarray | None, delta: float
) -> dict:
    """{"E", "A", "a", "B", "b", "R" (None without `passes`), "objective", "starts"}.

    All arrays [runs]: losses, parameters, hours that are different, and how often they were seen
    (None: once).
    """
    from scipy.optimize import minimize

    target = np.log(losses)
    x, y = np.log(n), np.log(unique)
    middle = x.mean(), y.mean()
    best = None
    begun = list(itertools.product(EXPONENTS, EXPONENTS, FLOORS, PASSES if passes is not None
                                   else (None,)))
    lowest, typical = losses.min(), np.median(losses)
    for alpha, beta, floor, worth in begun:
        part = 0.5 * (typical - floor * lowest)
        vector = [np.log(floor * lowest), np.log(part) + alpha * middle[0], alpha,
                  np.log(part) + beta * middle[1], beta]
        if worth is not None:
            vector.append(np.log(worth))
        limits = [(-30, 30), (None, None), (0.01, 4), (None, None), (0.01, 4)]
        limits += [(np.log(0.05), np.log(1000))] * (worth is not None)
        for _ in range(ROUNDS):
            found = minimize(
                _objective, vector, args=(target, x, y, passes, delta), jac=True,
                method="L-BFGS-B", bounds=limits,
                options={"maxiter": 2000, "maxcor": 20, "ftol": 1e-14, "gtol": 1e-9},
            )
            vector = found.x
        if best is None or found.fun < best.fun:
            best = found
    e, a, alpha, b, beta = best.x[:5]
    return {
        "E": float(np.exp(e)), "A": float(np.exp(a)), "a": float(alpha), "B": float(np.exp(b)),
        "b": float(beta), "R": float(np.exp(best.x[5])) if passes is not None else None,
        "objective": float(best.fun * delta**2), "starts": len(begun),
    }


def _objective(vector, target, x, y, passes, delta):
    e, a, alpha, b, beta = vector[:5]
    data, by_worth = y, None
    if passes is not None:
        worth = np.exp(vector[5])
        left = np.exp(-(np.maximum(passes, 1.0) - 1.0) / worth)
        gained = 1.0 + worth * (1.0 - left)
        data = y + np.log(gained)
        by_worth = (worth * (1.0 - left) - (np.maximum(passes, 1.0) - 1.0) * left) / gained
    exponents = np.stack([np.full_like(x, e), a - alpha * x, b - beta * data])
    top = exponents.max(axis=0)
    shares = np.exp(exponents - top)
    total = shares.sum(axis=0)
    shares /= total
    difference = (top + np.log(total) - target) / delta
    clipped = np.clip(difference, -1.0, 1.0)
    value = float((clipped * (difference - 0.5 * clipped)).sum())
    pull = clipped / delta * shares
    gradient = [pull[0].sum(), pull[1].sum(), -(pull[1] * x).sum(), pull[2].sum(),
                -(pull[2] * data).sum()]
    if passes is not None:
        gradient.append(-(pull[2] * beta * by_worth).sum())
    return value, np.array(gradient)


def checked(first: dict, second: dict, runs: int) -> dict:
    """What the second fit says of the first (`described`) of so many runs: fit.json's "check".

    They agree where the objectives differ by less than a thousandth and the exponents by less than
    a tenth of their 90 % intervals (or 0.002, where those are narrower than what is read off them).
    """
    differences = {
        k: abs(first[k]["value"] - second[k]) for k in "ab" if first[k]["value"] is not None
    }
    why = None
    floor = LEAST_OBJECTIVE * runs
    ratio = (second["objective"] + floor) / (first["objective"] + floor)
    if ratio < 1 - 1e-3:
        why = f"the second fit's objective is {1 - ratio:.2%} lower"
    elif ratio > 1 + 1e-3:
        why = f"the second fit stopped with an objective {ratio - 1:.2%} higher"
    for k, difference in differences.items():
        width = first[k]["high"] - first[k]["low"] if first[k]["low"] is not None else 0.0
        if why is None and difference > max(0.1 * width, 0.002):
            why = f"{k} differs by {difference:.3g}, of an interval {width:.3g} wide"
    largest = max(differences.values(), default=None)
    return {
        "method": f"L-BFGS from {second['starts']} starts, log-sum-exp (Hoffmann's approach 3)",
        **{k: second[k] for k in ("E", "A", "a", "B", "b", "R", "objective")},
        "largest_difference": largest, "agree": why is None, "why": why,
    }
