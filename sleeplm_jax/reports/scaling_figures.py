"""Pictures of a scaling study, in the field's usual form: a column for each loss.

Dots are runs, lines are fits; what lies beyond the largest cell is dashed on a shaded ground. Bands
are 90 % intervals of fit.json.

Shapes: B budgets, S sizes.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from sleeplm_jax.reports.figure import STYLE, png_bytes, pyplot
from sleeplm_jax.reports.palette import INK, MUTED, RULE, WARNING
from sleeplm_jax.scaling.parametric import REPEATED

TITLES = {
    "caption": "Caption loss", "contrastive": "Contrastive loss",
    "zero_shot_error": "Zero-shot staging error", "total": "Total loss",
    "reconstruction": "Reconstruction loss",
}
UNITS = {
    "caption": "nats per token", "contrastive": "nats", "zero_shot_error": "1 - balanced accuracy",
    "total": "weighted sum", "reconstruction": "mean squared error, z units",
}
ORDER = tuple(TITLES)
BEYOND = "#F3F4F6"
AXES_POINTS, LINE_POINTS = 170.0, 8.0  # about the height of an axes, and of a small line of words
LAW = "#1D5C85"
FLOPS, SIZE = "training compute, FLOPs", "N, non-embedding parameters"
SEEN = "D, hours of sleep seen"


def names_of(rows: list[dict]) -> list[str]:
    """Losses that rows have, the study's own first."""
    found = {name for row in rows for name in row["losses"]}
    return [name for name in ORDER if name in found] + sorted(found - set(ORDER))


def words(name: str) -> str:
    return TITLES.get(name, name)


def colours(values: list[float]) -> dict[float, tuple]:
    """A colour for each value, dark for small and light for large, the lightest left out."""
    from matplotlib import colormaps

    ordered = sorted(set(values))
    shades = colormaps["viridis"](np.linspace(0.0, 0.88, max(len(ordered), 1)))
    return {value: tuple(shade) for value, shade in zip(ordered, shades, strict=True)}


def isoflop(rows: list[dict], fit: dict) -> bytes:
    """PNG: loss over size at equal compute, with the parabolas and their lowest points."""
    shade = colours([row["budget"] for row in rows])

    def draw(ax, name):
        parts = _fitted(fit, name).get("isoflop", {}).get("budgets", [])
        for budget, colour in shade.items():
            mine = [row for row in rows if row["budget"] == budget and name in row["losses"]]
            for whole in (True, False):
                some = [row for row in mine if _less(row, rows) != whole]
                ax.plot([row["N"] for row in some], [row["losses"][name] for row in some], "o",
                        color=colour if whole else "none", mec=colour, ms=4.2 if whole else 3.2,
                        mew=0.8, alpha=1 if whole else 0.6, zorder=3)
        of = [min(shade, key=lambda b: abs(math.log(b / part["flops"]))) for part in parts]
        used = {budget for budget, part in zip(of, parts, strict=True) if part["used"]}
        for nearest, part in zip(of, parts, strict=True):
            if nearest in used and not part["used"]:
                continue
            x = np.linspace(math.log(min(part["N"])), math.log(max(part["N"])), 60)
            y = np.polyval(part["coefficients"][::-1], x)
            whole = _whole(part, rows)
            ax.plot(np.exp(x), y, color=shade[nearest], ls="-" if part["used"] else ":",
                    lw=1.5 if whole else 0.7, alpha=1 if whole else 0.7)
            if part["used"]:
                _star(ax, part["vertex_N"], part["vertex_loss"], whole)
        ax.set_xscale("log")

    key = [(f"{budget:.3g} FLOPs", {"color": colour, "marker": "o", "ls": "-"})
           for budget, colour in shade.items()]
    key += [("less sleep, seen again", {"color": "none", "mec": MUTED, "marker": "o", "ls": ""}),
            ("lowest point", {"color": WARNING, "marker": "*", "ls": "", "ms": 9}),
            ("no lowest point within the sizes", {"color": MUTED, "ls": ":"})]
    return _columns(names_of(rows), draw, SIZE, key)


def compute(rows: list[dict], fit: dict) -> bytes:
    """PNG: loss over compute, the law of the best cells with its band, and the largest cell beside
    what the others say of it."""
    shade = colours([row["N"] for row in rows])
    sizes = {row["N"]: row["size"] for row in rows}
    largest = max(row["flops"] for row in rows)

    def draw(ax, name):
        for n, colour in shade.items():
            mine = [row for row in rows if row["N"] == n and name in row["losses"]]
            for all_data in (True, False):
                some = [r for r in mine if _less(r, rows) != all_data]
                ax.plot([r["flops"] for r in some], [r["losses"][name] for r in some], "o",
                        color=colour if all_data else "none", mec=colour, mew=0.8,
                        ms=4.2 if all_data else 3.2, alpha=1 if all_data else 0.6, zorder=3)
            line = _means([r for r in mine if not _less(r, rows)], "budget", "flops", name)
            ax.plot(*line, color=colour, lw=0.8, alpha=0.7)
        found = _fitted(fit, name)
        law = found.get("compute", {})
        end = largest
        if "curve" in law:
            curve = law["curve"]
            x, y, low, high = (_numbers(curve[part]) for part in ("flops", "value", "low", "high"))
            end = x[-1]
            ax.fill_between(x, low, high, color=LAW, alpha=0.14, lw=0)
            _line(ax, x, y, largest)
            if not law["c"]["identified"]:
                ax.text(0.98, 0.97, "law: exponent not identified", transform=ax.transAxes,
                        ha="right", va="top", fontsize=8, color=INK)
            points = [cell["flops"] for cell in law["frontier"]]
            ax.plot(points, [cell["loss"] for cell in law["frontier"]], "o", ms=8, mfc="none",
                    mec=LAW, mew=1.0)
        held = found.get("held_out", {})
        if "predicted" in held:
            said = held["predicted"]
            x = held["flops"] * 1.12
            low, high = said["low"], said["high"]
            if low is not None and high is not None:
                ax.plot([x, x], [low, high], color=WARNING, lw=1.4)
            ax.plot(x, said["value"], "D", ms=5, color=WARNING, mec="white", mew=0.6, zorder=4)
        ax.axvspan(largest, end * 1.3, color=BEYOND, zorder=0)
        ax.set_xscale("log")
        shown = [row["losses"][name] for row in rows if name in row["losses"]]
        if "curve" in law:
            shown += [v for v in law["curve"]["value"] if v is not None]
        _room(ax, shown)

    key = [(sizes[n], {"color": colour, "marker": "o", "ls": "-", "lw": 0.8})
           for n, colour in shade.items()]
    key += [("best cells (frontier)", {"color": "none", "mec": LAW, "marker": "o", "ls": "",
                                       "ms": 8}),
            ("their power law, 90 % band", {"color": LAW, "ls": "-"}),
            ("largest cell, told by the others", {"color": WARNING, "marker": "D", "ls": "-"})]
    return _columns(names_of(rows), draw, FLOPS, key)


def optimum(rows: list[dict], fit: dict) -> bytes:
    """PNG: best size and best hours over compute, by the law (band) and by the parabolas."""
    largest = max(row["flops"] for row in rows)
    names = names_of(rows)
    plt = pyplot()
    with plt.rc_context(STYLE):
        fig, axes = plt.subplots(2, len(names), figsize=(3.7 * len(names), 6.2), squeeze=False,
                                 dpi=150, layout="constrained", sharex=True)
        for column, name in enumerate(names):
            found = _fitted(fit, name)
            for row, (part, label, vertex) in enumerate((
                ("N", SIZE, "vertex_N"), ("D_hours", SEEN, "vertex_D_hours"),
            )):
                ax = axes[row, column]
                _plain(ax)
                measured = [(r["flops"], r["N"] if part == "N" else r["D_hours"]) for r in rows]
                ax.plot(*zip(*measured, strict=True), ".", color="#B5BDC5", ms=4, zorder=1)
                curve = found.get("optimum")
                if curve:
                    x, y = _numbers(curve["flops"]), _numbers(curve[part]["value"])
                    low, high = (_numbers(curve[part][end]) for end in ("low", "high"))
                    ax.fill_between(x, low, high, color=LAW, alpha=0.14, lw=0)
                    _line(ax, x, y, largest)
                    ax.axvspan(largest, x[-1] * 1.3, color=BEYOND, zorder=0)
                    known = [value for _, value in measured]
                    ax.set_ylim(min(known) / 30, max(known) * 30)
                for budget in found.get("isoflop", {}).get("budgets", []):
                    if budget["used"]:
                        _star(ax, budget["flops"], budget[vertex], _whole(budget, rows))
                ax.set(xscale="log", yscale="log")
                if row == 0:
                    ax.set_title(words(name), loc="left", fontsize=9.5, fontweight="bold")
                else:
                    ax.set_xlabel(FLOPS, color=MUTED)
                ax.set_ylabel(label, color=MUTED)
                ax.text(0.02, 0.97, _exponents(found, part), transform=ax.transAxes, va="top",
                        fontsize=8, color=INK)
        _legend(fig, [
            ("by the law of size and data, 90 % band", {"color": LAW, "ls": "-"}),
            ("lowest points of the parabolas (open: of less sleep)",
             {"color": WARNING, "marker": "*", "ls": "", "ms": 9}),
            ("cells", {"color": "#B5BDC5", "marker": ".", "ls": ""}),
        ])
        return png_bytes(fig, plt)


def data(rows: list[dict], fit: dict) -> bytes:
    """PNG: loss over unique hours at each size's own compute, passes beside the points."""
    counts: dict[float, set] = {}
    for row in rows:
        counts.setdefault(row["budget"], set()).add(row["unique_hours"])
    budget = max(counts, key=lambda b: (len(counts[b]), b))
    mine = [row for row in rows if row["budget"] == budget]
    shade = colours([row["N"] for row in rows])
    sizes = {row["N"]: row["size"] for row in rows}

    def draw(ax, name):
        passes: dict[float, list[tuple[float, str]]] = {}
        for n, colour in shade.items():
            some = [r for r in mine if r["N"] == n and name in r["losses"]]
            if not some:
                continue
            ax.plot([r["unique_hours"] for r in some], [r["losses"][name] for r in some], "o",
                    color=colour, ms=3.8)
            x, y = _means(some, "unique_hours", "unique_hours", name)
            ax.plot(x, y, color=colour, lw=1.2)
            seen = some[0]["D_hours"]
            for hours, loss in zip(x, y, strict=True):
                if seen / hours >= 1.5:
                    passes.setdefault(hours, []).append((loss, f"{seen / hours:.0f}x"))
        ax.set_xscale("log")
        _beside(ax, passes)

    key = [(sizes[n], {"color": colour, "marker": "o", "ls": "-"}) for n, colour in shade.items()
           if any(r["N"] == n for r in mine)]
    return _columns(names_of(rows), draw,
                    f"unique hours of sleep ({budget:.3g} FLOPs)", key)


# ---- Axes


def _columns(names: list[str], draw: Callable, along: str, key: list) -> bytes:
    plt = pyplot()
    with plt.rc_context(STYLE):
        fig, axes = plt.subplots(1, len(names), figsize=(3.7 * len(names), 3.7), squeeze=False,
                                 dpi=150, layout="constrained", sharex=True)
        for ax, name in zip(axes[0], names, strict=True):
            _plain(ax)
            draw(ax, name)
            ax.set_title(words(name), loc="left", fontsize=9.5, fontweight="bold", color=INK)
            ax.set_xlabel(along, color=MUTED)
            ax.set_ylabel(UNITS.get(name, ""), color=MUTED)
        _legend(fig, key)
        return png_bytes(fig, plt)


def _plain(ax) -> None:
    ax.grid(color=RULE, lw=0.5, which="major")
    ax.set_axisbelow(True)
    ax.tick_params(axis="y", length=0)


def _legend(fig, key: list) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], label=label, **{"lw": 1.4, "ms": 5} | style) for label, style in key]
    columns = 2 if fig.get_figwidth() < 8 else 5
    if fig.get_figwidth() < 6 and max(len(label) for label, _ in key) > 30:
        columns = 1  # of one loss the figure is narrow
    fig.legend(handles=handles, loc="outside upper left", ncols=min(len(handles), columns),
               frameon=False, fontsize=8.5)


def _beside(ax, labels: dict[float, list[tuple[float, str]]]) -> None:
    """Words beside points, those at one place along the axis kept off one another."""
    low, high = ax.get_ylim()
    for x, here in labels.items():
        free = -math.inf
        for y, text in sorted(here):
            at = (y - low) / (high - low) * AXES_POINTS
            free = max(at + 2, free + LINE_POINTS)
            ax.annotate(text, (x, y), xytext=(4, free - at), fontsize=7,
                        textcoords="offset points", color=MUTED)


def _room(ax, values: list[float]) -> None:
    """A band may be as wide as it likes; the axis is for the losses."""
    low, high = min(values), max(values)
    ax.set_ylim(low - 0.12 * (high - low or 1), high + 0.08 * (high - low or 1))


def _means(rows: list[dict], group: str, along: str, name: str) -> tuple[list, list]:
    """The mean over seeds at each value of `group`, in its order."""
    groups: dict[float, list[dict]] = {}
    for row in rows:
        groups.setdefault(row[group], []).append(row)
    ordered = [groups[value] for value in sorted(groups)]
    return ([float(np.mean([r[along] for r in some])) for some in ordered],
            [float(np.mean([r["losses"][name] for r in some])) for some in ordered])


def _fitted(fit: dict, name: str) -> dict:
    return fit.get("losses", {}).get(name, {})


def _whole(part: dict, rows: list[dict]) -> bool:
    """Whether a parabola is of data that never repeat, or of all the sleep there is."""
    hours = part["unique_hours"]
    return hours is None or math.isclose(hours, max(row["unique_hours"] for row in rows))


def _less(row: dict, rows: list[dict]) -> bool:
    """Whether a cell saw less than all the sleep there is again and again: one that repeats nothing
    has seen new data, however few."""
    most = max(other["unique_hours"] for other in rows)
    return row["passes"] > 1 + REPEATED and row["unique_hours"] < most * (1 - 1e-6)


def _line(ax, x: np.ndarray, y: np.ndarray, largest: float) -> None:
    """A law over compute, dashed beyond the largest cell."""
    for part, style in ((x <= largest * 1.0001, "-"), (x >= largest * 0.9999, "--")):
        ax.plot(x[part], y[part], color=LAW, lw=1.6, ls=style)


def _star(ax, x: float, y: float, whole: bool) -> None:
    ax.plot(x, y, "*", ms=10 if whole else 7, color=WARNING if whole else "white",
            mec="white" if whole else WARNING, mew=0.7, zorder=5 if whole else 4)


def _numbers(values: list) -> np.ndarray:
    """None becomes nan."""
    return np.array([math.nan if value is None else value for value in values], float)


def _exponents(found: dict, part: str) -> str:
    key = "N_exponent" if part == "N" else "D_exponent"
    letter = part[0]
    lines = []
    for where, word in (("parametric", "law"), ("isoflop", "parabolas")):
        value = found.get(where, {}).get(key)
        if value is None:
            lines.append(f"{word}: none")
        elif not value["identified"]:
            lines.append(f"{word}: not identified")
        else:
            lines.append(f"{word}: {letter} ~ C^{value['value']:.2f} "
                         f"[{value['low']:.2f}, {value['high']:.2f}]")
    return "\n".join(lines)
