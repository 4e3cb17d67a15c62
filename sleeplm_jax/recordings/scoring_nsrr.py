"""Stages and events from the NSRR's own XML (`PSGAnnotation`), new and old vocabulary.

Every <ScoredEvent> has EventType ("Stages|Stages"), EventConcept, Start and Duration in seconds
from the recording's start, SignalLocation, and for a desaturation SpO2Nadir and SpO2Baseline. The
new vocabulary writes "Stage 2 sleep|2" and "Hypopnea|Hypopnea" (the term, then the scorer's own);
old files write ontology terms, "SDO:NonRapidEyeMovementSleep-N2", "SDO:WakeState",
"SDO:HypopneaFinding". Sources: Luna's nsrr-remap (remnrem/luna-base, annot/nsrr-remap.cpp:
"Wake|0", "Stage 1 sleep|1" to "Stage 4 sleep|4", "REM sleep|5", "Movement|6", "Unscored|9") and its
table of stage labels (the SDO terms, -N4 included); no real file was at hand.
"""

from __future__ import annotations

import re

from sleeplm_jax.config import MOVEMENT, UNSCORED
from sleeplm_jax.errors import RecordingError
from sleeplm_jax.recordings.clock import clock_seconds, difference, seconds_of
from sleeplm_jax.recordings.plain_text import number
from sleeplm_jax.recordings.scored import Reading, Scored
from sleeplm_jax.recordings.scoring_profusion import CODES as NUMBERED
from sleeplm_jax.recordings.scoring_profusion import saturation
from sleeplm_jax.recordings.stages import N1, N2, N3, STAGE_WORDS, R, W, reject_codes

CONCEPTS = {
    "wake": W, "stage 1 sleep": N1, "stage 2 sleep": N2, "stage 3 sleep": N3, "stage 4 sleep": N3,
    "rem sleep": R, "movement": MOVEMENT, "unscored": UNSCORED,
    "sdo:wakestate": W, "sdo:rapideyemovementsleep": R,
    "sdo:nonrapideyemovementsleep-n1": N1, "sdo:nonrapideyemovementsleep-n2": N2,
    "sdo:nonrapideyemovementsleep-n3": N3, "sdo:nonrapideyemovementsleep-n4": N3,
}  # fmt: skip
_STAGE_4 = ("stage 4 sleep", "sdo:nonrapideyemovementsleep-n4")
_ONTOLOGY = re.compile(r"^[A-Z]{2,5}:")
_STAGE_LIKE = re.compile(r"eyemovementsleep|wakestate|^(sleep )?stage\b", re.IGNORECASE)


def nsrr(root, reading: Reading) -> Scored:
    """The scoring of an NSRR document. Raises RecordingError for unknown stage concepts or events
    without times."""
    path, concepts = reading.path, reading.codes(CONCEPTS)
    scored, unknown = Scored("nsrr"), set()
    for index, element in enumerate(root.iterfind("ScoredEvents/ScoredEvent"), start=1):
        concept = (element.findtext("EventConcept") or element.findtext("Name") or "").strip()
        if concept.casefold() == "recording start time":
            _check_clock(element, reading, scored)
            continue
        onset, duration = number(element.findtext("Start")), number(element.findtext("Duration"))
        if onset is None or duration is None or duration < 0:
            raise RecordingError(
                path,
                f"ScoredEvent {index} has no usable Start and Duration",
                "correct or remove that event",
            )
        term, _, own = (part.strip() for part in concept.partition("|"))
        kind = (element.findtext("EventType") or "").split("|")[0].strip().casefold()
        stage = concepts.get(concept.casefold(), concepts.get(term.casefold()))
        if stage is None and (kind in ("stages", "stage") or _STAGE_LIKE.search(term)):
            stage = NUMBERED.get(own, STAGE_WORDS.get(term.casefold()))
            if stage is None:
                unknown.add(concept)
                continue
        if stage is not None:
            scored.spans.append((onset, duration, stage))
            scored.stage_4 |= term.casefold() in _STAGE_4
        else:
            scored.events.append(
                reading.event(
                    _ONTOLOGY.sub("", concept),
                    onset,
                    duration,
                    channel=(element.findtext("SignalLocation") or "").strip() or None,
                    **saturation(element, "SpO2Nadir", baseline="SpO2Baseline"),
                )
            )
    reject_codes(path, unknown, '"Wake|0", "Stage 1 sleep|1" to "Unscored|9", or the SDO terms')
    scored.rules = "R&K" if scored.stage_4 else "unknown"
    return scored


def _check_clock(element, reading: Reading, scored: Scored) -> None:
    """Times are elapsed seconds; the start's clock only confirms that it is the same night."""
    clock = clock_seconds(element.findtext("ClockTime") or "")
    if clock is None or reading.start is None:
        return
    apart = difference(clock, seconds_of(reading.start))
    if abs(apart) >= 1.0:
        scored.flags += (
            f"start_clock_differs: the scoring's recording starts {apart:g} s after this one by "
            "the clock; its times, counted from the start, are kept",
        )
