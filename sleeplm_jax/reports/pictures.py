"""Pictures of held-out samples for a training's log: signals beside what the model makes of them,
and which caption it matches with which signal. On white paper, so that they can be read on a light
and on a dark page.

Shapes: N samples, S of them with their signals, C channels, T samples in time.
"""

from __future__ import annotations

import textwrap

import numpy as np

from sleeplm_jax.config import STAGES, SignalSpec
from sleeplm_jax.reports.palette import INK, MUTED, RULE, STAGE_COLOURS, STAGE_INK

CHANNELS = ("C3", "C4", "EOG-L", "EMG", "ECG", "AF", "THX")  # shown first, of those present
MOST_CHANNELS = 6
MOST_SECONDS = 30  # of a longer window its middle
TOLD, HIDDEN = "#C2305D", "#F6E7CF"


def draw(spec: SignalSpec, batch: dict, seen: dict) -> dict[str, np.ndarray]:
    """Pictures uint8 `[H, W, 3]` by name, of what training.pictures saw.

    `batch`: `signal [S, C, T]` (z units), `channel_mask [S, C]`, `shown [S]` (which of the N they
    are), `stage [N]`, `caption` (N texts). `seen`, each where the model has it: `reconstruction
    [S, C, T]`, `hidden [S, C, T]` (where the model had to tell what it was not shown), `cosines`
    and `same [N texts, N signals]` (which texts are true of which signals).
    """
    pictures = {}
    if "reconstruction" in seen:
        pictures["held_out/reconstruction"] = reconstruction(spec, batch, seen)
    if "cosines" in seen and len(seen["cosines"]) > 1:
        pictures["held_out/retrieval"] = retrieval(batch, seen)
    return pictures


def reconstruction(spec: SignalSpec, batch: dict, seen: dict) -> np.ndarray:
    """The signals of a few channels, and the model's over them."""
    there = batch["channel_mask"].any(0)
    names = sorted(
        (c for c, name in enumerate(spec.channels) if name != "POS" and there[c]),
        key=lambda c: CHANNELS.index(spec.channels[c]) if spec.channels[c] in CHANNELS else 99,
    )[:MOST_CHANNELS]
    length = min(spec.samples, MOST_SECONDS * spec.rate)
    first = (spec.samples - length) // 2
    part = slice(first, first + length)
    time = (first + np.arange(length)) / spec.rate
    samples, hidden = len(batch["signal"]), seen.get("hidden")
    fig, axes = _figure(len(names), samples, (5.6 * samples, 0.85 * len(names) + 1.5))
    what = "told where it was hidden" if hidden is not None else "regenerated"
    fig.suptitle("Signal (dark) and what the model makes of it (red, " + what + "), z units",
                 x=0.01, ha="left", fontsize=10.5, fontweight="bold", color=INK)
    for column in range(samples):
        row = int(batch["shown"][column])
        words = textwrap.shorten(batch["caption"][row] or "(no caption)", 150, placeholder=" …")
        axes[0, column].set_title(
            f"{_stage(batch['stage'][row])}: " + "\n".join(textwrap.wrap(words, 84)), loc="left",
            fontsize=7.5, color=MUTED,
        )
        for line, channel in enumerate(names):
            ax = axes[line, column]
            true = batch["signal"][column, channel, part]
            told = np.array(seen["reconstruction"][column, channel, part], float)
            if not batch["channel_mask"][column, channel]:
                ax.text(0.5, 0.5, "missing", transform=ax.transAxes, ha="center", va="center",
                        fontsize=8, color=MUTED)
                true = told = np.full(length, np.nan)
            elif hidden is not None:
                where = hidden[column, channel, part]
                ax.fill_between(time, 0, 1, where=where, step="mid", color=HIDDEN, lw=0,
                                transform=ax.get_xaxis_transform(), zorder=0)
                told[~where] = np.nan
            ax.plot(time, true, color=INK, lw=0.55, alpha=0.85)
            ax.plot(time, told, color=TOLD, lw=1.0)
            both = np.isfinite(told)
            if both.any():
                error = np.mean((true - told)[both] ** 2)
                explained = 100 * (1 - error / max(np.var(true[both]), 1e-9))
                ax.text(0.995, 0.94, f"explains {round(max(explained, -999)):d} %",
                        transform=ax.transAxes, ha="right", va="top", fontsize=7, color=TOLD,
                        bbox={"fc": "white", "ec": "none", "alpha": 0.75, "pad": 1})
            limit = np.nanpercentile(np.abs(true), 99.5) * 1.25 if np.isfinite(true).any() else 1
            ax.set_ylim(-max(limit, 0.5), max(limit, 0.5))
            ax.set_xlim(time[0], time[-1])
            ax.set_ylabel(spec.channels[channel], rotation=0, ha="right", va="center",
                          fontsize=8.5, color=INK)
            ax.set_yticks([])
            last = line == len(names) - 1
            ax.tick_params(axis="x", labelbottom=last, length=3 if last else 0)
        axes[-1, column].set_xlabel("seconds", color=MUTED, fontsize=8.5)
    return _pixels(fig)


def retrieval(batch: dict, seen: dict) -> np.ndarray:
    """Cosines of captions (rows) and signals (columns), both in the order of the stages."""
    order = np.argsort(np.where(batch["stage"] < 0, 99, batch["stage"]), kind="stable")
    cosines, same = (seen[name][np.ix_(order, order)] for name in ("cosines", "same"))
    stages, count = batch["stage"][order], len(order)
    captions = [textwrap.shorten(batch["caption"][i] or "(no caption)", 62, placeholder=" …")
                for i in order]
    found = hits(cosines, same)
    fig, axes = _figure(1, 1, (10.6, 0.2 * count + 1.9))
    ax = axes[0, 0]
    ax.grid(False)
    image = ax.imshow(cosines, cmap="Blues", aspect="auto", interpolation="nearest")
    fig.suptitle(f"Captions and signals: {found} of {count} captions are most like a signal that "
                 "they are true of", x=0.01, ha="left", fontsize=10.5, fontweight="bold", color=INK)
    for kind, marker, size in ((same & ~np.eye(count, dtype=bool), "o", 16),
                               (np.eye(count, dtype=bool), "s", 40)):
        rows, columns = np.nonzero(kind)
        ax.scatter(columns, rows, s=size, marker=marker, facecolors="none", edgecolors=TOLD,
                   linewidths=1.3)
    for side, labels in (("y", captions), ("x", [_stage(s) for s in stages])):
        getattr(ax, f"set_{side}ticks")(range(count), labels)
    ax.tick_params(axis="y", labelsize=7, length=0)
    ax.tick_params(axis="x", labelsize=7, length=0)
    for label, stage in zip(ax.get_xticklabels(), stages, strict=True):
        if stage >= 0:
            name = STAGES[stage]
            label.set(color=STAGE_INK[name],
                      bbox={"boxstyle": "round,pad=0.18", "fc": STAGE_COLOURS[name], "ec": "none"})
    ax.set_xlabel("signals, by their scored stage    □ the caption's own signal    "
                  "○ another that it is true of", color=MUTED, fontsize=8.5)
    for spine in ax.spines.values():
        spine.set_visible(False)
    bar = fig.colorbar(image, ax=ax, pad=0.01, fraction=0.03)
    bar.set_label("cosine", color=MUTED, fontsize=8.5)
    bar.ax.tick_params(labelsize=7.5, colors=MUTED)
    bar.outline.set_visible(False)
    return _pixels(fig)


def hits(cosines: np.ndarray, same: np.ndarray) -> int:
    """How many captions are most like a signal that they are true of, of `[N texts, N signals]`."""
    return int(same[np.arange(len(cosines)), cosines.argmax(-1)].sum())


def _stage(stage: int) -> str:
    return STAGES[stage] if 0 <= stage < len(STAGES) else "?"


def _figure(rows: int, columns: int, inches: tuple[float, float]):
    """A figure without pyplot, whose state threads must not share; and its axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    fig = Figure(figsize=inches, dpi=110, layout="constrained", facecolor="white")
    FigureCanvasAgg(fig)
    axes = fig.subplots(rows, columns, squeeze=False)
    for ax in axes.flat:
        ax.spines[["top", "right"]].set_visible(False)
        ax.spines[["left", "bottom"]].set(color=MUTED, linewidth=0.6)
        ax.tick_params(colors=MUTED, labelsize=7.5, length=3)
        ax.grid(axis="x", color=RULE, lw=0.4)
        ax.set_axisbelow(True)
    return fig, axes


def _pixels(fig) -> np.ndarray:
    fig.canvas.draw()
    return np.asarray(fig.canvas.buffer_rgba())[..., :3].copy()
