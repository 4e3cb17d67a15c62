"""Curves of trainings: losses, norms and speed over steps, samples or hours of sleep, from the
metrics.jsonl of one run or of several beside one another. A run may still be going on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sleeplm_jax.errors import CheckpointError
from sleeplm_jax.files import read_rows, write_atomically
from sleeplm_jax.places import Place, place
from sleeplm_jax.reports.palette import INK, MUTED, RULE

PARTS = (
    ("loss", "Total loss"), ("contrastive", "Contrastive"), ("caption", "Caption, nats per token"),
    ("reconstruction", "Reconstruction"), ("position", "Body position"),
    ("grad_norm", "Gradient norm"), ("parameter_norm", "Parameter norm"),
    ("temperature", "Temperature"), ("learning_rate", "Learning rate"),
    ("samples_per_s", "Samples per second"),
)
BY = {"steps": "step", "samples": "samples seen", "hours": "hours of sleep seen"}
TRAIN, HELD_OUT = "#8FB3CC", "#C2305D"
# Of several runs: apart in hue and in lightness (Okabe and Ito's, without its yellow).
RUNS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#7C8894")
SMOOTH = 50  # a training curve's running mean is over one of so many parts of it

Found = dict[tuple[str, str], tuple[list[int], list[float]]]


@dataclass(frozen=True)
class Curves:
    """What is drawn of one run; `per_step` says how much of each of BY a step is."""

    name: str
    found: Found
    per_step: dict[str, float] = field(default_factory=lambda: {"steps": 1.0})


def read_metrics(path: str | Path | Place) -> Found:
    """{(split, name): (steps, values)}; a line cut off by a kill is left out.

    Raises CheckpointError when the file is absent or holds no row.
    """
    path = place(path)
    if not path.is_file():
        raise CheckpointError(path, "no metrics to draw", "give the metrics.jsonl of a run folder")
    found: Found = {}
    for row in read_rows(path):
        try:
            step, split = int(row.pop("step")), str(row.pop("split"))
        except (ValueError, KeyError, TypeError):
            continue
        for name, value in row.items():
            if isinstance(value, int | float):
                steps, values = found.setdefault((split, name), ([], []))
                steps.append(step)
                values.append(float(value))
    if not found:
        raise CheckpointError(path, "holds no metrics", "train the run first")
    return found


def plot_training(metrics_jsonl: str | Path, out_png: str | Path) -> Path:
    """Draws the curves of one run, training and held-out; returns `out_png`."""
    out_png = Path(out_png)
    write_atomically(out_png, figure([Curves("", read_metrics(metrics_jsonl))]))
    return out_png


def figure(runs: list[Curves], by: str = "steps") -> bytes:
    """PNG of the curves of `runs` over BY's unit `by`; held-out losses with dots."""
    from sleeplm_jax.reports.figure import STYLE, png_bytes, pyplot

    parts = [(n, words) for n, words in PARTS
             if any(("train", n) in run.found or ("val", n) in run.found for run in runs)]
    plt = pyplot()
    with plt.rc_context(STYLE):
        columns = min(3, max(len(parts), 1))
        rows = -(-max(len(parts), 1) // columns)
        head = 0.3 if len(runs) == 1 else 0.3 + 0.2 * -(-len(runs) // 4)
        fig, axes = plt.subplots(
            rows, columns, figsize=(4.1 * columns, 2.7 * rows + head), squeeze=False, dpi=150,
            layout="constrained",
        )
        for ax in axes.flat[len(parts):]:
            ax.axis("off")
        for ax, (name, words) in zip(axes.flat, parts, strict=False):
            _part(ax, runs, name, words, by)
        if len(runs) > 1:
            from matplotlib.lines import Line2D

            handles = [Line2D([], [], color=_colour(i), lw=2, label=run.name)
                       for i, run in enumerate(runs)]
            fig.legend(handles=handles, loc="outside upper left", ncols=4, frameon=False,
                       fontsize=9)
        return png_bytes(fig, plt)


def _part(ax, runs: list[Curves], name: str, words: str, by: str) -> None:
    ax.set_title(words, loc="left", fontsize=9.5, fontweight="bold", color=INK)
    ax.grid(color=RULE, lw=0.5)
    ax.set_axisbelow(True)
    ax.set_xlabel(BY[by], color=MUTED)
    alone = len(runs) == 1
    for number, run in enumerate(runs):
        scale, colour = run.per_step[by], _colour(number)
        if ("train", name) in run.found:
            steps, values = run.found["train", name]
            line = TRAIN if alone else colour
            ax.plot(np.multiply(steps, scale), values, color=line, lw=0.7,
                    alpha=0.35 if name != "learning_rate" else 1)
            ax.plot(np.multiply(steps, scale), smooth(values), color=line, lw=1.2,
                    marker="." if len(values) == 1 else None,  # a line of one point is nothing
                    label="training" if alone else None)
        if ("val", name) in run.found:
            steps, values = run.found["val", name]
            at = np.multiply(steps, scale)
            ax.plot(at, values, color=HELD_OUT if alone else colour, lw=1.4, marker="o", ms=3,
                    label="held out" if alone else None)
            best = int(np.nanargmin(values)) if np.isfinite(values).any() else None
            if name == "loss" and alone and best is not None:
                ax.annotate(f"best {values[best]:.3f}", (at[best], values[best]), fontsize=7.5,
                            xytext=(0, 7), textcoords="offset points", ha="right", color=HELD_OUT)
    if alone and name != "learning_rate":
        ax.legend(frameon=False, fontsize=7.5)


def smooth(values: list[float]) -> np.ndarray:
    """A centred running mean; values that are no numbers are left out of it."""
    x = np.asarray(values, float)
    width = len(x) // SMOOTH
    if width < 2:
        return x
    there, window = np.isfinite(x), np.ones(2 * (width // 2) + 1)
    total = np.convolve(np.where(there, x, 0.0), window, "same")
    return total / np.maximum(np.convolve(there, window, "same"), 1)


def _colour(number: int) -> str:
    return RUNS[number % len(RUNS)]
