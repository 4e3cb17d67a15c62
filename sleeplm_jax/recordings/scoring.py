"""Scoring beside a recording: finding the file, reading it, one module per format."""

from __future__ import annotations

import datetime
import os
import re
from pathlib import Path

from sleeplm_jax.errors import RecordingError
from sleeplm_jax.recordings.edf import Recording
from sleeplm_jax.recordings.events import EVENT_KINDS, event_kind
from sleeplm_jax.recordings.night import Scoring
from sleeplm_jax.recordings.scoring_bids import read_bids
from sleeplm_jax.recordings.scoring_edf import OWN_ANNOTATIONS, own_scoring, read_edf_scoring
from sleeplm_jax.recordings.scoring_profusion import read_profusion
from sleeplm_jax.recordings.stages import fit_to_recording

__all__ = [
    "EVENT_KINDS",
    "OWN_ANNOTATIONS",
    "SUPPORTED",
    "event_kind",
    "find_scoring",
    "read_own_scoring",
    "read_scoring",
]

SUPPORTED = "EDF+ annotations (.edf), Compumedics Profusion XML (.xml), BIDS events (.tsv)"


def find_scoring(recording_path: Path | str) -> Path | None:
    """The scoring file that lies beside a recording, or None.

    For X.edf: X.xml, X-profusion.xml, X_hypnogram.edf, X_events.tsv; for Sleep-EDF's
    SC4001E0-PSG.edf: SC4001E?-Hypnogram.edf; for BIDS' X_eeg.edf: X_events.tsv. Only where
    nothing else is found: X_hypnogram.edf beside X_eeg.edf, and an NSRR X-nsrr.xml (reading it
    then says what to do). Case does not matter where no name fits exactly (NIGHT.EDF, night.XML).
    Raises RecordingError listing them where several fit.
    """
    path = Path(recording_path)
    stem = path.stem
    names = [f"{stem}.xml", f"{stem}-profusion.xml", f"{stem}_hypnogram.edf", f"{stem}_events.tsv"]
    bids = stem[:-4] if stem.casefold().endswith("_eeg") else stem
    if bids != stem:
        names.append(f"{bids}_events.tsv")
    found = _beside(path, names)
    if match := re.fullmatch(r"(.+).-PSG", stem, re.IGNORECASE):
        pattern = re.compile(re.escape(match[1]) + r".-Hypnogram\.edf", re.IGNORECASE)
        found += [path.with_name(name) for name in _names(path) if pattern.fullmatch(name)]
    if len(found) > 1:
        raise RecordingError(
            path,
            f"several scoring files fit: {', '.join(p.name for p in found)}",
            "name the one to use with --scoring, or move the others away",
        )
    for name in (f"{bids}_hypnogram.edf", f"{stem}-nsrr.xml"):
        found = found or _beside(path, [name])[:1]
    return found[0] if found else None


def _beside(path: Path, names: list[str]) -> list[Path]:
    """Files of these names in the folder of `path`; of other case only where none is exact."""
    exact = [path.with_name(name) for name in names if path.with_name(name).is_file()]
    if exact:
        return exact
    wanted = {name.casefold() for name in names}
    return [path.with_name(name) for name in _names(path) if name.casefold() in wanted]


def _names(path: Path) -> list[str]:
    try:
        return sorted(os.listdir(path.parent))
    except OSError:
        return []  # opening the recording will say it


def read_own_scoring(recording: Recording) -> tuple[Scoring | None, tuple[str, ...]]:
    """The scoring among a recording's own EDF+ annotations, fitted to it, and flags.

    (None, ()) where they hold no sleep stages; (None, flags) where they cannot be used. Never
    raises: a recording is usable without them.
    """
    scoring, flags = own_scoring(recording)
    if scoring is None:
        return None, flags
    scoring = fit_to_recording(scoring, recording.duration_s)
    return scoring, scoring.flags


def read_scoring(
    path: Path | str,
    duration_s: float | None,
    start: datetime.time | None = None,
) -> Scoring:
    """Stages and events of a scoring file, fitted to a recording of `duration_s` seconds.

    `start` is the recording's clock time: an EDF+ scoring that starts at another time is shifted
    to it. `duration_s=None` leaves the scoring as long as it is. Codes outside the format's
    vocabulary raise RecordingError; documented "not scored" codes are UNSCORED.
    """
    path = Path(path)
    if not path.is_file():
        raise RecordingError(path, "no such scoring file", f"supported: {SUPPORTED}")
    suffix = path.suffix.casefold()
    if suffix in (".edf", ".bdf"):
        scoring = read_edf_scoring(path, start, duration_s)
    elif suffix == ".xml":
        scoring = read_profusion(path)
    elif suffix == ".tsv":
        scoring = read_bids(path)
    else:
        raise RecordingError(path, f"unknown scoring format {suffix!r}", f"supported: {SUPPORTED}")
    return scoring if duration_s is None else fit_to_recording(scoring, duration_s)
