"""Simulated studies: results' rows drawn from a law whose constants are known.

For checking the fit, and for trying the commands before there are runs. They say "simulated".
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np


@dataclasses.dataclass(frozen=True)
class TrueLaw:
    """L = E + A / N^a + B / D'^b of N parameters and D' effective hours; R in passes (inf: none).

    `seed_sd` is the standard deviation of ln(loss) between seeds. Training costs `kappa` N^omega
    FLOPs for an hour of sleep.
    """

    E: float = 0.9
    A: float = 60.0
    a: float = 0.37
    B: float = 3.0
    b: float = 0.30
    R: float = math.inf
    seed_sd: float = 0.005
    kappa: float = 2e4
    omega: float = 0.97

    def loss(self, n: float, hours: float, unique: float | None = None) -> float:
        """Without noise; of `hours` seen, `unique` of them different (all, where not said)."""
        unique = hours if unique is None else min(unique, hours)
        effective = unique
        if hours > unique:
            again = hours / unique - 1.0
            kept = again if math.isinf(self.R) else self.R * (1.0 - math.exp(-again / self.R))
            effective = unique * (1.0 + kept)
        return self.E + self.A / n**self.a + self.B / effective**self.b

    def flops(self, n: float, hours: float) -> float:
        return self.kappa * n**self.omega * hours

    def allocation(self) -> float:
        """The exponent p of the best size under compute, N ~ C^p."""
        return self.b / (self.a + self.omega * self.b)


def study(
    law: TrueLaw,
    sizes: dict[str, float],
    hours: list[float] | None = None,
    budgets: list[float] | None = None,
    unique: list[float] | None = None,
    seeds: int = 3,
    seeded: int = 4,
    seed: int = 0,
    diverged: float = 0.0,
) -> list[dict]:
    """Rows of results.jsonl of every size under every scale of data, or under every budget.

    `hours` are seen by each size, or `budgets` (FLOPs) spent on it; each of `unique` (hours that
    are different; all, where not said) makes a cell of its own. Every k-th cell, `seeded` of them
    in all, has `seeds` seeds, the others one. `seed` is that of the noise; a share `diverged` of
    the runs went wrong and ended a tenth too high.
    """
    generator = np.random.default_rng(seed)
    places = []
    for name, n in sizes.items():
        for k, scale in enumerate(budgets or hours):
            seen = scale / law.flops(n, 1.0) if budgets else scale
            for u, limit in enumerate(unique or [math.inf]):
                places.append((f"{name}-{k}-{u}", name, n, seen, min(limit, seen)))
    many = set(np.linspace(0, len(places) - 1, seeded).round().astype(int)) if seeded else set()
    rows = []
    for i, (cell, name, n, seen, different) in enumerate(places):
        for s in range(seeds if i in many else 1):
            loss = law.loss(n, seen, different) * math.exp(law.seed_sd * generator.normal())
            loss *= 1.1 if generator.random() < diverged else 1.0
            rows.append({
                "cell": f"{cell}-s{s}", "size": name, "N": n, "D_hours": seen,
                "unique_hours": different, "passes": seen / different,
                "flops": law.flops(n, seen), "seed": s, "status": "done",
                "losses": {"simulated": loss}, "corpus": "simulated", "held_out": "simulated",
            })
    return rows
