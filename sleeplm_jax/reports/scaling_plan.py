"""A study's plan on a terminal: its cells, and what they cost before anything runs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from sleeplm_jax.scaling.plan import Plan

if TYPE_CHECKING:
    from sleeplm_jax.scaling.cells import State

GIB = 2**30


HEADS = ("size", "N", "all", "budget", "unique h", "h seen", "passes", "steps", "batch", "rate",
         "seeds", "reckoned", "memory")


def table(plan: Plan) -> list[str]:
    """Lines: a row for each cell, its seeds together; budgets in FLOPs, hours of sleep."""
    groups: dict[str, list] = {}
    for cell in plan.cells:
        groups.setdefault(cell.name.rpartition("-s")[0], []).append(cell)
    rows = [HEADS]
    for cells in sorted(groups.values(), key=lambda c: (c[0].budget, c[0].unique_hours, c[0].n)):
        cell = cells[0]
        rows.append((
            cell.size, count(cell.n), count(cell.n_all), f"{cell.budget:.3g}",
            f"{cell.unique_hours:.4g}", f"{cell.hours:.4g}", f"{cell.passes:.3g}",
            f"{cell.steps:,}", f"{cell.batch_size:,}", f"{cell.learning_rate:.3g}",
            ",".join(str(c.seed) for c in cells), lasting(cell.seconds),
            f"{cell.memory_bytes / GIB:.2f} GiB",
        ))
    return aligned(rows)


def aligned(rows: list[tuple[str, ...]]) -> list[str]:
    """Rows of words as lines, the first column to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(word.rjust(width) if column else word.ljust(width)
                      for column, (word, width) in enumerate(zip(row, widths, strict=True)))
            for row in rows]


def lines(plan: Plan) -> list[str]:
    """What it costs, and by which figures."""
    speed, cells = plan.speed, plan.cells
    apart = max(abs(cell.flops / cell.budget - 1) for cell in cells)
    told = [
        f"{len(cells)} cells, {plan.flops:.3g} FLOPs in all (matrix products, attention's "
        f"included; whole steps are within {apart:.1%} of the budgets)",
        f"{lasting(plan.seconds)} on one such machine, one cell after another, the longest "
        f"{lasting(max(cell.seconds for cell in cells))}; reckoned with {speed.flops_per_s:.3g} "
        f"FLOP/s, {1e3 * speed.sample_s:.3g} ms a sample and {speed.cell_s:.3g} s a cell "
        f"({speed.source})",
        f"at most {max(cell.memory_bytes for cell in cells) / GIB:.2f} GiB on one device "
        "(parameters, gradients, optimiser, what autodiff keeps; reckoned, without the program)",
    ]
    if not plan.data.known:
        told.append(f"no corpus yet: reckoned with {plan.data.vocabulary:,} tokens and "
                    f"{plan.study.hours:g} h, which the study states")
    told += [f"left out: {name}: {why}" for name, why in plan.left_out]
    return told


def standing(plan: Plan, states: dict[str, State]) -> list[str]:
    """A line for each cell: how it stands."""
    width = max(len(cell.name) for cell in plan.cells)
    return [
        f"{cell.name:<{width}}  {states[cell.name].word}"
        + (f" ({states[cell.name].why})" if states[cell.name].why else "")
        for cell in plan.cells
    ]


def count(number: float) -> str:
    """Three digits with k, M or G."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {letter}"
    return f"{number:.3g}"


def lasting(seconds: float) -> str:
    """`12 s`, `3.4 min`, `5.6 h`, `7.8 days`."""
    if not math.isfinite(seconds):
        return "?"
    for size, word in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size or (word == "min" and seconds >= 100):
            return f"{seconds / size:.1f} {word}"
    return f"{seconds:.0f} s"
