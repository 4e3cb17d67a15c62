"""The panels of a night's figure: each draws one thing on one axis over the time of the night.

x is hours since start (minutes for short recordings); E epochs, S stages, Q queries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sleeplm_jax.config import STAGES
from sleeplm_jax.recordings.night import Event, Night
from sleeplm_jax.reports.palette import (
    EVENT_ROWS,
    HYPNOGRAM_ORDER,
    INK,
    MUTED,
    POSITION_COLOURS,
    POSITIONS,
    RULE,
    STAGE_COLOURS,
    STAGE_INK,
    STAGE_NAMES,
    height,
)
from sleeplm_jax.reports.spectra import Spectrogram

SHORT = 1200.0  # s: below, the axis is in minutes


@dataclass(frozen=True)
class TimeAxis:
    """Seconds since start -> x; ticks at whole hours (of the clock, where it is known)."""

    duration: float  # s
    clock: float | None = None  # s since midnight at the recording's start

    @property
    def unit(self) -> float:
        return 60.0 if self.duration <= SHORT else 3600.0

    @property
    def label(self) -> str:
        if self.duration <= SHORT:
            return "minutes since the start of the recording"
        return "clock time" if self.clock is not None else "hours since the start of the recording"

    def at(self, seconds):
        return np.asarray(seconds, np.float64) / self.unit

    def apply(self, ax) -> None:
        from matplotlib.ticker import MultipleLocator

        ax.set_xlim(0, self.duration / self.unit)
        if self.duration <= SHORT:
            ax.xaxis.set_major_locator(MultipleLocator(0.5 if self.duration <= 300 else 2))
        elif self.clock is not None:
            step = 1 if self.duration <= 12 * 3600 else 2
            first = int(np.ceil(self.clock / 3600))
            hours = np.arange(first, (self.clock + self.duration) / 3600 + 1e-9, step)
            if len(hours) >= 2:
                ax.set_xticks(hours - self.clock / 3600, [f"{int(h) % 24:02d}:00" for h in hours])

    def name(self, seconds: float) -> str:
        """"02:41:30" on the clock, or "2:41:30 h" / "1.5 min" after the start."""
        if self.clock is not None:
            whole = int(self.clock + seconds)
            return f"{whole // 3600 % 24:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}"
        if self.duration <= SHORT:
            return f"{seconds / 60:g} min"
        return f"{int(seconds // 3600)}:{int(seconds // 60) % 60:02d}:{int(seconds) % 60:02d} h"


def titled(ax, title: str, note: str = "", pad: float = 5) -> None:
    ax.set_title(title, loc="left", fontsize=9.5, color=INK, fontweight="bold", pad=pad)
    if note:
        ax.set_title(note, loc="right", fontsize=8, color=MUTED, pad=pad)


def hypnogram(ax, time: TimeAxis, stages: np.ndarray, seconds: float, title: str, note="",
              pad: float = 5) -> None:
    """Stages int [E], negative where unscored (drawn as a gap)."""
    titled(ax, title, note, pad)
    starts = np.flatnonzero(np.r_[True, stages[1:] != stages[:-1]])
    ends = np.r_[starts[1:], len(stages)]
    previous = None
    for start, end in zip(starts, ends, strict=True):
        stage = int(stages[start])
        if stage < 0:
            ax.axvspan(*time.at([start * seconds, end * seconds]), color="#EEF1F3", lw=0, zorder=0)
            previous = None
            continue
        y = height(stage)
        if previous is not None:
            ax.plot(time.at([start * seconds] * 2), [previous, y], color="#A9B3BC", lw=0.7,
                    zorder=1, solid_capstyle="butt")
        rem = STAGES[stage] == "R"
        x0, x1 = time.at([start * seconds, end * seconds])
        ax.fill_between(
            [x0, x1], y - (0.36 if rem else 0.22), y + (0.36 if rem else 0.22),
            color=STAGE_COLOURS[STAGES[stage]], lw=0.4, zorder=2,
        )
        previous = y
    ax.set_ylim(-0.65, len(STAGES) - 0.35)
    ax.set_yticks(range(len(STAGES)), HYPNOGRAM_ORDER[::-1])
    for label, name in zip(ax.get_yticklabels(), HYPNOGRAM_ORDER[::-1], strict=True):
        label.set_fontweight("bold" if name == "R" else "normal")
    ax.grid(axis="y", color=RULE, lw=0.5, zorder=0)


def markers(ax, time: TimeAxis, epochs: Sequence[int], seconds: float) -> None:
    """Numbers above the epochs that are told in words."""
    width, last = time.duration / time.unit, -np.inf
    for number, epoch in enumerate(epochs, 1):
        x = float(time.at((epoch + 0.5) * seconds))
        ax.axvline(x, color=INK, lw=0.6, ls=(0, (2, 2)), zorder=3)
        last = max(x, last + 0.017 * width)  # numbers of near epochs stand beside each other
        ax.annotate(
            str(number), (last, 1), xycoords=("data", "axes fraction"), ha="center", va="center",
            fontsize=7, color="white", zorder=5, annotation_clip=False,
            bbox={"boxstyle": "circle,pad=0.25", "fc": INK, "ec": "none"},
        )


def disagreement(ax, time: TimeAxis, true: np.ndarray, predicted: np.ndarray, seconds: float):
    """Ticks where the two hypnograms differ, both [E]."""
    differ = np.flatnonzero((true >= 0) & (true != predicted))
    ax.broken_barh(
        [(float(time.at(e * seconds)), float(time.at(seconds))) for e in differ], (0, 1),
        color="#59636D", lw=0,
    )
    ax.set_ylim(0, 1)
    ax.set_yticks([0.5], ["differ"])
    ax.tick_params(axis="both", length=0)
    ax.spines[["left", "bottom"]].set_visible(False)


def hypnodensity(ax, time: TimeAxis, probabilities: np.ndarray, seconds: float) -> None:
    """Stacked relative weights [E, S] of the stages, N3 at the bottom."""
    titled(ax, "Hypnodensity", "relative weight of each stage, not calibrated")
    edges = time.at(np.arange(len(probabilities) + 1) * seconds)
    below = np.zeros(len(edges))
    for name in HYPNOGRAM_ORDER[::-1]:
        share = probabilities[:, STAGES.index(name)]
        above = below + np.r_[share, share[-1:]]
        ax.fill_between(edges, below, above, step="post", color=STAGE_COLOURS[name], lw=0)
        below = above
    ax.set_ylim(0, 1)
    ax.set_yticks([0, 0.5, 1], ["0", "½", "1"])


def eeg(ax, time: TimeAxis, found: Spectrogram | None) -> None:
    if found is None:
        titled(ax, "EEG spectrogram")
        ax.text(0.5, 0.5, "no EEG channel in this recording", transform=ax.transAxes,
                ha="center", va="center", color=MUTED, fontsize=9)
        ax.set_yticks([])
        return
    source = "" if found.source == found.channel else f" ({found.source})"
    titled(ax, f"EEG spectrogram, {found.channel}{source}", "Hz; brighter is more power (dB)")
    low, high = np.percentile(found.power, [3, 99.3])
    columns = found.power.shape[1]
    edges = time.at(found.start + np.arange(columns + 1) * found.seconds)
    bins = np.r_[found.frequencies, 2 * found.frequencies[-1] - found.frequencies[-2]]
    ax.pcolormesh(edges, bins, found.power, cmap="magma", vmin=low, vmax=high, rasterized=True)
    ax.set_ylim(0.5, found.frequencies[-1])
    ax.set_yticks([5, 10, 15, 20, 25, 30])


def query(ax, time: TimeAxis, text: str, similarity: np.ndarray, seconds: float) -> None:
    """One query's cosine over the night [E], on its own scale, with its range at the right."""
    low, high = np.percentile(similarity, [1, 99])
    pad = max((high - low) * 0.08, 1e-3)
    base = low - pad
    edges = time.at(np.arange(len(similarity) + 1) * seconds)
    shown = np.clip(np.r_[similarity, similarity[-1:]], base, high + pad)
    ax.fill_between(edges, base, shown, step="post", color="#BDD0DD", lw=0, zorder=1)
    if len(similarity) >= 60:
        from scipy.ndimage import median_filter

        middle = (edges[:-1] + edges[1:]) / 2
        ax.plot(middle, median_filter(similarity, 9, mode="nearest"), color="#1D5C85", lw=1.2)
    else:
        ax.step(edges, shown, where="post", color="#1D5C85", lw=1.2)
    ax.set_ylim(base, high + pad)
    ax.set_yticks([])
    ax.set_title(f"“{text}”", loc="left", fontsize=9, color=INK, style="italic", pad=3)
    ax.set_title(f"cosine {similarity.min():.2f} to {similarity.max():.2f}", loc="right",
                 fontsize=7.5, color=MUTED, pad=3)


def events(ax, time: TimeAxis, scored: Sequence[Event], positions: np.ndarray | None,
           seconds: float) -> None:
    """A row a kind of event, and body position [E] (codes) where known."""
    names = [n for n, there in (("Scored events", scored), ("body position", positions is not None))
             if there]
    title = " and ".join(names)
    titled(ax, title[:1].upper() + title[1:], "from the scoring file" if scored else "")
    rows = event_rows(scored)
    least = time.duration / time.unit / 1400  # what is shorter than a pixel is still seen
    labels = []
    for number, (name, kinds) in enumerate(rows):
        y, n = len(rows) - number, 0
        for kind, colour in kinds.items():
            bars = [
                (float(time.at(e.onset)), max(float(time.at(e.duration)), least))
                for e in scored if e.kind == kind
            ]
            n += len(bars)
            ax.broken_barh(bars, (y - 0.36, 0.72), color=colour, lw=0)
        labels.append((y, f"{name}  {n}"))
    bottom = 0.4
    if positions is not None:
        _positions(ax, time, positions, seconds)
        labels.append((0, "Position"))
        bottom = -0.6
    ax.set_ylim(bottom, len(rows) + 0.6)
    ax.set_yticks([y for y, _ in labels], [label for _, label in labels], fontsize=7.5)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="y", color=RULE, lw=0.4)


def event_rows(scored: Sequence[Event]) -> list[tuple[str, dict[str, str]]]:
    """The rows of the strip that hold any event: (label, {kind: colour})."""
    found = {event.kind for event in scored}
    return [(name, kinds) for name, kinds in EVENT_ROWS if found & set(kinds)]


def oxygen(ax, time: TimeAxis, values: np.ndarray, rate: float) -> None:
    """SpO2 in %, [samples] at `rate` Hz; 0 and impossible values are gaps."""
    titled(ax, "Oxygen saturation", "% SpO₂")
    step = max(1, int(len(values) // 4000))
    shown = np.where((values >= 50) & (values <= 100), values, np.nan)[::step]
    ax.plot(time.at(np.arange(len(shown)) * step / rate), shown, color="#2F7F79", lw=0.8)
    found = shown[np.isfinite(shown)]
    ax.set_ylim(min(88.0, found.min() - 1) if len(found) else 80, 100.5)


def legend(ax) -> None:
    """The five stages, once for the whole figure."""
    ax.axis("off")
    for number, name in enumerate(HYPNOGRAM_ORDER):
        ax.text(
            (0.02, 0.24, 0.44, 0.59, 0.74)[number], 0.5, f" {STAGE_NAMES[name]} ",
            transform=ax.transAxes, fontsize=8, color=STAGE_INK[name], va="center",
            fontweight="bold",
            bbox={"boxstyle": "round,pad=0.25", "fc": STAGE_COLOURS[name], "ec": "none"},
        )


def body_positions(night: Night) -> np.ndarray | None:
    """Commonest position code of each epoch [E], -1 unknown; None where never known."""
    if "POS" not in night.spec.channels:
        return None
    row = night.spec.channels.index("POS")
    samples = np.rint(night.signals[:, row])
    counts = np.stack([(samples == code).sum(-1) for code in POSITIONS])  # [codes, E]
    known = night.mask[:, row] & (counts.max(0) > 0)
    codes = np.where(known, np.array(list(POSITIONS))[counts.argmax(0)], -1)
    return codes if (codes >= 0).any() else None


def _positions(ax, time: TimeAxis, codes: np.ndarray, seconds: float) -> None:
    starts = np.flatnonzero(np.r_[True, codes[1:] != codes[:-1]])
    ends = np.r_[starts[1:], len(codes)]
    for start, end in zip(starts, ends, strict=True):
        code = int(codes[start])
        if code < 0:
            continue
        x0, x1 = time.at([start * seconds, end * seconds])
        ax.broken_barh([(x0, x1 - x0)], (-0.36, 0.72), color=POSITION_COLOURS[code], lw=0)
        if (end - start) * seconds > time.duration * 0.035:
            ax.text((x0 + x1) / 2, -0.02, POSITIONS[code], ha="center", va="center", fontsize=7,
                    color="white" if code == 2 else INK)

