"""The report of one night: `report.html`, self-contained, and `report.png` beside it."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from sleeplm_jax import __version__
from sleeplm_jax.captions.prompts import stage_prompts
from sleeplm_jax.config import CAPTION_CHANNELS, STAGES
from sleeplm_jax.corpus.fingerprints import signals_sha256
from sleeplm_jax.corpus.nightfile import quantise
from sleeplm_jax.evaluation.agreement import agreement
from sleeplm_jax.files import write_atomically
from sleeplm_jax.recordings.night import Night
from sleeplm_jax.reports import figure
from sleeplm_jax.reports.palette import (
    EVENT_NAMES,
    HYPNOGRAM_ORDER,
    STAGE_COLOURS,
    STAGE_INK,
    STAGE_NAMES,
)
from sleeplm_jax.reports.panels import TimeAxis
from sleeplm_jax.reports.reading import ABSENT, QUERIES, NightReading, read_night

SEEN = {
    "train": "The model was trained on this person: agreement says nothing about new people",
    "val": "This person chose the checkpoint: agreement is better than for new people",
}
ALIKE = 0.8  # mean correlation of the queries' curves above which they are called alike
KIND_NAMES = {
    "stage_event": "Stage and events", "brain": "Brain", "heart": "Heart",
    "respiratory": "Breathing", "position_muscle": "Position and muscle",
}


def describe_night(
    model,
    night: Night,
    records: Sequence[dict | None] | None,
    out_html: str | Path,
    queries: Sequence[str] = QUERIES,
    others: dict[str, np.ndarray] | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> dict:
    """Writes the report of `night` as read by `model`; returns its figures (JSON-able).

    records: what was measured in each epoch (physiology.measure), or None. queries: free text
    whose similarity to the night is drawn. others: further hypnograms to show beside the model's,
    such as {"YASA": int [E]}. The picture goes beside the page with the suffix .png. Nothing from
    the recording's header but channel labels enters either; the page loads nothing. "seen" of the
    result is "train" or "val" where the model knows the person (`seen_in_training`), else None.
    """
    out_html = Path(out_html)
    seconds = float(night.spec.seconds)
    reading = read_night(model, night, records, queries, progress=lambda p: progress(0.9 * p))
    time = TimeAxis(len(night.signals) * seconds, clock_seconds(night.extra.get("start_clock")))
    scored = night.stages >= 0
    true = np.asarray(night.stages, int) if scored.any() else None
    others = {name: np.asarray(stages, int) for name, stages in (others or {}).items()}

    hypnograms = []
    if true is not None:
        source = f"{night.rules} rules" if night.rules != "unknown" else "from the scoring file"
        hypnograms.append(figure.Hypnogram("Scored stages" if not night.simulated
                                           else "Simulated stages (the truth)", true, source))
    hypnograms += [figure.Hypnogram(name, stages) for name, stages in others.items()]
    hypnograms.append(figure.Hypnogram(
        "Read by the model", reading.predicted, "each epoch takes the stage whose sentences it is "
        "nearest to"))
    groups = figure.night_panels(night, reading, time, hypnograms, true)

    compared = {}
    if true is not None:
        readers = {"The model": reading.predicted} | others
        compared = {name: agreement(true, stages) for name, stages in readers.items()}
    headline = _headline(night, compared)
    seen = seen_in_training(model, night)
    remarks = [SEEN[seen]] if seen else []
    if reading.alike is not None and reading.alike > ALIKE:
        remarks.append(f"The model hardly tells the free-text queries apart: their curves "
                       f"correlate at {reading.alike:.2f} on average")
    png = figure.night_figure(
        f"One {_what(night)}, read by a sleep-language model", headline,
        [(name, groups[name]) for name in ("stages", "language", "signals")],
        time, reading.described, reading.predicted, true, seconds, remarks,
    )
    progress(0.95)
    page = _page(night, reading, time, true, compared, records, {
        name: _embedded(figure.strip_figure(rows, time)) for name, rows in groups.items() if rows
    }, model, seen)
    write_atomically(out_html.with_suffix(".png"), png)
    write_atomically(out_html, page.encode())
    progress(1.0)
    return {
        "recording": night.recording, "simulated": night.simulated, "seen": seen,
        "epochs": len(night.signals), "agreement": compared,
        "minutes": {"model": _minutes(reading.predicted, seconds)}
        | ({"scored": _minutes(true, seconds)} if true is not None else {}),
    }


def seen_in_training(model, night: Night) -> str | None:
    """"train" or "val" where the run's provenance names this night's person there, else None.

    People are known by name ("cohort/subject"), a night under another name by its signals.
    """
    corpus = model.about.get("corpus", {})
    people, nights = corpus.get("subjects", {}), corpus.get("signals", {})
    person = f"{night.cohort}/{night.subject}"
    signals = signals_sha256(quantise(night.signals, night.spec.channels), night.mask)
    return next(
        (split for split in SEEN
         if person in people.get(split, ()) or signals in nights.get(split, ())), None,
    )


def _headline(night: Night, compared: dict) -> str:
    hours = len(night.signals) * night.spec.seconds / 3600
    length = f"{hours:.1f} h" if hours >= 0.5 else f"{hours * 60:g} min"
    parts = ["SIMULATED NIGHT" if night.simulated else f"recording {night.recording}", length]
    if compared:
        found = compared["The model"]
        kappa = "undefined" if found["kappa"] is None else f"{found['kappa']:.2f}"
        parts.append(f"agreement with the scoring: kappa {kappa}, "
                     f"{found['accuracy']:.0%} of {found['n']:,} epochs")
    else:
        parts.append("not scored")
    return "   ·   ".join(parts) + "   ·   research software, not a diagnosis"


def _page(night, reading: NightReading, time, true, compared, records, images, model,
          seen: str | None) -> str:
    from jinja2 import Environment, PackageLoader

    seconds = float(night.spec.seconds)
    environment = Environment(
        loader=PackageLoader("sleeplm_jax.reports"), autoescape=True, trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("night.html").render(
        title=night.recording,
        what=_what(night),
        night=night,
        length=_length(len(night.signals) * seconds),
        epochs=len(night.signals),
        seconds=night.spec.seconds,
        images=images,
        time_label=time.label,
        stages=_stage_rows(reading.predicted, true, seconds),
        compared=compared,
        model_figures=compared.get("The model"),
        events=_event_rows(night),
        told=_told(reading, true, time, seconds),
        kind_names=KIND_NAMES,
        channels=_channel_rows(night),
        alike=reading.alike, alike_above=ALIKE,
        seen=SEEN.get(seen),
        prompt=stage_prompts(style=model.config.data.style)["N3"][0].rstrip("."),
        order=HYPNOGRAM_ORDER,
        colours=STAGE_COLOURS, ink=STAGE_INK, names=STAGE_NAMES,
        stage_index={name: STAGES.index(name) for name in STAGES},
        absent=ABSENT,
        measured=records is not None,
        run=model.config.name, step=model.step, version=__version__,
        trained_on_simulated=model.about.get("corpus", {}).get("simulated"),
    )


def _stage_rows(predicted, true, seconds: float) -> list[dict]:
    """Minutes and share of sleep of each stage, as read and as scored."""
    rows = []
    columns = {"model": predicted} | ({"scored": true[true >= 0]} if true is not None else {})
    for name in HYPNOGRAM_ORDER:
        row = {"name": name}
        for who, stages in columns.items():
            n = int((stages == STAGES.index(name)).sum())
            asleep = int((stages != STAGES.index("W")).sum())
            row[who] = {
                "minutes": n * seconds / 60,
                "of_sleep": n / asleep if name != "W" and asleep else None,
                "of_night": n / max(len(stages), 1),
            }
        rows.append(row)
    return rows


def _minutes(stages: np.ndarray, seconds: float) -> dict:
    return {name: float((stages == i).sum() * seconds / 60) for i, name in enumerate(STAGES)}


def _event_rows(night: Night) -> list[dict]:
    rows = []
    for kind, name in EVENT_NAMES.items():
        lengths = [e.duration for e in night.events if e.kind == kind]
        if lengths:
            rows.append({"name": name, "n": len(lengths), "median": float(np.median(lengths)),
                         "longest": max(lengths)})
    return rows


def _told(reading: NightReading, true, time: TimeAxis, seconds: float) -> list[dict]:
    rows = []
    for number, item in enumerate(reading.described, 1):
        rows.append({
            "number": number, "why": item.why, "when": time.name(item.epoch * seconds),
            "epoch": item.epoch + 1,
            "stage": STAGES[reading.predicted[item.epoch]],
            "scored": None if true is None or true[item.epoch] < 0 else STAGES[true[item.epoch]],
            "kinds": [
                {"kind": kind, "generated": item.generated.get(kind),
                 "silent": item.silent.get(kind), "measured": item.measured[kind]}
                for kind in KIND_NAMES if kind in item.measured
            ],
        })
    return rows


def _channel_rows(night: Night) -> list[dict]:
    rows = []
    for name in dict.fromkeys((*night.spec.channels, *CAPTION_CHANNELS)):
        found = night.channels.get(name)
        share = None
        if name in night.spec.channels:
            share = float(night.mask[:, night.spec.channels.index(name)].mean())
        rows.append({"name": name, "found": found, "share": share,
                     "seen": name in night.spec.channels})
    return rows


def clock_seconds(start: str | None) -> float | None:
    """"22:41:20" as seconds since midnight; None where the start is not known."""
    if start is None:
        return None
    hours, minutes, seconds = (float(part) for part in start.split(":"))
    return 3600 * hours + 60 * minutes + seconds


def _what(night: Night) -> str:
    return "night" if len(night.signals) * night.spec.seconds >= 3 * 3600 else "recording"


def _length(seconds: float) -> str:
    if seconds < 3600:
        return f"{seconds / 60:g} min"
    return f"{int(seconds // 3600)} h {int(seconds // 60) % 60:02d} min"


def _embedded(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
