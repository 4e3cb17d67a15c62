"""The best size and data for a budget of compute, by the law of size and data, with bands."""

from __future__ import annotations

import dataclasses

import numpy as np

from sleeplm_jax.scaling.collect import Table
from sleeplm_jax.scaling.intervals import bands, ends, factor, stated
from sleeplm_jax.scaling.parametric import Law, Parametric

CURVE = 40
SIZES = 241  # of which the best is taken where data repeat
RANGE = (np.log(1e-40), np.log(1e40))  # beyond which a best size is not a number


@dataclasses.dataclass(frozen=True)
class Cost:
    """FLOPs of an hour of sleep, kappa N^omega, and how far off that is at worst in the runs."""

    kappa: float
    omega: float
    worst: float

    def hours(self, flops: np.ndarray, n: np.ndarray) -> np.ndarray:
        return flops / (self.kappa * n**self.omega)


def cost_of(data: Table) -> Cost:
    """The line of ln(FLOPs / hours) over ln N through the runs, by least squares."""
    x, y = np.log(data.N), np.log(data.flops / data.D)
    omega, start = np.polyfit(x, y, 1)
    worst = float(np.max(np.abs(np.expm1(y - (start + omega * x)))))
    return Cost(float(np.exp(start)), float(omega), worst)


def best(law: Law, cost: Cost, flops: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Best N and hours, and the loss, of each constant's row at `flops` [m]: three of [B, m].

    In closed form, all data being new; nan where size or data have no part in the loss.
    """
    a, b, omega = law.a[:, None], law.b[:, None], cost.omega
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.log(a * law.A[:, None]) - np.log(omega * b * law.B[:, None])
    logs = (ratio + b * np.log(np.asarray(flops) / cost.kappa)) / (a + omega * b)
    n = np.exp(np.where((logs > RANGE[0]) & (logs < RANGE[1]), logs, np.nan))
    hours = cost.hours(np.asarray(flops), n)
    return n, hours, law.losses(n, hours)


def best_repeating(
    law: Law, cost: Cost, flops: float, unique: float, repeats_known: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same at one budget with only `unique` hours to be had: [B] each.

    Where the best needs more hours than that, they are repeated for what the law says repeats are
    worth, by search over sizes; where it says nothing, they are not, and N takes up the rest.
    """
    n, hours, losses = (part[:, 0] for part in best(law, cost, np.array([flops])))
    short = hours > unique
    if short.any():
        some = Law(*(getattr(law, field.name)[short] for field in dataclasses.fields(Law)))
        most = (flops / (cost.kappa * unique)) ** (1 / cost.omega)  # all of it on one pass
        if repeats_known:
            # The best lies between no repeats and the size that endless new data would ask for.
            share = np.linspace(0, 1, SIZES)
            sizes = np.exp(np.log(n[short])[:, None] * (1 - share) + np.log(most) * share)
        else:
            sizes = np.full((short.sum(), 1), most)
        seen = cost.hours(flops, sizes)
        found = some.losses(sizes, seen, np.full_like(seen, unique))
        at = np.argmin(found, axis=1),
        rows = np.arange(len(sizes))
        n[short], hours[short] = sizes[rows, at[0]], seen[rows, at[0]]
        losses[short] = found[rows, at[0]]
    return n, hours, losses


def curves(fit: Parametric, cost: Cost, most: float) -> dict:
    """fit.json's "optimum": best N, D and loss from the least FLOPs of a run to `most`."""
    flops = np.geomspace(fit.data.flops.min(), most, CURVE)
    result = {"flops": flops.tolist(), "measured_to": float(fit.data.flops.max())}
    one, many = best(fit.law, cost, flops), best(fit.resampled, cost, flops)
    for name, value, resampled in zip(("N", "D_hours", "loss"), one, many):
        low, high = bands(resampled)
        plain = [float(v) if np.isfinite(v) else None for v in value[0]]
        result[name] = {"value": plain, "low": low, "high": high}
    return result


def recommended(
    fit: Parametric, cost: Cost, flops: float, unique: float | None, best_loss: float
) -> dict:
    """The size and the data for `flops`, of which `unique` hours are different (None: no end)."""
    limit = np.inf if unique is None else unique
    one = best_repeating(fit.law, cost, flops, limit, fit.repeated)
    many = best_repeating(fit.resampled, cost, flops, limit, fit.repeated)
    n, hours, loss = (float(part[0]) for part in one)
    low, high = ends(many[2])
    why = None
    if loss < best_loss and high - low > best_loss - loss:
        why = (f"the interval is {high - low:.3g} wide, and the gain on the best cell "
               f"{best_loss - loss:.3g}")
    note = None
    passes = None
    if unique is not None:
        passes = factor(float(np.maximum(1.0, hours / unique)), np.maximum(1.0, many[1] / unique))
        if not fit.repeated and hours > unique * 0.999:
            note = ("no run repeated its data: what repeats are worth is not known, and none is "
                    "recommended")
        elif hours / unique > 1.02 * (measured := float((fit.data.repeats + 1).max())):
            note = f"that many passes were not measured: the runs had {measured:.3g} at most"
    sizes = {run.size: run.N for run in fit.data.runs}
    nearest = min(sizes, key=lambda name: abs(np.log(sizes[name] / n))) if n == n else None
    return {
        "flops": float(flops), "N": factor(n, many[0]), "D_hours": factor(hours, many[1]),
        "unique_hours": unique, "passes": passes, "loss": stated(loss, many[2], why),
        "extrapolation": float(flops / fit.data.flops.max()), "note": note,
        "nearest_size": {"size": nearest, "N": sizes[nearest]} if nearest else None,
    }
