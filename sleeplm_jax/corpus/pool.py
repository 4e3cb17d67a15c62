"""Preparing nights in worker processes: a bad file, or a dead worker, costs one night only."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import time
import traceback
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sleeplm_jax.config import MOVEMENT, STAGES, UNSCORED
from sleeplm_jax.corpus.builder import kept_epochs
from sleeplm_jax.corpus.fingerprints import signals_sha256
from sleeplm_jax.corpus.jobs import STATED, NightJob, holds, night_file, row_file
from sleeplm_jax.corpus.nightfile import quantise, write_night
from sleeplm_jax.errors import UserError
from sleeplm_jax.files import file_sha256, write_json
from sleeplm_jax.parallel.workers import worker_pool
from sleeplm_jax.places import Place, file_state


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


# What the disk that is written to says: full, over quota, read-only.
OUTPUT_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def prepare_one(job: NightJob, row: dict | None) -> NightOutcome:
    """Prepares a night, measures it, writes its file and its row; `row` is the one of before.

    Never raises for what is wrong with the recording: the outcome says it. The row is written
    after the file that it describes: a call that was cut short is done again by the next.
    """
    try:
        state, made_of = job.state(), job.made_of()
        target = night_file(job.nights, job.night)
        if holds(row, made_of, target):
            row = {**row, "state": state, "night_state": file_state(target)}
            write_json(row_file(job.nights, job.night), row)
            return NightOutcome(job.path, job.night, row)
        started = time.monotonic()
        about, ruled, quality = _prepare(job, target)
        if job.state() != state:
            return NightOutcome(
                job.path, job.night, finding="changed while it was being read",
                remedy="run `sleeplm prepare` again when it is complete",
            )
        row = {
            "made_of": made_of, "state": state,
            "night_state": file_state(target), "sha256": file_sha256(target), "about": about,
            "file_subject": about["subject"], "file_family": about["family"], "ruled": ruled,
            "file_stated": {key: about[key] for key in STATED},
            "quality": quality,
            "seconds": round(time.monotonic() - started, 3), "bytes": file_state(target)[0],
        }
        write_json(row_file(job.nights, job.night), row)
        return NightOutcome(job.path, job.night, row, prepared=True)
    except UserError as error:
        elsewhere = "" if error.where == str(job.path) else f"{error.where}: "
        finding = elsewhere + error.finding
        return NightOutcome(job.path, job.night, finding=finding, remedy=error.remedy)
    except OSError as error:
        if error.errno in OUTPUT_ERRORS:
            raise  # no recording's fault: the run ends, and the same command goes on
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


def _prepare(job: NightJob, target: Place) -> tuple[dict, str | None, dict]:
    """Writes the night file; returns the manifest's row of the night, without its split.

    With it the subject that a rule for file names finds, None where the stem stands for it, and
    the night's quality record (physiology.quality).
    """
    from sleeplm_jax.physiology.artefacts import mark_artefacts
    from sleeplm_jax.physiology.measure import measure_night
    from sleeplm_jax.physiology.quality import quality_record
    from sleeplm_jax.recordings.prepare import prepare_night

    night = prepare_night(
        job.path, cohort=job.cohort, montage=job.montage, spec=job.spec, trim=job.trim
    )
    stated = night.provenance
    stated = dataclasses.replace(
        stated, cohort_flags=tuple(dict.fromkeys((*stated.cohort_flags, *job.flags)))
    )
    night = dataclasses.replace(night, recording=job.night, provenance=stated)
    # Several recordings share this file name: the folder's tells them apart.
    if job.folder and not night.extra["placed"]:
        night = dataclasses.replace(
            night, subject=f"{job.folder}-{night.subject}",
            flags=(*night.flags, "subject named after its folder"),
        )
    night = mark_artefacts(night)
    records = measure_night(night)
    quality = quality_record(night, records)
    night = dataclasses.replace(night, flags=tuple(quality["flags"]))
    write_night(night, records, target)
    kept = kept_epochs(night.mask)
    return {
        "recording": night.recording,
        "subject": night.subject,
        "family": night.extra.get("family"),
        "cohort": night.cohort,
        "simulated": night.simulated,
        "rules": night.rules,
        **{key: getattr(stated, key) for key in STATED},
        "cohort_flags": list(stated.cohort_flags),
        "epochs": len(night.stages),
        "samples": int(kept.sum()),
        "dropped": np.flatnonzero(~kept).tolist(),
        "signals_sha256": signals_sha256(quantise(night.signals, night.spec.channels), night.mask),
        "stages": stage_counts(night.stages[kept]),
        "channels": {name: found.source if found else None
                     for name, found in night.channels.items()},
        "flags": list(night.flags),
    }, night.extra["ruled_subject"], quality


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
        with one_thread():
            for job, row in todo:
                yield prepare_one(job, row)
        return
    left = deque(todo)
    while left:
        suspects: list[tuple[NightJob, dict | None]] = []
        with worker_pool(workers, _start_worker) as pool:
            # Few at a time: a worker that dies takes those that wait with it and does not say
            # whose fault it was.
            waiting: dict[Future, tuple[NightJob, dict | None]] = {}
            while (left or waiting) and not suspects:
                while left and len(waiting) < 2 * workers:
                    try:
                        waiting[pool.submit(prepare_one, *left[0])] = left[0]
                    except BrokenProcessPool:
                        break
                    left.popleft()
                if not waiting:
                    break
                done, _ = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    night = waiting.pop(future)
                    outcome = _outcome(future)
                    if outcome is None:
                        suspects.append(night)
                    else:
                        yield outcome
            for future in wait(waiting).done:
                outcome = _outcome(future)
                if outcome is None:
                    suspects.append(waiting[future])
                else:
                    yield outcome
        for job, row in suspects:  # each in a process of its own, then the rest in a new pool
            with worker_pool(1, _start_worker) as pool:
                yield _outcome(pool.submit(prepare_one, job, row)) or NightOutcome(
                    job.path, job.night, finding="the process preparing it died (out of memory?)",
                    remedy="give fewer --workers or more memory",
                )


def _outcome(done: Future) -> NightOutcome | None:
    try:
        return done.result()
    except BrokenProcessPool:
        return None


def _start_worker() -> None:
    for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "NUMBA", "VECLIB_MAXIMUM"):
        os.environ[f"{name}_NUM_THREADS"] = "1"  # for libraries loaded from here on
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)  # for those already loaded


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """BLAS and its like on one thread: nights run beside one another, not their sums."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        yield
