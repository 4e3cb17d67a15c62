"""Preparing nights in worker processes: a bad file, or a dead worker, costs one night only."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import multiprocessing
import os
import signal
import traceback
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sleeplm_jax.config import MOVEMENT, STAGES, UNSCORED, SignalSpec
from sleeplm_jax.corpus.builder import kept_epochs
from sleeplm_jax.corpus.discovery import file_state, night_file
from sleeplm_jax.corpus.files import content_sha256, file_sha256, write_json
from sleeplm_jax.corpus.nightfile import write_night
from sleeplm_jax.errors import UserError


@dataclass(frozen=True)
class NightJob:
    """One recording to prepare; see `discovery.Found` for `night` and `folder`."""

    path: Path
    night: str
    folder: str | None
    cohort: str | None
    montage: Path | str | None
    spec: SignalSpec
    settings: str  # hash of everything but the files
    nights: Path

    def inputs(self) -> dict[str, Path | None]:
        """The files that the night is made from."""
        from sleeplm_jax.recordings.scoring import find_scoring

        return {"recording": self.path, "scoring": find_scoring(self.path)}

    def state(self) -> dict[str, list | None]:
        """Names, sizes and times of the inputs."""
        return {
            name: None if path is None else [path.name, *file_state(path)]
            for name, path in self.inputs().items()
        }

    def key(self) -> str:
        """Hash of everything that decides the night file."""
        hashes = {
            name: None if path is None else [path.name, file_sha256(path)]
            for name, path in self.inputs().items()
        }
        return content_sha256({"settings": self.settings, "night": self.night, **hashes})


@dataclass(frozen=True)
class NightOutcome:
    """`row` describes the night and what it was made from; without one, `finding` says why."""

    path: Path
    night: str
    row: dict | None = None
    prepared: bool = False  # False: the content was as before
    finding: str = ""
    remedy: str = ""


def default_workers(nights: int) -> int:
    """A process per usable core, no more than there are nights."""
    return max(1, min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity")
                      else os.cpu_count() or 1, nights))


def prepare_one(job: NightJob, row: dict | None) -> NightOutcome:
    """Prepares a night, measures it, writes its file and its row; `row` is the one of before.

    Never raises for what is wrong with the recording: the outcome says it.
    """
    try:
        state, key = job.state(), job.key()
        target = night_file(job.nights, job.night)
        if row and row["key"] == key and _is_whole(target, row):
            row = {**row, "state": state, "night_state": file_state(target)}
            write_json(row_file(job.nights, job.night), row)
            return NightOutcome(job.path, job.night, row)
        about, ruled = _prepare(job, target)
        if job.state() != state:
            return NightOutcome(
                job.path, job.night, finding="changed while it was being read",
                remedy="run `sleeplm prepare` again when it is complete",
            )
        row = {
            "key": key, "settings": job.settings, "state": state,
            "night_state": file_state(target), "sha256": file_sha256(target), "about": about,
            "file_subject": about["subject"], "ruled": ruled,
        }
        write_json(row_file(job.nights, job.night), row)
        return NightOutcome(job.path, job.night, row, prepared=True)
    except UserError as error:
        elsewhere = "" if error.where == str(job.path) else f"{error.where}: "
        finding = elsewhere + error.finding
        return NightOutcome(job.path, job.night, finding=finding, remedy=error.remedy)
    except OSError as error:
        return NightOutcome(
            job.path, job.night, finding=f"cannot be read ({error.strerror or error})",
            remedy="check the file and its permissions",
        )
    except MemoryError:
        return NightOutcome(
            job.path, job.night, finding="does not fit in memory",
            remedy="give fewer --workers, or a machine with more memory",
        )
    except Exception as error:
        return NightOutcome(
            job.path, job.night, finding=f"internal error: {_where(error)}",
            remedy="please report it with the output of `sleeplm inspect` on this file",
        )


def _where(error: Exception) -> str:
    """An exception's type and where it arose: its text may quote what stands in a header."""
    frames = [
        (str(frame.f_globals.get("__name__", "?")), line)
        for frame, line in traceback.walk_tb(error.__traceback__)
    ]
    arose = [frames[-1]]
    ours = [frame for frame in frames if frame[0].startswith("sleeplm_jax.")]
    if ours and ours[-1] != arose[0]:  # a library's line alone says little
        arose.append(ours[-1])
    return f"{type(error).__name__} at " + ", called at ".join(f"{m}:{n}" for m, n in arose)


def row_file(nights: Path, night: str) -> Path:
    """Where a corpus notes what a night was made from."""
    return nights / f"{night}.json"


def read_row(nights: Path, night: str) -> dict | None:
    """What an earlier call noted of a night; None without it (nothing is lost but time)."""
    try:
        return json.loads(row_file(nights, night).read_text())
    except (OSError, ValueError):
        return None


def _is_whole(target: Path, row: dict) -> bool:
    return target.is_file() and file_sha256(target) == row["sha256"]


def _prepare(job: NightJob, target: Path) -> tuple[dict, str | None]:
    """Writes the night file; returns the manifest's row of the night, without its split.

    With it the subject that a rule for file names finds, None where the stem stands for it.
    """
    from sleeplm_jax.physiology.measure import measure_night
    from sleeplm_jax.recordings.prepare import prepare_night

    night = prepare_night(job.path, cohort=job.cohort, montage=job.montage, spec=job.spec)
    night = dataclasses.replace(night, recording=job.night)
    if job.folder:  # several recordings share this file name: the folder's tells them apart
        night = dataclasses.replace(
            night, subject=f"{job.folder}-{night.subject}",
            flags=(*night.flags, "subject named after its folder"),
        )
    write_night(night, measure_night(night), target)
    kept = kept_epochs(night.mask)
    return {
        "recording": night.recording,
        "subject": night.subject,
        "cohort": night.cohort,
        "simulated": night.simulated,
        "rules": night.rules,
        "epochs": len(night.stages),
        "samples": int(kept.sum()),
        "dropped": np.flatnonzero(~kept).tolist(),
        "stages": stage_counts(night.stages[kept]),
        "channels": {name: found.source if found else None
                     for name, found in night.channels.items()},
        "flags": list(night.flags),
    }, night.extra["ruled_subject"]


def stage_counts(stages: np.ndarray) -> dict[str, int]:
    """How many of `stages` (int [E]) are W, N1, N2, N3, R, unscored, movement; zeros left out."""
    names = {**dict(enumerate(STAGES)), UNSCORED: "unscored", MOVEMENT: "movement"}
    counts = Counter(names[int(stage)] for stage in stages)
    return {name: counts[name] for name in names.values() if counts[name]}


def run_nights(todo: list[tuple[NightJob, dict | None]], workers: int) -> Iterator[NightOutcome]:
    """The outcomes of `todo`, as they come, from `workers` processes (1: this one).

    Closing the iterator or interrupting it ends the workers at once; a half-written night is
    never left under its name.
    """
    if workers == 1:
        with _one_thread():
            for job, row in todo:
                yield prepare_one(job, row)
        return
    alone = []
    with _pool(workers) as pool:
        waiting = {pool.submit(prepare_one, job, row): (job, row) for job, row in todo}
        for done in as_completed(waiting):
            outcome = _outcome(done)
            if outcome is None:
                alone.append(waiting[done])
            else:
                yield outcome
    # A worker that dies takes all waiting nights with it and does not say whose it was: each of
    # them gets a process of its own.
    for job, row in alone:
        with _pool(1) as pool:
            yield _outcome(pool.submit(prepare_one, job, row)) or NightOutcome(
                job.path, job.night, finding="the process preparing it died (out of memory?)",
                remedy="give fewer --workers or more memory",
            )


def _outcome(done: Future) -> NightOutcome | None:
    try:
        return done.result()
    except BrokenProcessPool:
        return None


@contextlib.contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    # "spawn": forking a process that holds JAX's or BLAS' threads can deadlock.
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start_worker)
    try:
        yield pool
        pool.shutdown()
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in set(multiprocessing.active_children()) - before:
            process.terminate()
        raise


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
    for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "NUMBA", "VECLIB_MAXIMUM"):
        os.environ[f"{name}_NUM_THREADS"] = "1"  # for libraries loaded from here on
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)  # for those already loaded


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        yield
