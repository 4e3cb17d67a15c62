"""Stages and events from EDF+ annotations (Sleep-EDF, MASS, HMC and others), read with MNE.

Stage texts: "Sleep stage W/1/2/3/4/R/?", "Movement time" (https://www.edfplus.info/specs/
edftexts.html), and "Sleep stage N1/N2/N3" of AASM scoring. "Lights off@@EEG F4-A1" names the
channel a mark was set on. Sleep-EDF's last "Sleep stage ?" runs on where the recording has ended
(SC4001: from 79,500 s to 86,400 s); that is cut without a word, as nothing was scored there.
MASS scores SS2, SS4 and SS5 in pages of 20 s (unverified): see `stages.stages_from_spans`.
"""

from __future__ import annotations

import datetime
import re
import warnings
from pathlib import Path

from sleeplm_jax.config import MOVEMENT, UNSCORED
from sleeplm_jax.errors import RecordingError
from sleeplm_jax.recordings.clock import seconds_of
from sleeplm_jax.recordings.edf import check_layout
from sleeplm_jax.recordings.night import Dialect, Scoring
from sleeplm_jax.recordings.recording import Recording
from sleeplm_jax.recordings.scored import Reading, Scored, finish
from sleeplm_jax.recordings.stages import STAGE_4_WORDS, STAGE_WORDS, reject_codes, rules_of

# "Sleep stage ..." must be a known stage; a bare "Stage ..." only where one word follows, so that
# a technician's remark is not taken for a stage.
_STAGE = re.compile(r"sleep\s+stage\s*[:\-]?\s*(.*)|stage\s*[:\-]?\s*(\S{1,8})", re.IGNORECASE)
MAX_BYTES = 1 << 30
OWN_ANNOTATIONS = "the recording's own annotations"
ALLOWED = "Sleep stage W, 1, 2, 3, 4, N1, N2, N3, R, ?, M and Movement time"


def read_edf_scoring(reading: Reading) -> Scored:
    """Scoring of an EDF+ file's annotations, from its own start.

    Raises RecordingError for a damaged file, one without stages, or unknown stage codes.
    """
    path = reading.path
    check_layout(path)  # MNE takes any bytes for a file without annotations
    if path.stat().st_size > MAX_BYTES:  # and reads the whole file at once
        raise RecordingError(
            path,
            f"an EDF of {path.stat().st_size / 2**30:.1f} GiB given as scoring",
            f"give a file of annotations (at most {MAX_BYTES >> 20} MiB)",
        )
    try:
        import mne

        with warnings.catch_warnings(), mne.utils.use_log_level("ERROR"):
            warnings.simplefilter("ignore")
            annotations = mne.read_annotations(path)
    except Exception as error:
        raise RecordingError(
            path,
            f"its annotations cannot be read ({type(error).__name__})",
            "give a whole EDF+ file with annotations",
        ) from None
    scored, unknown = _sorted_out(
        reading,
        (
            (float(row["onset"]), float(row["duration"]), str(row["description"]))
            for row in annotations
        ),
    )
    reject_codes(path, unknown, ALLOWED)
    if not scored.spans:
        raise RecordingError(
            path,
            f"holds no sleep stages among {len(annotations)} annotations",
            f"give a scoring with: {ALLOWED}",
        )
    scored.clock = _start_of(path)
    if reading.duration_s is not None:
        scored.spans = _without_the_tail(scored.spans, reading.duration_s)
    return scored


def own_scoring(
    recording: Recording, dialect: Dialect
) -> tuple[Scoring | None, tuple[str, ...]]:
    """The stages and events among a recording's own annotations, and flags; None without stages.

    Never raises: a recording is usable without them. Beside stages, codes outside the vocabulary
    leave it unscored with a flag, as a part of a scoring would be a wrong one.
    """
    reading = Reading(recording.path, recording.duration_s, recording.start, dialect)
    try:
        scored, unknown = _sorted_out(reading, recording.annotations())
        if not scored.spans:
            return None, ()
        reject_codes(recording.path, unknown, ALLOWED)
        scored.flags = (f"scoring: from {OWN_ANNOTATIONS}",)
        scoring = finish(scored, reading)
    except RecordingError as error:
        return None, (f"unscored: its own annotations: {error.finding}",)
    return scoring, scoring.flags


def _sorted_out(reading: Reading, notes) -> tuple[Scored, set[str]]:
    """Stages and events of (onset, duration, text) rows, and the stage texts that are none."""
    table = reading.codes(STAGE_WORDS)
    scored, words, unknown = Scored("edf+"), set(), set()
    for onset, duration, text in notes:
        duration, text = max(0.0, duration), text.strip()
        own = table.get(text.casefold()) if reading.dialect.stages else None
        if text.casefold() == "movement time":
            words.add("mt")
            scored.spans.append((onset, duration, MOVEMENT))
        elif match := _STAGE.fullmatch(text):
            word = (match[1] or match[2] or "").strip()
            if word.casefold() in table:
                words.add(word.casefold())
                scored.spans.append((onset, duration, table[word.casefold()]))
            elif own is not None:
                scored.spans.append((onset, duration, own))
            else:
                unknown.add(text)
        elif own is not None and text.casefold() not in STAGE_WORDS:
            scored.spans.append((onset, duration, own))  # the whole text, as the montage names it
        else:
            scored.events.append(reading.event(text, onset, duration))
    scored.rules, scored.stage_4 = rules_of(words), bool(words & STAGE_4_WORDS)
    return scored, unknown


def _without_the_tail(spans, duration_s: float):
    """Drops unscored spans at the end that begin where the recording has ended."""
    spans = sorted(spans)
    while spans and spans[-1][2] == UNSCORED and spans[-1][0] >= duration_s - 1.0:
        spans.pop()
    return spans


def _start_of(path: Path) -> float | None:
    """Time of day in the header's fixed field, s; None for none, and for midnight as a filler."""
    try:
        with path.open("rb") as file:
            raw = file.read(184)[176:184].decode("ascii")
        time = datetime.datetime.strptime(raw.strip(), "%H.%M.%S").time()
        return seconds_of(time) if time != datetime.time(0) else None
    except (OSError, UnicodeDecodeError, ValueError):
        return None
