"""Stages and events from BIDS `events.tsv` (onset, duration in s; BIDS specification, "Events").

Stages from the column `trial_type` (W, N1, N2, N3, R) or, as in BOAS (OpenNeuro ds005555),
`stage_hum`: 0 W, 1 N1, 2 N2, 3 N3, 4 R, 8 not scored; `stage_ai` only where no human scored.
"""

from __future__ import annotations

import csv
import math
from pathlib import Path

from sleeplm_jax.config import UNSCORED
from sleeplm_jax.errors import RecordingError
from sleeplm_jax.recordings.events import event_kind
from sleeplm_jax.recordings.night import Event, Scoring
from sleeplm_jax.recordings.stages import (
    N1,
    N2,
    N3,
    STAGE_WORDS,
    R,
    W,
    reject_codes,
    rules_of,
    stages_from_spans,
)

NUMBERED = {"0": W, "1": N1, "2": N2, "3": N3, "4": R, "8": UNSCORED}
MAX_ROWS = 1_000_000


def read_bids(path: Path) -> Scoring:
    """Scoring of a BIDS events.tsv; rows that are no stage must be events of a known kind.

    Raises RecordingError for missing columns, unusable times or unknown codes.
    """
    columns, rows = _rows(path)
    column = next((c for c in ("stage_hum", "trial_type", "stage_ai") if c in columns), None)
    if column is None or not {"onset", "duration"} <= set(columns):
        raise RecordingError(
            path,
            f"has the columns {', '.join(columns)[:120]}",
            "onset, duration and one of trial_type, stage_hum, stage_ai are needed",
        )
    spans, events, words, unknown = [], [], set(), set()
    for number, row in enumerate(rows, start=2):
        onset, duration = _seconds(path, number, row["onset"]), row["duration"].strip()
        duration = 0.0 if duration == "n/a" else _seconds(path, number, duration)
        if duration < 0:
            raise RecordingError(
                path, f"line {number}: a duration of {duration:g} s", "correct that line"
            )
        code = row[column].strip()
        if column == "trial_type":
            word = code.casefold().removeprefix("sleep stage ").strip()
            stage = UNSCORED if word == "n/a" else STAGE_WORDS.get(word)
            if stage is not None:
                words.add(word)
        else:
            stage = UNSCORED if code == "n/a" else NUMBERED.get(code)
        if stage is not None:
            spans.append((onset, duration, stage))
        elif column == "trial_type" and (kind := event_kind(code)) != "other":
            events.append(Event(kind, onset, duration))
        else:
            unknown.add(code)
    allowed = "W, N1, N2, N3, R, n/a" if column == "trial_type" else "0 to 4, 8 and n/a"
    reject_codes(path, unknown, f"{allowed} in {column}")
    if not spans:
        raise RecordingError(path, "holds no sleep stages", "give the night's scored events.tsv")
    stages, flags = stages_from_spans(spans, path)
    if column == "stage_ai":
        flags += ("scored_by_machine: only stage_ai is given, no human scoring",)
    # UCDDB pieces keep the Rechtschaffen & Kales code beside the AASM name.
    rules = "R&K" if "rk_code" in columns else rules_of(words)
    return Scoring(stages, tuple(events), "bids", rules, flags)


def _rows(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter="\t", restval="n/a")
            rows = []
            for row in reader:
                if len(rows) == MAX_ROWS:
                    raise RecordingError(path, f"more than {MAX_ROWS} rows", "give one night")
                rows.append(row)
            return list(reader.fieldnames or ()), rows
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RecordingError(
            path, f"not a tab-separated text ({type(error).__name__})", "give a BIDS events.tsv"
        ) from None


def _seconds(path: Path, line: int, text: str) -> float:
    try:
        value = float(text)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise RecordingError(
            path, f"line {line}: {str(text)[:20]!r} is no time in seconds", "correct that line"
        )
    return value
