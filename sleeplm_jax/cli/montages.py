"""Commands about montages: report, check, list."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Optional

import tyro

from sleeplm_jax.cli.saying import PathArgument, console, print_json, say
from sleeplm_jax.errors import UserError


def montage_report(paths: tyro.conf.Positional[list[Path]], cohort: Optional[str] = None,
                   montage: Optional[str] = None, json: bool = False) -> int:
    """Say in what share of recordings each channel is found, and which labels no row names.

    Reads headers only. A recording that cannot be read is one line; the exit status is then 1.

    Args:
        paths: Recordings, folders of them, or a JSON list of labels (form: docs/montages.md).
        cohort: Use this cohort's montage, or take this cohort of the list; default: by the labels.
        montage: Name or YAML file of a montage to use throughout.
        json: Print JSON instead of tables.
    """
    from sleeplm_jax.recordings.montage import load_montage
    from sleeplm_jax.recordings.montage_report import report_labels, report_recordings

    if not paths:
        raise UserError(
            "montage report", "names no recordings", "give files, folders or a JSON list of labels"
        )
    table = load_montage(montage) if montage is not None else None
    lists = [path for path in paths if path.suffix.lower() == ".json"]
    recordings = [path for path in paths if path not in lists]
    found = [one for path in lists for one in report_labels(path, cohort, table)]
    failures = []
    if recordings:
        more, failures = report_recordings(recordings, cohort, table)
        found += more
    if json:
        print_json([one.as_dict() for one in found])
    else:
        from sleeplm_jax.reports.montages import coverage

        for one in found:
            console().print(coverage(one.as_dict()))
    for failure in failures:
        print(f"not read: {failure}", file=sys.stderr)
    return 1 if failures else 0


def montage_check(file: PathArgument) -> int:
    """Check a montage of your own (YAML) and print what it holds.

    Args:
        file: YAML file, or the name of a montage that comes with the package.
    """
    from sleeplm_jax.recordings.montage import load_montage
    from sleeplm_jax.reports.montages import held

    montage = load_montage(file)
    console().print(held(montage))
    rows = sum(len(rows) for rows in montage.channels.values())
    say(f"{file}: {rows} rows for {len(montage.channels)} channels, no mistake found")
    return 0


def montage_list() -> int:
    """List the montages that come with the package."""
    from sleeplm_jax.recordings.montage import packaged_montages
    from sleeplm_jax.reports.montages import listed

    console().print(listed(packaged_montages()))
    return 0
