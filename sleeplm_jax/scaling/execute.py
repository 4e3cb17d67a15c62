"""Runs a study's cells, one by one, or hands them to a launcher; measures those that are trained.

Each cell is a `sleeplm train` command in a process of its own, so that one that fails, or takes all
memory, takes no other with it. A launcher is a command too: of its words {command} becomes the
training's words, {shell} the same as one quoted word, {cell} the cell's name, {job} the same in
what any cluster takes for a name, {logs} a folder for logs and {folder} the run's folder.
"""

from __future__ import annotations

import json
import os
import platform
import re
import resource
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sleeplm_jax.config.files import load_config
from sleeplm_jax.errors import ConfigError, UserError
from sleeplm_jax.files import content_sha256
from sleeplm_jax.scaling.cells import (
    STOPPED,
    Folder,
    State,
    read_about,
    state_of,
    write_about,
)
from sleeplm_jax.scaling.plan import Cell, Plan, hash_of
from sleeplm_jax.training.status import read_status

PLACES = ("{command}", "{shell}", "{cell}", "{job}", "{logs}", "{folder}")
LONGEST_JOB = 40
MODULE = (sys.executable, "-m", "sleeplm_jax.cli")


@dataclass
class Outcome:
    """Names of cells by how they stand after `run_study`; all but the done ones with words."""

    done: list[str]
    failed: dict[str, str]
    under_way: dict[str, str]
    left: dict[str, str]


def run_study(
    plan: Plan, folder: Folder, corpus, held_out: str, *, launcher: str = "",
    only: tuple[str, ...] = (), minutes: float | None = None, retry_failed: bool = False,
    resubmit: bool = False, say: Callable[[str], None] = print,
) -> Outcome:
    """Brings every cell of `plan` as far as it goes now. Calling it again goes on.

    Finished cells are left alone; partial ones resume; failed ones are only told, unless
    `retry_failed`; those that another process or a job has are left to it. corpus: an opened
    `Corpus`; held_out: `measure.held_out_hash`. minutes: no cell is begun after so many.

    A launcher that comes back before its job is done (it submitted it) leaves the cell under way: a
    later call measures it; `resubmit` submits those again whose job has not begun or was stopped
    and may never go on. KeyboardInterrupt and SIGTERM are handed on to the training, which saves
    and stops.

    Raises ConfigError for a launcher without {command} or {shell}, or `only` of unknown names.
    """
    words = launcher_words(launcher)
    cells = [plan.cell(name) for name in only] if only else list(plan.cells)
    began, asked = time.monotonic(), time.time()
    outcome = Outcome([], {}, {}, {})
    for number, cell in enumerate(cells, 1):
        late = minutes is not None and time.monotonic() - began > 60 * minutes
        with folder.claim(cell.name) as mine:
            state = State("under way") if not mine else state_of(
                folder, cell, held_out, corpus.hash)
            retried = state.word == "failed" and retry_failed
            # Not what another of these commands has just submitted again.
            old = resubmit and mine and not late and state.word == "under way" and any(
                one.get("submitted") for one in folder.attempts(cell.name)[-1:]
                if one["time"] < asked)
            if old and "--resubmit" in state.why:
                state = State("partial", state.why)
            if not late and (state.word in ("new", "partial", "trained") or retried):
                head = f"[{number}/{len(cells)}] {cell.name}"
                if not _is_done(folder, cell):
                    say(f"{head}: {'goes on' if state.word == 'partial' else 'trains'}, "
                        f"{cell.steps:,} steps, {cell.flops:.3g} FLOPs")
                    train(folder, cell, words, plan)
                    state = state_of(folder, cell, held_out, corpus.hash)
                if state.word == "trained" or (retried and _is_done(folder, cell)):
                    write_about(folder, cell)
                    measure(folder, cell, plan, corpus)
                    state = state_of(folder, cell, held_out, corpus.hash)
                say(f"{head}: {state.word}" + (f" ({state.why})" if state.why else ""))
        _put(outcome, cell, state)
    return outcome


def states(plan: Plan, folder: Folder, corpus: str, held_out: str) -> dict[str, State]:
    """How every cell stands; runs nothing."""
    return {cell.name: state_of(folder, cell, held_out, corpus) for cell in plan.cells}


def _put(outcome: Outcome, cell: Cell, state: State) -> None:
    if state.word == "done":
        outcome.done.append(cell.name)
    elif state.word == "failed":
        outcome.failed[cell.name] = state.why
    elif state.word == "under way":
        outcome.under_way[cell.name] = state.why
    else:
        outcome.left[cell.name] = state.why


def _saved(folder: Folder, cell: Cell) -> int:
    """The step of a cell's newest checkpoint, 0 without one."""
    checkpoints = folder.run(cell.name) / "checkpoints"
    names = [path.name for path in checkpoints.iterdir()] if checkpoints.is_dir() else []
    return max((int(name) for name in names if name.isdigit()), default=0)


def _is_done(folder: Folder, cell: Cell) -> bool:
    return (read_status(folder.run(cell.name)) or {}).get("state") == "done"


def launcher_words(launcher: str) -> list[str]:
    """The words of a launcher's command; none of "". Raises ConfigError."""
    try:
        words = shlex.split(launcher)
    except ValueError as error:
        raise ConfigError("--launcher", f"cannot be read ({error})", "close its quotes") from error
    if words and not any(place in word for word in words for place in PLACES[:2]):
        raise ConfigError(
            "--launcher", f"{launcher!r} does not say where the training's command goes",
            'put {command} there: "python launch/local.py --processes 2 -- {command}"',
        )
    return words


def train_command(cell: Cell, experiment: str) -> list[str]:
    """The words of the training of a cell."""
    words = [*MODULE, "train", experiment]
    for path, value in cell.fields.items():
        name = path.replace("_", "-")
        if isinstance(value, bool):
            *parents, last = name.split(".")
            words.append("--" + ".".join([*parents, last if value else f"no-{last}"]))
        else:
            words += [f"--{name}", str(value)]
    return words


def launched(words: list[str], command: list[str], folder: Folder, cell: Cell) -> list[str]:
    """`command` as the launcher wants it."""
    if not words:
        return command
    told = {"{shell}": shlex.join(command), "{cell}": cell.name, "{job}": job_name(cell.name),
            "{logs}": str(folder.path / "logs" / cell.name), "{folder}": str(folder.run(cell.name))}
    made: list[str] = []
    for word in words:
        if word == "{command}":
            made += command
            continue
        for place, value in told.items():
            word = word.replace(place, value)
        made.append(word.replace("{command}", shlex.join(command)))
    return made


def job_name(cell: str) -> str:
    """Small letters, digits and dashes, a letter first, 40 at most, as Kubernetes wants; a name
    that is cut ends in digits of a hash, so that no two become one."""
    plain = re.sub(r"[^a-z0-9]+", "-", cell.lower()).strip("-")
    plain = plain if plain[:1].isalpha() else f"c-{plain}"
    if len(plain) > LONGEST_JOB:
        plain = f"{plain[:LONGEST_JOB - 7].rstrip('-')}-{content_sha256(cell)[:6]}"
    return plain


def train(folder: Folder, cell: Cell, words: list[str], plan: Plan) -> None:
    """Trains a cell, or hands it to the launcher; writes the attempt."""
    write_about(folder, cell)
    command = launched(words, train_command(cell, plan.study.experiment), folder, cell)
    about, stopped = _run(command, folder, cell, "train")
    about["step"] = _saved(folder, cell)
    if words and about["status"] == 0 and not _is_done(folder, cell):
        about["submitted"] = True  # the launcher came back, the training goes on elsewhere
        about["why"] = _last_line(folder.log(cell.name), about["began_at"])
    folder.attempted(cell.name, about)
    if stopped:
        raise KeyboardInterrupt


def measure(folder: Folder, cell: Cell, plan: Plan, corpus) -> None:
    """Measures a trained cell in a process of its own, which writes its row; writes the attempt."""
    command = [*MODULE, "scaling", "measure", plan.study.where, cell.name,
               "--out", str(folder.path), "--corpus", str(corpus.path)]
    about, stopped = _run(command, folder, cell, "measure")
    folder.attempted(cell.name, about)
    if stopped:
        raise KeyboardInterrupt


def row_of(folder: Folder, cell: str, found: dict, corpus: str) -> dict:
    """The row of results of a cell of which `found` (measure.measured) was measured, by this
    process. Raises ConfigError where the run is not what its cell.json says."""
    place, about = folder.run(cell), read_about(folder, cell)
    if hash_of(load_config(place / "config.json")) != about["config_hash"]:
        raise ConfigError(place, "was trained by another config than the study states",
                          "undo the change, or give another --out")
    run = json.loads((place / "run.json").read_text())
    attempts = [one for one in folder.attempts(cell) if one.get("part") == "train"]
    away = any(one.get("submitted") for one in attempts)
    known = [one for one in attempts if one.get("cpu_s") is not None]
    used = resource.getrusage(resource.RUSAGE_SELF)
    cost: dict = {"attempts": len(attempts), "launched": away,
                  "reckoned_s": about.pop("reckoned_s", None),
                  "measure_cpu_s": round(used.ru_utime + used.ru_stime, 1)}
    if known and not away:
        cost |= {
            "cpu_s": round(sum(one["cpu_s"] for one in known), 1),
            "seconds": round(sum(one["seconds"] for one in known), 1),
            "peak_mib": max(one["peak_mib"] for one in known),
            "load_at_start": known[0]["load"],
        }
    return about | found | {
        "status": "done", "cost": cost, "corpus": corpus,
        "code": run.get("git_commit"), "devices": run.get("devices"),
        "versions": {"sleeplm_jax": run.get("sleeplm_jax"), "python": platform.python_version(),
                     "jax": (run.get("packages") or {}).get("jax")},
    }


def _run(command: list[str], folder: Folder, cell: Cell, part: str) -> tuple[dict, bool]:
    """Runs a command to its end, its output in the cell's log; what is told of the attempt, and
    whether it was stopped, so that no next one may begin."""
    log = folder.log(cell.name)
    log.parent.mkdir(parents=True, exist_ok=True)
    start, load = time.monotonic(), os.getloadavg()[0]
    with log.open("ab") as file:
        file.write(f"$ {shlex.join(command)}\n".encode())
        file.flush()
        began = file.tell()
        try:
            # A session of its own: Ctrl-C reaches it once, by us, and it saves.
            child = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT,
                                     stdin=subprocess.DEVNULL, start_new_session=True)
        except OSError as error:
            raise UserError(command[0], f"cannot be started ({error.strerror})",
                            "give a command that is there") from error
    asked: list[int] = []

    def hand_on(number, frame):
        asked.append(number)
        child.send_signal(signal.SIGTERM)

    before = {number: signal.signal(number, hand_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        _, code, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(code)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    status = child.returncode if child.returncode >= 0 else 128 - child.returncode
    if asked and status not in (0, *STOPPED):
        status = 128 + asked[0]
    about = {
        "part": part, "time": time.time(), "status": status, "began_at": began,
        "seconds": round(time.monotonic() - start, 1), "load": round(load, 1),
        "cpu_s": round(used.ru_utime + used.ru_stime, 1), "peak_mib": used.ru_maxrss // 1024,
    }
    if status:
        about["why"] = _last_line(log, began) or f"ended with status {status}"
    return about, bool(asked) or status in (129, 130, 143)


def _last_line(log: Path, began: int) -> str:
    with log.open("rb") as file:
        file.seek(began)
        lines = file.read().decode(errors="replace").strip().splitlines()
    return lines[-1].strip()[:300] if lines else ""
