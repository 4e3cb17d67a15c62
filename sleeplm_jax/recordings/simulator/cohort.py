"""Writing nights: one, or a cohort in parallel, keeping what is already there."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from functools import cache
from pathlib import Path

from sleeplm_jax.config import STAGES
from sleeplm_jax.errors import ConfigError, UserError
from sleeplm_jax.files import TEMPORARY, write_atomically
from sleeplm_jax.parallel.workers import worker_pool
from sleeplm_jax.recordings.simulator.files import (
    edf_bytes,
    json_bytes,
    profusion_bytes,
    start_clock,
)
from sleeplm_jax.recordings.simulator.hypnogram import EPOCH
from sleeplm_jax.recordings.simulator.people import checked

SHORTEST, LONGEST = 0.5, 14.0  # hours
MOST_NIGHTS = 100_000  # more is a slip of the pen that would fill memory with jobs, then a disk


@cache
def code_version() -> str:
    """Hash of the simulator's own source: a night made by other code is made again."""
    digest = hashlib.sha256()
    for module in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(module.name.encode() + b"\0" + module.read_bytes())
    return digest.hexdigest()[:16]


def simulate_night(
    out_dir: str | Path,
    index: int,
    hours: float = 8.0,
    seed: int = 0,
    artefacts: bool = True,
    people: str | tuple[str, ...] | None = None,
) -> Path:
    """Simulate one night: `sim-<seed>-<index>.edf`, `.xml` (scoring), `.truth.json` in `out_dir`.

    The bytes depend on (seed, index, hours, artefacts, people) alone. A complete night of the same
    parameters and code is kept. `artefacts=False` leaves out what goes wrong with a recording but
    for movement. `people`: kinds of sleeper to draw from (people.KINDS; None: all).
    Returns the EDF's path; raises ConfigError for impossible parameters.
    """
    seconds = _checked(hours, seed, index)
    kinds = checked(people)
    out = Path(out_dir)
    out.mkdir(parents=True, exist_ok=True)
    stem = f"sim-{seed}-{index:04d}"  # the seed stands in it: other seed, other people
    path = out / f"{stem}.edf"
    parameters = {
        "index": index,
        "hours": seconds / 3600,
        "seed": seed,
        "artefacts": artefacts,
        "people": None if kinds is None else list(kinds),
        "code": code_version(),
    }
    if _complete(out, stem, parameters):
        return path
    # here, not above: the parent of a pool and `--help` need none of scipy
    from sleeplm_jax.recordings.simulator.night import simulate

    night = simulate(index, seconds, seed, artefacts, kinds)
    files = {".edf": edf_bytes(night, start_clock(seed, index)), ".xml": profusion_bytes(night)}
    truth_path = out / f"{stem}.truth.json"
    for leftover in out.glob(f"{TEMPORARY}*-{stem}.*"):  # of a writer that was killed
        leftover.unlink(missing_ok=True)
    truth_path.unlink(missing_ok=True)  # the truth marks a whole night: gone first, written last
    for suffix, content in files.items():
        write_atomically(out / f"{stem}{suffix}", content)
    truth = {
        "simulated": True,
        "parameters": parameters,
        "files": {f"{stem}{suffix}": len(content) for suffix, content in files.items()},
        "individual": night.individual.as_dict(),
        "stages": {stage: int((night.stages == code).sum()) for code, stage in enumerate(STAGES)},
        "truth": night.truth,
    }
    write_atomically(truth_path, json_bytes(truth))
    return path


def simulate_cohort(
    out_dir: str | Path,
    nights: int,
    hours: float = 8.0,
    seed: int = 0,
    workers: int | None = None,
    progress: bool = True,
    artefacts: bool = True,
    people: str | tuple[str, ...] | None = None,
) -> list[Path]:
    """Simulate nights 0 to `nights` - 1 of a cohort; returns the EDF paths in that order.

    `workers` processes (None: one per core that this process may use) give the same bytes as one.
    `cohort.json` lists the nights. `people` as in `simulate_night`. A script that asks for more
    than one worker needs the usual `if __name__ == "__main__":` guard, since workers are spawned.
    Raises ConfigError for impossible parameters.
    """
    if nights < 1:
        raise ConfigError("nights", f"{nights} is not a positive number", "ask for 1 or more")
    if nights > MOST_NIGHTS:
        raise ConfigError("nights", f"{nights} nights", f"ask for at most {MOST_NIGHTS}")
    if workers is not None and workers < 1:
        raise ConfigError("workers", f"{workers} is not a positive number", "use 1 or more")
    seconds = _checked(hours, seed, 0)
    kinds = checked(people)
    out = Path(out_dir)
    out.mkdir(parents=True, exist_ok=True)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    workers = min(workers or cores or 1, nights)
    jobs = [(out, index, hours, seed, artefacts, kinds) for index in range(nights)]
    if workers == 1:
        paths = [simulate_night(*job) for job in _shown(jobs, nights, progress)]
    else:
        paths = _in_pool(jobs, workers, progress)
    _write_cohort(out, paths, seconds, seed)
    return paths


def _in_pool(jobs, workers, progress) -> list[Path]:
    from concurrent.futures import as_completed
    from concurrent.futures.process import BrokenProcessPool

    try:
        with worker_pool(workers) as pool:
            futures = {pool.submit(simulate_night, *job): n for n, job in enumerate(jobs)}
            paths: list[Path] = [Path()] * len(jobs)
            for future in _shown(as_completed(futures), len(jobs), progress):
                paths[futures[future]] = future.result()
        return paths
    except BrokenProcessPool:
        raise UserError(
            "simulate", "a process simulating a night died (out of memory?)",
            "give fewer --workers or more memory; nights that are complete are kept",
        ) from None


def _shown(items, total, progress):
    if not progress:
        return items
    from rich.console import Console
    from rich.progress import track

    return track(items, "simulated nights", total, console=Console(stderr=True))


def _write_cohort(out: Path, paths: list[Path], seconds: int, seed: int) -> None:
    rows = []
    for path in paths:
        truth = json.loads(path.with_suffix(".truth.json").read_text())
        rows.append(
            {
                "recording": path.stem,
                "subject": path.stem,
                "files": truth["files"],
                "individual": truth["individual"],
                "stages": truth["stages"],
            }
        )
    cohort = {
        "cohort": "simulated",
        "simulated": True,
        "seed": seed,
        "hours": seconds / 3600,
        "code": code_version(),
        "nights": rows,
    }
    write_atomically(out / "cohort.json", (json.dumps(cohort, indent=1) + "\n").encode())


def _complete(out: Path, stem: str, parameters: dict) -> bool:
    try:
        # the parameters stand at the head of a file of megabytes
        with (out / f"{stem}.truth.json").open() as file:
            head = file.read(2000)
        found = re.search(r'"parameters":(\{[^}]*\}),"files":(\{[^}]*\})', head)
        if not found or json.loads(found[1]) != parameters:
            return False
        sizes = json.loads(found[2])
        return all((out / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError):
        return False


def _checked(hours: float, seed: int, index: int) -> int:
    if not (math.isfinite(hours) and SHORTEST <= hours <= LONGEST):
        raise ConfigError(
            "hours", f"{hours} is not a night's length", f"use {SHORTEST:g} to {LONGEST:g}"
        )
    if seed < 0 or index < 0:
        raise ConfigError("seed", f"seed {seed}, index {index}", "use whole numbers from 0 up")
    return round(hours * 3600 / EPOCH) * EPOCH
