"""Curves of a training: the parts of the loss over steps, from a run's metrics.jsonl."""

from __future__ import annotations

import json
from pathlib import Path

from sleeplm_jax.errors import CheckpointError
from sleeplm_jax.files import write_atomically
from sleeplm_jax.reports.figure import STYLE, png_bytes, pyplot
from sleeplm_jax.reports.palette import INK, MUTED, RULE

PARTS = (
    ("loss", "Total loss"), ("contrastive", "Contrastive"), ("caption", "Caption, nats per token"),
    ("reconstruction", "Reconstruction"), ("position", "Body position"),
    ("learning_rate", "Learning rate"),
)
TRAIN, HELD_OUT = "#8FB3CC", "#C2305D"


def read_metrics(path: str | Path) -> dict[tuple[str, str], tuple[list[int], list[float]]]:
    """{(split, name): (steps, values)}; a line cut off by a kill is left out.

    Raises CheckpointError when the file is absent or holds no row.
    """
    path = Path(path)
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise CheckpointError(
            path, "no metrics to draw", "give the metrics.jsonl of a run folder"
        ) from error
    found: dict[tuple[str, str], tuple[list[int], list[float]]] = {}
    for line in lines:
        try:
            row = json.loads(line)
            step, split = int(row.pop("step")), row.pop("split")
        except (ValueError, KeyError, AttributeError, TypeError):
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
    """Draws the loss, its parts and the learning rate, training and held-out; returns `out_png`."""
    found = read_metrics(metrics_jsonl)
    parts = [(n, words) for n, words in PARTS if ("train", n) in found or ("val", n) in found]
    plt = pyplot()
    with plt.rc_context(STYLE):
        columns = min(3, max(len(parts), 1))
        rows = -(-max(len(parts), 1) // columns)
        fig, axes = plt.subplots(
            rows, columns, figsize=(4.1 * columns, 2.7 * rows + 0.3), squeeze=False, dpi=150,
            layout="constrained",
        )
        for ax in axes.flat[len(parts):]:
            ax.axis("off")
        for ax, (name, words) in zip(axes.flat, parts, strict=False):
            _part(ax, found, name, words)
        data = png_bytes(fig, plt)
    out_png = Path(out_png)
    write_atomically(out_png, data)
    return out_png


def _part(ax, found: dict, name: str, words: str) -> None:
    ax.set_title(words, loc="left", fontsize=9.5, fontweight="bold", color=INK)
    ax.grid(color=RULE, lw=0.5)
    ax.set_axisbelow(True)
    ax.set_xlabel("step", color=MUTED)
    if ("train", name) in found:
        ax.plot(*found["train", name], color=TRAIN, lw=1.2, label="training")
    if ("val", name) in found:
        steps, values = found["val", name]
        ax.plot(steps, values, color=HELD_OUT, lw=1.4, marker="o", ms=3, label="held out")
        best = min(range(len(values)), key=values.__getitem__)
        if name == "loss":
            ax.annotate(f"best {values[best]:.3f}", (steps[best], values[best]), fontsize=7.5,
                        xytext=(0, 7), textcoords="offset points", ha="right", color=HELD_OUT)
    if name != "learning_rate":
        ax.legend(frameon=False, fontsize=7.5)
