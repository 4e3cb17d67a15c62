"""Stages and events from BIDS `events.tsv` (onset, duration in s; BIDS specification, "Events").

Stages from the column `trial_type` (W, N1, N2, N3, R) or, as in BOAS (OpenNeuro ds005555, its
README), `stage_hum`: 0 W, 1 N1, 2 N2, 3 N3, 4 R, 8 PSG disconnected; by the majority of three
experts. `stage_ai` (-2 artefact or missing) only where no human scored.
"""

from __future__ import annotations

from sleeplm_jax.config import UNSCORED
from sleeplm_jax.errors import RecordingError
from sleeplm_jax.recordings.plain_text import length, rows, seconds
from sleeplm_jax.recordings.scored import Reading, Scored
from sleeplm_jax.recordings.stages import (
    N1,
    N2,
    N3,
    STAGE_4_WORDS,
    STAGE_WORDS,
    R,
    W,
    reject_codes,
    rules_of,
)

NUMBERED = {"0": W, "1": N1, "2": N2, "3": N3, "4": R, "8": UNSCORED, "n/a": UNSCORED}
BY_MACHINE = {"-2": UNSCORED}
# stage_consensus and majority are columns of other public exports: not known, not guessed.
STAGE_COLUMNS = ("stage_hum", "trial_type", "stage_ai")


def read_bids(reading: Reading, text: str) -> Scored:
    """Scoring of a BIDS events.tsv; rows that are no stage must be events of a known kind.

    Raises RecordingError for missing columns, unusable times or unknown codes.
    """
    path = reading.path
    columns, *body = rows(path, text, "\t")
    column = next((c for c in STAGE_COLUMNS if c in columns), None)
    if column is None or not {"onset", "duration"} <= set(columns):
        raise RecordingError(
            path,
            f"has the columns {', '.join(columns)[:120]}",
            f"onset, duration and one of {', '.join(STAGE_COLUMNS)} are needed",
        )
    at = {name: columns.index(name) for name in ("onset", "duration", column)}
    table = reading.codes(
        STAGE_WORDS | {"n/a": UNSCORED}
        if column == "trial_type"
        else NUMBERED | (BY_MACHINE if column == "stage_ai" else {})
    )
    scored, words, unknown = Scored("bids"), set(), set()
    for line, row in enumerate(body, start=2):
        row = row + ["n/a"] * (len(columns) - len(row))
        onset, lasts = seconds(path, line, row[at["onset"]]), row[at["duration"]]
        duration = 0.0 if lasts == "n/a" else length(path, line, seconds(path, line, lasts))
        code = row[at[column]]
        word = code.casefold().removeprefix("sleep stage ").strip()
        stage = table.get(word if column == "trial_type" else code.casefold())
        if stage is not None:
            words.add(word)
            scored.spans.append((onset, duration, stage))
        elif column == "trial_type" and (event := reading.event(code, onset, duration)).kind != (
            "other"
        ):
            scored.events.append(event)
        else:
            unknown.add(code)
    allowed = "W, N1, N2, N3, R, n/a" if column == "trial_type" else "0 to 4, 8 and n/a"
    reject_codes(path, unknown, f"{allowed} in {column}")
    if column == "stage_ai":
        scored.flags = ("scored_by_machine: only stage_ai is given, no human scoring",)
        scored.scorer = "stage_ai"
    elif column == "stage_hum":
        scored.scorer = "consensus"
    if "rk_code" in columns:  # pieces of UCDDB keep the R&K code beside the AASM name
        scored.rules = "R&K"
    elif column == "trial_type":
        scored.rules, scored.stage_4 = rules_of(words), bool(words & STAGE_4_WORDS)
    return scored
