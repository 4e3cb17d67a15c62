"""Stages and events from EDF+ annotations (Sleep-EDF, MASS and others), read with MNE.

Stage texts: "Sleep stage W/1/2/3/4/R/?", "Movement time" (https://www.edfplus.info/specs/
edftexts.html), and "Sleep stage N1/N2/N3" of AASM scoring.
"""

from __future__ import annotations

import datetime
import re
import warnings
from pathlib import Path

from sleeplm_jax.config import MOVEMENT
from sleeplm_jax.errors import RecordingError
from sleeplm_jax.recordings.edf import Recording, check_layout
from sleeplm_jax.recordings.events import event_kind
from sleeplm_jax.recordings.night import Event, Scoring
from sleeplm_jax.recordings.stages import (
    EPOCH_S,
    STAGE_WORDS,
    reject_codes,
    rules_of,
    shifted,
    stages_from_spans,
)

# "Sleep stage ..." must be a known stage; a bare "Stage ..." only where one word follows, so that
# a technician's remark is not taken for a stage.
_STAGE = re.compile(r"sleep\s+stage\s*[:\-]?\s*(.*)|stage\s*[:\-]?\s*(\S{1,8})", re.IGNORECASE)
MAX_BYTES = 1 << 30
OWN_ANNOTATIONS = "the recording's own annotations"
ALLOWED = "Sleep stage W, 1, 2, 3, 4, N1, N2, N3, R, ?, M and Movement time"


def read_edf_scoring(
    path: Path, start: datetime.time | None = None, duration_s: float | None = None
) -> Scoring:
    """Scoring of an EDF+ file's annotations, from the recording's start.

    Raises RecordingError for a damaged file, one without stages, or unknown stage codes.
    """
    check_layout(path)  # MNE takes any bytes for a file without annotations
    if path.stat().st_size > MAX_BYTES:  # and reads the whole file at once
        raise RecordingError(
            path,
            f"an EDF of {path.stat().st_size / 2**30:.1f} GiB given as scoring",
            f"give a file of annotations (at most {MAX_BYTES >> 20} MiB)",
        )
    own_start = _start_of(path)
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
    spans, events, words, unknown = _sorted_out(
        (float(row["onset"]), float(row["duration"]), str(row["description"]))
        for row in annotations
    )
    reject_codes(path, unknown, ALLOWED)
    if not spans:
        raise RecordingError(
            path,
            f"holds no sleep stages among {len(annotations)} annotations",
            f"give a scoring with: {ALLOWED}",
        )
    flags: tuple[str, ...] = ()
    if start is not None and own_start is not None:
        seconds = _clock_difference(own_start, start)
        if abs(seconds) >= 0.5:
            spans, events = shifted(spans, events, seconds)
            _check_overlap(path, spans, duration_s, seconds)
            flags = (f"scoring_shifted: it starts {seconds:g} s after the recording",)
    stages, more = stages_from_spans(spans, path)
    return Scoring(stages, tuple(events), "edf+", rules_of(words), flags + more)


def own_scoring(recording: Recording) -> tuple[Scoring | None, tuple[str, ...]]:
    """The stages and events among a recording's own annotations, and flags; None without stages.

    Never raises: a recording is usable without them. Beside stages, codes outside the vocabulary
    leave it unscored with a flag, as a part of a scoring would be a wrong one.
    """
    try:
        notes = recording.annotations()
        spans, events, words, unknown = _sorted_out(notes)
        if not spans:
            return None, ()
        reject_codes(recording.path, unknown, ALLOWED)
        stages, more = stages_from_spans(spans, recording.path)
    except RecordingError as error:
        return None, (f"unscored: its own annotations: {error.finding}",)
    flags = (f"scoring: from {OWN_ANNOTATIONS}", *more)
    return Scoring(stages, tuple(events), "edf+", rules_of(words), flags), flags


def _sorted_out(notes) -> tuple[list, list[Event], set[str], set[str]]:
    """Stage spans, events, stage words and unknown stage texts of (onset, duration, text) rows."""
    spans, events, words, unknown = [], [], set(), set()
    for onset, duration, text in notes:
        duration, text = max(0.0, duration), text.strip()
        if text.casefold() == "movement time":
            words.add("mt")
            spans.append((onset, duration, MOVEMENT))
        elif match := _STAGE.fullmatch(text):
            word = (match[1] or match[2] or "").strip()
            if word.casefold() in STAGE_WORDS:
                words.add(word)
                spans.append((onset, duration, STAGE_WORDS[word.casefold()]))
            else:
                unknown.add(text)
        else:
            events.append(Event(event_kind(text), onset, duration))
    return spans, events, words, unknown


def _check_overlap(path: Path, spans, duration_s: float | None, seconds: float) -> None:
    """Start times that leave nothing in common belong to two nights, or one was changed."""
    first = min(onset for onset, _, _ in spans)
    last = max(onset + (duration or EPOCH_S) for onset, duration, _ in spans)
    if last <= 0 or (duration_s is not None and first >= duration_s):
        raise RecordingError(
            path,
            f"by its start time it begins {seconds:g} s after the recording and shares no epoch "
            "with it",
            "check that it scores this night, or correct the start time in its header",
        )


def _start_of(path: Path) -> datetime.time | None:
    """Clock time in the header's fixed field; None where it is none, or midnight as a filler."""
    try:
        with path.open("rb") as file:
            raw = file.read(184)[176:184].decode("ascii")
        time = datetime.datetime.strptime(raw.strip(), "%H.%M.%S").time()
        return time if time != datetime.time(0) else None
    except (OSError, UnicodeDecodeError, ValueError):
        return None


def _clock_difference(later: datetime.time, earlier: datetime.time) -> float:
    """Seconds from `earlier` to `later`, within half a day either way (nights cross midnight)."""

    def seconds(t: datetime.time) -> float:
        return t.hour * 3600 + t.minute * 60 + t.second + t.microsecond / 1e6

    # Only whole seconds: the fixed header field of the scoring holds no fraction.
    return (seconds(later) - int(seconds(earlier)) + 43_200) % 86_400 - 43_200
