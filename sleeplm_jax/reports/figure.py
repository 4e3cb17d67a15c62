"""The figures of a night, made of panels that share one time axis."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sleeplm_jax.recordings.night import Night
from sleeplm_jax.reports import panels
from sleeplm_jax.reports.palette import (
    INK,
    MUTED,
    PAPER,
    RULE,
    STAGE_COLOURS,
    STAGE_INK,
    WARNING,
)
from sleeplm_jax.reports.reading import Described, NightReading
from sleeplm_jax.reports.spectra import spectrogram

WIDTH = 12.5  # inches, of the whole page
PAGE_WIDTH = 10.8  # of a figure within the HTML page, where it is shown smaller
STYLE = {
    "font.family": "DejaVu Sans", "font.size": 8.5, "axes.edgecolor": "#AEB7C0",
    "axes.linewidth": 0.6, "axes.spines.top": False, "axes.spines.right": False,
    "xtick.color": MUTED, "ytick.color": INK, "xtick.labelcolor": MUTED, "text.color": INK,
    "xtick.major.size": 3, "ytick.major.size": 0, "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
}


@dataclass(frozen=True)
class Panel:
    inches: float  # height of the axis itself
    draw: Callable  # (axis) -> None
    gap: float = 0.42  # inches above it


@dataclass(frozen=True)
class Hypnogram:
    """One row of a night's stages: who read it, and int [E] (negative: unscored)."""

    title: str
    stages: np.ndarray
    note: str = ""


def night_panels(
    night: Night,
    reading: NightReading,
    time: panels.TimeAxis,
    hypnograms: list[Hypnogram],
    true: np.ndarray | None,
) -> dict[str, list[Panel]]:
    """Panels by theme: "stages", "language", "signals"."""
    seconds = float(night.spec.seconds)
    told = [d.epoch for d in reading.described]

    def row(item: Hypnogram, marked: bool) -> Panel:
        def draw(ax):
            panels.hypnogram(ax, time, item.stages, seconds, item.title, item.note,
                             pad=14 if marked and told else 5)
            if marked:
                panels.markers(ax, time, told, seconds)
        return Panel(1.25, draw, gap=0.52 if marked and told else 0.42)

    model_row = len(hypnograms) - 1
    stages = [row(item, i == model_row) for i, item in enumerate(hypnograms)]
    if true is not None:
        stages.append(Panel(0.11, lambda ax: panels.disagreement(
            ax, time, true, reading.predicted, seconds), gap=0.07))
    stages.append(Panel(1.05, lambda ax: panels.hypnodensity(
        ax, time, reading.probabilities, seconds)))
    language = [
        Panel(0.5, lambda ax, t=text, s=similarity: panels.query(ax, time, t, s, seconds), 0.3)
        for text, similarity in zip(reading.queries, reading.query_similarity, strict=True)
    ]
    positions = panels.body_positions(night)
    found = spectrogram(night)
    signals = [Panel(0.3 if found is None else 1.5, lambda ax: panels.eeg(ax, time, found))]
    if "SpO2" in night.traces:
        trace = night.traces["SpO2"]
        signals.append(Panel(0.6, lambda ax: panels.oxygen(ax, time, trace.values, trace.rate)))
    if night.events or positions is not None:
        rows = len(panels.event_rows(night.events)) + (positions is not None)
        signals.append(Panel(0.1 + 0.24 * rows, lambda ax: panels.events(
            ax, time, night.events, positions, seconds)))
    return {"stages": stages, "language": language, "signals": signals}


def strip_figure(rows: list[Panel], time: panels.TimeAxis, dpi: int = 170) -> bytes:
    """PNG of panels under one another."""
    plt = pyplot()
    with plt.rc_context(STYLE):
        tall = sum(p.inches + p.gap for p in rows) + 0.5
        fig = plt.figure(figsize=(PAGE_WIDTH, tall), dpi=dpi)
        _stack(fig, rows, time, top=tall, tall=tall)
        return png_bytes(fig, plt)


def night_figure(
    title: str,
    subtitle: str,
    groups: list[tuple[str, list[Panel]]],
    time: panels.TimeAxis,
    told: tuple[Described, ...],
    predicted: np.ndarray,
    true: np.ndarray | None,
    seconds: float,
    remarks: Sequence[str] = (),
    dpi: int = 150,
) -> bytes:
    """The whole night on one page: heading, panels, and some epochs in words.

    remarks: what a reader must know before any of it, one line each under the subtitle.
    """
    plt = pyplot()
    cards = _cards(time, told, predicted, true, seconds)
    with plt.rc_context(STYLE):
        head = 0.85 + 0.24 * len(remarks)
        foot = (0.6 + max(c.lines for c in cards) * 0.155 if cards else 0.0)
        rows = [panel for _, group in groups for panel in group]
        tall = head + sum(p.inches + p.gap for p in rows) + 0.55 + foot + 0.15
        fig = plt.figure(figsize=(WIDTH, tall), dpi=dpi)
        fig.text(0.045, 1 - 0.33 / tall, title, fontsize=17, fontweight="bold", va="center")
        fig.text(0.045, 1 - 0.66 / tall, subtitle, fontsize=9.5, color=MUTED, va="center")
        for number, remark in enumerate(remarks, 1):
            fig.text(0.045, 1 - (0.66 + 0.24 * number) / tall, remark, fontsize=9.5,
                     fontweight="bold", color=WARNING, va="center")
        ax = fig.add_axes([0.76, 1 - 0.48 / tall, 0.22, 0.3 / tall])
        panels.legend(ax)
        bottom = _stack(fig, rows, time, top=tall - head, tall=tall)
        _draw_cards(fig, cards, bottom - 0.62, tall)
        return png_bytes(fig, plt)


def _stack(fig, rows: list[Panel], time: panels.TimeAxis, top: float, tall: float) -> float:
    """Draws panels downwards from `top` inches; gives the lower edge of the last, in inches."""
    y = top
    left, width = 0.095, 0.885
    for number, panel in enumerate(rows):
        y -= panel.gap + panel.inches
        ax = fig.add_axes([left, y / tall, width, panel.inches / tall])
        panel.draw(ax)
        time.apply(ax)
        ax.set_axisbelow(True)
        last = number == len(rows) - 1
        ax.tick_params(axis="x", labelbottom=last)
        if last:
            ax.set_xlabel(time.label, color=MUTED, fontsize=8.5)
    return y


@dataclass(frozen=True)
class _Card:
    number: int
    stage: str
    scored: str | None
    heading: str
    generated: list[str]
    measured: list[str]

    @property
    def lines(self) -> int:
        return len(self.generated) + len(self.measured) + 3


def _cards(time, told, predicted, true, seconds, most: int = 6) -> list[_Card]:
    from sleeplm_jax.config import STAGES

    told = told[:most]
    columns = max(14, int(186 / max(len(told), 3)) - 3)
    cards = []
    for number, item in enumerate(told, 1):
        stage = STAGES[predicted[item.epoch]]
        heading = time.name(item.epoch * seconds)
        scored = None
        if true is not None and true[item.epoch] >= 0:
            scored = STAGES[true[item.epoch]]
        kinds = ("stage_event", *item.generated)
        kind = next((k for k in kinds if k in item.generated and item.measured.get(k)), None)
        kind = kind or next((k for k in kinds if k in item.generated), "stage_event")
        words, measured = item.generated.get(kind, ""), item.measured.get(kind) or ""
        nothing = f"({item.silent.get(kind, 'nothing')})"
        cards.append(_Card(
            number, stage, scored, heading,
            textwrap.wrap(words, columns, max_lines=7, placeholder=" …") or [nothing],
            textwrap.wrap(measured, columns, max_lines=7, placeholder=" …"),
        ))
    return cards


def _draw_cards(fig, cards: list[_Card], top: float, tall: float) -> None:
    if not cards:
        return
    fig.text(0.045, top / tall, "Some epochs in words", fontsize=9.5, fontweight="bold")
    slots = max(len(cards), 3)
    width = 0.935 / slots
    line = 0.155 / tall
    for i, card in enumerate(cards):
        x, y = 0.045 + i * width, (top - 0.28) / tall
        fig.text(x + 0.004, y, f" {card.number} ", fontsize=7.5, color="white", va="center",
                 bbox={"boxstyle": "circle,pad=0.18", "fc": INK, "ec": "none"})
        fig.text(x + 0.024, y, f" {card.stage} ", fontsize=8, color=STAGE_INK[card.stage],
                 va="center", fontweight="bold",
                 bbox={"boxstyle": "round,pad=0.2", "fc": STAGE_COLOURS[card.stage], "ec": "none"})
        fig.text(x + 0.05, y, card.heading, fontsize=8, color=MUTED, va="center")
        y -= 1.5 * line
        fig.text(x, y, "The model writes", fontsize=7.5, color=MUTED, va="center")
        for words in card.generated:
            y -= line
            fig.text(x, y, words, fontsize=8, va="center")
        if not card.measured:
            continue
        y -= 1.25 * line
        fig.text(x, y, "Measured and scored", fontsize=7.5, color=MUTED, va="center")
        if card.scored:
            fig.text(x + 0.098, y, f" {card.scored} ", fontsize=7, color=STAGE_INK[card.scored],
                     va="center", bbox={"boxstyle": "round,pad=0.15", "ec": "none",
                                        "fc": STAGE_COLOURS[card.scored]})
        for words in card.measured:
            y -= line
            fig.text(x, y, words, fontsize=8, va="center", color="#4A5560")
    for i in range(1, len(cards)):
        edge = 0.045 + i * width - 0.007
        deepest = (top - 0.28) / tall - (max(c.lines for c in cards) - 0.5) * line
        fig.add_artist(_line(edge, (top - 0.2) / tall, deepest))


def _line(x: float, top: float, bottom: float):
    from matplotlib.lines import Line2D

    return Line2D([x, x], [bottom, top], color=RULE, lw=0.7)


def pyplot():
    """Matplotlib without a display."""
    import matplotlib

    matplotlib.use("Agg", force=False)
    import matplotlib.pyplot as plt

    return plt


def png_bytes(fig, plt) -> bytes:
    """`fig` as PNG; closes it. Identical input gives identical bytes."""
    held = io.BytesIO()
    fig.savefig(held, format="png", metadata={"Software": None})
    plt.close(fig)
    return held.getvalue()
