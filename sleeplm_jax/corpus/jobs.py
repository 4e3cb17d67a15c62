"""A night's work: what it is made from, what is noted of it, and whether it must be done again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from sleeplm_jax.config import SignalSpec
from sleeplm_jax.errors import UserError
from sleeplm_jax.files import file_sha256
from sleeplm_jax.places import Place, file_state, read_many
from sleeplm_jax.recordings.night import Dialect
from sleeplm_jax.recordings.trim import Trim

# Of a night's provenance, what a file of subjects may say instead without anything being measured
# otherwise.
STATED = ("age", "sex", "bmi", "night_number")
# Begins the setting `montage` where none was given: each recording's header chooses one.
CHOSEN = "chosen by"


@dataclass(frozen=True)
class NightJob:
    """One recording to prepare; see `discovery.Found` for `night` and `folder`."""

    path: Path
    night: str
    folder: str | None
    cohort: str | None
    montage: Path | str | None
    spec: SignalSpec
    trim: Trim
    settings: dict[str, str | None]  # hash of everything but the files, by what it is
    nights: Place
    flags: tuple[str, ...] = ()  # what a file of subjects adds to Provenance.cohort_flags

    def inputs(self) -> dict[str, Path | None]:
        """The files that the night is made from."""
        from sleeplm_jax.recordings.scoring import find_scoring

        scoring = find_scoring(self.path, self._dialect())
        return {"recording": self.path, "scoring": scoring} | _further(self.path, scoring)

    def _dialect(self) -> Dialect | None:
        """The montage's, as `prepare_night` chooses it; the recording's header is read only where
        a file beside it is a scoring for some dialects."""
        from sleeplm_jax.recordings.montage import load_montage
        from sleeplm_jax.recordings.montage_match import choose_montage
        from sleeplm_jax.recordings.opening import open_recording
        from sleeplm_jax.recordings.scoring_beside import needs_dialect

        if not needs_dialect(self.path):
            return None
        if self.montage is not None:
            return load_montage(self.montage).dialect
        return choose_montage(open_recording(self.path), self.cohort).dialect

    def state(self) -> dict[str, list | None]:
        """Names, sizes and times of the inputs."""
        return {
            name: None if path is None else [path.name, *file_state(path)]
            for name, path in self.inputs().items()
        }

    def made_of(self) -> dict:
        """Everything that decides the night file, the inputs by name and content."""
        hashes = {
            name: None if path is None else [path.name, file_sha256(path)]
            for name, path in self.inputs().items()
        }
        return {"settings": self.settings, "night": self.night, "table": self._table(), **hashes}

    def _table(self) -> list[str] | None:
        """[name, hash] of the packaged montage that the recording gets; None where one is given,
        whose hash is among the settings."""
        from sleeplm_jax.recordings.montage_hash import montage_sha256
        from sleeplm_jax.recordings.montage_match import choose_montage
        from sleeplm_jax.recordings.opening import open_recording

        if self.montage is not None:
            return None
        chosen = choose_montage(open_recording(self.path), self.cohort)
        return [chosen.name, montage_sha256(chosen)]


def _further(recording: Path, scoring: Path | None) -> dict[str, Path]:
    """Files beside a recording or its scoring that are read with it, by what they are."""
    from sleeplm_jax.recordings.montage_subjects import table_of

    found = {}
    if (table := table_of(recording)) is not None:
        found["participants"] = table
    if recording.suffix.casefold() == ".hea":  # WFDB: the header names the files of the signals
        with recording.open("rb") as file:
            lines = file.read(1 << 20).decode("latin-1").splitlines()
        names = {line.split()[0] for line in lines if line.strip() and line[0] != "#"}
        for name in sorted(names - {recording.stem}):
            if Path(name).name == name and recording.with_name(name).is_file():
                found[f"signals {name}"] = recording.with_name(name)
    if scoring is not None and scoring.name.endswith("_stage.txt"):  # UCDDB
        events = scoring.with_name(scoring.name.removesuffix("_stage.txt") + "_respevt.txt")
        if events.is_file():
            found["events"] = events
    return found


def night_file(nights: Place, night: str) -> Place:
    """Where a corpus keeps a night, given its folder of nights."""
    return nights / f"{night}.npz"


def row_file(nights: Place, night: str) -> Place:
    """Where a corpus notes what a night was made from."""
    return nights / f"{night}.json"


def read_rows(nights: Place, wanted: list[str], there: dict[str, list]) -> dict[str, dict]:
    """What earlier calls noted of the nights `wanted`; `there`: names of the files in `nights`.

    A note that is absent or cannot be read is left out: nothing is lost but time.
    """
    paths = {row_file(nights, night): night for night in wanted if f"{night}.json" in there}
    rows = {}
    for path, content in read_many(paths):
        row = _parsed(content)
        if row is not None:
            rows[paths[path]] = row
    return rows


def read_row(nights: Place, night: str) -> dict | None:
    """`read_rows` for one night; None without a note."""
    try:
        return _parsed(row_file(nights, night).read_bytes())
    except OSError:
        return None


def _parsed(content: bytes) -> dict | None:
    try:
        row = json.loads(content)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def is_current(row: dict | None, job: NightJob, there: dict[str, list]) -> bool:
    """Whether a night's row still holds, judged by the files' states, their content unread (but a
    header, where `NightJob.inputs` needs the montage).

    `there`: states of the files in the folder of nights.
    """
    try:
        return (
            row is not None
            and row["made_of"]["settings"] == job.settings
            and _same_table(row["made_of"]["table"])
            and row["state"] == job.state()
            and row["night_state"] == there.get(night_file(job.nights, job.night).name)
        )
    except (OSError, LookupError, TypeError, UserError):
        return False  # whatever is wrong, the worker will say it


def _same_table(table: list[str] | None) -> bool:
    """Whether a packaged montage still says what it said; which one a recording gets is decided by
    its header and name, whose state is looked at, and by rules that are among the settings."""
    from sleeplm_jax.recordings.montage_hash import packaged_sha256

    return table is None or packaged_sha256(table[0]) == table[1]


def holds(row: dict | None, made_of: dict, target: Place) -> bool:
    """Whether `row` describes the night file `target`, made of just this; reads the file."""
    try:
        return (
            row is not None and row["made_of"] == made_of and target.exists()
            and file_sha256(target) == row["sha256"]
        )
    except KeyError:
        return False


def why_again(row: dict | None, made_of: dict) -> str:
    """In words, why the night of `row` is prepared again; `made_of` is of today."""
    if row is None or not isinstance(row.get("made_of"), dict):
        return "no note of an earlier run"
    before, reasons = row["made_of"], []
    for name in sorted((set(before) | set(made_of)) - {"settings", "night", "table"}):
        old, new = before.get(name), made_of.get(name)
        if old == new:
            continue
        if old is None or new is None:
            reasons.append(f"{name} {'found' if old is None else 'gone'}")
        else:
            reasons.append(f"{name} {'changed' if old[0] == new[0] else 'is another file'}")
    old, new = before.get("table"), made_of["table"]
    if old and new and old != new:
        another = f"the montage {old[0]} changed" if old[0] == new[0] else "another montage"
        reasons.append(another)
    settings = before.get("settings") or {}
    words = {"code": "the preparing code changed", "montage": "another montage",
             "spec": "other channels or rate", "cohort": "another cohort",
             "trim": "another trimming", "flags": "other flags"}  # fmt: skip
    both = (settings, made_of["settings"])
    differ = [n for n in dict.fromkeys((*both[1], *both[0])) if both[0].get(n) != both[1].get(n)]
    if all(str(one.get("montage")).startswith(CHOSEN) for one in both):
        words["montage"] = "other rules for which montage a recording gets"
        if "cohort" in differ:  # which has rules of its own
            differ = [name for name in differ if name != "montage"]
    reasons += [words.get(name, f"another {name}") for name in differ]
    return ", ".join(reasons) or "its night file is absent or damaged"
