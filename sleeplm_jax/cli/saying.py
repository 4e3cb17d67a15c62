"""What the commands print, and the arguments they share."""

from __future__ import annotations

import json
import os
import shutil
import sys
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


class Screen:
    """Prints lines as `say`, and on a terminal keeps some below them that change in place."""

    def __init__(self, stream=None):
        self._stream, self._lines = stream or sys.stdout, []

    def __call__(self, line: str) -> None:
        below, self._lines = self._lines, self._wiped()
        print(line, file=self._stream, flush=True)
        self.update(below)

    def update(self, lines: list[str]) -> None:
        """Shows these lines in place of those shown before; none: they stay for good."""
        if lines:
            self._wiped()
            columns = shutil.get_terminal_size().columns - 1  # a wrapped line would count as two
            print("\n".join(line[:columns] for line in lines), file=self._stream, flush=True)
        self._lines = lines

    def _wiped(self) -> list[str]:
        if self._lines:
            self._stream.write(f"\x1b[{len(self._lines)}A\x1b[J")
        return []


def screen():
    """A Screen where standard output is a terminal that can do it, else `say`."""
    able = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    return Screen() if able else say


def print_json(value) -> None:
    print(json.dumps(value, indent=1, ensure_ascii=False))
