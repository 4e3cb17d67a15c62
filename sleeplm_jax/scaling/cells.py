"""How a study's cells stand, in its folder.

    STUDY/plan.json               what was planned
    STUDY/runs/CELL/              what `sleeplm train` writes, and cell.json
    STUDY/attempts/CELL.jsonl     each start: when, status, why, CPU-seconds
    STUDY/logs/CELL.log           what it printed
    STUDY/results.jsonl           a row for each finished cell, never two

Several processes may work on one study: a cell is claimed by a lock of its own, which goes with its
process however that ends, and results.jsonl is replaced as a whole under another.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sleeplm_jax.errors import ConfigError, UserError
from sleeplm_jax.files import only_writer, read_rows, write_atomically, write_json
from sleeplm_jax.scaling.collect import numbered_rows
from sleeplm_jax.scaling.plan import Cell, Plan
from sleeplm_jax.training.status import is_lost, read_status

RESULTS, CELL = "results.jsonl", "cell.json"
LOCK_WAIT_S = 60.0
# Exit statuses of a training that saved and can go on: signals that it obeys, and SIGKILL, after
# which it goes on from its last checkpoint. 124, a hang, is a failure.
STOPPED = (129, 130, 137, 143)
KILLED = ("killed (SIGKILL), {} x without a new checkpoint: where memory ran out, give "
          "`micro_batches` in the study's fields, then --retry-failed")
MEASURE_KILLED = ("its measuring was killed (SIGKILL), {} x: where memory ran out, give a smaller "
                  "measure.batch_size")


@dataclass(frozen=True)
class State:
    """How a cell stands: done (in the results), trained (to be measured), partial (begun, goes on),
    under way (another process or job has it), failed (`why`), new."""

    word: str
    why: str = ""


@dataclass(frozen=True)
class Folder:
    """A study's folder on this machine."""

    path: Path

    def run(self, cell: str) -> Path:
        return self.path / "runs" / cell

    def log(self, cell: str) -> Path:
        return self.path / "logs" / f"{cell}.log"

    # ---- Results

    def rows(self) -> list[dict]:
        """Raises StudyError for a line that is no row."""
        path = self.path / RESULTS
        if not path.is_file():
            return []
        return [row for _, row in numbered_rows(path, path.read_bytes())]

    def add(self, row: dict) -> None:
        """Puts a finished cell's row into the results, in place of one of the same cell.

        Raises UserError for a loss that is no number.
        """
        for name, value in row["losses"].items():
            if not math.isfinite(value):
                raise UserError(
                    row["cell"], f"its {name} loss was measured as {value}",
                    "look at its curves (`sleeplm runs`); a lower learning rate may mend it",
                )
        with self._locked("results"):
            kept = [old for old in self.rows() if old.get("cell") != row["cell"]]
            lines = [json.dumps(one, sort_keys=True, allow_nan=False) for one in (*kept, row)]
            write_atomically(self.path / RESULTS, ("\n".join(lines) + "\n").encode())

    # ---- Attempts

    def attempts(self, cell: str) -> list[dict]:
        return read_rows(self.path / "attempts" / f"{cell}.jsonl")

    def attempted(self, cell: str, about: dict) -> None:
        path = self.path / "attempts" / f"{cell}.jsonl"
        rows = [*self.attempts(cell), about]
        write_atomically(path, "".join(json.dumps(row) + "\n" for row in rows).encode())

    # ---- Claims

    @contextlib.contextmanager
    def claim(self, cell: str) -> Iterator[bool]:
        """True for the one process that may work on a cell now, False for all others."""
        lock = self.path / "locks" / cell
        lock.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(only_writer(lock))
            except UserError:
                yield False
                return
            yield True

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        lock = self.path / "locks" / f".{name}"
        lock.mkdir(parents=True, exist_ok=True)
        until = time.monotonic() + LOCK_WAIT_S
        with contextlib.ExitStack() as held:
            while True:
                try:
                    held.enter_context(only_writer(lock))
                    break
                except UserError:
                    if time.monotonic() > until:
                        raise
                    time.sleep(0.05)
            yield


def open_folder(out: Path, plan: Plan) -> Folder:
    """The study's folder, made where it is not there.

    Raises ConfigError where it holds cells of the same names that were trained otherwise: two
    studies must not be taken for one.
    """
    folder = Folder(out)
    (out / "runs").mkdir(parents=True, exist_ok=True)
    planned = {cell.name: cell for cell in plan.cells}
    for row in folder.rows():
        cell = planned.get(row.get("cell"))
        if cell is not None and row.get("config_hash") != cell.config_hash:
            raise ConfigError(
                out, f"holds {cell.name}, trained by another config than the study now states",
                "give another --out, or undo the change",
            )
    write_json(out / "plan.json", {
        "study": plan.study.name, "flops": plan.flops, "left_out": dict(plan.left_out),
        "cells": [cell.about() | {"reckoned_s": round(cell.seconds, 1),
                                  "reckoned_bytes": cell.memory_bytes} for cell in plan.cells],
    })
    return folder


def write_about(folder: Folder, cell: Cell) -> None:
    """The cell's `cell.json`."""
    write_json(folder.run(cell.name) / CELL,
               cell.about() | {"reckoned_s": round(cell.seconds, 1)})


def read_about(folder: Folder, cell: str) -> dict:
    """What `write_about` wrote. Raises ConfigError."""
    path = folder.run(cell) / CELL
    try:
        about = json.loads(path.read_text())
        if not isinstance(about, dict) or "config_hash" not in about:
            raise ValueError("it says of no cell")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise ConfigError(path, f"cannot be read ({why})",
                          "name a cell of this study that `sleeplm scaling run` has begun"
                          ) from error
    return about


def state_of(folder: Folder, cell: Cell, held_out: str, corpus: str,
             now: float | None = None) -> State:
    """How a cell stands, by its files. held_out: what it has to be measured on (see `measure`);
    corpus: the hash of the corpus it has to be trained on.

    Raises ConfigError where it was trained on another corpus.
    """
    for row in folder.rows():
        if row.get("cell") == cell.name:
            if row.get("corpus") != corpus:
                raise ConfigError(
                    folder.path, f"holds {cell.name}, trained on another corpus "
                    f"({str(row.get('corpus'))[:12]}, now {corpus[:12]})",
                    "restore that corpus, or give another --out",
                )
            there = folder.run(cell.name).is_dir()
            # A run whose folder was thrown away stays measured as it was.
            return State("done" if row.get("held_out") == held_out or not there else "trained")
    attempts = folder.attempts(cell.name)
    last, status = attempts[-1] if attempts else {}, read_status(folder.run(cell.name)) or {}
    word, why = status.get("state"), str(status.get("why") or "")
    if last.get("submitted") and word != "done":
        said = f" ({last['why']})" if last.get("why") else ""
        if _number(status, "time") < _number(last, "time"):
            return State("under way", f"submitted {_when(last)}{said}, not begun yet; --resubmit "
                         "submits it again")
        lost = word == "running" and is_lost(status, time.time() if now is None else now)
        if word == "stopped" or lost:  # SLURM's script may have put it back into the queue
            return State("under way", f"{'stopped' if word == 'stopped' else 'last heard of'} "
                         f"{_when(status)}, its job{said} may go on; --resubmit submits it again")
    killed = _killed([one for one in attempts if one.get("part") == last.get("part")])
    if word == "done":
        if last.get("part") == "measure" and last.get("status"):
            if killed > 1 or last["status"] not in STOPPED:
                return State("failed", MEASURE_KILLED.format(killed)) if killed else _failed(last)
        return State("trained")
    if word == "failed":
        return State("failed", why or str(last.get("why") or "it does not say"))
    if word == "running" and not is_lost(status, time.time() if now is None else now):
        # Of a training that we saw end, the status is what it last wrote: it was killed.
        if "status" not in last or last.get("submitted"):
            return State("under way")
    if killed:
        return State("failed" if killed > 1 else "partial", KILLED.format(killed))
    if word is not None:
        return State("partial", f"stopped {_when(status)}" if "time" in status else "")
    return _failed(last) if last.get("status") else State("new")


def _killed(attempts: list[dict]) -> int:
    """How many of the last attempts were killed (SIGKILL) without a checkpoint more."""
    count, later = 0, math.nan
    for one in reversed(attempts):
        if one.get("status") != 137 or later > _number(one, "step"):
            break
        count, later = count + 1, _number(one, "step")
    return count


def _failed(last: dict) -> State:
    if last.get("status") in STOPPED:
        return State("partial", f"ended with status {last['status']}")
    return State("failed", str(last.get("why") or f"ended with status {last.get('status')}"))


def _number(values: dict, name: str) -> float:
    value = values.get(name, 0.0)
    return float(value) if isinstance(value, int | float) else 0.0


def _when(attempt: dict) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(_number(attempt, "time")))
