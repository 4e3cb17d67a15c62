"""The picture of one epoch: every channel as a technologist sees it, events shaded, captions below.

Channels are filtered in their pass bands (recordings.channels, by AASM's routine settings) from the
night's native traces; a bar beside each says its size. What cannot be used is drawn in grey.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sleeplm_jax.captions.context import measure_context, say_context
from sleeplm_jax.captions.night import say_window
from sleeplm_jax.captions.render import render, say_missing
from sleeplm_jax.captions.windows import (
    course_of,
    grounded_window,
    measure_window,
    windows_of,
)
from sleeplm_jax.config import CAPTION_KINDS
from sleeplm_jax.recordings.channels import CHANNELS
from sleeplm_jax.recordings.night import Night
from sleeplm_jax.recordings.signals import band_pass
from sleeplm_jax.reports.figure import STYLE, pyplot
from sleeplm_jax.reports.palette import (
    EVENT_NAMES,
    EVENT_ROWS,
    INK,
    MUTED,
    POSITIONS,
    RULE,
    STAGE_COLOURS,
    STAGE_INK,
    STAGE_NAMES,
)
from sleeplm_jax.reports.panels import TimeAxis

SECONDS = 30.0
MARGIN = 20.0  # s on either side for the filters
ORDER = ("EOG-L", "EOG-R", "F3", "F4", "C3", "C4", "O1", "O2", "EMG", "ECG", "HR", "SNORE", "AF",
         "THX", "ABD", "SpO2", "LEG-L", "LEG-R", "POS")  # fmt: skip
EOG, EEG = ("EOG-L", "EOG-R"), ("F3", "F4", "C3", "C4", "O1", "O2")  # one scale for each group
CURVES = ("HR", "SpO2")  # drawn as they are, their range in words
NAMES = {"EOG-L": "left EOG", "EOG-R": "right EOG", "EMG": "chin EMG", "AF": "airflow",
         "THX": "thorax", "ABD": "abdomen", "SNORE": "snore", "LEG-L": "left leg",
         "LEG-R": "right leg", "POS": "position", "HR": "heart rate"}  # fmt: skip
# Rows that an event is shaded on; other kinds on all of them.
SHADED = {
    "arousal": EOG + EEG + ("EMG",),
    "desaturation": ("SpO2",),
    **dict.fromkeys(("obstructive_apnea", "central_apnea", "mixed_apnea", "hypopnea"),
                    ("AF", "THX", "ABD", "SNORE")),
    **dict.fromkeys(("limb_movement", "periodic_limb_movement"), ("LEG-L", "LEG-R")),
}  # fmt: skip
EVENT_COLOURS = {kind: colour for _, kinds in EVENT_ROWS for kind, colour in kinds.items()}
LINE = "#2A4A66"
UNUSABLE = "#B4BBC2"
WRAP = 142  # characters of a caption's line
TEXT_LINE = 0.155  # inches
LEFT, ACROSS = 0.155, 0.83  # of the figure's width: where the time axis begins, and its length


def _row_inches(rows: int) -> float:
    return 0.3 if rows > 12 else 0.42 if rows > 3 else 0.62


@dataclass(frozen=True)
class Row:
    """One channel of the epoch; `values` is None where there is only a remark."""

    channel: str
    values: np.ndarray | None  # float64 [samples]
    rate: float
    unit: str
    source: str  # in the file's own labels
    stand_in: bool
    usable: bool


def epoch_rows(night: Night, epoch: int, missing: Sequence[str] = ()) -> list[Row]:
    """The rows of `epoch`: channels of the night that have a trace, filtered, in AASM's order."""
    rows = []
    for name in ORDER:
        trace, found = night.traces.get(name), night.channels.get(name)
        if trace is None or not len(trace.values):
            continue
        first = max(0, int(round((epoch * SECONDS - MARGIN) * trace.rate)))
        begin = int(round(epoch * SECONDS * trace.rate)) - first
        count = int(round(SECONDS * trace.rate))
        piece = np.asarray(trace.values[first : first + begin + count + int(MARGIN * trace.rate)],
                           np.float64)
        finite = np.isfinite(piece).all()
        if name not in (*CURVES, "POS") and finite and len(piece) > 12:
            band = CHANNELS[name].band
            piece = band_pass(piece, trace.rate, band)
            if band is None or trace.rate < 2 * band[0] + 1e-9:
                piece = piece - np.median(piece)
        unit = trace.unit if found is None or not found.amplitude_unknown else "units"
        unit = "units" if unit in ("", "unknown") else unit
        rows.append(Row(
            name, piece[begin : begin + count], trace.rate, unit,
            found.source if found is not None else "", bool(found and found.stand_in),
            name not in missing,
        ))  # fmt: skip
    return rows


def epoch_picture(
    night: Night,
    epoch: int,
    record: dict,
    captions: Sequence[tuple[str, str]],
    title: str | None = None,
    dpi: int = 130,
    colours: int | None = None,
) -> bytes:
    """PNG of epoch `epoch` (from 0): signals with scales, scored events, `captions` below.

    record: what was measured in it (captions/record.schema.json). captions: (heading, sentences).
    colours: as many in the file, for a small one. Raises IndexError for an epoch that is not there.
    """
    if not 0 <= epoch < len(night.stages):
        raise IndexError(f"epoch {epoch} of {len(night.stages)}")
    rows = epoch_rows(night, epoch, record["missing"])
    told = [(heading, textwrap.wrap(text, WRAP)) for heading, text in captions]
    lanes = _lanes(record["events"])
    plt = pyplot()
    with plt.rc_context(STYLE):
        head, strip = 0.62, 0.2 * len(lanes)
        body = _row_inches(len(rows)) * max(len(rows), 1)
        foot = 0.5 + sum(TEXT_LINE * len(lines) + 0.06 for _, lines in told)
        tall = head + strip + body + foot
        fig = plt.figure(figsize=(10.4, tall), dpi=dpi)
        stand_ins = any(row.stand_in for row in rows)
        _head(fig, night, epoch, record["stage"], title, tall, stand_ins)
        if lanes:
            ax = fig.add_axes([LEFT, (foot + body) / tall, ACROSS, strip / tall])
            _events(ax, lanes)
        ax = fig.add_axes([LEFT, foot / tall, ACROSS, body / tall])
        _signals(ax, rows, record)
        _captions(fig, told, foot - 0.5, tall)
        buffer = io.BytesIO()
        fig.savefig(buffer, format="png")
        plt.close(fig)
    return _fewer_colours(buffer.getvalue(), colours) if colours else buffer.getvalue()


def _fewer_colours(png: bytes, colours: int) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    with Image.open(io.BytesIO(png)) as image:
        image.convert("RGB").quantize(colours, dither=Image.Dither.NONE).save(
            out, "png", optimize=True
        )
    return out.getvalue()


def _head(
    fig, night: Night, epoch: int, stage: str | None, title: str | None, tall: float,
    stand_ins: bool,
) -> None:
    duration = len(night.stages) * SECONDS
    name = title or f"{'Simulated night' if night.simulated else night.recording}, epoch {epoch}"
    when = TimeAxis(max(duration, 1201.0)).name(epoch * SECONDS)
    fig.text(0.012, 1 - 0.24 / tall, name, fontsize=11.5, fontweight="bold", va="center")
    below = f"30 s from {when} after the start; pass bands as in scoring"
    below += "; * a stand-in derivation" if stand_ins else ""
    fig.text(0.012, 1 - 0.46 / tall, below, fontsize=8, color=MUTED, va="center")
    scored = night.stages[epoch] >= 0  # where sleep alone is scored, it has no stage
    word = STAGE_NAMES[stage] if stage else "asleep" if scored else "not staged"
    colour, ink = (STAGE_COLOURS[stage], STAGE_INK[stage]) if stage else (RULE, INK)
    fig.text(0.978, 1 - 0.3 / tall, f" {word} ", fontsize=10, color=ink, va="center", ha="right",
             fontweight="bold", bbox={"boxstyle": "round,pad=0.3", "fc": colour, "ec": "none"})


def _lanes(events: Sequence[dict]) -> list[list[dict]]:
    """Events in as few lanes as leave room for their names."""
    lanes: list[list[dict]] = []
    for event in events:
        room = max(event["end"] - event["onset"], 0.19 * (len(_event_label(event)) + 2))
        for lane in lanes:
            if lane[-1]["free"] <= event["onset"]:
                lane.append({**event, "free": event["onset"] + room})
                break
        else:
            lanes.append([{**event, "free": event["onset"] + room}])
    return lanes


def _event_label(event: dict) -> str:
    return f"{EVENT_NAMES[event['kind']]} {event['onset']:.1f}-{event['end']:.1f} s"


def _events(ax, lanes: list[list[dict]]) -> None:
    for number, lane in enumerate(lanes):
        for event in lane:
            colour = EVENT_COLOURS.get(event["kind"], MUTED)
            ax.broken_barh([(event["onset"], max(event["end"] - event["onset"], 0.05))],
                           (-number - 0.42, 0.84), color=colour, alpha=0.3, lw=0)
            ax.plot([event["onset"]] * 2, [-number - 0.42, -number + 0.42], color=colour, lw=1.2)
            at_end = event["onset"] > 0.75 * SECONDS
            ax.text(min(event["end"], SECONDS) - 0.12 if at_end else event["onset"] + 0.15,
                    -number, _event_label(event), fontsize=7.5, va="center",
                    ha="right" if at_end else "left", color=INK)
    ax.set_xlim(0, SECONDS)
    ax.set_ylim(-len(lanes) + 0.5, 0.5)
    ax.axis("off")


def _signals(ax, rows: Sequence[Row], record: dict) -> None:
    for second in range(0, 31):
        ax.axvline(second, color=RULE, lw=0.8 if second % 5 == 0 else 0.3, zorder=0)
    common = {
        channel: _scale([row.values for row in rows if row.channel in group and row.usable])
        for group in (EOG, EEG) for channel in group
    }
    place = {row.channel: -i for i, row in enumerate(rows)}
    for event in record["events"]:
        shaded = [c for c in SHADED.get(event["kind"], ORDER) if c in place]
        for channel in shaded:
            ax.broken_barh([(event["onset"], event["end"] - event["onset"])],
                           (place[channel] - 0.5, 1), lw=0, alpha=0.13, zorder=0.5,
                           color=EVENT_COLOURS.get(event["kind"], MUTED))
    for row in rows:
        y = place[row.channel]
        name = NAMES.get(row.channel, row.channel) + ("*" if row.stand_in else "")
        ax.text(-0.35, y + 0.12, name, fontsize=8.2, ha="right",
                va="center", fontweight="bold", color=INK if row.usable else MUTED)
        remark = _draw(ax, row, y, common.get(row.channel) if row.usable else None)
        shown = textwrap.shorten(row.source, 18, placeholder="...")
        remark = ", ".join(part for part in (shown, remark) if part)
        ax.text(-0.35, y - 0.27, remark, fontsize=6.3, ha="right", va="center", color=MUTED)
    if not rows:
        ax.text(15, 0, "no channel of this recording is known", ha="center", va="center")
    ax.set_xlim(0, SECONDS)
    ax.set_ylim(-max(len(rows), 1) + 0.45, 0.55)
    ax.set_yticks([])
    ax.set_xticks(range(0, 31, 5), [f"{s} s" for s in range(0, 31, 5)], fontsize=7.5)
    ax.spines[["left"]].set_visible(False)


def _draw(ax, row: Row, y: int, scale: float | None) -> str:
    """Draws a row about height `y`, at its own scale where none is given; returns a remark."""
    colour = LINE if row.usable else UNUSABLE
    values = row.values
    t = (np.arange(len(values)) + (0.0 if row.rate > 4 else 0.5)) / row.rate
    known = values[np.isfinite(values)]
    if not len(known):
        return "no signal"
    if row.channel == "POS":
        return _position(ax, values, row.rate, y, colour)
    if row.channel in CURVES:
        low, high = float(known.min()), float(known.max())
        middle, span = (low + high) / 2, max(high - low, 4.0)
        ax.plot(t, y + 0.7 * (values - middle) / span, color=colour, lw=0.8,
                drawstyle="steps-mid")
        said = f"{low:.0f}" if round(low) == round(high) else f"{low:.0f} to {high:.0f}"
        return f"{said} {row.unit}" + ("" if row.usable else ", not usable")
    scale = _scale([values]) if scale is None else scale
    if not scale:
        ax.plot(t, np.full(len(t), y), color=colour, lw=0.6)
        return "flat"
    shown = np.clip(values / scale, -1, 1)  # what leaves its row is cut at the row's edge
    ax.plot(t, y + 0.48 * shown, color=colour, lw=0.55 if row.rate > 4 else 0.8)
    bar = 0.48
    ax.plot([0.12, 0.12], [y - bar / 2, y + bar / 2], color=INK, lw=1.3, zorder=3)
    said = f"bar {scale:g} {row.unit}"
    return said + ("" if row.usable else ", not usable")


def _scale(all_values: Sequence[np.ndarray]) -> float:
    """A round number that 99.5 % of the samples stay under; 0 where nothing varies."""
    sizes = [np.abs(v[np.isfinite(v)]) for v in all_values]
    sizes = [size for size in sizes if len(size)]
    if not sizes:
        return 0.0
    most = float(max(np.percentile(size, 99.5) for size in sizes))
    if most < 1e-9:
        return 0.0
    power = 10.0 ** np.floor(np.log10(most))
    return float(next(k * power for k in (1, 1.5, 2, 3, 5, 7.5, 10) if k * power >= most))


def _position(ax, values: np.ndarray, rate: float, y: int, colour: str) -> str:
    codes = np.where(np.isfinite(values), values, -1).astype(int)
    starts = np.flatnonzero(np.r_[True, codes[1:] != codes[:-1]])
    ends = np.r_[starts[1:], len(codes)]
    for start, end in zip(starts / rate, ends / rate):
        word = POSITIONS.get(int(codes[int(start * rate)]), "unknown")
        ax.plot([start, end], [y - 0.2] * 2, color=colour, lw=1.6, solid_capstyle="butt")
        if end - start > 2:
            ax.text((start + end) / 2, y + 0.08, word, fontsize=7.5, ha="center", va="center")
    return ""


def _captions(fig, told, top: float, tall: float) -> None:
    y = top
    for heading, lines in told:
        fig.text(0.012, y / tall, heading, fontsize=8, fontweight="bold", va="top", color=LINE)
        fig.text(LEFT, y / tall, "\n".join(lines), fontsize=8, va="top", linespacing=1.35)
        y -= TEXT_LINE * len(lines) + 0.06


def epoch_captions(
    night: Night,
    records: Sequence[dict],
    epoch: int,
    style: str = "default",
    seed: int = 0,
    ungrounded: bool = False,
) -> list[tuple[str, str]]:
    """(heading, sentences) of every kind of caption of an epoch that has anything to say, if
    only that none of its channels is usable.

    The epoch's own kinds, then `context`, then `night` for its five minutes and the whole night.
    `ungrounded`: say also what an input of the night's spec does not show, in windows too.
    """
    spec = None if ungrounded else night.spec
    out = []
    for number, kind in enumerate(CAPTION_KINDS):
        rng = np.random.default_rng([seed, epoch, number])
        text = render(records[epoch], kind, rng, style, spec)
        out.append((kind, text or say_missing(records[epoch], kind, rng, style, spec)))
    rng = np.random.default_rng([seed, epoch, len(CAPTION_KINDS)])
    course = course_of(night, records)
    context = measure_context(night.stages, epoch, staged=not course.sleep_wake_only)
    out.append(("context", say_context(context, rng)))
    for window in windows_of(course):
        if window.begin <= epoch < window.end:
            heading = f"night ({window.kind.replace('_', ' ')})".replace(" (night)", "")
            record = measure_window(course, window)
            if not ungrounded:
                record = grounded_window(record, night.spec.channels)
            out.append((heading, say_window(record, rng)))
    return [(heading, text) for heading, text in out if text]
