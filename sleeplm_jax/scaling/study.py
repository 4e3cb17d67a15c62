"""What a scaling study is made of: frozen dataclasses without JAX.

A study is a Python file with `get_study() -> Study`, built on an experiment (`get_config()`, in the
same file or another): docs/scaling.md. `scaling.plan` makes cells of it, each a training.
"""

from __future__ import annotations

import dataclasses
import math
import runpy
from dataclasses import dataclass, field
from pathlib import Path

from sleeplm_jax.config import RunConfig
from sleeplm_jax.config.files import flatten, from_dict, load_experiment, to_dict
from sleeplm_jax.config.validation import validate
from sleeplm_jax.errors import ConfigError

Value = bool | int | float | str
SPLITS = ("val", "test")


@dataclass(frozen=True)
class Size:
    """One size of the model: a name and the fields that make it, all of them below `model.`."""

    name: str
    fields: dict[str, Value]


@dataclass(frozen=True)
class PowerRule:
    """`value * (x / at) ** exponent`, x being a cell's budget in training FLOPs."""

    value: float
    exponent: float = 0.0
    at: float = 1.0

    def __call__(self, flops: float) -> float:
        return self.value * (flops / self.at) ** self.exponent


@dataclass(frozen=True)
class Grid:
    """Every budget with every size, data scale and seed; a study is the union of its grids."""

    budgets: tuple[float, ...]  # training FLOPs of a cell
    sizes: tuple[str, ...] = ()  # names; none: all of the study's
    unique_hours: tuple[float, ...] = (0.0,)  # of sleep to train on; 0: all that the corpus holds
    seeds: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Measure:
    """What finished cells are measured on, the same for all: these epochs, in these batches."""

    split: str = "test"
    samples: int = 1024  # evenly spaced in the split; whole batches of them are taken
    batch_size: int = 64  # of the contrastive loss: each sample among so many


@dataclass(frozen=True)
class Speed:
    """What time is reckoned with: a training takes `cell_s` (start, compilation, evaluation), and
    for each sample `sample_s` (loading) and its FLOPs at `flops_per_s`."""

    flops_per_s: float
    sample_s: float = 0.0
    cell_s: float = 0.0
    source: str = "stated"


@dataclass(frozen=True)
class Study:
    """Budgets, sizes, data scales and seeds of one study, and what its cells have in common."""

    name: str
    experiment: str  # file with get_config(), beside the study's or absolute
    sizes: tuple[Size, ...]
    grids: tuple[Grid, ...]
    learning_rate: PowerRule
    batch_size: PowerRule  # of samples; rounded to a power of two
    speed: Speed
    measure: Measure = Measure()
    warmup_share: float = 0.1  # of a cell's steps
    # Cells outside are left out, and told: too few steps to learn anything, too many passes.
    min_steps: int = 50
    max_passes: float = math.inf
    # What the FLOPs and passes are reckoned with before there is a corpus; else its own.
    vocabulary: int = 2048
    hours: float = 0.0
    fields: dict[str, Value] = field(default_factory=dict)  # changes of the experiment in all cells
    where: str = ""  # the study's file, by `load_study`


def load_study(path: str | Path) -> tuple[Study, RunConfig]:
    """The study that `get_study()` of a Python file returns, and its experiment's config with the
    study's `fields`.

    Raises ConfigError when the file is absent, fails, has no such function, or states something
    that cannot be run.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(path, "no such study file", "give a .py file with get_study()")
    try:
        namespace = runpy.run_path(str(path), run_name="sleeplm_study")
        study = namespace["get_study"]() if "get_study" in namespace else None
    # The user's own file: show where it fails, in one line (also when it calls exit).
    except (Exception, SystemExit) as error:
        raise ConfigError(
            path, f"fails to load ({type(error).__name__}: {error})", "correct the file"
        ) from error
    if study is None:
        raise ConfigError(path, "has no get_study()", "add `def get_study() -> Study`")
    if not isinstance(study, Study):
        raise ConfigError(path, f"get_study() returned {type(study).__name__}", "return a Study")
    experiment = Path(study.experiment)
    if not experiment.is_absolute():
        experiment = path.parent / experiment
    study = dataclasses.replace(study, where=str(path), experiment=str(experiment.resolve()))
    base = changed(load_experiment(study.experiment), study.fields, f"{path}: fields")
    check(study, path)
    for size in study.sizes:  # told now, not after hours of other cells
        validate(changed(base, size.fields, f"{path}: size {size.name}"))
    return study, base


def changed(config: RunConfig, fields: dict[str, Value], where: object) -> RunConfig:
    """`config` with other values in some fields, by dotted path; ConfigError for unknown ones."""
    known, values = flatten(config), to_dict(config)
    for path, value in fields.items():
        if path not in known:
            raise ConfigError(where, f"there is no field {path!r}", "see `sleeplm train FILE -h`")
        *parents, name = path.split(".")
        place = values
        for parent in parents:
            place = place[parent]
        place[name] = value
    return from_dict(RunConfig, values, where)


def check(study: Study, where: object) -> None:
    """ConfigError naming the first thing of a study that cannot be run."""

    def need(ok: bool, part: str, finding: str, remedy: str) -> None:
        if not ok:
            raise ConfigError(f"{where}: {part}", finding, remedy)

    names = [size.name for size in study.sizes]
    need(bool(names), "sizes", "there are none", "give one or more")
    need(bool(study.grids), "grids", "there are none", "give one or more")
    for name in (study.name, *names):
        need(name.replace("-", "").replace("_", "").replace(".", "").isalnum(), "names",
             f"{name!r} is part of a folder's name", "use letters, digits, - _ and .")
    need(len(set(names)) == len(names), "sizes", f"{names} has one twice", "name each once")
    for size in study.sizes:
        wrong = [path for path in size.fields if not path.startswith("model.")]
        need(not wrong, f"size {size.name}", f"changes {', '.join(wrong)}",
             "a size changes only fields below `model.`; what is measured must be the same for all")
    for number, grid in enumerate(study.grids):
        part = f"grid {number}"
        for name, kind, what in (("budgets", int | float, "numbers"), ("sizes", str, "names"),
                                 ("unique_hours", int | float, "numbers"), ("seeds", int, "whole "
                                                                            "numbers")):
            given = getattr(grid, name)
            need(isinstance(given, tuple | list) and all(isinstance(one, kind) for one in given),
                 part, f"has {name} {given!r}", f"give a tuple of {what}; of one: (x,)")
        unknown = sorted(set(grid.sizes) - set(names))
        need(not unknown, part, f"names unknown sizes {unknown}", f"choose from {names}")
        need(bool(grid.budgets) and all(_positive(c) for c in grid.budgets), part,
             f"has budgets {grid.budgets}", "give positive numbers of FLOPs")
        need(bool(grid.unique_hours) and all(h == 0 or _positive(h) for h in grid.unique_hours),
             part, f"has unique_hours {grid.unique_hours}", "give hours, or 0 for all")
        need(bool(grid.seeds) and all(s >= 0 for s in grid.seeds), part,
             f"has seeds {grid.seeds}", "give numbers of 0 or more")
    for name in ("learning_rate", "batch_size"):
        rule = getattr(study, name)
        need(isinstance(rule, PowerRule), name, f"is {rule!r}", "give a PowerRule(value)")
        need(_positive(rule.value) and _positive(rule.at), name,
             f"is {rule.value} at {rule.at} FLOPs", "give positive numbers")
    for budget in (budget for grid in study.grids for budget in grid.budgets):
        need(study.batch_size(budget) >= 1, "batch_size", f"is {study.batch_size(budget):g} at "
             f"{budget:g} FLOPs: less than a sample", "give a larger value")
    for name, least in (("vocabulary", 1), ("min_steps", 0), ("max_passes", 0), ("hours", 0)):
        value = getattr(study, name)
        need(isinstance(value, int | float) and value >= least, name, f"is {value!r}",
             f"give a number of {least} or more")
    need(_positive(study.speed.flops_per_s), "speed", f"is {study.speed.flops_per_s} FLOP/s",
         "give a positive number")
    measure = study.measure
    need(measure.split in SPLITS, "measure.split", f"is {measure.split!r}",
         f"choose from {', '.join(SPLITS)}")
    need(1 < measure.batch_size <= measure.samples, "measure",
         f"has batches of {measure.batch_size} out of {measure.samples} samples",
         "give at least one batch of two or more")
    need(0 <= study.warmup_share < 1, "warmup_share", f"is {study.warmup_share}",
         "give a share below 1")


def _positive(number: float) -> bool:
    return math.isfinite(number) and number > 0
