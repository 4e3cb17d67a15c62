"""Stages and events from Compumedics Profusion XML (`CMPStudyConfig`), as the NSRR gives them.

Codes of <SleepStage> (NSRR, Profusion annotations): 0 W, 1-4 stages 1 to 4, 5 REM, 6 movement,
9 not scored; one for every <EpochLength> seconds. <ScoredEvent> has Name, Start and Duration in
seconds, Input (the signal), and for a desaturation LowestSpO2 (nadir, %) and Desaturation (depth,
points). Read in the three NSRR tutorial nights.
"""

from __future__ import annotations

from sleeplm_jax.config import MOVEMENT, UNSCORED
from sleeplm_jax.errors import RecordingError
from sleeplm_jax.recordings.plain_text import number
from sleeplm_jax.recordings.scored import Reading, Scored
from sleeplm_jax.recordings.stages import N1, N2, N3, R, W, reject_codes

CODES = {"0": W, "1": N1, "2": N2, "3": N3, "4": N3, "5": R, "6": MOVEMENT, "9": UNSCORED}
PAGES_S = (1.0, 120.0)  # lengths of a scorer's page that exist, with room to spare


def profusion(root, reading: Reading) -> Scored:
    """The scoring of a Profusion document.

    `rules` is "R&K" where a stage 4 occurs; without one the file does not say. Raises
    RecordingError for unknown stage codes, a page length that is none, or events without times.
    """
    path = reading.path
    page = number(root.findtext("EpochLength") or "30")
    if page is None or not PAGES_S[0] <= page <= PAGES_S[1]:
        raise RecordingError(
            path,
            f"epochs of {(root.findtext('EpochLength') or '').strip()[:12]!r} s",
            f"an EpochLength of {PAGES_S[0]:g} to {PAGES_S[1]:g} s is needed",
        )
    codes = [(element.text or "").strip() for element in root.iterfind("SleepStages/SleepStage")]
    if not codes:
        raise RecordingError(path, "holds no SleepStage", "give a scored Profusion XML")
    table = reading.codes(CODES)
    reject_codes(path, set(codes) - set(table), "0 to 6 and 9")
    events = []
    for index, element in enumerate(root.iterfind("ScoredEvents/ScoredEvent"), start=1):
        onset, duration = number(element.findtext("Start")), number(element.findtext("Duration"))
        if onset is None or duration is None or duration < 0:
            raise RecordingError(
                path,
                f"ScoredEvent {index} has no usable Start and Duration",
                "correct or remove that event",
            )
        events.append(
            reading.event(
                element.findtext("Name") or "",
                onset,
                duration,
                channel=(element.findtext("Input") or "").strip() or None,
                **saturation(element, "LowestSpO2", "Desaturation"),
            )
        )
    return Scored(
        "profusion",
        [(i * page, page, table[code]) for i, code in enumerate(codes)],
        events,
        rules="R&K" if "4" in codes else "unknown",
        stage_4="4" in codes,
    )


def saturation(element, nadir: str, depth: str | None = None, baseline: str | None = None) -> dict:
    """`value` (nadir, %) and `depth` (points) of a desaturation, as far as the element has them."""
    low = number(element.findtext(nadir))
    fall = number(element.findtext(depth)) if depth else None
    top = number(element.findtext(baseline)) if baseline else None
    if fall is None and top is not None and low is not None:
        fall = top - low
    return {"value": low, "depth": fall}
