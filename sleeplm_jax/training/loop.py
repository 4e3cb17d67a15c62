"""The training loop: read it from top to bottom.

A run is a folder: `config.json` (resolved), `run.json` (versions, hashes, commit), `metrics.jsonl`,
`checkpoints/`, `tokenizer.model` and `.json`, `tensorboard/`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import jax

from sleeplm_jax.checkpoints import Checkpoints, abstract
from sleeplm_jax.config import RunConfig
from sleeplm_jax.config.files import save_config
from sleeplm_jax.config.validation import validate
from sleeplm_jax.corpus.loader import Loader
from sleeplm_jax.corpus.manifest import Corpus, described
from sleeplm_jax.errors import (
    CheckpointError,
    ConfigError,
    CorpusError,
    Interrupted,
)
from sleeplm_jax.models.attention import described as attention_described
from sleeplm_jax.models.build import parameter_count, with_vocabulary
from sleeplm_jax.parallel.batches import BatchPlacer
from sleeplm_jax.parallel.mesh import make_mesh
from sleeplm_jax.parallel.processes import meet
from sleeplm_jax.training.beginning import check_same_run, parameters_of
from sleeplm_jax.training.clock import Clock
from sleeplm_jax.training.duration import with_duration
from sleeplm_jax.training.held_out import HeldOut
from sleeplm_jax.training.optimizer import group_table
from sleeplm_jax.training.provenance import write_provenance
from sleeplm_jax.training.reporting import parts_text, report
from sleeplm_jax.training.step import Steps
from sleeplm_jax.training.stopping import StopRequest
from sleeplm_jax.training.writers import MetricsWriter, NoWriter


def train(config: RunConfig, say: Callable[[str], None] = print) -> Path:
    """Trains (or goes on training) the run that `config` describes; returns its folder.

    Raises UserError subclasses for everything that the user's input can get wrong, and
    Interrupted after SIGINT or SIGTERM, with the state saved: the same command goes on from there.
    """
    lead = jax.process_index() == 0  # of several processes one speaks and writes
    if not lead:
        say = silent
    # ---- What there is to learn from
    validate(config)
    corpus = Corpus.open(config.data.corpus)
    if corpus.spec != config.model.spec:
        raise CorpusError(
            config.data.corpus, f"holds samples of {described(corpus.spec)}, the model wants "
            f"{described(config.model.spec)}", "prepare it for this spec, or set model.spec",
        )
    have = corpus.samples("train")
    if config.data.batch_size > have:
        raise ConfigError(
            "data.batch_size", f"{config.data.batch_size} is more than the {have} samples of the "
            "training split", "give a smaller batch, or prepare more nights",
        )
    config = with_duration(config, have)
    tokenizer = corpus.tokenizer()
    if 0 < config.model.vocab_size < tokenizer.vocab_size:
        raise ConfigError(
            "model.vocab_size", f"{config.model.vocab_size} is less than the tokenizer's "
            f"{tokenizer.vocab_size}", "leave it at 0: the tokenizer decides",
        )
    config = with_vocabulary(config, max(tokenizer.vocab_size, config.model.vocab_size))
    attention = attention_described(config.model.attention)  # refuses a kernel that is not here
    about = {"corpus": corpus.hash, "tokenizer": tokenizer.hash}

    # ---- The run's folder: new, or one to go on with
    if "://" in config.folder:
        raise ConfigError(
            "out", f"{config.out} is not on this machine's disks", "give a local folder: runs on "
            "object stores are not supported yet",
        )
    folder = Path(config.folder)
    folder.mkdir(parents=True, exist_ok=True)
    check_same_run(config, folder)

    mesh = make_mesh(config.mesh)
    placer = BatchPlacer(mesh, config.data.batch_size)
    with (
        jax.set_mesh(mesh),
        Checkpoints(folder / "checkpoints", config.keep_checkpoints, writing=True) as saved,
        StopRequest() as stop,
    ):
        # ---- State: drawn or restored, under its shardings
        steps = Steps(config, mesh)
        if saved.steps == [0]:
            raise CheckpointError(
                folder, "holds a model that was imported, not trained",
                "give --name for a new run and --start-from this folder",
            )
        start = saved.latest or 0
        if start:
            found = saved.about(start)
            for name, value in about.items():
                if found.get(name) != value:
                    raise CheckpointError(
                        folder, f"was trained with another {name} ({str(found.get(name))[:12]}, "
                        f"now {value[:12]})",
                        f"restore that {name}, or start a run of another name",
                    )
            state = saved.restore(start, abstract(steps.abstract, steps.shardings))
            say(f"resuming {folder} at step {start:,} of {config.steps:,}")
        else:
            given = {}
            if config.start_from:
                given["parameters"] = parameters_of(
                    Path(config.start_from), config, tokenizer, steps
                )
            state = steps.init() | given
            if lead:
                tokenizer.save(folder)
                save_config(config, folder / "config.json")
                write_provenance(folder, config, corpus, tokenizer)
            say(f"training {folder}: {parameter_count(state['parameters']):,} parameters, "
                f"{config.steps:,} steps of {config.data.batch_size} samples, mesh "
                + " ".join(f"{axis} {size}" for axis, size in mesh.shape.items()))
            say(f"  {attention}")
            if config.optimizer.groups or config.optimizer.kind == "muon":
                for line in group_table(config.optimizer, state["parameters"]):
                    say(f"  {line}")
        if start >= config.steps:
            say(f"{folder} is already trained ({start:,} steps)")
            return folder

        # ---- Data: step -> samples is a pure function, so a restart needs only the step
        loader = Loader(corpus, "train", tokenizer, config.data, config.seed)
        if lead and not start and (cut := loader.cut_share()) > 0.005:
            say(f"note: {cut:.1%} of the captions are longer than data.text_length "
                f"{config.data.text_length} and are cut; raise it to keep them whole")
        held_out = HeldOut(corpus, tokenizer, config, placer)
        batches = map(placer.place, loader.iterate(start, config.data.batch_size, placer.rows))
        batch = next(batches)
        steps.compile(state, batch, held_out.first())
        meet("compiled")
        writer = MetricsWriter(folder, start, config.tensorboard) if lead else NoWriter()
        clock = Clock(start, config)
        best = math.inf if not start else saved.about(start).get("best", math.inf)
        late = None
        step = start
        try:
            while step < config.steps and not (stopped := stop.at(step)):
                # ---- One step; the device goes on while the host looks at the one before
                state, metrics = steps.train(state, batch)
                step += 1
                waited = time.monotonic()
                batch = next(batches)
                clock.wait += time.monotonic() - waited
                if late is not None:
                    report(*late, writer, clock, say)
                    late = None
                if step % config.log_every == 0 or step == config.steps:
                    late = (step, metrics)

                # ---- Held-out evaluation and checkpoints
                val_loss = None
                if step % config.eval_every == 0 or step == config.steps:
                    if late is not None:  # waits for the queued steps, so their time is theirs
                        report(*late, writer, clock, say)
                        late = None
                    with clock.paused():
                        values = held_out(steps, state["parameters"])
                    val_loss = values["loss"]
                    writer.write(step, "val", values)
                    say(f"  held-out loss {val_loss:.4f}  " + parts_text(values)
                        + ("  (best so far)" if val_loss < best else ""))
                    best = min(best, val_loss)
                if val_loss is not None or step % config.checkpoint_every == 0:
                    saved.save(step, state, about | {"best": best}, val_loss)
            if late is not None:
                report(*late, writer, clock, say)
        finally:
            writer.close()
        if step < config.steps:
            if saved.latest != step:
                saved.save(step, state, about | {"best": best})
                saved.wait()
            say(f"stopped at step {step:,}, saved; the same command goes on from here")
            raise Interrupted(stopped)
    return folder


def silent(line: str) -> None:
    pass
