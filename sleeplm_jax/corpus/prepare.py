"""From recordings to a corpus: nights in parallel, a split by subject, shards, a manifest.

A corpus folder, here or in an object store, holds `nights/` (two files per night, kept so that
only what changed is redone), `shards-<hash>/`, `corpus.json`, and `failures.csv` where something
failed. The manifest names the folder of shards, so replacing this one file is what makes a new
state of the corpus valid; whatever is interrupted before leaves the old state whole.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sleeplm_jax.config import SignalSpec
from sleeplm_jax.corpus.discovery import Found, code_version, find_recordings, unlisted
from sleeplm_jax.corpus.jobs import CHOSEN, NightJob, is_current, read_rows
from sleeplm_jax.corpus.manifest import Corpus
from sleeplm_jax.corpus.packing import commit, corpus_hash, is_there, tidy
from sleeplm_jax.corpus.pool import NightOutcome, default_workers, run_nights
from sleeplm_jax.corpus.progress import Progress, say
from sleeplm_jax.corpus.selection import select
from sleeplm_jax.corpus.splits import assign, read_splits
from sleeplm_jax.corpus.subjects import Named, named_row, read_subjects
from sleeplm_jax.corpus.summary import summary
from sleeplm_jax.errors import CorpusError
from sleeplm_jax.files import TEMPORARY, content_sha256, only_writer, remove_leftovers, write_csv
from sleeplm_jax.places import Place, file_states, place
from sleeplm_jax.recordings.montage import cohort_montages, load_montage, packaged_montages
from sleeplm_jax.recordings.montage_hash import choice_sha256, montage_sha256
from sleeplm_jax.recordings.prepare import TRIM
from sleeplm_jax.recordings.trim import Trim

FAILURES = "failures.csv"
RUNNERS = ("pool", "beam")


@dataclass(frozen=True)
class Failure:
    """A recording that could not be prepared, or a folder that could not be searched."""

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


@dataclass(frozen=True)
class Survey:
    """What lies before `prepare_corpus`: the recordings and what an earlier call left of them."""

    out: Place
    nights: Place
    found: list[Found]
    unlisted: list[CorpusError]  # folders that could not be searched
    jobs: list[NightJob]
    there: dict[str, list]  # name -> state of the files in `nights`
    rows: dict[str, dict]  # night -> what an earlier call noted
    named: dict[str, Named]  # night -> whose it is, where a file of subjects says it
    selection: dict | None = None  # how nights were selected, for the manifest


def survey(
    recordings: list[Path],
    out: Path | Place | str,
    cohort: str | None = None,
    spec: SignalSpec = SignalSpec(),
    montage: Path | str | None = None,
    subjects_file: Path | None = None,
    trim: Trim = TRIM,
    selection_file: Path | None = None,
) -> Survey:
    """Looks at recordings and corpus without writing anything; arguments as `prepare_corpus`."""
    out = place(out)
    # A mistake in it is the user's, not every recording's.
    given = None if montage is None else montage_sha256(load_montage(montage))
    problems: list[OSError] = []
    found = find_recordings(recordings, leave_out=out, unreadable=problems)
    found, selection = select(found, selection_file) if selection_file else (found, None)
    named = read_subjects(subjects_file, found) if subjects_file else {}
    nights = out / "nights"
    there = file_states(nights)
    _refuse_other_folder(nights, found, there)
    if cohort is not None and montage is None and not cohort_montages(cohort):
        names = sorted({name for m in packaged_montages() for name in (m.name, *m.cohorts)})
        raise CorpusError(
            "--cohort", f"{cohort!r} is not known",
            f"give --montage with a table of your own, or one of: {', '.join(names)}",
        )
    settings = {
        "code": code_version(), "cohort": cohort,
        "spec": content_sha256(dataclasses.asdict(spec)),
        "montage": given or f"{CHOSEN} {choice_sha256(cohort)}",
        "trim": content_sha256(dataclasses.asdict(trim)),
    }
    jobs = [
        NightJob(
            f.path, f.night, f.folder, cohort, montage, spec, trim,
            # Flags decide what is measured, as age and sex do not; see subjects.py.
            settings | ({"flags": ";".join(flags)} if flags else {}), nights, flags,
        )
        for f in found
        for flags in (named[f.night].flags if f.night in named else (),)
    ]
    rows = read_rows(nights, [job.night for job in jobs], there)
    return Survey(
        out, nights, found, list(map(unlisted, problems)), jobs, there, rows, named, selection
    )


def prepare_corpus(
    recordings: list[Path],
    out: Path | Place | str,
    cohort: str | None = None,
    workers: int | None = None,
    spec: SignalSpec = SignalSpec(),
    splits: tuple[float, float, float] = (0.8, 0.1, 0.1),
    seed: int = 0,
    progress: bool = True,
    splits_file: Path | None = None,
    montage: Path | str | None = None,
    subjects_file: Path | None = None,
    trim: Trim = TRIM,
    stratify: tuple[str, ...] = (),
    runner: str = "pool",
    beam_flags: str = "",
    selection_file: Path | None = None,
) -> PrepareResult:
    """Builds or updates the corpus in `out`, a folder or an address, from files and folders.

    The corpus holds exactly the recordings given: a night that an earlier call prepared and this
    one does not name leaves it. Recordings whose bytes, scoring, montage and preparing code are
    unchanged are not prepared again. A bad recording is reported in `failed` and in
    `failures.csv`, the others go on; so is a folder that cannot be searched. `splits` are the
    shares of subjects in train, val and test, drawn with `seed`, by `stratify` (see
    `splits.split_subjects`); `splits_file` (see `splits.read_splits`) places subjects by name, as
    "subject" or "cohort/subject". `subjects_file` (see `subjects.read_subjects`) says whose
    recording is whose, before the montage's rule for file names; another file of subjects
    prepares nothing again but nights whose flags it changes. `selection_file` (see
    `selection.py`) keeps the recordings it names, and the manifest says who selected them.
    `runner`: "pool" (processes of this machine) or "beam" with `beam_flags` (see
    `beam.run_nights_on_beam`). With `progress` a summary is printed at the end. The same input
    gives the same `hash`, whatever `workers` and `runner` are.

    Raises CorpusError when a path does not exist, nothing is found, no recording could be
    prepared, or the splits or subjects do not fit; UserError for an address that cannot be used.
    """
    started = time.monotonic()
    if len(splits) != 3 or min(splits) < 0 or sum(splits) <= 0:
        raise CorpusError("splits", f"shares {splits}", "give three shares >= 0, as 0.8 0.1 0.1")
    if workers is not None and workers < 1:
        raise CorpusError("workers", f"is {workers}", "give 1 or more")
    if runner not in RUNNERS:
        raise CorpusError("--runner", f"is {runner!r}", f"choose from {', '.join(RUNNERS)}")
    placed = read_splits(splits_file) if splits_file else {}
    seen = survey(
        recordings, out, cohort, spec, montage, subjects_file, trim, selection_file
    )
    out, nights = seen.out, seen.nights
    nights.mkdir(parents=True, exist_ok=True)
    with only_writer(nights):
        return _prepare(
            seen, placed, workers, spec, splits, seed, progress, splits_file, stratify,
            runner, beam_flags, started,
        )


def _prepare(
    seen: Survey, placed: dict[str, str], workers: int | None, spec: SignalSpec,
    splits: tuple[float, float, float], seed: int, progress: bool, splits_file: Path | None,
    stratify: tuple[str, ...], runner: str, beam_flags: str, started: float,
) -> PrepareResult:
    out, nights = seen.out, seen.nights
    for folder in (out, nights):
        remove_leftovers(folder)
    kept = {job.night: seen.rows[job.night] for job in seen.jobs
            if is_current(seen.rows.get(job.night), job, seen.there)}
    todo = [(job, seen.rows.get(job.night)) for job in seen.jobs if job.night not in kept]
    failures = [Failure(e.where, e.finding, e.remedy) for e in seen.unlisted]
    prepared: list[str] = []
    outcomes = _outcomes(todo, out, workers, runner, beam_flags)
    with contextlib.closing(outcomes), Progress("nights", len(todo), enabled=progress) as bar:
        for failure in failures:
            bar.note(f"failed: {failure.file}: {failure.finding}")
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
            f"none of {len(seen.found)} recordings could be prepared "
            f"(first: {failures[0].finding})",
            f"see {out / FAILURES}",
        )

    for night, row in kept.items():
        kept[night] = named_row(nights, night, row, seen.named.get(night))
    rows = sorted(
        ({**row["about"], "sha256": row["sha256"], "night": night} for night, row in kept.items()),
        key=lambda row: (row["cohort"], row["night"]),  # the order of the samples
    )
    rows = assign(rows, placed, splits, seed, splits_file, bool(failures), stratify)
    digest = corpus_hash(rows, spec, seen.selection)
    packed = not is_there(out, digest)
    if packed:
        further = {"splits_seed": seed, "splits_shares": list(splits),
                   "splits_strata": list(stratify), "selection": seen.selection}  # fmt: skip
        commit(rows, spec, out, nights, digest, further, progress)
    if not seen.unlisted:  # what lies in a folder that cannot be read today is not withdrawn
        tidy(out, nights, kept)
    corpus = Corpus.open(out)
    if progress:
        unnamed = sum(row["ruled"] is None and not row["about"]["simulated"]
                      for night, row in kept.items() if night not in seen.named)
        say(summary(corpus, unnamed, len(failures), out / FAILURES))
    return PrepareResult(
        corpus=corpus,
        prepared=tuple(sorted(prepared)),
        unchanged=tuple(sorted(set(kept) - set(prepared))),
        failed=tuple(failures),
        packed=packed,
        seconds=time.monotonic() - started,
    )


def _outcomes(
    todo: list[tuple[NightJob, dict | None]], out: Place, workers: int | None, runner: str,
    beam_flags: str,
) -> Iterator[NightOutcome]:
    if runner == "beam":
        from sleeplm_jax.corpus.beam import run_nights_on_beam

        return run_nights_on_beam(todo, out / f"{TEMPORARY}beam", beam_flags)
    return run_nights(todo, workers or default_workers(len(todo)))


def _refuse_other_folder(nights: Place, found: list[Found], there: dict[str, list]) -> None:
    """CorpusError where a corpus would write among somebody's own files, and tidy them away."""
    foreign = sorted(
        name for name in there
        if not (name.endswith((".npz", ".json")) or name.startswith(TEMPORARY))
    )
    if isinstance(nights, Path) and nights.is_dir():
        foreign += sorted(entry.name for entry in os.scandir(nights) if entry.is_dir())
        here = nights.resolve()
        foreign += [f.path.name for f in found if f.path.resolve().parent == here]
    if foreign:
        raise CorpusError(
            nights,
            f"holds other files ({', '.join(foreign[:3])}), and a corpus keeps its own there",
            "give --out a new folder, or the corpus' own",
        )


def _write_failures(out: Place, failures: list[Failure]) -> None:
    if failures:
        rows = [dataclasses.astuple(failure) for failure in failures]
        write_csv(out / FAILURES, ("file", "finding", "remedy"), rows)
    else:
        (out / FAILURES).unlink(missing_ok=True)
