"""Results' rows (JSONL) of finished runs, checked, as arrays; what was left out, and why."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Sequence

import numpy as np

from sleeplm_jax.errors import UserError
from sleeplm_jax.places import place

RESULTS = "results.jsonl"
QUANTITIES = ("N", "D_hours", "unique_hours", "flops")
SAME = ("corpus", "held_out", "measure")  # what must be equal for losses to be comparable


class StudyError(UserError):
    """Results cannot be read, do not belong together, or are too few to fit anything to."""


@dataclasses.dataclass(frozen=True)
class Run:
    """One finished run; `where` is file:line, the hours are of sleep, the losses by name."""

    where: str
    cell: str
    size: str
    N: float
    D_hours: float
    unique_hours: float
    flops: float
    seed: int
    losses: dict[str, float]

    @property
    def passes(self) -> float:
        return self.D_hours / self.unique_hours

    @property
    def point(self) -> tuple:
        """Equal for runs that differ in their seed only."""
        return (self.size, *(float(f"{getattr(self, name):.6g}") for name in QUANTITIES[:3]))


@dataclasses.dataclass(frozen=True)
class Collected:
    """`runs` to fit, `excluded` rows {"where", "cell", "why"}, `files` read, `warnings`."""

    runs: list[Run]
    excluded: list[dict]
    files: list[dict]
    warnings: list[str]
    rows: list[dict]  # of the runs, as they were read


def collect(paths: Sequence[str]) -> Collected:
    """All finished runs of `paths`: folders of studies, or JSONL files.

    Rows that are unfinished, lack a field, contradict themselves or repeat another are excluded
    by name. Raises StudyError for a file that is absent or no JSONL, one cell with two results,
    rows of different corpora or held-out sets, and where nothing is left.
    """
    if not paths:
        raise StudyError("scaling fit", "was given no results", "name a study's folder or a JSONL")
    runs, excluded, files, read, kept, marks = [], [], [], [], {}, {}
    for path in paths:
        file = place(path)
        file = file / RESULTS if file.is_dir() else file
        if not file.is_file():
            raise StudyError(file, "is not there", "run the study first, or name its results")
        data = file.read_bytes()
        rows = numbered_rows(file, data)
        digest = hashlib.sha256(data).hexdigest()
        files.append({"name": file.name, "sha256": digest, "rows": len(rows)})
        for number, row in rows:
            where = f"{file.name}:{number}"
            run = _run(where, row)
            if isinstance(run, str):
                cell = row.get("cell") if isinstance(row.get("cell"), str) else None
                excluded.append({"where": where, "cell": cell, "why": run})
                continue
            twin = kept.get(run.cell)
            if twin and dataclasses.replace(twin, where=where) != run:
                raise StudyError(
                    f"{file}:{number}", f"cell {run.cell} has another result at {twin.where}",
                    "remove the row that does not count",
                )
            if twin is None:
                twin = next((other for other in runs if _same(run, other)), None)
            if twin:
                excluded.append(
                    {"where": where, "cell": run.cell, "why": f"the same run as {twin.where}"}
                )
                continue
            kept[run.cell] = run
            runs.append(run)
            read.append(row)
            for name in SAME:
                said = row.get(name)
                said = said if isinstance(said, str) or said is None else json.dumps(said)
                marks.setdefault(name, {}).setdefault(said, []).append(run.cell)
    warnings = _one_study(paths[0], marks)
    if not runs:
        why = f": {excluded[0]['why']}" if excluded else ""
        raise StudyError(paths[0], f"no finished run{why}", "run the study first")
    _one_size_each(paths[0], runs)
    return Collected(runs, excluded, files, warnings, read)


def numbered_rows(file, data: bytes) -> list[tuple[int, dict]]:
    """Each row of a file of results with its line's number. Raises StudyError for what is none:
    a result that is dropped in silence is missed too late."""
    found = []
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise StudyError(f"{file}:{number}", "is no row of results", "restore or remove it")
        found.append((number, row))
    return found


def _run(where: str, row: dict) -> Run | str:
    """The run of a row, or why it is none."""
    if row.get("status", "done") != "done":
        return f"status is {row['status']}"
    for name in ("cell", "size"):
        if not isinstance(row.get(name), str) or not row[name]:
            return f"no {name}"
    quantities = {}
    for name in QUANTITIES:
        value = _number(row.get(name))
        if value is None:
            return f"no {name}" if name not in row else f"{name} is no number"
        if not value > 0:
            return f"{name} is {value:g}, not above 0"
        quantities[name] = value
    passes = quantities["D_hours"] / quantities["unique_hours"]
    said = _number(row.get("passes"))
    if said is not None and passes > 1 and abs(said / passes - 1) > 0.02:
        return f"passes is {said:g}, but D_hours / unique_hours is {passes:g}"
    losses = row.get("losses")
    if not isinstance(losses, dict):
        return "no losses"
    seed = _number(row.get("seed", 0))
    values = {name: _number(value) for name, value in losses.items()}
    values = {name: math.nan if value is None else value for name, value in values.items()}
    return Run(where, row["cell"], row["size"], **quantities, seed=int(seed or 0), losses=values)


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def _same(run: Run, other: Run) -> bool:
    """Whether two names stand for one run: nothing that was measured differs."""
    return (run.point, run.seed, run.flops) == (other.point, other.seed, other.flops) and (
        {k: repr(v) for k, v in run.losses.items()} == {k: repr(v) for k, v in other.losses.items()}
    )


def _one_study(where: str, marks: dict) -> list[str]:
    warnings = []
    for name, found in marks.items():
        if len(found) > 1:
            parts = ", ".join(
                f"{said[:40] if said else 'not said'} ({len(cells)} runs, one is {cells[0]})"
                for said, cells in found.items()
            )
            raise StudyError(
                where, f"rows differ in {name}: {parts}",
                "fit them apart: their losses cannot be compared",
            )
        if name != "measure" and None in found:
            warnings.append(f"no row says its {name}: that they are all the same is taken on trust")
    return warnings


def _one_size_each(where: str, runs: list[Run]) -> None:
    first: dict[str, Run] = {}
    for run in runs:
        other = first.setdefault(run.size, run)
        if abs(other.N / run.N - 1) > 1e-6:
            raise StudyError(
                where, f"size {run.size} has N {other.N:g} at {other.where} and {run.N:g} at "
                f"{run.where}", "give the sizes different names",
            )


@dataclasses.dataclass(frozen=True)
class Table:
    """The runs that have one loss, as arrays [n]; `point` [n] numbers runs alike but for seeds."""

    runs: list[Run]
    losses: np.ndarray
    N: np.ndarray
    D: np.ndarray
    unique: np.ndarray
    flops: np.ndarray
    point: np.ndarray

    @property
    def repeats(self) -> np.ndarray:
        """Passes after the first, 0 where the data were not all seen."""
        return np.maximum(self.D / self.unique - 1.0, 0.0)

    def only(self, chosen: np.ndarray) -> Table:
        return table([run for run, yes in zip(self.runs, chosen) if yes], self.losses[chosen])


def table(runs: list[Run], losses: np.ndarray) -> Table:
    names = [run.point for run in runs]
    order = {name: i for i, name in enumerate(dict.fromkeys(names))}
    hours = np.array([run.D_hours for run in runs])
    return Table(
        runs, np.asarray(losses, float), np.array([run.N for run in runs]), hours,
        np.minimum([run.unique_hours for run in runs], hours),
        np.array([run.flops for run in runs]), np.array([order[name] for name in names]),
    )


def table_of(runs: list[Run], name: str) -> tuple[Table, list[dict]]:
    """The runs whose loss `name` has a logarithm, and why the others have none."""
    values = np.array([run.losses.get(name, math.nan) for run in runs])
    sound = values > 0
    excluded = [
        {
            "where": run.where, "cell": run.cell,
            "why": f"{name} is " + ("no number" if math.isnan(value) else f"{value:g}, not > 0"),
        }
        for run, value in zip(runs, values) if not value > 0
    ]
    return table([run for run, yes in zip(runs, sound) if yes], values[sound]), excluded
