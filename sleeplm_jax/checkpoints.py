"""Checkpoints by Orbax v1: the only module that knows it.

A run's `checkpoints/<step>` holds the training state and a small JSON of what it belongs to.
Orbax writes into a temporary folder and renames, so an interrupted save leaves the previous
checkpoint whole.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import jax

from sleeplm_jax.errors import CheckpointError

FORMAT = 1  # of the state tree and its metadata; raised when an old checkpoint cannot be read


def _orbax():
    from orbax.checkpoint import v1 as ocp  # `import orbax.checkpoint.v1` does not exist

    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax logs every save at INFO/WARNING
    return ocp


class Checkpoints:
    """Saves, lists and restores the checkpoints of one run folder. Use as a context manager.

    Keeps the `keep` latest and the one of lowest `val_loss`. Only the run's own training opens it
    `writing`: leftovers of a killed save are cleared then, and a reader that cleared them would
    take away the save that a running training is in the middle of.
    """

    def __init__(self, folder: str | Path, keep: int = 2, *, writing: bool = False):
        ocp = _orbax()
        preserve = ocp.training.preservation_policies
        self.folder = Path(folder).absolute()
        self._ocp = ocp
        self._pending = None
        self._checkpointer = ocp.training.Checkpointer(
            self.folder,
            save_decision_policy=None,
            preservation_policy=preserve.AnyPreservationPolicy([
                preserve.LatestN(keep),
                preserve.BestN(  # sorts ascending and keeps the end
                    get_metric_fn=lambda metrics: -metrics["val_loss"], n=1,
                    keep_checkpoints_without_metrics=False,
                ),
            ]),
            cleanup_tmp_directories=writing,
        )

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *exc) -> None:
        self.wait()
        self._checkpointer.close()

    def wait(self) -> None:
        """Waits for the save under way; its error surfaces here."""
        if self._pending is not None:
            pending, self._pending = self._pending, None
            try:
                pending.result()
            except Exception as error:  # a full disk arrives as many kinds
                first = str(error).strip().partition("\n")[0][:200]
                raise CheckpointError(
                    self.folder, f"saving failed ({type(error).__name__}: {first})",
                    "see to the folder and its disk and run again: it goes on from the checkpoint "
                    "before",
                ) from error

    def save(self, step: int, state: Any, metadata: dict, val_loss: float | None = None) -> None:
        """Starts saving a training state in the background.

        `metadata` is JSON: what the state belongs to. Raises CheckpointError if the previous
        save failed.
        """
        self.wait()
        self._pending = self._checkpointer.save_checkpointables_async(
            step,
            {
                # Apart, so that inference reads a third of the bytes.
                "parameters": state["parameters"],
                "progress": {k: v for k, v in state.items() if k != "parameters"},
                "about": {"format": FORMAT, "step": step, **metadata},
            },
            metrics=None if val_loss is None else {"val_loss": float(val_loss)},
            force=True, overwrite=True,
        )

    @property
    def steps(self) -> list[int]:
        return sorted(c.step for c in self._checkpointer.checkpoints)

    @property
    def latest(self) -> int | None:
        return self.steps[-1] if self.steps else None

    @property
    def best(self) -> int | None:
        """Step of the lowest held-out loss among those kept, the latest if none has one."""
        scored = [
            (c.metrics["val_loss"], c.step) for c in self._checkpointer.checkpoints if c.metrics
        ]
        return min(scored)[1] if scored else self.latest

    def about(self, step: int) -> dict:
        """The metadata saved with a step."""
        return self._load(step, {"about": None})["about"]

    def restore(self, step: int, abstract_state: dict) -> dict:
        """The state of a step, in the shapes, types and shardings of `abstract_state`."""
        rest = {k: v for k, v in abstract_state.items() if k != "parameters"}
        loaded = self._load(
            step, {"parameters": abstract_state["parameters"], "progress": rest}
        )
        return {"parameters": loaded["parameters"], **loaded["progress"]}

    def restore_parameters(self, step: int, abstract_parameters: dict) -> dict:
        """Only the parameters of a step."""
        return self._load(step, {"parameters": abstract_parameters})["parameters"]

    def _load(self, step: int, abstract: dict) -> dict:
        where = self.folder / str(step)
        try:
            loaded = self._checkpointer.load_checkpointables(step, abstract)
        except Exception as error:  # Orbax raises many kinds for a damaged checkpoint
            first = str(error).strip().splitlines()[0] if str(error).strip() else ""
            raise CheckpointError(
                where, f"cannot be read ({type(error).__name__}: {first[:200]})",
                "delete this step's folder to fall back to the previous one",
            ) from error
        about = loaded.get("about")
        if about is not None and about.get("format") != FORMAT:
            raise CheckpointError(
                where, f"has checkpoint format {about.get('format')}, this version reads {FORMAT}",
                "use the version of sleeplm_jax that wrote it",
            )
        return loaded


def abstract(tree: Any, shardings: Any) -> Any:
    """Shapes and types of `tree` with shardings, to restore into."""
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, shardings
    )
