"""How often the 90 % intervals of `sleeplm scaling fit` hold what they are intervals of.

    python experiments/benchmarks/scaling_coverage.py [--designs grid diverged repeated]
                                                      [--studies 100] [--bootstraps 1000]

For each design, simulated studies from one law whose constants are known, each with its own noise,
are read from a file and fitted as that command does (without the second implementation, which has
no part in the intervals). Told are, for each constant, in how many
studies its interval held the true value, the median of the interval's width, and in how many it was
"not identified" (which count as they fell, too). Of the isoFLOP parabolas the truth is the law's
exponent, which parabolas miss by design: that bias is part of what is measured. Of the largest
compute held out it is what was measured there, the width a share of it. All is simulated; 1 to 2
CPU-minutes a design.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import tempfile
import time
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")  # before numpy

import numpy as np  # noqa: E402

from sleeplm_jax.scaling.collect import collect, table_of  # noqa: E402
from sleeplm_jax.scaling.compute import power_of_compute  # noqa: E402
from sleeplm_jax.scaling.held_out import predict_largest  # noqa: E402
from sleeplm_jax.scaling.isoflop import isoflop  # noqa: E402
from sleeplm_jax.scaling.optimum import cost_of  # noqa: E402
from sleeplm_jax.scaling.parametric import described, fit_parametric  # noqa: E402
from sleeplm_jax.scaling.simulated import TrueLaw, study  # noqa: E402

FOUR = {f"n{i}": 1e5 * 4.0**i for i in range(4)}
SIX = {f"n{i}": 1e5 * 10 ** (0.4 * i) for i in range(6)}
BUDGETS = [3e11 * 10 ** (0.5 * i) for i in range(5)]
DESIGNS = {
    "grid": ("4 sizes x 4 data scales",
        TrueLaw(), {"sizes": FOUR, "hours": [10.0, 40.0, 160.0, 640.0]}),
    "diverged": ("the same, 1 run in 20 a tenth too high",
        TrueLaw(), {"sizes": FOUR, "hours": [10.0, 40.0, 160.0, 640.0], "diverged": 0.05}),
    "budgets": ("5 budgets x 6 sizes", TrueLaw(), {"sizes": SIX, "budgets": BUDGETS}),
    "repeated": ("5 budgets x 6 sizes, repeated data",
        TrueLaw(R=6.0), {"sizes": SIX, "budgets": BUDGETS, "unique": [math.inf, 100.0]}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=100)
    parser.add_argument("--bootstraps", type=int, default=1000)
    parser.add_argument("--designs", nargs="*", choices=list(DESIGNS), default=list(DESIGNS))
    given = parser.parse_args()
    print(f"{given.studies} simulated studies a design, {given.bootstraps} resamples each; load "
          f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n")
    print("| design | runs | constant | truth | held, % | median width | not identified, % |")
    print("|---|--:|---|--:|--:|--:|--:|")
    for key in given.designs:
        name, law, design = DESIGNS[key]
        began = time.process_time()
        runs, rows = measured(law, design, given.studies, given.bootstraps)
        for constant, (truth, held, width, unknown) in rows.items():
            cells = [f"{truth:.3f}", f"{100 * held:.0f}", f"{width:.3f}", f"{100 * unknown:.0f}"]
            print("|", " | ".join([name, str(runs), constant, *cells]), "|")
        spent = (time.process_time() - began) / given.studies
        print(f"\n{name}: {spent:.2f} CPU-seconds a study\n", flush=True)


def measured(law: TrueLaw, design: dict, studies: int, bootstraps: int) -> tuple[int, dict]:
    """Runs a study; and by constant: truth, share held, median width, share not identified."""
    total = law.a + law.omega * law.b
    truth = {
        "a": law.a, "b": law.b, "E": law.E, "R": law.R, "N_exponent": law.allocation(),
        "D_exponent": law.a / total, "loss_exponent": law.a * law.b / total,
        "isoFLOP N_exponent": law.allocation(), "isoFLOP D_exponent": law.a / total,
        "power of compute c": law.a * law.b / total, "largest compute held out": 1.0,
    }
    found: dict[str, list] = {name: [] for name in truth}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "results.jsonl"
        for seed in range(studies):
            rows = study(law, **design, seed=seed)
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
            data, _ = table_of(collect([str(path)]).runs, "simulated")
            fit = fit_parametric(
                data, cost_of(data).omega, bootstraps, np.random.default_rng([seed, 0])
            )
            law_said = described(fit, float(data.losses.min()))
            values = {name: law_said.get(name) for name in truth}
            curves = isoflop(data, fit.drawn)
            for name in ("N_exponent", "D_exponent"):
                values[f"isoFLOP {name}"] = curves[name]
            values["power of compute c"] = power_of_compute(
                data, fit.drawn, 10 * float(data.flops.max())
            ).get("c")
            largest = predict_largest(
                data, cost_of(data).omega, bootstraps, np.random.default_rng([seed, 1])
            )
            told = largest["predicted"]  # as shares of what was measured
            values["largest compute held out"] = told | {
                end: told[end] / largest["observed"] for end in ("low", "high")
            }
            for name, value in values.items():
                if value and value["low"] is not None:
                    found[name].append((value["low"], value["high"], not value["identified"]))
    result = {}
    for name, rows_of in found.items():
        if len(rows_of) < studies / 2:  # none to speak of: no parabolas in a grid, no repeats
            continue
        low, high, unknown = np.array(rows_of, float).T
        held = (low <= truth[name]) & (truth[name] <= high)
        result[name] = truth[name], held.mean(), np.median(high - low), unknown.mean()
    return len(rows), result


if __name__ == "__main__":
    main()
