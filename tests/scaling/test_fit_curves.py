"""IsoFLOP parabolas and the power of compute, on rows made so that the answer is plain."""

import math

import numpy as np
import pytest

from sleeplm_jax.scaling.collect import Run, table
from sleeplm_jax.scaling.compute import frontier, power_of_compute
from sleeplm_jax.scaling.isoflop import budgets_of, isoflop

SIZES = np.array([1e5, 2e5, 4e5, 8e5, 1.6e6])


def rows_of(cells):
    """A table of (N, D, unique, FLOPs, loss) rows, each a cell of its own."""
    runs = [
        Run(f"x:{i}", f"c{i}", f"{n}", n, d, u, c, 0, {}) for i, (n, d, u, c, _) in enumerate(cells)
    ]
    return table(runs, np.array([cell[-1] for cell in cells]))


def drawn(data, count=200):
    n = len(data.runs)
    return np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=count).astype(float)


def bowls(budgets, power=0.5, shift=0.0, unique=math.inf):
    """Losses exactly parabolic in ln N about N = 4e5 (C / 1e12)^power."""
    cells = []
    for c in budgets:
        best = math.log(4e5) + power * math.log(c / 1e12) + shift
        for n in SIZES:
            d = c / (1e4 * n)
            loss = 1 + (1e12 / c) ** 0.2 + 0.05 * (math.log(n) - best) ** 2
            cells.append((n, d, min(unique, d), c, loss))
    return cells


def test_vertices_of_exact_parabolas_are_found():
    data = rows_of(bowls([5e11, 1e12, 2e12]))
    found = isoflop(data, drawn(data))
    for budget in found["budgets"]:
        best = 4e5 * (budget["flops"] / 1e12) ** 0.5
        assert budget["used"] and budget["vertex_N"] == pytest.approx(best, rel=1e-6)
        assert budget["vertex_D_hours"] == pytest.approx(budget["flops"] / 1e4 / best, rel=1e-6)
        assert budget["vertex_loss"] == pytest.approx(1 + (1e12 / budget["flops"]) ** 0.2)
        c0, c1, c2 = budget["coefficients"]
        x = math.log(2e5)
        assert c0 + c1 * x + c2 * x * x == pytest.approx(
            budget["losses"][budget["N"].index(2e5)], rel=1e-6
        )
    assert found["N_exponent"]["value"] == pytest.approx(0.5, abs=1e-6)
    assert found["D_exponent"]["value"] == pytest.approx(0.5, abs=1e-6)


def test_a_lowest_point_outside_the_sizes_is_not_used():
    data = rows_of(bowls([5e11, 1e12], shift=3.0))
    found = isoflop(data, drawn(data))
    assert not any(budget["used"] for budget in found["budgets"])
    assert "outside the sizes" in found["budgets"][0]["why"]
    assert found["N_exponent"] is None and "a line needs 2" in found["why"]


def test_repeated_data_have_curves_of_their_own():
    """Runs on 300 hours make a curve with those that saw no more than that anyway."""
    budgets = [1e12, 2e12]
    new, repeated = bowls(budgets), [
        (n, d, u, c, loss + 0.3) for n, d, u, c, loss in bowls(budgets, shift=0.4, unique=300.0)
        if d > 300.0
    ]
    assert 0 < len(repeated) < len(new)
    data = rows_of(new + repeated)
    groups = budgets_of(data)
    kinds = {pool for pool, _ in groups}
    assert kinds == {None, 300.0}
    for pool, members in groups:
        hours, unique = data.D[members], data.unique[members]
        if pool is None:
            assert (hours == unique).all() and len(members) == 5
        else:
            assert (unique <= 300.0).all() and len(np.unique(data.N[members])) == 5
    assert isoflop(data, drawn(data))["unique_hours"] is None


def test_flops_that_differ_are_no_budget():
    data = rows_of([(n, 10.0, 10.0, 1e5 * n, 1.0 + 1 / n) for n in SIZES])
    assert budgets_of(data) == []


def test_the_frontier_is_what_no_cheaper_cell_beats():
    data = rows_of([
        (1e5, 1, 1, 1e10, 3.0), (2e5, 1, 1, 2e10, 3.2), (4e5, 1, 1, 4e10, 2.5),
        (8e5, 1, 1, 4e10, 2.4), (1e6, 1, 1, 8e10, 2.4), (2e6, 1, 1, 1.6e11, 2.0),
    ])
    weights = np.array([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 1, 1.0]])
    assert frontier(data, weights).tolist() == [
        [True, False, False, True, False, True],
        [True, False, True, False, True, True],  # without the fourth, others step up
    ]


def test_the_power_of_compute_is_found():
    flops = np.geomspace(1e10, 1e14, 9)
    cells = [(1e5, c / 1e9, c / 1e9, c, 0.8 + 50 * c**-0.15) for c in flops]
    cells += [(2e5, c / 2e9, c / 2e9, c, 1.0 + 50 * c**-0.15) for c in flops]  # never on it
    data = rows_of(cells)
    found = power_of_compute(data, drawn(data), 1e15)
    assert found["c"]["value"] == pytest.approx(0.15, abs=1e-4) and found["c"]["identified"]
    assert found["E"]["value"] == pytest.approx(0.8, rel=1e-3)
    assert found["K"]["value"] == pytest.approx(50, rel=1e-2)
    assert len(found["frontier"]) == 9
    end = found["curve"]["flops"][-1]
    assert end == pytest.approx(1e15)
    assert found["curve"]["value"][-1] == pytest.approx(0.8 + 50 * end**-0.15, rel=1e-4)


def test_three_cells_are_no_frontier_to_fit():
    data = rows_of([(1e5, d, d, 1e9 * d, 3 - math.log10(d)) for d in (1.0, 10.0, 100.0)])
    assert "3 cells" in power_of_compute(data, drawn(data), 1e12)["why"]
