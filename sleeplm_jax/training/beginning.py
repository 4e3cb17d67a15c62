"""Where a training begins: a run's folder that is new or to go on with, parameters of another."""

from __future__ import annotations

from pathlib import Path

import jax

from sleeplm_jax.checkpoints import Checkpoints, abstract
from sleeplm_jax.config import RunConfig
from sleeplm_jax.config.files import flatten, load_config
from sleeplm_jax.errors import CheckpointError, ConfigError
from sleeplm_jax.models.build import create
from sleeplm_jax.training.step import Steps

# Fields that may differ when a run goes on: they do not change its result (another mesh sums in
# another order: equal to float32 rounding).
FREE = ("out", "name", "log_every", "checkpoint_every", "keep_checkpoints", "tensorboard",
        "data.corpus", "data.workers", "data.prefetch", "mesh.")


def parameters_of(folder: Path, config: RunConfig, tokenizer, steps: Steps) -> dict:
    """The best parameters of another run, sharded as this one's.

    Raises CheckpointError when that run is of another model or tokenizer.
    """
    if not (folder / "config.json").is_file() or not (folder / "checkpoints").is_dir():
        raise CheckpointError(folder, "is no run folder", "give --start-from a run's folder")
    wanted = parameter_shapes(config)
    if parameter_shapes(load_config(folder / "config.json")) != wanted:
        raise CheckpointError(
            folder, "holds another model than this config describes",
            f"take over model, data.text_length and the objectives that are on from its {folder}"
            "/config.json",
        )
    with Checkpoints(folder / "checkpoints") as saved:
        if saved.best is None:
            raise CheckpointError(folder, "has no checkpoint", "train it further first")
        if saved.about(saved.best).get("tokenizer") != tokenizer.hash:
            raise CheckpointError(
                folder, "was trained with another tokenizer than the corpus has",
                "give the corpus that run's (for CLIP's: `sleeplm tokenizer --bpe FILE`)",
            )
        return saved.restore_parameters(
            saved.best, abstract(steps.abstract["parameters"], steps.shardings["parameters"])
        )


def parameter_shapes(config: RunConfig) -> dict[str, tuple[int, ...]]:
    """Path -> shape of every parameter of a config; nothing is allocated."""
    shapes = jax.eval_shape(lambda: create(config)[1])
    return {jax.tree_util.keystr(path): x.shape
            for path, x in jax.tree_util.tree_leaves_with_path(shapes)}


def check_same_run(config: RunConfig, folder: Path) -> None:
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
            "give --name for a new run, or undo the change",
        )
