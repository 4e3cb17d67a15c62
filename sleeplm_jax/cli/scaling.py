"""Commands about scaling studies: plan, run, measure, fit, report."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Optional

import tyro

from sleeplm_jax.cli.saying import PathArgument, say
from sleeplm_jax.errors import UserError


def scaling_plan(study: PathArgument, corpus: Optional[Path] = None, out: Optional[Path] = None,
                 rate: Optional[float] = None) -> int:
    """Solve steps, batch and learning rate of every cell of a study, and print what it costs.

    Runs nothing. Without a corpus the hours and the vocabulary are those that the study states.

    Args:
        study: Python file with `get_study() -> Study`.
        corpus: Corpus to train on; default: the experiment's, if it is there.
        out: The study's folder: finished cells there tell how fast this machine is.
        rate: FLOP/s to reckon time with, in place of the study's.
    """
    from sleeplm_jax.reports.scaling_plan import lines, table

    plan, _ = _planned(study, corpus, out, rate)
    for line in table(plan) + lines(plan):
        say(line)
    return 0


def scaling_run(study: PathArgument, out: Path, corpus: Optional[Path] = None, launcher: str = "",
                only: tuple[str, ...] = (), minutes: Optional[float] = None,
                retry_failed: bool = False, resubmit: bool = False, list: bool = False) -> int:
    """Train and measure the cells of a study that are not finished yet; the same command goes on.

    Finished cells are never repeated, partial ones resume, failed ones are listed with reasons.
    Several of these commands may work on one study. Exit status 1: some cells failed.

    Args:
        study: Python file with `get_study() -> Study`.
        out: The study's folder, on a disk: runs, logs and results.jsonl.
        corpus: Corpus to train on; default: the experiment's.
        launcher: Command that starts a training elsewhere, with {command} (or {shell}, quoted)
            where the training's command goes; also {cell}, {job}, {logs}, {folder}.
        only: Names of cells; default: all.
        minutes: Begin no cell after so many minutes.
        retry_failed: Try failed cells again.
        resubmit: Hand those to the launcher again whose job has not begun, or was stopped.
        list: Say how the cells stand and run nothing.
    """
    from sleeplm_jax.reports.scaling_plan import lines, standing
    from sleeplm_jax.scaling.cells import open_folder
    from sleeplm_jax.scaling.execute import run_study, states

    _on_a_disk(out)
    if minutes is not None and not minutes > 0:
        raise UserError("--minutes", f"is {minutes:g}", "give a positive number")
    plan, opened = _planned(study, corpus, out, None)
    folder, held_out = open_folder(out, plan), _held_out(plan, opened)
    if list:
        for line in standing(plan, states(plan, folder, opened.hash, held_out)):
            say(line)
        return 0
    for line in lines(plan):
        say(line)
    found = run_study(plan, folder, opened, held_out, launcher=launcher, only=only,
                      minutes=minutes, retry_failed=retry_failed, resubmit=resubmit, say=say)
    say(f"{len(found.done)} cells done, {len(found.left)} left, {len(found.under_way)} under way "
        f"elsewhere, {len(found.failed)} failed; results in {folder.path / 'results.jsonl'}")
    strange = {row.get("cell") for row in folder.rows()} - {cell.name for cell in plan.cells}
    if strange:
        say(f"note: results.jsonl also has {len(strange)} cells that the study no longer states "
            f"({sorted(map(str, strange))[0]}, ...); `fit` takes them too")
    for name, why in found.under_way.items():
        say(f"under way: {name}" + (f" ({why})" if why else ""))
    for name, why in found.left.items():
        if why:
            say(f"left: {name} ({why})")
    for name, why in found.failed.items():
        say(f"failed: {name}: {why} (log: {folder.log(name)})")
    return 1 if found.failed else 0


def scaling_measure(study: PathArgument, cell: tyro.conf.Positional[str], out: Path,
                    corpus: Optional[Path] = None) -> int:
    """Measure one trained cell on the study's held-out people and write its row.

    `sleeplm scaling run` does this by itself.

    Args:
        study: Python file with `get_study() -> Study`.
        cell: Name of the cell.
        out: The study's folder.
        corpus: Corpus to measure on; default: the experiment's.
    """
    from sleeplm_jax.corpus.manifest import Corpus
    from sleeplm_jax.scaling.cells import Folder, read_about
    from sleeplm_jax.scaling.execute import row_of
    from sleeplm_jax.scaling.measure import measured
    from sleeplm_jax.scaling.study import load_study

    _on_a_disk(out)
    (stated, base), folder = load_study(study), Folder(out)
    read_about(folder, cell)
    opened = Corpus.open(base.data.corpus if corpus is None else corpus, base.model.spec)
    found = measured(folder.run(cell), stated.measure, opened)
    folder.add(row_of(folder, cell, found, opened.hash))
    say(f"{cell}: " + "  ".join(f"{name} {value:.4f}" for name, value in found["losses"].items()))
    return 0


def scaling_fit(results: tyro.conf.Positional[tuple[Path, ...]], out: Optional[Path] = None,
                losses: tuple[str, ...] = (), budgets: tuple[float, ...] = (),
                unique_hours: Optional[float] = None, bootstraps: int = 1000,
                seed: int = 0) -> int:
    """Fit scaling laws to results' rows and say what they support; writes fit.json.

    Reads nothing but JSON lines. What the rows do not determine is called "not identified".

    Args:
        results: Studies' folders, or JSONL files of results.
        out: The JSON file; default: fit.json beside the first results.
        losses: Names of losses; default: all that the rows have.
        budgets: FLOPs to recommend a size and data for; default: 3 and 10 times the largest cell's.
        unique_hours: Hours of sleep that are to be had; default: they never run out.
        bootstraps: Resamples of runs behind every interval.
        seed: Of the resamples.
    """
    from sleeplm_jax.files import write_json
    from sleeplm_jax.scaling.fit import fit_study
    from sleeplm_jax.scaling.fit_text import rendered

    if not results:
        raise UserError("scaling fit", "no results are given", "give a study's folder")
    fit = fit_study([str(path) for path in results], losses, bootstraps, seed, budgets,
                    unique_hours)
    first = results[0]
    target = out or (first if first.is_dir() else first.parent) / "fit.json"
    write_json(target, fit)
    say(rendered(fit))
    say(f"written to {target}")
    return 0


def scaling_report(study: PathArgument, out: Optional[Path] = None,
                   budgets: tuple[float, ...] = ()) -> int:
    """Draw a study: report.html and its pictures, from results.jsonl and fit.json alone.

    Args:
        study: The study's folder (or any folder with these two files).
        out: Folder to write to; default: the same.
        budgets: FLOPs to recommend a size and data for, of those that `fit` was given; default: all
            of them.
    """
    from sleeplm_jax.reports.scaling import report

    for path in report(study, out or study, budgets):
        say(f"written: {path}")
    return 0


def _planned(study: Path, corpus: Path | None, out: Path | None, rate: float | None):
    """The plan, and the opened corpus (None where there is none and none was asked for)."""
    import dataclasses

    from sleeplm_jax.corpus.manifest import MANIFEST, Corpus
    from sleeplm_jax.places import place
    from sleeplm_jax.scaling.cells import Folder
    from sleeplm_jax.scaling.plan import corpus_data, make_plan, measured_speed, stated_data
    from sleeplm_jax.scaling.study import load_study

    stated, base = load_study(study)
    where = str(corpus) if corpus is not None else base.data.corpus
    needed = corpus is not None
    opened = None
    if needed or (place(where) / MANIFEST).is_file():
        opened = Corpus.open(where, base.model.spec)
    speed = None
    if rate is not None:
        if not rate > 0:
            raise UserError("--rate", f"is {rate}", "give FLOP/s, a positive number")
        speed = dataclasses.replace(stated.speed, flops_per_s=rate, source="stated by --rate")
    elif out is not None:
        _on_a_disk(out)
        speed = measured_speed(stated, Folder(out).rows())
    data = stated_data(stated) if opened is None else corpus_data(stated, base, where)
    runs = "" if out is None else str(out / "runs")
    return make_plan(stated, base, data, speed, where, runs), opened


def _on_a_disk(out: Path) -> None:
    # A Path has lost one slash of gs://.
    if re.match(r"[a-z][a-z0-9+.-]+:/", str(out)):
        raise UserError(out, "is in a store; a study's folder is locked by its processes",
                        "give a folder on a disk that its jobs share")


def _held_out(plan, corpus) -> str:
    from sleeplm_jax.corpus.mixture import tokenizer_for
    from sleeplm_jax.scaling.measure import held_out_hash

    config = plan.cells[0].config
    if corpus is None:
        raise UserError(config.data.corpus, "holds no corpus", "give --corpus")
    return held_out_hash(plan.study.measure, config, corpus, tokenizer_for(corpus, config.data))
