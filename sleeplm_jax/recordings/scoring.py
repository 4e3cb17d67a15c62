"""Scoring files: telling their format by what is in them, and reading them; a module per format."""

from __future__ import annotations

import datetime
from pathlib import Path

from sleeplm_jax.errors import RecordingError
from sleeplm_jax.recordings import (
    scoring_codes,
    scoring_luna,
    scoring_noxturnal,
    scoring_remlogic,
    scoring_tables,
)
from sleeplm_jax.recordings.edf import Recording
from sleeplm_jax.recordings.events import EVENT_KINDS, event_kind
from sleeplm_jax.recordings.night import Dialect, Scoring
from sleeplm_jax.recordings.plain_text import encoding_of, number, read_text
from sleeplm_jax.recordings.scored import Reading, finish
from sleeplm_jax.recordings.scoring_beside import find_scoring
from sleeplm_jax.recordings.scoring_bids import read_bids
from sleeplm_jax.recordings.scoring_edf import OWN_ANNOTATIONS, own_scoring, read_edf_scoring
from sleeplm_jax.recordings.scoring_sessions import ONSET, SESSION, read_sessions
from sleeplm_jax.recordings.scoring_wfdb import read_wfdb
from sleeplm_jax.recordings.scoring_xml import read_xml

__all__ = [
    "EVENT_KINDS",
    "FORMATS",
    "OWN_ANNOTATIONS",
    "SUPPORTED",
    "event_kind",
    "find_scoring",
    "format_of",
    "read_own_scoring",
    "read_scoring",
]

# Formats of bytes take a Reading, formats of text a Reading and the text.
_BYTES = {"edf+": read_edf_scoring, "xml": read_xml, "wfdb": read_wfdb}
_TEXT = {
    "bids": read_bids,
    "sessions": read_sessions,
    "noxturnal": scoring_noxturnal.read_noxturnal,
    "remlogic": scoring_remlogic.read_remlogic,
    "luna": scoring_luna.read_luna,
    "hmc": scoring_tables.read_hmc,
    "ids": scoring_tables.read_ids,
    "wsc": scoring_tables.read_wsc,
    "sleepfm": scoring_tables.read_sleepfm,
    "stages": scoring_tables.read_stages_csv,
    "dreem": scoring_codes.read_dreem,
    "codes": scoring_codes.read_codes,
    "ucddb": lambda reading, text: scoring_codes.read_codes(reading, text, "ucddb"),
    "isruc": lambda reading, text: scoring_codes.read_codes(reading, text, "isruc"),
}
# What a montage may call a format beside its name here.
ALSO_CALLED = {
    "profusion": "xml", "nsrr": "xml", "dcsm": "ids", "dod": "dreem", "slpdb": "wfdb",
    "physionet2018": "wfdb", "boas": "bids", "ds003768": "sessions", "edf": "edf+",
    "cap": "remlogic",
}  # fmt: skip
_PLAIN = ("codes", "ucddb", "isruc", "wsc")  # which the lines alone do not tell apart for certain
FORMATS = ("edf+", "profusion", "nsrr", "wfdb", *_TEXT)
SUPPORTED = (
    "EDF+ annotations, Compumedics Profusion XML, NSRR XML, BIDS events.tsv, ds003768 "
    "sleep-stage.tsv, WFDB .st and .arousal, Noxturnal csv, REMlogic txt, Luna .annot, DCSM .ids, "
    "HMC _sleepscoring.txt, WSC .stg.txt, UCDDB _stage.txt, ISRUC .txt, Dreem JSON, SleepFM and "
    "STAGES csv, one stage code per line"
)
HEAD = 65_536
_IDS_STAGES = frozenset(("w", "wake", "n1", "n2", "n3", "rem", "r", "unknown", "?"))


def format_of(path: Path | str) -> str | None:
    """The format of a scoring file by what is in it: one of FORMATS ("xml" for both XML forms), or
    None. Only a damaged EDF and an empty file are told by their suffix. Raises RecordingError for
    HDF5 and for what cannot be opened."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise RecordingError(path, f"cannot be opened ({reason})", "check the path") from None
    suffix = path.suffix.casefold()
    if head[:8] == b"0       " or head[:8] == b"\xffBIOSEMI" or suffix in (".edf", ".bdf", ".rec"):
        return "edf+"
    if head[:8] == b"\x89HDF\r\n\x1a\n":
        raise RecordingError(
            path,
            "is an HDF5 file (PhysioNet 2018's -arousal.mat and Dreem's .h5 are), which is not "
            "read as scoring",
            "give the .arousal annotations or the JSON hypnogram of that night",
        )
    encoding = encoding_of(head)
    if encoding is None:
        return "wfdb" if _may_be_wfdb(path, head) else None
    text = head.decode(encoding, errors="ignore").lstrip("\ufeff \t\r\n")
    if text.startswith("<") or suffix == ".xml":
        return "xml"
    return _text_format(text) if text else None


def _may_be_wfdb(path: Path, head: bytes) -> bool:
    """WFDB annotations are pairs of bytes and end in a pair of zeros; a zip archive does too."""
    size = path.stat().st_size
    if size < 4 or size % 2 or head[:2] == b"PK":
        return False
    with path.open("rb") as file:
        file.seek(size - 2)
        return file.read(2) == b"\0\0"


def _text_format(text: str) -> str | None:
    first = text.splitlines()[0]
    names = {cell.strip().casefold() for cell in first.split("\t")}
    if SESSION in names and ONSET in names:
        return "sessions"
    if {"onset", "duration"} & names:
        return "bids"
    if text.startswith("["):
        # Noxturnal's line of units also begins with a bracket, but never the file.
        return "dreem"
    cells = [cell.strip().casefold() for cell in first.split(",")]
    if {"recording onset", "annotation"} <= set(cells):
        return "hmc"
    if {"start", "stop", "stagename"} <= set(cells):
        return "sleepfm"
    if cells[:2] == ["start time", "duration (seconds)"]:
        return "stages"
    if scoring_noxturnal.looks_like(text):
        return "noxturnal"
    if scoring_remlogic.looks_like(text):
        return "remlogic"
    if scoring_luna.looks_like(text):
        return "luna"
    lines = [line for line in text.splitlines()[:50] if line.strip()]
    if len(lines) > 1 and len(text) >= HEAD // 2:
        lines = lines[:-1]  # the last one may be cut
    if all(_is_ids(line) for line in lines):
        return "ids"
    body = lines[1:] if names and number(first.split("\t")[0]) is None else lines
    if body and all(_is_wsc(line) for line in body):
        return "wsc"
    return "codes" if scoring_codes.looks_like(text) else None


def _is_ids(line: str) -> bool:
    cells = line.replace(",", " ").replace(";", " ").split()
    return (
        len(cells) == 3
        and number(cells[0]) is not None
        and number(cells[1]) is not None
        and cells[2].casefold() in _IDS_STAGES
    )


def _is_wsc(line: str) -> bool:
    cells = line.split("\t")
    return len(cells) >= 2 and cells[0].strip().isdecimal() and len(cells[1].strip()) <= 4


def read_own_scoring(
    recording: Recording, dialect: Dialect | None = None
) -> tuple[Scoring | None, tuple[str, ...]]:
    """The scoring among a recording's own EDF+ annotations, fitted to it, and flags.

    (None, ()) where they hold no sleep stages; (None, flags) where they cannot be used. Never
    raises: a recording is usable without them.
    """
    return own_scoring(recording, dialect or Dialect())


def read_scoring(
    path: Path | str,
    duration_s: float | None,
    start: datetime.time | None = None,
    dialect: Dialect | None = None,
    recording: Path | str | None = None,
) -> Scoring:
    """Stages and events of a scoring file, fitted to a recording of `duration_s` seconds.

    The format is told by what is in the file; `dialect` (a montage's `scoring` part) says how a
    cohort's codes and wordings are read, and names the format where the file alone does not tell.
    `start` is the recording's clock time: a scoring that starts at another time is shifted to it,
    clock times are placed by it. `recording` is the recording's name, which chooses among several
    sessions in one file. `duration_s=None` leaves the scoring as long as it is.

    Codes outside the format's vocabulary raise RecordingError, documented "not scored" codes are
    UNSCORED; so do digits without a declared meaning, absurd times, and files of no known form.
    """
    path, dialect = Path(path), dialect or Dialect()
    if not path.is_file():
        raise RecordingError(path, "no such scoring file", f"supported: {SUPPORTED}")
    if path.name.casefold().endswith("_saf.txt"):  # of MASS; its codes are documented nowhere
        raise RecordingError(
            path, "is a _saf.txt, whose form is not read", "give that night's Base.edf or "
            "Annotations.edf"
        )
    found = format_of(path)
    named = ALSO_CALLED.get(dialect.format or "", dialect.format)
    if (found is None and named in (*_BYTES, *_TEXT)) or (found in _PLAIN and named in _PLAIN):
        found = named
    if found is None:
        raise RecordingError(
            path, f"unknown scoring format {path.suffix.casefold()!r}", f"supported: {SUPPORTED}"
        )
    reading = Reading(path, duration_s, start, dialect, Path(recording) if recording else None)
    if found in _BYTES:
        scored = _BYTES[found](reading)
    else:
        scored = _TEXT[found](reading, read_text(path))
    return finish(scored, reading)
