"""What the commands print, and the arguments they share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import tyro

from sleeplm_jax.errors import UserError

PathArgument = Annotated[Path, tyro.conf.Positional]


def whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UserError("--step", f"is {text!r}", "give best, latest or a step") from None


def quarters(label: str):
    """A callback for shares done that says a line at every quarter."""
    said = [-1]

    def progress(share: float) -> None:
        quarter = int(4 * share + 1e-9)
        if quarter > said[0]:
            said[0] = quarter
            say(f"{label}: {25 * quarter} %")

    return progress


def console():
    from rich.console import Console

    return Console()


def say(line: str) -> None:
    print(line, flush=True)


def print_json(value) -> None:
    print(json.dumps(value, indent=1, ensure_ascii=False))
