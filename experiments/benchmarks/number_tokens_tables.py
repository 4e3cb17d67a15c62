"""Tables of number_tokens.py: what its cells say, by cut, budget and number."""

from __future__ import annotations

import numpy as np


def interval(values) -> tuple[float, float]:
    """Mean and half width of its 95 % interval by Student's t; nan for one value."""
    from scipy import stats

    values = np.asarray(values, float)
    if len(values) < 2:
        return float(values.mean()), float("nan")
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return float(values.mean()), float(half)


def tables(cells: dict[str, dict]) -> str:
    """Markdown: all numbers by cut and steps, differences to whole numbers, and by number."""
    found = {tuple(name.split("-")): cell for name, cell in cells.items()}
    cuts = sorted({key[0] for key in found}, key=["whole", "apart", "digits"].index)
    budgets = sorted({key[1] for key in found}, key=int)
    # No mean: one run of nines says more than all the rest.
    measures = {"exact": 100, "parsed": 100, "far": 100, "median": 1}

    def seeds(cut, steps):
        return {key[2]: cell for key, cell in found.items() if key[:2] == (cut, steps)}

    def number(value, scale):
        return "-" if value is None else f"{value * scale:.{1 if scale > 1 else 3}f}"

    def spread(values, scale, sign=""):
        mean, half = interval([v for v in values if v is not None] or [float("nan")])
        digits = 1 if scale > 1 else 3
        return f"{mean * scale:{sign}.{digits}f} ± {half * scale:.{digits}f}"

    def row(*cells):
        return "| " + " | ".join(str(cell) for cell in cells) + " |"

    lines = [row("steps", "numbers", "seeds", "tokens", "exact, %", "parsed, %", "far off, %",
                 "median error, sd", "CPU ms a step"), "|" + "---|" * 9]
    for steps in budgets:
        for cut in cuts:
            mine = list(seeds(cut, steps).values())
            if mine:
                shown = [spread([c["model"]["all"][m] for c in mine], s)
                         for m, s in measures.items()]
                tokens, took = (np.mean([c[of] for c in mine])
                                for of in ("tokens_per_caption", "cpu_ms_per_step"))
                lines.append(row(steps, cut, len(mine), f"{tokens:.0f}", *shown, f"{took:.0f}"))
        some = next(cell for key, cell in found.items() if key[1] == steps)
        for name in ("floor", "median"):
            shown = [number(some[name]["all"][m], s) for m, s in measures.items()]
            lines.append(row(steps, f"({name})", "", "", *shown, ""))
    lines += ["", row("steps", "numbers, less whole", "pairs", "exact, points", "far off, points"),
              "|" + "---|" * 5]
    for steps in budgets:
        whole = seeds("whole", steps)
        for cut in cuts:
            pairs = [(c["model"]["all"], whole[s]["model"]["all"])
                     for s, c in seeds(cut, steps).items() if s in whole]
            if cut == "whole" or not pairs:
                continue
            shown = [spread([a[m] - b[m] for a, b in pairs], 100, "+") for m in ("exact", "far")]
            lines.append(row(steps, cut, len(pairs), *shown))
    steps = budgets[-1]
    heads = [h for cut in cuts for h in (f"{cut}: exact, %", f"{cut}: median error")]
    lines += ["", row(f"after {steps} steps", "n", "floor: exact, %", *heads),
              "|" + "---|" * (3 + len(heads))]
    some = next(cell for key, cell in found.items() if key[1] == steps)
    for feature, true in some["model"]["features"].items():
        line = [feature, true["n"], number(some["floor"]["features"][feature]["exact"], 100)]
        for cut in cuts:
            rows = [c["model"]["features"][feature] for c in seeds(cut, steps).values()]
            medians = [r["median"] for r in rows if r["median"] is not None]
            line += [f"{100 * np.mean([r['exact'] for r in rows]):.0f}" if rows else "-",
                     f"{np.mean(medians):.2g}" if medians else "-"]
        lines.append(row(*line))
    return "\n".join(lines)
