"""From a study to its cells: steps, batch, learning rate and cost of each, before anything runs.

A cell's budget is its training FLOPs C. With c FLOPs a sample (models.flops: the matrix products of
a forward pass, attention's included, times three) and batches of B, it has C / (c B) steps. c is
counted for each size: the usual 6 N D is for long runs of one kind of token, and here signal
patches, caption tokens and pooled vectors all pass through different parts of the model.

Not counted, as usual: norms and activations, the contrastive similarities (6 B E a sample, E the
embedding's width), the optimiser, and the evaluations.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from dataclasses import dataclass

from sleeplm_jax.config import RunConfig
from sleeplm_jax.config.files import flatten
from sleeplm_jax.config.validation import validate
from sleeplm_jax.errors import ConfigError
from sleeplm_jax.files import content_sha256
from sleeplm_jax.models.flops import training
from sleeplm_jax.scaling.study import Speed, Study, Value, changed

# Fields that decide where a run goes and what is written of it, not what comes out.
NO_RESULT = ("name", "out", "log_every", "tensorboard", "keep_checkpoints", "checkpoint_every",
             "checkpoint_minutes", "keep_every", "wandb", "watchdog_minutes", "start_timeout",
             "heartbeat", "compile_cache", "profile_steps", "data.corpus", "data.tokenizer",
             "data.workers", "data.processes", "data.prefetch", "model.vocab_size",
             "micro_batches")
# Optimiser state, copies of the parameters: Adam's two moments, Lion's one; Muon's momentum of
# matrices, and Adam's moments of the rest.
SLOTS = {"adamw": 2, "lion": 1, "muon": 2}


@dataclass(frozen=True)
class Sized:
    """One size, counted: non-embedding parameters, all parameters, FLOPs and bytes a sample."""

    n: int
    n_all: int
    sample_flops: int
    sample_bytes: int
    state_bytes: int


@dataclass(frozen=True)
class Cell:
    """One training of a study. FLOPs are what its whole steps cost, hours are of sleep."""

    name: str
    size: str
    budget: float
    n: int
    n_all: int
    flops: int
    samples: int
    steps: int
    batch_size: int
    learning_rate: float
    hours: float
    unique_hours: float
    passes: float
    seed: int
    seconds: float  # reckoned
    memory_bytes: int  # reckoned
    fields: dict[str, Value]  # how its config differs from the experiment's
    config: RunConfig

    @property
    def config_hash(self) -> str:
        return hash_of(self.config)

    def about(self) -> dict:
        """What `cell.json` and a row of results say of it."""
        return {
            "cell": self.name, "size": self.size, "N": self.n, "N_all": self.n_all,
            "budget": self.budget, "flops": self.flops, "D_hours": self.hours,
            "samples": self.samples, "unique_hours": self.unique_hours, "passes": self.passes,
            "seed": self.seed, "steps": self.steps, "batch_size": self.batch_size,
            "learning_rate": self.learning_rate, "config_hash": self.config_hash,
        }


@dataclass(frozen=True)
class Data:
    """What the corpus decides: the vocabulary, and which hours there are for each limit asked."""

    vocabulary: int
    hours: dict[float, float]  # asked -> there (0: all)
    known: bool  # of a corpus, not of what the study states


@dataclass(frozen=True)
class Plan:
    study: Study
    cells: tuple[Cell, ...]
    left_out: tuple[tuple[str, str], ...]  # cell, why
    data: Data
    speed: Speed

    @property
    def flops(self) -> int:
        return sum(cell.flops for cell in self.cells)

    @property
    def seconds(self) -> float:
        return sum(cell.seconds for cell in self.cells)

    def cell(self, name: str) -> Cell:
        """ConfigError where there is none of that name."""
        for cell in self.cells:
            if cell.name == name:
                return cell
        raise ConfigError(self.study.where, f"has no cell {name!r}", "see `sleeplm scaling plan`")


def hash_of(config: RunConfig) -> str:
    """16 digits of the fields that decide the result and are not at their defaults: a field that is
    added later, at a default that changes nothing, makes no other cell. 4 hours are 4.0 hours."""
    plain = flatten(RunConfig())
    return content_sha256({
        name: float(value) if isinstance(plain.get(name), float) else value
        for name, value in flatten(config).items()
        if value != plain.get(name) and name not in NO_RESULT
    })[:16]


def make_plan(
    study: Study, base: RunConfig, data: Data, speed: Speed | None = None, corpus: str = "",
    out: str = "",
) -> Plan:
    """The cells of `study`, cheapest first among the first seeds, then the other seeds.

    base: of `load_study`. corpus, out: what the cells' configs name. Raises ConfigError where no
    cell is left, or two have one name.
    """
    speed = speed or study.speed
    counted: dict[str, Sized] = {}
    cells: dict[str, Cell] = {}
    left_out: dict[str, str] = {}
    fields = {size.name: size.fields for size in study.sizes}
    for grid in study.grids:
        for name in grid.sizes or fields:
            if name not in counted:
                counted[name] = count(changed(base, fields[name], name), data.vocabulary)
            for budget in grid.budgets:
                for asked in grid.unique_hours:
                    for seed in grid.seeds:
                        cell = solve(study, base, name, counted[name], budget, asked, seed, data,
                                     speed, corpus, out)
                        why = unfit(study, cell)
                        if why:
                            left_out[cell.name] = why
                        elif cells.setdefault(cell.name, cell) != cell:
                            raise ConfigError(study.where, f"has two cells {cell.name}",
                                              "give budgets that differ in their first digits")
    if not cells:
        first = next(iter(left_out.items()))
        raise ConfigError(study.where, f"leaves no cell to train ({first[0]}: {first[1]})",
                          "give larger budgets, or other limits")
    order = sorted(cells.values(), key=lambda c: (c.seed, c.flops, c.n, c.unique_hours))
    return Plan(study, tuple(order), tuple(left_out.items()), data, speed)


def solve(
    study: Study, base: RunConfig, size: str, counted: Sized, budget: float, asked: float,
    seed: int, data: Data, speed: Speed, corpus: str, out: str,
) -> Cell:
    """One cell: its batch and learning rate by the study's rules, its steps from the FLOPs."""
    batch = 2 ** round(math.log2(study.batch_size(budget)))
    steps = max(round(budget / (counted.sample_flops * batch)), 1)
    rate = float(f"{study.learning_rate(budget):.3g}")
    samples, seconds = steps * batch, base.model.spec.seconds
    hours, unique = samples * seconds / 3600, data.hours[asked]
    name = f"{size}-{budget:.3g}-{f'{asked:g}h' if asked else 'all'}-s{seed}".replace("+", "")
    own = next(one for one in study.sizes if one.name == size).fields
    fields: dict[str, Value] = {
        "name": name, **({"out": out} if out else {}),
        **({"data.corpus": corpus} if corpus else {}), **study.fields, **own,
        "seed": seed, "steps": steps, "data.batch_size": batch,
        "optimizer.learning_rate": rate,
        "optimizer.warmup_steps": round(study.warmup_share * steps),
        # The last step is what is measured. Held-out losses on the way cost time and choose
        # nothing; checkpoints are for going on.
        "eval_every": steps, "checkpoint_every": max(steps // 4, 1),
    }
    if asked:
        fields["data.unique_hours"] = asked
    config = changed(base, fields, f"{study.where}: {name}")
    return Cell(
        name=name, size=size, budget=budget, n=counted.n, n_all=counted.n_all,
        flops=counted.sample_flops * samples, samples=samples, steps=steps, batch_size=batch,
        learning_rate=rate, hours=hours, unique_hours=unique, seed=seed,
        passes=hours / unique if unique else math.nan,
        seconds=speed.cell_s + samples * (speed.sample_s
                                          + counted.sample_flops / speed.flops_per_s),
        memory_bytes=counted.state_bytes + counted.sample_bytes * batch, fields=fields,
        config=validate(config),
    )


def unfit(study: Study, cell: Cell) -> str:
    """Why a cell is left out; "" where it is not."""
    if cell.steps < study.min_steps:
        return (f"{cell.steps} steps of {cell.batch_size} samples, fewer than min_steps "
                f"{study.min_steps}")
    if cell.passes > study.max_passes:
        return (f"{cell.passes:.1f} passes over {cell.unique_hours:g} h, more than max_passes "
                f"{study.max_passes:g}")
    if 0 < cell.unique_hours * 3600 / cell.config.model.spec.seconds < cell.batch_size:
        return f"{cell.unique_hours:g} h are less than one batch of {cell.batch_size} samples"
    return ""


@functools.lru_cache(maxsize=256)  # a second of tracing each
def count(config: RunConfig, vocabulary: int) -> Sized:
    """What a size is made of, from shapes alone (JAX traces, nothing is allocated).

    `n` leaves out what is looked up rather than multiplied, and the output table that belongs to
    it: embeddings of tokens, positions, rows, times and prefixes, and the logits' kernel (Kaplan et
    al. 2020, arXiv 2001.08361, section 2.1, of embeddings). Modules that the objectives leave out
    are not there at all.
    """
    from sleeplm_jax.models.build import with_vocabulary
    from sleeplm_jax.models.summary import activation_bytes, modules

    config = with_vocabulary(config, config.model.vocab_size or vocabulary)
    arrays = {path: math.prod(shape) for module in modules(config)
              for path, shape in module.arrays.items()}
    n_all = sum(arrays.values())
    looked_up = sum(size for path, size in arrays.items()
                    if path.endswith("_embedding") or path == "decoder/logits/kernel")
    optimizer = config.optimizer
    copies = 2 + SLOTS[optimizer.kind] + (optimizer.ema > 0)  # parameters, gradients, state, mean
    spec = config.model.spec
    logits = min(config.model.vocab_size, config.objective.vocabulary_chunk)
    text = 2 * 4 * config.data.text_length * logits if config.objective.caption > 0 else 0
    return Sized(
        n=n_all - looked_up, n_all=n_all, sample_flops=training(config)[0],
        sample_bytes=activation_bytes(config) // config.micro_batches + text
        + 4 * math.prod(spec.shape),
        state_bytes=4 * copies * n_all,
    )


def stated_data(study: Study) -> Data:
    """Before there is a corpus: what the study states. ConfigError where it states no hours."""
    if study.hours <= 0:
        raise ConfigError(
            study.where, "there is no corpus yet, and the study states no hours",
            "give --corpus, or Study(hours=...)",
        )
    asked = {hours for grid in study.grids for hours in grid.unique_hours}
    there = {hours: min(hours, study.hours) if hours else study.hours for hours in asked}
    return Data(study.vocabulary, there, known=False)


def corpus_data(study: Study, base: RunConfig, corpus: str) -> Data:
    """What the corpus in folder `corpus` has for this study. Raises CorpusError."""
    from sleeplm_jax.corpus.mixture import open_data, tokenizer_for

    asked = {hours for grid in study.grids for hours in grid.unique_hours}
    there = {}
    for hours in sorted(asked):
        values: dict[str, Value] = {"data.corpus": corpus}
        if hours:
            values["data.unique_hours"] = hours
        config = changed(base, values, study.where)
        opened = open_data(config.data)
        there[hours] = opened.samples("train") * base.model.spec.seconds / 3600
    return Data(tokenizer_for(opened, base.data).vocab_size, there, known=True)


def measured_speed(study: Study, rows: list[dict]) -> Speed | None:
    """The study's speed, slower or faster by what finished cells took; None with fewer than three
    that were trained in one go by one process of this kind of machine.

    The factor is the median of trained seconds over reckoned ones.
    """
    ratios = []
    for row in rows:
        cost = row.get("cost") or {}
        took = cost.get("seconds")
        if not isinstance(took, int | float) or not took > 0 or cost.get("attempts") != 1:
            continue
        reckoned = study.speed.cell_s + row["samples"] * study.speed.sample_s + (
            row["flops"] / study.speed.flops_per_s)
        ratios.append(took / reckoned)
    if len(ratios) < 3:
        return None
    ratios.sort()
    factor = ratios[len(ratios) // 2]
    speed = study.speed
    return dataclasses.replace(
        speed, flops_per_s=speed.flops_per_s / factor, sample_s=speed.sample_s * factor,
        cell_s=speed.cell_s * factor,
        source=f"measured: {len(ratios)} finished cells took {factor:.2f} times what is stated",
    )
