"""The runs of a folder: how each stands, and how several differ.

Made of the small files of their folders (status.json, config.json, metrics.jsonl), which a training
that goes on keeps writing; no model is loaded, and JAX is not either.
"""

from __future__ import annotations

import base64
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sleeplm_jax import __version__
from sleeplm_jax.errors import CheckpointError, ConfigError
from sleeplm_jax.files import read_rows, write_atomically
from sleeplm_jax.places import Place, RemotePath
from sleeplm_jax.training.lock import BEAT_S, LAPSE_S
from sleeplm_jax.training.lock import NAME as LOCK
from sleeplm_jax.training.status import is_lost, is_starting, read_status

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

MARKS = ("config.json", "status.json", "metrics.jsonl")  # any of them makes a folder a run
COLOURS = {"starting": "green", "running": "green", "done": "bold", "stopped": "yellow",
           "failed": "red", "lost": "red", "broken": "red"}
ABSENT = "(absent)"


@dataclass(frozen=True)
class Run:
    """How a run stands. States: starting (restores, compiles), running, stopped (goes on by the
    same command), failed, done, lost (running, and not heard of any more), imported (never trained
    here), broken (files that cannot be read). What is not known is None."""

    folder: Place
    state: str
    why: str = ""
    step: int | None = None
    steps: int | None = None
    loss: float | None = None
    held_out: float | None = None  # the last one
    best: float | None = None
    age_s: float | None = None  # since it was heard of
    left_s: float | None = None
    parameters: int | None = None


def find_runs(folder: Place) -> list[Run]:
    """The runs right below a folder, or the folder itself where it is one, by name.

    Raises CheckpointError where there is no such folder.
    """
    if not folder.is_dir():
        raise CheckpointError(folder, "no such folder", "give the folder of runs (default: runs)")
    if _is_run(folder):
        return [read_run(folder)]
    return [read_run(child) for child in sorted(folder.iterdir(), key=lambda p: p.name)
            if not child.name.startswith(".") and _is_run(child)]


def _is_run(folder: Place) -> bool:
    return any((folder / name).is_file() for name in MARKS)


def read_run(folder: Place, now: float | None = None) -> Run:
    """How one run stands; never raises for what is in its files."""
    now = time.time() if now is None else now
    try:
        config = read_config(folder)
    except ConfigError as error:
        return Run(folder, "broken", f"config.json {error.finding}")
    try:
        status = read_status(folder)
        if status is None:
            return _from_metrics(folder, config)
        state = status.get("state")
        if state not in ("running", "stopped", "failed", "done"):
            return Run(folder, "broken", "status.json cannot be read")
        if state == "running":
            alive = _beats(folder, now) or not is_lost(status, now)
            state = ("starting" if is_starting(status) else "running") if alive else "lost"
        heard = _number(status, "time")
        return Run(
            folder, state, str(status.get("why", "")), _whole(status, "step"),
            _whole(status, "steps"), _number(status, "loss"), _number(status, "val_loss"),
            _number(status, "best"), None if heard is None else max(0.0, now - heard),
            _number(status, "seconds_left") if state == "running" else None,
            _whole(status, "parameters"),
        )
    except OSError as error:
        return Run(folder, "broken", f"cannot be read ({error.strerror})")


def _beats(folder: Place, now: float) -> bool:
    """Whether the lock of the process that trains was renewed of late, however long its steps
    take. A store does not tell the time of a file in one way for all: there the status alone."""
    if isinstance(folder, RemotePath):
        return False
    try:
        return now - (folder / LOCK).stat().st_mtime < LAPSE_S + BEAT_S
    except OSError:
        return False


def _from_metrics(folder: Place, config: dict) -> Run:
    """A run without a status: one of an earlier version, one just begun, or an imported one."""
    rows = read_rows(folder / "metrics.jsonl")
    last = {split: next((r for r in reversed(rows) if r.get("split") == split), {})
            for split in ("train", "val")}
    steps, step = _whole(config, "steps"), _whole(last["train"], "step")
    if step is None:
        imported = (folder / "checkpoints" / "0").is_dir()
        why = "" if imported else "nothing is trained yet"
        return Run(folder, "imported" if imported else "stopped", why, steps=steps)
    return Run(folder, "done" if steps and step >= steps else "stopped", "", step, steps,
               _number(last["train"], "loss"), _number(last["val"], "loss"))


def read_config(folder: Place) -> dict[str, Any]:
    """A run's config as `{"data.batch_size": 64, ...}`, of whatever version wrote it.

    Raises ConfigError when it cannot be read.
    """
    path = folder / "config.json"
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        raise ConfigError(path, "is missing", "give a run folder") from None
    except (OSError, ValueError) as error:
        raise ConfigError(path, f"cannot be read ({error})", "give a run folder") from error
    if not isinstance(found, dict):
        raise ConfigError(path, "holds no config", "give a run folder")
    return _flat(found)


def _flat(values: dict, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def differences(configs: list[dict[str, Any]]) -> list[tuple[str, list[str]]]:
    """`(field, [its value in each])` of those fields in which the configs differ."""
    names = sorted(set().union(*configs))
    rows = [(name, [json.dumps(c[name]) if name in c else ABSENT for c in configs])
            for name in names if name not in ("name", "out")]
    return [(name, values) for name, values in rows if len(set(values)) > 1]


def compare(folders: list[Place], out: Path, by: str = "steps") -> dict:
    """Writes a page (`out`) and a picture (its .png) of several runs' curves, their figures and
    what differs in their configs. Returns `{"runs", "names", "differences"}`.

    Raises CheckpointError for a folder without metrics, ConfigError for one without a config.
    """
    from sleeplm_jax.reports.curves import Curves, figure, read_metrics

    configs = [read_config(folder) for folder in folders]
    names = _names(folders)
    drawn = [
        Curves(name, read_metrics(folder / "metrics.jsonl"), _per_step(folder, config))
        for name, folder, config in zip(names, folders, configs, strict=True)
    ]
    runs = [read_run(folder) for folder in folders]
    found = {"runs": runs, "names": names, "differences": differences(configs)}
    picture = figure(drawn, by)
    write_atomically(out.with_suffix(".png"), picture)
    write_atomically(out, _page(found, drawn, picture, by).encode())
    return found


def _per_step(folder: Place, config: dict[str, Any]) -> dict[str, float]:
    batch = _number(config, "data.batch_size")
    seconds = _number(config, "model.spec.seconds")
    if batch is None or seconds is None:
        raise ConfigError(folder / "config.json", "has no data.batch_size or model.spec.seconds",
                          "restore the run's own file")
    return {"steps": 1.0, "samples": batch, "hours": batch * seconds / 3600}


def _names(folders: list[Place]) -> list[str]:
    """As much of the end of each path as tells it from the others."""
    parts = [str(folder).rstrip("/").split("/") for folder in folders]

    def end(own: list[str]) -> str:
        for length in range(1, len(own) + 1):
            if sum(other[-length:] == own[-length:] for other in parts) == 1:
                return "/".join(own[-length:])
        return "/".join(own)

    return [end(own) for own in parts]


def _page(found: dict, drawn: list, picture: bytes, by: str) -> str:
    from jinja2 import Environment, PackageLoader, select_autoescape

    from sleeplm_jax.reports.curves import BY, RUNS

    environment = Environment(
        loader=PackageLoader("sleeplm_jax.reports", "templates"), autoescape=select_autoescape(),
        trim_blocks=True, lstrip_blocks=True,
    )
    rows = []
    for number, (name, run, curves) in enumerate(
        zip(found["names"], found["runs"], drawn, strict=True)
    ):
        steps, values = curves.found.get(("val", "loss"), ([], []))
        best = min(zip(values, steps), default=None)
        rows.append({
            "name": name, "colour": RUNS[number % len(RUNS)], "state": run.state, "why": run.why,
            "step": _steps(run), "loss": _short(run.loss), "held_out": _short(run.held_out),
            "best": "" if best is None else f"{best[0]:.4f} at step {best[1]:,}",
            "parameters": "" if run.parameters is None else f"{run.parameters:,}",
        })
    return environment.get_template("runs.html").render(
        rows=rows, names=found["names"], differences=found["differences"], by=BY[by],
        picture=base64.b64encode(picture).decode(), version=__version__,
    )


# ---- On a terminal


def table(runs: list[Run], names: list[str] | None = None) -> Group:
    """A row a run; what is wrong with some of them stands below."""
    from rich import box
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table

    names = names or [run.folder.name for run in runs]
    shown = Table(pad_edge=False, box=box.SIMPLE_HEAD)
    for heading, side in (("run", "left"), ("state", "left"), ("step", "right"), ("loss", "right"),
                          ("held out", "right"), ("left", "right"), ("heard of", "right"),
                          ("model", "right")):
        shown.add_column(heading, justify=side, no_wrap=heading != "run", overflow="fold")
    for name, run in zip(names, runs, strict=True):
        colour = COLOURS.get(run.state, "default")
        shown.add_row(
            escape(name), f"[{colour}]{run.state}[/]", _steps(run), _short(run.loss),
            _short(run.held_out), "" if run.left_s is None else _lasting(run.left_s),
            "" if run.age_s is None else _lasting(run.age_s) + " ago", _size(run.parameters),
        )
    wrong = [f"[bold]{escape(name)}[/]: {escape(run.why)}"
             for name, run in zip(names, runs, strict=True) if run.why]
    return Group(shown, *wrong)


def difference_table(names: list[str], rows: list[tuple[str, list[str]]]) -> Table:
    """Fields that differ, a column a run."""
    from rich.markup import escape
    from rich.table import Table

    shown = Table(title="What differs in their configs", title_justify="left", pad_edge=False)
    for heading in ("field", *names):
        shown.add_column(escape(heading))
    for name, values in rows:
        shown.add_row(name, *map(escape, values))
    return shown


def _steps(run: Run) -> str:
    if run.step is None and run.steps is None:
        return ""
    step = "?" if run.step is None else f"{run.step:,}"
    return step if run.steps is None else f"{step}/{run.steps:,}"


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _lasting(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}" if unit != "m" else f"{seconds / size:.0f} m"
    return f"{seconds:.0f} s"


def _size(parameters: int | None) -> str:
    if parameters is None:
        return ""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if parameters >= size:
            return f"{parameters / size:.3g} {unit}"
    return str(parameters)


def _number(values: dict, name: str) -> float | None:
    value = values.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _whole(values: dict, name: str) -> int | None:
    value = _number(values, name)
    return None if value is None else int(value)
