"""Where metrics go: JSON lines always, TensorBoard when asked."""

from __future__ import annotations

import json
import os
from pathlib import Path


class MetricsWriter:
    """Appends rows to `metrics.jsonl` and, optionally, to TensorBoard event files.

    Opening it for a run resumed at `start_step` drops rows of later steps, so that the file
    holds every step once however often the run was killed.
    """

    def __init__(self, folder: Path, start_step: int, tensorboard: bool):
        self.path = folder / "metrics.jsonl"
        kept = [line for line, row in read_rows(self.path) if row["step"] <= start_step]
        temporary = self.path.with_suffix(".jsonl.tmp")
        temporary.write_text("".join(line + "\n" for line in kept))
        os.replace(temporary, self.path)
        self._file = self.path.open("a")
        self._board = None
        if tensorboard:
            from tensorboardX import SummaryWriter

            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=start_step + 1)

    def write(self, step: int, split: str, values: dict[str, float]) -> None:
        self._file.write(json.dumps({"step": step, "split": split, **values}) + "\n")
        self._file.flush()
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(f"{split}/{name}", value, step)

    def close(self) -> None:
        self._file.close()
        if self._board is not None:
            self._board.close()


class NoWriter:
    """What the other processes of a training write: nothing."""

    def write(self, step: int, split: str, values: dict[str, float]) -> None:
        pass

    def close(self) -> None:
        pass


def read_rows(path: Path) -> list[tuple[str, dict]]:
    """`(line, row)` of a metrics file; a line cut off by a kill is left out."""
    rows = []
    if path.exists():
        for line in path.read_text().splitlines():
            try:
                rows.append((line, json.loads(line)))
            except ValueError:
                continue
    return rows
