"""The training loop: read it from top to bottom.

A run is a folder: `config.json` (resolved), `run.json` (versions, hashes, commit), `metrics.jsonl`,
`checkpoints/`, `tokenizer.model` and `.json`, `tensorboard/`.
"""

from __future__ import annotations

from collections.abc import Callable

import jax

from sleeplm_jax.checkpoints import Checkpoints
from sleeplm_jax.config import RunConfig
from sleeplm_jax.config.validation import validate
from sleeplm_jax.corpus.loader import Loader
from sleeplm_jax.corpus.manifest import described
from sleeplm_jax.corpus.mixture import open_data, parts_of, tokenizer_for
from sleeplm_jax.errors import (
    ConfigError,
    CorpusError,
    Interrupted,
)
from sleeplm_jax.files import make_folder
from sleeplm_jax.models.attention import described as attention_described
from sleeplm_jax.models.build import parameter_count, with_vocabulary
from sleeplm_jax.parallel.batches import BatchPlacer
from sleeplm_jax.parallel.feeding import Feed
from sleeplm_jax.parallel.mesh import make_mesh
from sleeplm_jax.parallel.processes import meet
from sleeplm_jax.parallel.rules import check_split
from sleeplm_jax.places import Place, place
from sleeplm_jax.training.bad_steps import BadSteps
from sleeplm_jax.training.beginning import begin, check_same_run
from sleeplm_jax.training.compile_cache import use_compile_cache
from sleeplm_jax.training.duration import with_duration
from sleeplm_jax.training.held_out import HeldOut
from sleeplm_jax.training.lock import RunLock
from sleeplm_jax.training.optimizer import group_table
from sleeplm_jax.training.pictures import Draw, Pictures
from sleeplm_jax.training.provenance import write_launch
from sleeplm_jax.training.reporting import Reporter
from sleeplm_jax.training.saving import Saving
from sleeplm_jax.training.step import Steps
from sleeplm_jax.training.stopping import StopRequest
from sleeplm_jax.training.wandb_writer import check_wandb
from sleeplm_jax.training.watchdog import watched


def train(
    config: RunConfig, say: Callable[[str], None] = print, draw: Draw | None = None
) -> Place:
    """Trains (or goes on training) the run that `config` describes; returns its folder.

    `say` gets lines (see Reporter), `draw` what TensorBoard's pictures are of (reports.pictures).

    Raises UserError subclasses for everything that the user's input can get wrong, and
    Interrupted after SIGINT or SIGTERM, with the state saved: the same command goes on from there.
    """
    lead = jax.process_index() == 0  # of several processes one speaks and writes
    if not lead:
        say = silent
    # ---- What there is to learn from
    validate(config)
    check_wandb(config)
    compiled = use_compile_cache(config)
    corpus = open_data(config.data)
    if corpus.spec != config.model.spec:
        raise CorpusError(
            corpus.path, f"holds samples of {described(corpus.spec)}, the model wants "
            f"{described(config.model.spec)}", "prepare it for this spec, or set model.spec",
        )
    have = corpus.samples("train")
    if config.data.batch_size > have:
        raise ConfigError(
            "data.batch_size", f"{config.data.batch_size} is more than the {have} samples of the "
            "training split", "give a smaller batch, or prepare more nights",
        )
    config = with_duration(config, have)
    tokenizer = tokenizer_for(corpus, config.data)
    if 0 < config.model.vocab_size < tokenizer.vocab_size:
        raise ConfigError(
            "model.vocab_size", f"{config.model.vocab_size} is less than the tokenizer's "
            f"{tokenizer.vocab_size}", "leave it at 0: the tokenizer decides",
        )
    config = with_vocabulary(config, max(tokenizer.vocab_size, config.model.vocab_size))
    attention = attention_described(config.model.attention)  # refuses a kernel that is not here
    about = {"corpus": corpus.hash, "tokenizer": tokenizer.hash,
             "corpora": [part.hash for _, part, _ in parts_of(corpus)]}

    # ---- The run's folder: new, or one to go on with
    folder = place(config.folder)
    make_folder(folder)  # a store tells only now that it cannot be written
    check_same_run(config, folder)

    mesh = make_mesh(config.mesh)
    placer = BatchPlacer(mesh, config.data.batch_size)
    with (
        jax.set_mesh(mesh),
        RunLock(folder, say, lead) as lock,
        StopRequest() as stop,
        watched(config, folder) as watch,
        Checkpoints(folder / "checkpoints", config.keep_checkpoints, config.keep_every,
                    writing=True) as saved,
    ):
        # ---- State: drawn or restored, under its shardings
        steps = Steps(config, mesh)
        start, state, before = begin(saved, steps, config, corpus, tokenizer, say)
        check_split(state, mesh)
        # A held-out evaluation in the middle of which training was stopped.
        owed = before.get("owed", False)
        if not start:
            say(f"training {folder}: {parameter_count(state['parameters']):,} parameters, "
                f"{config.steps:,} steps of {config.data.batch_size} samples, mesh "
                + " ".join(f"{axis} {size}" for axis, size in mesh.shape.items()))
            say(f"  {attention}; {compiled}")
            if config.data.mixture:
                say(f"  mixture: {corpus.passes(config.steps * config.data.batch_size)}")
            if config.optimizer.groups or config.optimizer.kind == "muon":
                for line in group_table(config.optimizer, state["parameters"]):
                    say(f"  {line}")
        if start >= config.steps and not owed:
            say(f"{folder} is already trained ({start:,} steps)")
            return folder
        if lead:
            write_launch(folder, config, start)

        # ---- Data: step -> samples is a pure function, so a restart needs only the step
        loader = Loader(corpus, "train", tokenizer, config.data, config.seed)
        if lead and not start and (cut := loader.cut_share()) > 0.005:
            say(f"note: {cut:.1%} of the captions are longer than data.text_length "
                f"{config.data.text_length} and are cut; raise it to keep them whole")
        held_out = HeldOut(corpus, tokenizer, config, placer)
        pictures = Pictures(held_out.loader, config, mesh, draw, start)
        seen = Reporter(config, folder, start, say, lead=lead,
                        parameters=parameter_count(state["parameters"]))
        bad = BadSteps(config, folder, start, loader.batch, say, lead=lead)
        rows = loader.iterate(start, config.data.batch_size, placer.rows)
        batches = Feed(seen.clock.counted(rows, tokenizer.pad_id), placer.place)
        saving = Saving(saved, config, about, start)
        best, step = before["best"], start

        def between() -> int:
            """Before each held-out batch, in all processes alike."""
            watch.moved(f"a held-out batch after step {step:,}")
            return stop.asked()

        watch.last_words = lambda why: seen.status.set("failed", why)
        stop.last_words = lambda: (seen.status.set("stopped"), lock.release())
        with batches, seen, pictures, bad:
            batch = next(batches)
            steps.compile(state, batch, held_out.first())
            pictures.compile(steps.evaluated(state))
            meet("compiled")
            seen.begin()
            while (owed or step < config.steps) and not (stopped := stop.asked()):
                # ---- One step; the device goes on while the host looks at the one before
                if not owed:
                    with seen.step(step):
                        state, metrics = steps.train(state, batch)
                    step += 1
                    seen.trained(step, metrics)
                    watch.moved(f"step {step:,} given to the devices")
                    with seen.clock.waiting():
                        batch = next(batches)
                    seen.read()
                    bad.look(step, metrics)

                # ---- Held-out evaluation and checkpoints
                val_loss = None
                if owed or step % config.eval_every == 0 or step == config.steps:
                    seen.catch_up()  # waits for the queued steps, so their time is theirs
                    with seen.clock.paused():
                        values = held_out(steps, steps.evaluated(state), between)
                        if owed := values is None:  # asked to stop; the evaluation comes later
                            continue
                        pictures(step, steps.evaluated(state), seen.writer, say)
                    val_loss = values["loss"]
                    seen.evaluated(step, values, best)
                    best = min(best, val_loss)
                if saving.due(step, val_loss):
                    seen.catch_up()  # no row of a step that is saved may be missing
                    seen.writer.flush()
                    bad.look()
                    saving.save(step, state, best, val_loss)
                if bad.refused:
                    seen.catch_up()
                    saving.last(step, state, best)
                    raise bad.refused
            seen.catch_up()
            bad.look()
            if owed or step < config.steps:
                saving.last(step, state, best, owed=owed)
                say(f"stopped at step {step:,}, saved; the same command goes on from here")
                raise Interrupted(stopped)
            saved.wait()  # a run is done when its last checkpoint is
    return folder


def silent(line: str) -> None:
    pass
