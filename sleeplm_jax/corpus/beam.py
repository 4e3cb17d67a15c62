"""The per-night stage on Apache Beam: `pool.prepare_one` for each night, wherever a runner runs it.

Nights and their rows go to the corpus, which all workers reach under the same address or path, as
they do the recordings. What became of each night is written beside them as a small file that the
driver reads when the pipeline is done: so it needs nothing of a runner but that it runs.
A runner may gather nights to a bundle and do a failed bundle again: the second time, nights that
were done are found to be done by their rows.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Iterator
from pathlib import Path

from sleeplm_jax.corpus.jobs import NightJob, read_row
from sleeplm_jax.corpus.pool import NightOutcome, one_thread, prepare_one
from sleeplm_jax.errors import UserError
from sleeplm_jax.files import remove_folder, write_json
from sleeplm_jax.places import Place, read_many

# In this process. "DirectRunner" is Beam's own choice, which may fetch a program to run.
DEFAULT_FLAGS = "--runner=FnApiRunner"
# Runners that know no flags but Beam's own; others have more, which their job servers read.
HERE = ("fnapirunner", "directrunner", "bundlebaseddirectrunner")


def run_nights_on_beam(
    todo: list[tuple[NightJob, dict | None]], notes: Place, flags: str = ""
) -> Iterator[NightOutcome]:
    """The outcomes of `todo` from one pipeline, once it is done; night files as `run_nights` gives.

    `flags`: of the pipeline, as on Beam's own command lines ("--runner=FlinkRunner
    --flink_master=host:8081 ..."). `notes`: a folder that the pipeline may use and that is removed.
    A night without a note, its worker having died, is a failed one. Raises UserError without the
    package apache_beam, for flags that a runner of this machine does not know, and when the
    pipeline fails.
    """
    if not todo:
        return
    try:
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError:
        raise UserError(
            "--runner beam", "needs the package apache-beam, which is not installed",
            'pip install "sleeplm-jax[beam]"',
        ) from None
    options = PipelineOptions(shlex.split(flags or DEFAULT_FLAGS))
    known = options.get_all_options()
    unknown = sorted(set(options.get_all_options(retain_unknown_options=True)) - set(known))
    if unknown and (known["runner"] or HERE[0]).casefold() in HERE:
        raise UserError(
            "--beam-flags", f"{', '.join(unknown)} is no flag that Beam knows",
            "see https://beam.apache.org/documentation/runners/capability-matrix/ for the runners'",
        )
    jobs = [job for job, _ in todo]
    try:
        try:
            pipeline = beam.Pipeline(options=options)
            _ = (
                pipeline
                | "nights" >> beam.Create(jobs)
                | "spread" >> beam.Reshuffle()  # a night an element, to any worker
                | "prepare" >> beam.Map(prepare_and_note, notes=notes)
            )
            pipeline.run().wait_until_finish()
            problem = ""
        except UserError:
            raise
        except Exception as error:  # each runner has exceptions of its own
            problem = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        outcomes = {
            path.stem: _read(content) for path, content in
            read_many(notes / f"{job.night}.json" for job in jobs)
        }
        if problem and not outcomes:
            raise UserError(
                "--runner beam", f"the pipeline failed ({problem})", "see the runner's own log"
            )
        for job in jobs:
            yield outcomes.get(job.night) or NightOutcome(
                job.path, job.night, finding="the worker preparing it said nothing",
                remedy="see the runner's log; give its workers more memory",
            )
    finally:
        remove_folder(notes)


def prepare_and_note(job: NightJob, notes: Place) -> str:
    """Prepares a night and notes the outcome under its name in `notes`; returns the name.

    The night's row is read here, not by the driver: a second try knows what the first has done.
    """
    with one_thread():
        outcome = prepare_one(job, read_row(job.nights, job.night))
    write_json(notes / f"{job.night}.json", dataclasses.asdict(outcome) | {"path": str(job.path)})
    return job.night


def _read(content: bytes) -> NightOutcome:
    values = json.loads(content)
    return NightOutcome(**values | {"path": Path(values["path"])})
