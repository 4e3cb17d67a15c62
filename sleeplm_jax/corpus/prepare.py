"""From recordings to a corpus: nights in parallel, a split by subject, shards, a manifest.

A corpus folder holds `nights/` (two files per night, kept so that only what changed is redone),
`shards-<hash>/`, `corpus.json`, and `failures.csv` where something failed. The manifest names the
folder of shards, so replacing this one file is what makes a new state of the corpus valid;
whatever is interrupted before leaves the old state whole.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import platform
import secrets
import shutil
import time
from collections import Counter
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from sleeplm_jax.config import STAGES, SignalSpec
from sleeplm_jax.corpus.builder import SPLITS, PackedNight, pack
from sleeplm_jax.corpus.discovery import (
    Found,
    code_version,
    file_state,
    find_recordings,
    night_file,
    remove_leftovers,
)
from sleeplm_jax.corpus.files import TEMPORARY, content_sha256, file_sha256, write_csv, write_json
from sleeplm_jax.corpus.manifest import CORPUS_FORMAT, MANIFEST, Corpus, read_manifest
from sleeplm_jax.corpus.pool import NightJob, default_workers, read_row, run_nights
from sleeplm_jax.corpus.progress import Progress, say
from sleeplm_jax.corpus.splits import read_splits, split_subjects
from sleeplm_jax.corpus.subjects import named_row, read_subjects
from sleeplm_jax.corpus.summary import summary
from sleeplm_jax.errors import CorpusError, UserError
from sleeplm_jax.recordings.montage import load_montage

FAILURES = "failures.csv"
PACKAGES = (
    "sleeplm_jax", "numpy", "scipy", "edfio", "mne", "sleepecg", "tensorflow-datasets",
    "array_record",
)


@dataclass(frozen=True)
class Failure:
    """A recording that could not be prepared."""

    file: str
    finding: str
    remedy: str


@dataclass(frozen=True)
class PrepareResult:
    """What `prepare_corpus` did; night names are those of the manifest."""

    corpus: Corpus
    prepared: tuple[str, ...]  # measured in this call
    unchanged: tuple[str, ...]  # taken over from an earlier one
    failed: tuple[Failure, ...]
    packed: bool  # False when the corpus on disk already had this content
    seconds: float

    @property
    def hash(self) -> str:
        return self.corpus.hash


def prepare_corpus(
    recordings: list[Path],
    out: Path,
    cohort: str | None = None,
    workers: int | None = None,
    spec: SignalSpec = SignalSpec(),
    splits: tuple[float, float, float] = (0.8, 0.1, 0.1),
    seed: int = 0,
    progress: bool = True,
    splits_file: Path | None = None,
    montage: Path | str | None = None,
    subjects_file: Path | None = None,
) -> PrepareResult:
    """Builds or updates the corpus in folder `out` from recording files and folders of them.

    The corpus holds exactly the recordings given: a night that an earlier call prepared and this
    one does not name leaves it. Recordings whose bytes, scoring, montage and preparing code are
    unchanged are not prepared again. A bad recording is reported in `failed` and in
    `failures.csv`, the others go on. `splits` are the shares of subjects in train, val and test,
    drawn with `seed`; `splits_file` (see `splits.read_splits`) places subjects by name, as
    "subject" or "cohort/subject". `subjects_file` (see `subjects.read_subjects`) says whose
    recording is whose, before the montage's rule for file names; another file of subjects
    prepares nothing again. With `progress` a summary is printed at the end. The same input gives
    the same `hash`, whatever `workers` is.

    Raises CorpusError when a path does not exist, nothing is found, no recording could be
    prepared, or the splits or subjects do not fit.
    """
    started = time.monotonic()
    out = Path(out)
    if len(splits) != 3 or min(splits) < 0 or sum(splits) <= 0:
        raise CorpusError("splits", f"shares {splits}", "give three shares >= 0, as 0.8 0.1 0.1")
    if workers is not None and workers < 1:
        raise CorpusError("workers", f"is {workers}", "give 1 or more")
    if montage is not None:
        load_montage(montage)  # a mistake in it is the user's, not every recording's
    placed = read_splits(splits_file) if splits_file else {}
    found = find_recordings(recordings, leave_out=out)
    named = read_subjects(subjects_file, found) if subjects_file else {}
    nights = out / "nights"
    _refuse_other_folder(out, nights, found)
    nights.mkdir(parents=True, exist_ok=True)
    for folder in (out, nights):
        remove_leftovers(folder)

    settings = content_sha256({
        "code": code_version(), "spec": dataclasses.asdict(spec), "cohort": cohort,
        "montage": _montage_text(montage),
    })
    jobs = [
        NightJob(f.path, f.night, f.folder, cohort, montage, spec, settings, nights) for f in found
    ]
    kept: dict[str, dict] = {}
    todo = []
    for job in jobs:
        row = read_row(nights, job.night)
        if row and _is_current(row, job):
            kept[job.night] = row
        else:
            todo.append((job, row))
    failures: list[Failure] = []
    prepared: list[str] = []
    outcomes = run_nights(todo, workers or default_workers(len(todo)))
    with contextlib.closing(outcomes), Progress("nights", len(todo), enabled=progress) as bar:
        for outcome in outcomes:
            if outcome.row is None:
                failures.append(Failure(str(outcome.path), outcome.finding, outcome.remedy))
                bar.note(f"failed: {outcome.path}: {outcome.finding}")
                bar.advance(1, f"{outcome.night}: failed")
                continue
            kept[outcome.night] = outcome.row
            if outcome.prepared:
                prepared.append(outcome.night)
            bar.advance(1, f"{outcome.night} ({outcome.row['about']['epochs']} epochs)")
    failures.sort(key=lambda failure: failure.file)
    _write_failures(out, failures)
    if not kept:
        raise CorpusError(
            out,
            f"none of {len(found)} recordings could be prepared (first: {failures[0].finding})",
            f"see {out / FAILURES}",
        )

    for night, row in kept.items():
        kept[night] = named_row(nights, night, row, named.get(night))
    rows = _assign(kept, placed, splits, seed, splits_file, bool(failures))
    content = {
        "format": CORPUS_FORMAT, "spec": dataclasses.asdict(spec),
        "nights": [{k: row[k] for k in ("recording", "cohort", "subject", "split", "sha256")}
                   for row in rows],
    }
    digest = content_sha256(json.loads(json.dumps(content)))
    packed = not _holds(out, digest)
    if packed:
        manifest = {
            **_summary(rows, spec, digest), "splits_seed": seed, "splits_shares": list(splits),
            "shards": _pack(rows, spec, out, nights, digest, progress),
        }
        write_json(out / MANIFEST, manifest)  # from here on the corpus is the new one
    _tidy(out, nights, kept)
    corpus = Corpus.open(out)
    if progress:
        unnamed = sum(row["ruled"] is None and not row["about"]["simulated"]
                      for night, row in kept.items() if night not in named)
        say(summary(corpus, unnamed, len(failures), out / FAILURES))
    return PrepareResult(
        corpus=corpus,
        prepared=tuple(sorted(prepared)),
        unchanged=tuple(sorted(set(kept) - set(prepared))),
        failed=tuple(failures),
        packed=packed,
        seconds=time.monotonic() - started,
    )


def _refuse_other_folder(out: Path, nights: Path, found: list[Found]) -> None:
    """CorpusError where a corpus would write among somebody's own files, and tidy them away."""
    if not nights.is_dir():
        return
    own = (".npz", ".json")
    foreign = sorted(
        p.name for p in nights.iterdir()
        if p.is_dir() or not (p.suffix in own or p.name.startswith(TEMPORARY))
    )
    foreign += [f.path.name for f in found if f.path.resolve().parent == nights.resolve()]
    if foreign:
        raise CorpusError(
            nights,
            f"holds other files ({', '.join(foreign[:3])}), and a corpus keeps its own there",
            "give --out a new folder, or the corpus' own",
        )


def _montage_text(montage: Path | str | None) -> str | None:
    """A user's montage file enters the nights' keys by content, a packaged one by its name."""
    if montage is None:
        return None
    path = Path(montage)
    return path.read_text(encoding="utf-8") if path.is_file() else str(montage)


def _is_current(row: dict, job: NightJob) -> bool:
    """Whether a night's row still holds, judged without reading the recording."""
    try:
        return (
            row["settings"] == job.settings
            and row["state"] == job.state()
            and row["night_state"] == file_state(night_file(job.nights, job.night))
        )
    except (OSError, KeyError, UserError):
        return False  # whatever is wrong, the worker will say it


def _assign(
    kept: dict[str, dict], placed: dict[str, str], shares: tuple[float, float, float], seed: int,
    splits_file: Path | None, some_failed: bool,
) -> list[dict]:
    """The manifest's rows of the nights, each with its split, in the order of the samples."""
    rows = sorted(
        ({**row["about"], "sha256": row["sha256"], "night": night} for night, row in kept.items()),
        key=lambda row: (row["cohort"], row["night"]),
    )
    subjects = {f"{row['cohort']}/{row['subject']}": row["subject"] for row in rows}
    fixed = {
        full: placed.get(full, placed.get(short))
        for full, short in subjects.items() if full in placed or short in placed
    }
    absent = sorted(set(placed) - set(subjects) - set(subjects.values()))
    if absent and not some_failed:  # a misspelt test subject would be trained on
        raise CorpusError(
            splits_file, f"names subjects that no recording belongs to: {', '.join(absent)}",
            f"choose from {', '.join(sorted(subjects.values())[:20])}",
        )
    chosen = split_subjects(list(subjects), shares, seed, fixed)
    return [{**row, "split": chosen[f"{row['cohort']}/{row['subject']}"]} for row in rows]


def _holds(out: Path, digest: str) -> bool:
    """Whether the corpus in `out` already is the one with this hash, undamaged."""
    try:
        if read_manifest(out)["hash"] != digest:
            return False
        Corpus.open(out)
    except CorpusError:
        return False
    return True


def _pack(
    rows: list[dict], spec: SignalSpec, out: Path, nights: Path, digest: str, progress: bool
) -> dict[str, Any]:
    """Writes the shards beside those in use and returns the manifest's entry for them."""
    listed = {
        split: [PackedNight(night_file(nights, row["night"]), row["samples"])
                for row in rows if row["split"] == split and row["samples"]]
        for split in SPLITS
    }
    partial = out / f"{TEMPORARY}{secrets.token_hex(4)}"
    folder = f"shards-{digest[:12]}"
    try:
        with Progress("packing", sum(row["samples"] for row in rows), enabled=progress) as bar:
            shards = pack(listed, spec, partial, bar.advance)
        files = [
            {"name": path.name, "bytes": path.stat().st_size, "sha256": file_sha256(path)}
            for path in sorted(shards.iterdir())
        ]
        if (out / folder).exists():  # same content, but damaged or left by an interruption
            shutil.rmtree(out / folder)
        shards.rename(out / folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return {"folder": folder, "files": files}


def _summary(rows: list[dict], spec: SignalSpec, digest: str) -> dict[str, Any]:
    splits = {}
    for split in SPLITS:
        members = [row for row in rows if row["split"] == split]
        stages = Counter()
        for row in members:
            stages.update(row["stages"])
        splits[split] = {
            "subjects": len({(row["cohort"], row["subject"]) for row in members}),
            "nights": len(members),
            "samples": sum(row["samples"] for row in members),
            "stages": {name: stages[name] for name in (*STAGES, "unscored", "movement")},
        }
    return {
        "format": CORPUS_FORMAT,
        "hash": digest,
        "spec": dataclasses.asdict(spec),
        "simulated": any(row["simulated"] for row in rows),
        "simulated_nights": sum(row["simulated"] for row in rows),
        "cohorts": dict(sorted(Counter(row["cohort"] for row in rows).items())),
        "splits": splits,
        "nights": rows,
        "versions": {"python": platform.python_version()}
        | {name: _version(name) for name in PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _write_failures(out: Path, failures: list[Failure]) -> None:
    if failures:
        rows = [dataclasses.astuple(failure) for failure in failures]
        write_csv(out / FAILURES, ("file", "finding", "remedy"), rows)
    else:
        (out / FAILURES).unlink(missing_ok=True)


def _tidy(out: Path, nights: Path, kept: dict[str, dict]) -> None:
    """Removes what the committed corpus does not use: a withdrawn recording leaves no copy."""
    for path in nights.iterdir():
        if path.stem not in kept:
            path.unlink()
    current = read_manifest(out)["shards"]["folder"]
    for folder in out.glob("shards-*"):
        if folder.name != current:
            shutil.rmtree(folder, ignore_errors=True)
