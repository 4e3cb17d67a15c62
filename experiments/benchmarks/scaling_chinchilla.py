"""Chinchilla's published table through `sleeplm scaling fit`, or a simulated one like it.

    python experiments/benchmarks/scaling_chinchilla.py [svg_extracted_data.csv]

The table is what Epoch AI read off figure 4 of Hoffmann et al. 2022: `data/svg_extracted_data.csv`
of github.com/epoch-research/analyzing-chinchilla (245 runs; not part of this repository). As there,
D is FLOPs / 6N, the five highest losses are left out and Huber's delta is 1e-3. Their re-fit
(Besiroglu et al. 2024, arXiv:2404.10102; the figures are those of their notebook): E 1.817,
alpha 0.347, beta 0.367. Without a file the same grid of sizes and tokens is simulated from those
constants, with 0.5 % noise. 4 to 10 s on a busy machine.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import tempfile
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")  # before numpy

from sleeplm_jax.scaling.fit import fit_study  # noqa: E402
from sleeplm_jax.scaling.fit_text import rendered  # noqa: E402
from sleeplm_jax.scaling.simulated import TrueLaw, study  # noqa: E402

PUBLISHED = TrueLaw(
    E=1.8172, A=477.8, a=0.3473, B=2143.0, b=0.3672, seed_sd=0.005, kappa=6.0, omega=1.0
)
DELTA = 1e-3
LEFT_OUT = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("csv", nargs="?", help="svg_extracted_data.csv; simulated without it")
    parser.add_argument("--bootstraps", type=int, default=1000)
    given = parser.parse_args()
    rows = published(Path(given.csv)) if given.csv else simulated()
    print(f"{len(rows)} runs, {'read off the figure' if given.csv else 'simulated'}; hours are "
          "tokens here")
    print(rendered(refit(rows, given.bootstraps)))


def refit(rows: list[dict], bootstraps: int) -> dict:
    """`fit_study` of the rows, by way of a file, under the published re-fit's delta."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "results.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return fit_study([str(path)], bootstraps=bootstraps, huber_delta=DELTA)


def published(path: Path) -> list[dict]:
    """The CSV's rows as results, without the five highest losses."""
    with open(path, newline="") as file:
        table = [
            (float(row["Model Size"]), float(row["Training FLOP"]), float(row["loss"]))
            for row in csv.DictReader(file)
        ]
    limit = sorted(loss for *_, loss in table)[-LEFT_OUT]
    rows = []
    for i, (n, flops, loss) in enumerate(table):
        if loss < limit:
            tokens = flops / (6 * n)
            rows.append({
                "cell": f"point {i}", "size": f"{n!r}", "N": n, "D_hours": tokens,
                "unique_hours": tokens, "flops": flops, "seed": 0, "losses": {"loss": loss},
                "corpus": "MassiveText", "held_out": "Chinchilla's",
            })
    return rows


def simulated(seed: int = 0) -> list[dict]:
    """A grid like the table's: nine budgets from 6e18 to 3e21 FLOPs, 26 sizes of 6e7 to 1e10."""
    sizes = {f"n{i}": 6e7 * (1e10 / 6e7) ** (i / 25) for i in range(26)}
    budgets = [6e18 * (3e21 / 6e18) ** (i / 8) for i in range(9)]
    return study(PUBLISHED, sizes, budgets=budgets, seeded=0, seed=seed)


if __name__ == "__main__":
    main()
