"""Stages and events from Compumedics Profusion XML (`CMPStudyConfig`), as the NSRR gives them.

Codes of <SleepStage> (NSRR, Profusion annotations): 0 W, 1-4 stages 1 to 4, 5 REM, 6 movement,
9 not scored. <ScoredEvent> has Name, Start and Duration in seconds, Input (the signal), and for a
desaturation LowestSpO2 (nadir, %) and Desaturation (depth, %).
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from sleeplm_jax.config import MOVEMENT, UNSCORED
from sleeplm_jax.errors import RecordingError
from sleeplm_jax.recordings.events import event_kind
from sleeplm_jax.recordings.night import Event, Scoring
from sleeplm_jax.recordings.stages import N1, N2, N3, R, W, reject_codes

CODES = {"0": W, "1": N1, "2": N2, "3": N3, "4": N3, "5": R, "6": MOVEMENT, "9": UNSCORED}
MAX_BYTES = 256 << 20


def read_profusion(path: Path) -> Scoring:
    """Scoring of a Profusion XML file.

    Entities and external references are refused (defusedxml). `rules` is "R&K" where a stage 4
    occurs; without one the file does not say. Raises RecordingError for another kind of XML,
    other epochs than 30 s, unknown stage codes or events without times.
    """
    root = _parse(path)
    if root.tag != "CMPStudyConfig":
        kind = "an NSRR XML" if root.tag == "PSGAnnotation" else f"an XML of {root.tag[:40]!r}"
        raise RecordingError(
            path,
            f"is {kind}, not a Profusion XML (CMPStudyConfig)",
            "give the night's -profusion.xml (other XML scorings are not read yet)",
        )
    length = (root.findtext("EpochLength") or "30").strip()
    if length not in ("30", "30.0"):
        raise RecordingError(
            path, f"epochs of {length[:12]!r} s", "only 30-s epochs are supported for this format"
        )
    codes = [(element.text or "").strip() for element in root.iterfind("SleepStages/SleepStage")]
    if not codes:
        raise RecordingError(path, "holds no SleepStage", "give a scored Profusion XML")
    reject_codes(path, set(codes) - set(CODES), "0 to 6 and 9")
    events = []
    for number, element in enumerate(root.iterfind("ScoredEvents/ScoredEvent"), start=1):
        name = (element.findtext("Name") or "").strip()
        onset, duration = _number(element, "Start"), _number(element, "Duration")
        if onset is None or duration is None or duration < 0:
            raise RecordingError(
                path,
                f"ScoredEvent {number} has no usable Start and Duration",
                "correct or remove that event",
            )
        kind = event_kind(name)
        events.append(
            Event(
                kind,
                onset,
                duration,
                channel=(element.findtext("Input") or "").strip() or None,
                value=_number(element, "LowestSpO2") if kind == "desaturation" else None,
            )
        )
    stages = np.array([CODES[code] for code in codes], np.int8)
    rules = "R&K" if "4" in codes else "unknown"
    return Scoring(stages, tuple(events), "profusion", rules)


def _parse(path: Path):
    import defusedxml
    from defusedxml.ElementTree import ParseError, parse

    if path.stat().st_size > MAX_BYTES:
        raise RecordingError(path, "an XML of more than 256 MiB", "give one night's scoring")
    try:
        return parse(path, forbid_dtd=True).getroot()
    except (ParseError, defusedxml.DefusedXmlException, ValueError, LookupError) as error:
        raise RecordingError(
            path, f"not a readable XML ({type(error).__name__})", "export the scoring again"
        ) from None


def _number(element, tag: str) -> float | None:
    text = (element.findtext(tag) or "").strip().replace(",", ".")
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
