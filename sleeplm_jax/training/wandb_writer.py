"""Weights & Biases, when asked for by name: the only module that knows it, and a choice to make,
because what is written here leaves the machine.

Sent are metrics and the config without its folders; no picture of a signal, no code, no output of
the terminal, nothing of the machine. Its own settings (WANDB_MODE=offline, WANDB_ENTITY, ...) hold.
"""

from __future__ import annotations

import importlib.util
import json

from sleeplm_jax.config import RunConfig
from sleeplm_jax.config.files import flatten
from sleeplm_jax.errors import ConfigError
from sleeplm_jax.files import write_json
from sleeplm_jax.places import Place, RemotePath

FILE = "wandb.json"  # the run's id, so that a resumed run goes on where its curves end
KEPT_HERE = ("out", "start_from", "data.corpus", "data.mixture", "compile_cache")  # paths
SETTINGS = {
    "console": "off", "save_code": False, "disable_code": True, "disable_git": True,
    "disable_job_creation": True, "x_disable_meta": True, "x_disable_stats": True,
    "x_disable_machine_info": True, "x_save_requirements": False,
}


def check_wandb(config: RunConfig) -> None:
    """ConfigError when it is asked for and not installed; it is not imported."""
    if not config.wandb:
        return
    found = importlib.util.find_spec("wandb")
    # Its own folder ./wandb, which it makes where it runs, looks like a package without a file.
    if found is None or found.origin is None:
        raise ConfigError(
            "wandb", f"is {config.wandb!r}, and the package is not installed",
            "pip install wandb, or leave it empty: metrics are in the run's folder in any case",
        )


class WandbWriter:
    """One run of the project `config.wandb`, gone on with when the training is."""

    def __init__(self, folder: Place, config: RunConfig):
        import wandb

        path = folder / FILE
        known = json.loads(path.read_text())["id"] if path.is_file() else None
        here = {} if isinstance(folder, RemotePath) else {"dir": str(folder)}
        self._run = wandb.init(
            project=config.wandb, name=config.name, id=known, resume="allow", save_code=False,
            **here,
            config={k: v for k, v in flatten(config).items() if k not in KEPT_HERE},
            settings=wandb.Settings(**SETTINGS),
        )
        # Steps of its own would refuse what a run that was killed writes again.
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")
        if known is None:
            write_json(path, {"id": self._run.id})

    def write(self, step: int, named: dict[str, float]) -> None:
        self._run.log({"step": step, **named})

    def close(self) -> None:
        self._run.finish()
