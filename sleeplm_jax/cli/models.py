"""Commands about models: train, evaluate, describe."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Optional

import tyro

from sleeplm_jax.cli.saying import PathArgument, console, quarters, say, screen, whole_number
from sleeplm_jax.errors import UserError


def train(experiment: PathArgument) -> int:
    """Train the model that an experiment file describes; goes on where it stopped.

    Fields of the config follow the file: `sleeplm train experiments/quickstart.py
    --optimizer.learning-rate 3e-4`. `sleeplm train FILE --help` lists them all.

    Args:
        experiment: Python file with `get_config() -> RunConfig`.
    """
    return train_with([str(experiment)])


def train_with(arguments: list[str]) -> int:
    """`train`, with the overrides that follow the experiment file."""
    from sleeplm_jax.config.files import load_experiment

    default = load_experiment(arguments[0])
    config = tyro.cli(
        type(default), default=default, args=arguments[1:], prog=f"sleeplm train {arguments[0]}",
        description="Fields of the experiment, with the values this file gives them.",
    )
    from sleeplm_jax.config.validation import validate
    from sleeplm_jax.parallel.processes import connect, leaving

    validate(config)
    # Before anything of JAX; what follows runs alike in every process of the training.
    rank = connect(say, start_timeout=config.start_timeout, heartbeat=config.heartbeat)
    with leaving():
        from sleeplm_jax.reports.pictures import draw
        from sleeplm_jax.training.loop import train as run

        folder = run(config, screen(), functools.partial(draw, config.model.spec))
        if rank == 0:
            say(f"done: {folder}")
    return 0


def evaluate(run: PathArgument, corpus: Path, split: str = "test", step: str = "best",
             max_samples: Optional[int] = None) -> int:
    """Measure a run on subjects it never saw; prints a table, writes RUN/evaluation.json.

    Other splits than test are written to RUN/evaluation-SPLIT.json.

    Args:
        run: Run folder.
        corpus: Corpus to evaluate on.
        split: train, val or test.
        step: best, latest, or a checkpointed step.
        max_samples: Evaluate at most this many epochs (seeded choice).
    """
    from sleeplm_jax.corpus.manifest import Corpus
    from sleeplm_jax.evaluation.suite import evaluate as measure
    from sleeplm_jax.evaluation.suite import result_path, table
    from sleeplm_jax.inference.run import Model

    model = Model.load(run, step if step in ("best", "latest") else whole_number(step))
    result = measure(model, Corpus.open(corpus), split, run, max_samples=max_samples)
    console().print(table(result))
    say(f"written to {result_path(run, split)}")
    return 0


def describe(run: PathArgument, night: PathArgument, scoring: Optional[Path] = None,
             out: Path = Path("report.html"), montage: Optional[str] = None,
             query: tuple[str, ...] = (), step: str = "best", trim: str = "lights",
             trim_margin: Optional[float] = None) -> int:
    """Describe one night in words and pictures: OUT and a PNG beside it.

    Args:
        run: Run folder.
        night: Recording.
        scoring: Scoring file; default: the one found beside the recording, if any.
        out: Where the HTML goes.
        montage: Name or YAML file of a montage; default: chosen by the labels found.
        query: Free-text queries whose similarity to the night is drawn over time.
        step: best, latest, or a checkpointed step.
        trim: What of the recording is the night: lights, sleep or none (see `prepare`).
        trim_margin: Minutes kept on either side.
    """
    if out.suffix.lower() not in (".html", ".htm") or out.is_dir():  # the picture is OUT's .png
        raise UserError(f"--out {out}", "names no HTML file", "give a name that ends in .html")
    from sleeplm_jax.inference.run import Model
    from sleeplm_jax.physiology.artefacts import mark_artefacts
    from sleeplm_jax.physiology.measure import measure_night
    from sleeplm_jax.recordings.prepare import prepare_night
    from sleeplm_jax.recordings.trim import Trim
    from sleeplm_jax.reports.night import SEEN, describe_night

    model = Model.load(run, step if step in ("best", "latest") else whole_number(step))
    model.need_captions()
    say(f"reading {night.name}")
    prepared = prepare_night(
        night, scoring=scoring or "auto", montage=montage, spec=model.spec,
        trim=Trim(trim, trim_margin),
    )
    for text in query:
        if not text.strip() or not text.isprintable():  # odd bytes of a terminal are no text
            raise UserError("--query", f"{ascii(text)} is no text", "give words, in UTF-8")
    queries = {"queries": list(query)} if query else {}
    say(f"measuring {len(prepared.signals):,} epochs")
    prepared = mark_artefacts(prepared)
    records = measure_night(prepared)
    found = describe_night(
        model, prepared, records, out, progress=quarters("reading with the model"), **queries
    )
    if found["seen"]:
        say(f"note: {SEEN[found['seen']]}")
    say(f"report in {out} and {out.with_suffix('.png')}")
    return 0
