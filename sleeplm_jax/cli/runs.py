"""Commands about trainings: list them, and compare some."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro

from sleeplm_jax.cli.saying import PathArgument, console, say
from sleeplm_jax.errors import UserError


def runs(folder: PathArgument = Path("runs")) -> int:
    """List the runs of a folder: state, step, losses, time left, and when they were heard of.

    States: starting (compiles), running, stopped (the same command goes on), failed, done, lost
    (running, and silent for too long: killed, or its machine is gone), imported, broken. `sleeplm
    runs compare A B ...` draws the curves of several and tells what differs in their configs.

    Args:
        folder: Folder of runs, or one run.
    """
    from sleeplm_jax.places import place
    from sleeplm_jax.reports.runs import find_runs, table

    found = find_runs(place(folder))
    if not found:
        say(f"no runs in {folder}")
        return 0
    console().print(table(found))
    return 0


def runs_compare(
    folders: Annotated[tuple[Path, ...], tyro.conf.Positional],
    out: Path = Path("compare.html"), by: Literal["steps", "samples", "hours"] = "steps",
) -> int:
    """Draw the curves of runs beside one another and tell what differs in their configs.

    Writes OUT and a PNG beside it; works while runs go on.

    Args:
        folders: Run folders, one or more.
        out: Where the HTML goes.
        by: What stands along the bottom; samples and hours (of sleep) suit runs of different
            batch sizes.
    """
    from sleeplm_jax.places import place
    from sleeplm_jax.reports.runs import compare, difference_table, table

    if not folders:
        raise UserError("runs compare", "no run is given", "give run folders")
    if out.suffix.lower() not in (".html", ".htm") or out.is_dir():  # the picture is OUT's .png
        raise UserError(f"--out {out}", "names no HTML file", "give a name that ends in .html")
    found = compare([place(folder) for folder in folders], out, by)
    console().print(table(found["runs"], found["names"]))
    if len(folders) > 1:
        if found["differences"]:
            console().print(difference_table(found["names"], found["differences"]))
        else:
            say("their configs differ in nothing but the name")
    say(f"curves in {out} and {out.with_suffix('.png')}")
    return 0
