"""The ledger as a table of paired differences, written into docs/ablations.md.

    python experiments/ablations/report.py

Each variant is held against the base with the same seed: difference d_s = variant_s - base_s, then
mean and standard deviation over seeds and a 95 % interval by Student's t. Between the marks in
docs/ablations.md everything is written by this script; the rest of that page by people.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

from figures import METRICS
from ledger import Ledger, equal_codes
from recipe import sweep

HERE = Path(__file__).resolve().parent
PAGE = HERE.parents[1] / "docs" / "ablations.md"
BEGIN, END = "<!-- made by report.py: begin -->", "<!-- made by report.py: end -->"
WORDS = {
    "prompted_kappa": "prompted staging, kappa", "held_out_kappa": "held-out wordings, kappa",
    "linear_kappa": "linear head, kappa", "retrieval_1": "retrieval R@1",
    "retrieval_10": "retrieval R@10", "caption_nll": "caption loss, nats/token",
    "signal_gain": "signal gain, nats/token", "number_error": "number error",
    "invented": "invented",
}
DIGITS = {"signal_gain": 3, "caption_nll": 3}


@dataclass(frozen=True)
class Paired:
    """Differences of a variant from the base on one figure."""

    seeds: int
    mean: float
    spread: float | None  # standard deviation over seeds, of at least two
    half: float | None  # half of the 95 % interval of the mean

    def verdict(self, higher_is_better: bool) -> str:
        """What three seeds allow to say: helped, hurt or open; "few seeds" below three."""
        if self.seeds < 3:
            return "few seeds"
        good = (self.mean > 0) == higher_is_better
        if abs(self.mean) > self.half:
            return "helped" if good else "hurt"
        return "open"


def paired(variant: dict[int, float], base: dict[int, float]) -> Paired | None:
    """Of figures by seed; None where no seed has both."""
    from scipy.stats import t

    differences = [variant[seed] - base[seed] for seed in sorted(variant.keys() & base.keys())]
    if not differences:
        return None
    n = len(differences)
    spread = stdev(differences) if n > 1 else None
    half = None if spread is None else float(t.ppf(0.975, n - 1)) * spread / math.sqrt(n)
    return Paired(n, mean(differences), spread, half)


def group(rows: Iterable[dict]) -> list[dict]:
    """The rows that may be held against each other: of the last one's corpus and tokenizer, and of
    its code or of code that is shown to give the same (`ledger.equal_codes`); of a run that both
    made the later row."""
    rows = list(rows)
    if not rows:
        return []
    last, codes = rows[-1], equal_codes(rows, rows[-1]["code"])
    found = {
        (row["variant"], row["seed"], row["recipe"]): row for row in rows
        if row["code"] in codes and all(row[n] == last[n] for n in ("corpus", "tokenizer"))
    }
    return list(found.values())


def figures(rows: Iterable[dict], metric: str) -> dict[str, dict[int, float]]:
    """{variant: {seed: value}}; of two recipes of one variant the later row's stands."""
    found: dict[str, dict[int, float]] = {}
    recipes: dict[str, str] = {}
    for row in rows:
        variant = row["variant"]
        if recipes.setdefault(variant, row["recipe"]) != row["recipe"]:
            recipes[variant], found[variant] = row["recipe"], {}
        value = row["metrics"].get(metric)
        if value is not None:
            found.setdefault(variant, {})[row["seed"]] = value
    return found


def page(rows: list[dict]) -> str:
    """What stands between the marks."""
    if not rows:
        return "The ledger is empty.\n"
    shown = [metric for metric in METRICS if figures(rows, metric).get("base")]
    order = [name for name in sweep() if any(row["variant"] == name for row in rows)]
    parts = [_about(rows), _base(rows, shown), _differences(rows, shown, order),
             _sentences(rows, shown, order)]
    return "\n".join(parts)


def _about(rows: list[dict]) -> str:
    cpu = [row["cost"]["cpu_s"] for row in rows if not row["cost"]["resumed"]]
    wall = [row["cost"]["wall_s"] for row in rows if not row["cost"]["resumed"]]
    loads = [row["cost"]["load_at_start"] for row in rows]
    jax = sorted({f"jax {row['versions']['jax']}" for row in rows})
    test = rows[-1]["test"]
    people = "simulated people" if test["simulated"] else "people"
    lines = [
        f"{len(rows)} runs, of {len(sweep())} variants with three seeds each that are asked for; "
        "measured on "
        f"{test['epochs']:,} epochs of {test['subjects']} {people} never trained on; "
        f"corpus `{rows[-1]['corpus'][:8]}`, code `{rows[-1]['code'][:8]}`, {', '.join(jax)}.",
    ]
    if cpu:
        lines.append(
            f"A run took {min(cpu):.0f} to {max(cpu):.0f} CPU-seconds ({min(wall):.0f} to "
            f"{max(wall):.0f} s by the clock, on 2 cores at loads of {min(loads):.1f} to "
            f"{max(loads):.1f}) and at most {max(row['cost']['peak_mib'] for row in rows):,} MiB."
        )
    return "\n".join(lines) + "\n"


def _base(rows: list[dict], shown: list[str]) -> str:
    lines = ["| base | mean | sd over seeds | seeds |", "|---|--:|--:|--:|"]
    for metric in shown:
        values = list(figures(rows, metric)["base"].values())
        spread = f"{stdev(values):.3f}" if len(values) > 1 else "-"
        lines.append(f"| {WORDS[metric]} | {mean(values):.3f} | {spread} | {len(values)} |")
    return "\n".join(lines) + "\n"


def _differences(rows: list[dict], shown: list[str], order: list[str]) -> str:
    lines = [
        "Difference from the base, mean ± standard deviation over the seeds that both have; "
        "**bold**: the 95 % interval leaves out 0.", "",
        "| variant | seeds | " + " | ".join(
            f"{WORDS[m]} {'↑' if METRICS[m][1] else '↓'}" for m in shown) + " |",
        "|---|--:|" + "--:|" * len(shown),
    ]
    for variant in order:
        if variant == "base":
            continue
        cells, seeds = [], 0
        for metric in shown:
            found = _of(rows, metric, variant)
            seeds = max(seeds, found.seeds if found else 0)
            cells.append(_cell(found, metric))
        lines.append(f"| {variant} | {seeds} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(found: Paired | None, metric: str) -> str:
    if found is None:
        return "-"
    digits = DIGITS.get(metric, 2)
    text = f"{found.mean:+.{digits}f}"
    if found.spread is not None:
        text += f" ± {found.spread:.{digits}f}"
    return f"**{text}**" if found.verdict(True) in ("helped", "hurt") else text


def _sentences(rows: list[dict], shown: list[str], order: list[str]) -> str:
    said: dict[str, list[str]] = {"helped": [], "hurt": []}
    pairs = 0
    for variant in order:
        for metric in shown if variant != "base" else ():
            found = _of(rows, metric, variant)
            if found is None or found.seeds < 3:
                continue
            pairs += 1
            verdict = found.verdict(METRICS[metric][1])
            if verdict in said:
                digits = DIGITS.get(metric, 2)
                said[verdict].append(
                    f"{variant}: {WORDS[metric]} {found.mean:+.{digits}f} "
                    f"({found.mean - found.half:+.{digits}f} to "
                    f"{found.mean + found.half:+.{digits}f})"
                )
    if not pairs:
        return "No variant has three seeds yet: nothing is said to help or to hurt.\n"
    lines = [
        f"Of {pairs} comparisons with three seeds or more, about {0.05 * pairs:.0f} would leave "
        f"out 0 by chance alone; {sum(map(len, said.values()))} do."
    ]
    for verdict, found in said.items():
        words = "Better than the base" if verdict == "helped" else "Worse than the base"
        lines += ["", f"{words} (mean and 95 % interval):", ""]
        lines += [f"- {line}" for line in found] or ["- none"]
    return "\n".join(lines) + "\n"


def _of(rows: list[dict], metric: str, variant: str) -> Paired | None:
    found = figures(rows, metric)
    return paired(found.get(variant, {}), found.get("base", {}))


def write(text: str, path: Path) -> None:
    """Puts `text` between the marks of the page; ValueError where it has none."""
    whole = path.read_text()
    before, begin, rest = whole.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path}: lacks {BEGIN!r} and {END!r}")
    path.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ledger", type=Path, default=HERE / "ledger.jsonl")
    parser.add_argument("--page", type=Path, default=PAGE)
    args = parser.parse_args()
    rows = Ledger(args.ledger).rows()
    chosen = group(rows)
    text = page(chosen)
    if len(chosen) < len(rows):
        text += (f"\n{len(rows) - len(chosen)} rows of another corpus or of code with other "
                 "results are left out.\n")
    write(text, args.page)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
