"""The pictures of the cohort page, each as PNG bytes, from the nights' quality records.

Every function takes {night: record} and returns None where there is nothing to draw. Many nights
are drawn as thin lines and columns; their names only while they can be read.
"""

from __future__ import annotations

import io
from collections.abc import Iterable

import numpy as np

from sleeplm_jax.config import ARTEFACTS, CANONICAL_CHANNELS
from sleeplm_jax.physiology.sanity import LEAST_EPOCHS
from sleeplm_jax.reports.palette import HYPNOGRAM_ORDER, INK, MUTED, RULE, STAGE_COLOURS

NAMED = 40  # nights up to which each is named
WIDTH = 11.0  # inches
ABSENT, STAND_IN, FOUND, LOSSY = "#EEF1F3", "#E8C988", "#3C7FA8", "#B5482F"
LOSSY_SHARE = 0.1  # of a channel's epochs, unmeasured
# (label, unit, path in "sleep.measures")
SLEEP = (
    ("Total sleep time", "min", "TST"), ("Sleep efficiency", "%", "SE"),
    ("Sleep latency", "min", "SOL"), ("Wake after sleep onset", "min", "WASO"),
    ("REM latency", "min", "REM_latency"), ("N3", "% of sleep", "N3_percent"),
    ("REM", "% of sleep", "REM_percent"),
)
MICROVOLT = "µV"


def channels(nights: dict[str, dict]) -> bytes:
    """A matrix of nights and channels: found, stand-in, often unmeasurable, absent."""
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    grid = np.array([[_found(record, channel) for record in nights.values()]
                     for channel in CANONICAL_CHANNELS])
    figure, axes = _axes(4.6 if len(nights) > NAMED else 5.4)
    shades = ListedColormap([ABSENT, STAND_IN, FOUND, LOSSY])
    axes.pcolormesh(np.arange(len(nights) + 1), np.arange(len(grid) + 1), grid, cmap=shades,
                    vmin=-0.5, vmax=3.5, edgecolors="white",
                    linewidth=0.8 if len(nights) <= NAMED else 0, rasterized=True)
    axes.set_yticks(np.arange(len(grid)) + 0.5, CANONICAL_CHANNELS, fontsize=8.5)
    axes.invert_yaxis()
    _night_names(axes, nights, 0.5)
    names = ("absent", "a stand-in", "found", f"over {100 * LOSSY_SHARE:.0f} % unmeasurable")
    axes.legend([Patch(color=colour) for colour in (ABSENT, STAND_IN, FOUND, LOSSY)], names,
                loc="lower left", bbox_to_anchor=(0, 1.0), ncols=4, frameon=False, fontsize=9)
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    return _png(figure)


def _found(record: dict, channel: str) -> int:
    about = record["channels"].get(channel)
    if about is None:
        return 0
    if about["unmeasured"] > LOSSY_SHARE:
        return 3
    return 1 if about["stand_in"] else 2


def artefacts(nights: dict[str, dict]) -> bytes:
    """Mean share of epochs with each artefact, by channel, in per cent."""
    there = [c for c in CANONICAL_CHANNELS
             if any(record["channels"].get(c) is not None for record in nights.values())]
    shares = np.zeros((len(there), len(ARTEFACTS)))
    for row, channel in enumerate(there):
        found = [record["channels"][channel]["artefacts"] for record in nights.values()
                 if record["channels"].get(channel) is not None]
        shares[row] = [100 * np.mean([f.get(a, 0.0) for f in found]) for a in ARTEFACTS]
    figure, axes = _axes(0.34 * len(there) + 1.0)
    # A logarithm from 0.1 % on: a channel that is off all night must not hide the others.
    axes.pcolormesh(np.log10(np.maximum(shares, 0.05)), cmap="Oranges", vmin=-1.3, vmax=2,
                    edgecolors="white", linewidth=1)
    for row, column in zip(*np.nonzero(shares > 0)):
        value = shares[row, column]
        text = f"{value:.2f}".rstrip("0").rstrip(".") if value >= 0.01 else "<0.01"
        axes.text(column + 0.5, row + 0.5, text,
                  ha="center", va="center", fontsize=8.5, color=INK if value < 20 else "white")
    axes.set_xticks(np.arange(len(ARTEFACTS)) + 0.5, [a.replace("_", " ") for a in ARTEFACTS])
    axes.xaxis.tick_top()
    axes.set_yticks(np.arange(len(there)) + 0.5, there, fontsize=9)
    axes.invert_yaxis()
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    return _png(figure)


def amplitudes(nights: dict[str, dict]) -> bytes | None:
    """Usual peak to peak of a second of every electrode channel, a point a night, in µV."""
    there = {
        channel: [about["range"] for record in nights.values()
                  if (about := record["channels"].get(channel)) is not None
                  and about["unit"] == MICROVOLT and about.get("range")]
        for channel in CANONICAL_CHANNELS
    }
    there = {channel: values for channel, values in there.items() if values}
    if not there:
        return None
    figure, axes = _axes(3.4)
    rng = np.random.default_rng(0)  # scatters points sideways, so that they can be told apart
    for column, values in enumerate(there.values()):
        side = rng.uniform(-0.22, 0.22, len(values))
        axes.plot(column + side, values, "o", ms=4.5, alpha=0.55, color=FOUND, mec="none")
        axes.plot([column - 0.3, column + 0.3], [np.median(values)] * 2, color=INK, lw=1.6)
    axes.set_yscale("log")
    axes.set_xticks(range(len(there)), list(there))
    axes.set_ylabel("peak to peak of a second, µV")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.grid(axis="y", color=RULE, lw=0.7)
    axes.set_axisbelow(True)
    _plain(axes)
    return _png(figure)


def stages(nights: dict[str, dict]) -> bytes | None:
    """Share of the scored epochs in each stage, a column a night, ordered by their share of N3."""
    scored = {
        name: record["stages"] for name, record in nights.items()
        if sum(record["stages"][stage] for stage in HYPNOGRAM_ORDER)
    }
    if not scored:
        return None
    totals = {n: sum(mix[s] for s in HYPNOGRAM_ORDER) for n, mix in scored.items()}
    order = sorted(scored, key=lambda n: -scored[n]["N3"] / totals[n])
    figure, axes = _axes(3.2 if len(order) > NAMED else 3.9)
    below = np.zeros(len(order))
    for stage in reversed(HYPNOGRAM_ORDER):
        share = np.array([100 * scored[n][stage] / totals[n] for n in order])
        axes.bar(np.arange(len(order)), share, 1.0 if len(order) > NAMED else 0.82, bottom=below,
                 color=STAGE_COLOURS[stage], label=stage)
        below += share
    axes.set_ylim(0, 100)
    axes.set_xlim(-0.6, len(order) - 0.4)
    axes.set_ylabel("% of scored epochs")
    _night_names(axes, order, 0.0)
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], labels[::-1], loc="lower left", bbox_to_anchor=(0, 1.0), ncols=5,
                frameon=False)
    _plain(axes)
    return _png(figure)


def delta(nights: dict[str, dict]) -> bytes | None:
    """Median delta share of every stage, a line a night; stages with enough epochs only."""
    order = ("W", "R", "N1", "N2", "N3")
    lines = []
    for record in nights.values():
        by_stage = record["staging"]["stages"]
        lines.append([
            by_stage[s]["delta_power"]
            if by_stage[s]["epochs"] >= LEAST_EPOCHS and "delta_power" in by_stage[s] else np.nan
            for s in order
        ])
    lines = np.array(lines, float)
    if not np.isfinite(lines).any():
        return None
    figure, axes = _axes(3.4)
    faint = max(0.12, min(0.6, 12 / len(lines)))
    # One path with gaps: a thousand lines of their own take seconds.
    across = [[*np.flatnonzero(np.isfinite(line)), np.nan] for line in lines]
    upward = [[*line[np.isfinite(line)], np.nan] for line in lines]
    axes.plot(np.concatenate(across), np.concatenate(upward), color=MUTED, alpha=faint, lw=1)
    for column, stage in enumerate(order):
        values = lines[:, column][np.isfinite(lines[:, column])]
        if len(values):
            axes.plot(np.full(len(values), column), values, "o", ms=5, mec="none",
                      color=STAGE_COLOURS[stage], alpha=0.75)
            axes.plot([column - 0.22, column + 0.22], [np.median(values)] * 2, color=INK, lw=2)
            axes.text(column + 0.26, np.median(values), f"{np.median(values):.0f}", va="center",
                      fontsize=9, color=INK)
    axes.set_xticks(range(len(order)), order)
    axes.set_xlim(-0.5, len(order) - 0.5)
    axes.set_ylabel("delta, % of 0.5-30 Hz")
    axes.grid(axis="y", color=RULE, lw=0.7)
    axes.set_axisbelow(True)
    _plain(axes)
    return _png(figure)


def statistics(nights: dict[str, dict]) -> bytes | None:
    """Histograms of the sleep statistics and of the AHI under each rule that can be given."""
    drawn = [(label, unit, values) for label, unit, values in statistic_values(nights.values())
             if len(values)]
    if not drawn:
        return None
    from matplotlib.figure import Figure

    columns = 4
    rows = -(-len(drawn) // columns)
    figure = Figure(figsize=(WIDTH, 2.1 * rows), layout="constrained")
    for number, (label, unit, values) in enumerate(drawn):
        axes = figure.add_subplot(rows, columns, number + 1)
        bins = np.histogram_bin_edges(values, bins=min(20, max(5, len(values) // 3)))
        axes.hist(values, bins=bins, color=FOUND, edgecolor="white", lw=0.6)
        axes.axvline(np.median(values), color=INK, lw=1.4)
        axes.set_title(label, fontsize=9.5, loc="left", color=INK)
        axes.set_xlabel(f"{unit}; median {np.median(values):.3g}", fontsize=8.5, color=MUTED)
        axes.yaxis.get_major_locator().set_params(integer=True)
        axes.tick_params(labelsize=8)
        _plain(axes)
    return _png(figure)


def statistic_values(records: Iterable[dict]) -> list[tuple[str, str, np.ndarray]]:
    """(label, unit, values over nights) of the sleep statistics, then of the AHI by rule."""
    records = [r["statistics"] for r in records if r["statistics"] is not None]
    asleep = [r for r in records if (r["sleep"]["measures"]["TST"]["value"] or 0) > 0]
    out = [
        (label, unit, _numbers(r["sleep"]["measures"][name]["value"] for r in asleep))
        for label, unit, name in SLEEP
    ]
    rules = dict.fromkeys(name for r in asleep for name in r.get("ahi", {}))
    for name in rules:
        values = _numbers(r["ahi"][name]["value"] for r in asleep if name in r.get("ahi", {}))
        out.append((f"AHI, {name.replace('_', ' ')}", "events per hour of sleep", values))
    return out


def _numbers(values: Iterable[float | None]) -> np.ndarray:
    return np.array([v for v in values if v is not None], float)


def _axes(height: float):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.add_subplot()


def _night_names(axes, nights: Iterable[str], shift: float) -> None:
    names = list(nights)
    if len(names) <= NAMED:
        axes.set_xticks(np.arange(len(names)) + shift, names, rotation=60, ha="right",
                        rotation_mode="anchor", fontsize=8)
    else:
        axes.set_xticks([])
        axes.set_xlabel(f"{len(names):,} nights")


def _plain(axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(RULE)
    axes.tick_params(color=RULE, labelcolor=INK)


def _png(figure) -> bytes:
    buffer = io.BytesIO()
    # No software's name and date in it: the same records give the same page.
    figure.savefig(buffer, format="png", dpi=130, metadata={"Software": None})
    return buffer.getvalue()
