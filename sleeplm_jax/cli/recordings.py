"""Commands about recordings: simulate, fetch, inspect."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Optional

import tyro

from sleeplm_jax.cli.saying import PathArgument, print_json, say
from sleeplm_jax.errors import UserError


def simulate(out: Path, nights: int, hours: float = 8.0, seed: int = 0,
             workers: Optional[int] = None, people: Optional[str] = None,
             artefacts: bool = True) -> int:
    """Simulate a cohort of nights as EDF+ files with Profusion XML scoring.

    Args:
        out: Folder to write to; complete nights in it are kept.
        nights: How many nights, one simulated person each.
        hours: Length of a night.
        seed: Same seed, same nights.
        workers: Processes; default one a core.
        people: Kinds of sleeper, with commas between: healthy, insomnia, apnoea-mild,
            apnoea-moderate, apnoea-severe, older. Default: a mix of all.
        artefacts: Let electrodes come off, pop and hum, and the oximeter slip, on some nights.
    """
    from sleeplm_jax.recordings.simulator import simulate_cohort

    paths = simulate_cohort(
        out, nights, hours=hours, seed=seed, workers=workers, people=people, artefacts=artefacts
    )
    say(f"{len(paths)} simulated nights of {hours:g} h in {out}")
    return 0


def fetch(archive: Annotated[Optional[str], tyro.conf.Positional] = None,
          out: Optional[Path] = None, subjects: Optional[str] = None,
          mirror: Optional[str] = None, dry_run: bool = False, everything: bool = False,
          list: bool = False) -> int:
    """Bring an openly downloadable archive, or some of its subjects, into a folder.

    Every file is checked against the archive's own checksum. What was interrupted goes on with
    the same command. A file that cannot be had is said and the rest goes on; the exit status is
    then 1.

    Args:
        archive: Its name; --list tells which there are.
        out: Folder to write to; complete files in it are kept.
        subjects: Which, as "0-9" or "SN001,SN012"; --list says what they are; default: all.
        mirror: Address or folder that holds the archive in its own layout.
        dry_run: List the files and their bytes, download nothing.
        everything: Also what no night is prepared from, as test sets and second devices.
        list: Tell what can be fetched: size, licence, citation, what is not verified.
    """
    from sleeplm_jax.recordings import fetch as fetching

    if list:
        for line in fetching.describe_archives():
            say(line)
        return 0
    if archive is None:
        raise UserError("fetch", "no archive named", "name one; `sleeplm fetch --list` shows them")
    if dry_run:
        planned = fetching.plan(archive, subjects, mirror, everything)
        for line in fetching.describe_plan(planned):
            say(line)
        return 0
    if out is None:
        raise UserError("--out", "is missing", "name the folder to write to, or give --dry-run")
    say(f"reading what {archive} holds")
    done = fetching.fetch(
        archive, out, subjects, mirror, everything, say=say, bar=sys.stderr.isatty()
    )
    return 1 if done.failed else 0


def inspect(file: PathArgument, json: bool = False, montage: Optional[str] = None,
            scoring: Optional[Path] = None) -> int:
    """Show every signal of a recording and the canonical channels it resolves to.

    Args:
        file: EDF, EDF+ or BDF recording.
        json: Print JSON instead of tables.
        montage: Name or YAML file of a montage; default: chosen by the labels found.
        scoring: Scoring file; default: the one found beside the recording, if any.
    """
    from sleeplm_jax.recordings.inspection import inspect_recording

    found = inspect_recording(file, montage, scoring=scoring)
    if json:
        print_json(found)
    else:
        from sleeplm_jax.reports.terminal import print_inspection

        print_inspection(found)
    return 0
