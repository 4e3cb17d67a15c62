"""Where a training begins: a run's folder that is new or to go on with."""

from __future__ import annotations

import math

import jax

from sleeplm_jax.checkpoints import Checkpoints, abstract
from sleeplm_jax.config import RunConfig
from sleeplm_jax.config.files import flatten, load_config, save_config
from sleeplm_jax.errors import CheckpointError, ConfigError
from sleeplm_jax.files import write_json
from sleeplm_jax.places import Place, place
from sleeplm_jax.training.provenance import write_provenance
from sleeplm_jax.training.step import Steps
from sleeplm_jax.training.warm_start import as_json, lines, warm_start

# Fields that may differ when a run goes on: they do not change its result (another mesh sums in
# another order: equal to float32 rounding), or say what becomes of bad steps.
FREE = ("out", "name", "log_every", "checkpoint_every", "keep_checkpoints", "keep_every",
        "checkpoint_minutes", "allow_other_data", "tensorboard", "wandb",
        "profile_steps", "compile_cache", "micro_batches", "bad_step", "spike_factor",
        "model.split_tokens",
        "watchdog_minutes", "start_timeout", "heartbeat",
        "data.corpus", "data.mixture", "data.tokenizer", "data.workers", "data.processes",
        "data.prefetch", "mesh.")


def begin(
    saved: Checkpoints, steps: Steps, config: RunConfig, corpus, tokenizer, say
) -> tuple[int, dict, dict]:
    """`(step, state, metadata)` of the newest checkpoint that every process can read, else of a
    run that begins (step 0), whose folder is then furnished. Of the metadata, `best` is the lowest
    held-out loss so far.

    Raises CheckpointError where the folder holds something that this run is not.
    """
    folder = saved.folder.parent
    if saved.steps == [0]:
        raise CheckpointError(
            folder, "holds a model that was imported, not trained",
            "give --name for a new run and --start-from this folder",
        )
    for step in saved.unfinished:
        say(f"checkpoint {step} was not finished when the run ended: passed over")
    hashes = {"corpus": corpus.hash, "tokenizer": tokenizer.hash}
    found = saved.restore_newest(
        abstract(steps.abstract, steps.shardings),
        lambda about: accept(about, hashes, config, folder), say,
    )
    if found is None:
        state = steps.init()
        if config.start_from:
            state = warm(state, steps, config, tokenizer, folder, say)
        furnish(folder, config, corpus, tokenizer)
        return 0, state, {"best": math.inf}
    step, state, about = found
    say(f"resuming {folder} at step {step:,} of {config.steps:,}")
    other = [name for name, value in hashes.items() if about[name] != value]
    if other:
        say(f"WARNING: going on with another {' and '.join(other)} than until step {step:,}: this "
            "run's figures are no longer of one training set")
        furnish(folder, config, corpus, tokenizer, goes_on=True)
        about = about | {"best": None}  # losses of other people's nights do not compare
    return step, state, about | {"best": math.inf if about["best"] is None else about["best"]}


def warm(state: dict, steps: Steps, config: RunConfig, tokenizer, folder: Place, say) -> dict:
    """A fresh state with the parameters of `config.start_from` in it; says and writes what was
    taken over."""
    source = place(config.start_from)
    taken, report, named = warm_start(source, config, tokenizer, steps, state["parameters"])
    say(f"starting from {named}")
    for line in lines(report):
        say(f"  {line}")
    if jax.process_index() == 0:
        write_json(folder / "start_from.json", as_json(report, named))
    return steps.begun_from(state, taken)


def accept(about: dict, hashes: dict[str, str], config: RunConfig, folder: Place) -> None:
    """CheckpointError unless a checkpoint's metadata fits this run."""
    for name, value in hashes.items():
        if about[name] != value and not config.allow_other_data:
            raise CheckpointError(
                folder, f"was trained with another {name} ({about[name][:12]}, now {value[:12]})",
                f"restore that {name}, start a run of another name, or give --allow-other-data",
            )
    expected = about["step"] * config.data.batch_size
    if about["next_index"] != expected or about["seed"] != config.seed:
        raise CheckpointError(
            folder, f"its step {about['step']} is at sample {about['next_index']} of seed "
            f"{about['seed']}, this config's at {expected} of {config.seed}",
            "restore the run's own config.json",
        )


def furnish(folder: Place, config: RunConfig, corpus, tokenizer, *, goes_on=False) -> None:
    """What a run's folder holds from its beginning; written by one process."""
    if jax.process_index() == 0:
        tokenizer.save(folder)
        save_config(config, folder / "config.json")
        write_provenance(folder, config, corpus, tokenizer, goes_on=goes_on)


def check_same_run(config: RunConfig, folder: Place) -> None:
    """ConfigError when the folder holds a run whose config would give another result."""
    path = folder / "config.json"
    if not path.exists():
        return
    now, then = flatten(config), flatten(load_config(path))
    changed = [
        f"{name} {then.get(name)} -> {now.get(name)}" for name in sorted(now.keys() | then.keys())
        if now.get(name) != then.get(name) and not name.startswith(FREE)
    ]
    if changed:
        raise ConfigError(
            folder, f"holds a run of another config ({'; '.join(changed)})",
            "give --name for a new run (--start-from this one takes over what it has learned), or "
            "undo the change",
        )
