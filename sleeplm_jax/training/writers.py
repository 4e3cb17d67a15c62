"""Where metrics go: JSON lines always, TensorBoard and Weights & Biases when asked."""

from __future__ import annotations

import math

import numpy as np

from sleeplm_jax.config import RunConfig
from sleeplm_jax.files import FolderCopy, RowFile
from sleeplm_jax.places import Place
from sleeplm_jax.training.clock import RATES
from sleeplm_jax.training.wandb_writer import WandbWriter

FILE = "metrics.jsonl"


class MetricsWriter:
    """Appends rows to `metrics.jsonl` and, optionally, to TensorBoard event files and W&B.

    Opening it for a run resumed at `start_step` drops rows of later steps, so that the file
    holds every step once however often the run was killed.
    """

    def __init__(self, folder: Place, start_step: int, config: RunConfig):
        self._rows = RowFile(folder / FILE, keep=lambda row: row["step"] <= start_step)
        self._board = self._copy = self._wandb = None
        if config.tensorboard:
            from tensorboardX import SummaryWriter

            self._copy = FolderCopy(folder / "tensorboard")
            self._board = SummaryWriter(str(self._copy.path), purge_step=start_step + 1)
        if config.wandb:
            self._wandb = WandbWriter(folder, config)

    def write(self, step: int, split: str, values: dict[str, float]) -> None:
        """One row: `{"step", "split", **values}`, null for what is no number."""
        row = {name: x if math.isfinite(x) else None for name, x in values.items()}
        self._rows.append({"step": step, "split": split, **row})
        # Speed is a section of its own beside the losses.
        named = {f"{'speed' if n in RATES else split}/{n}": x for n, x in row.items()
                 if x is not None}
        if self._board is not None:
            for name, value in named.items():
                self._board.add_scalar(name, value, step)
        if self._wandb is not None:
            self._wandb.write(step, named)

    def picture(self, step: int, name: str, image: np.ndarray) -> None:
        """A picture uint8 `[H, W, 3]`, to TensorBoard alone: it shows somebody's signals."""
        if self._board is not None:
            self._board.add_image(name, image, step, dataformats="HWC")

    @property
    def takes_pictures(self) -> bool:
        return self._board is not None

    def flush(self) -> None:
        """Returns when all rows are where they belong."""
        self._rows.flush()
        if self._copy is not None:
            self._board.flush()
            self._copy.send()

    def close(self) -> None:
        self._rows.close()
        if self._board is not None:
            self._board.close()
            self._copy.close()
        if self._wandb is not None:
            self._wandb.close()


class NoWriter:
    """What the other processes of a training write: nothing."""

    takes_pictures = False

    def write(self, step: int, split: str, values: dict[str, float]) -> None:
        pass

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass
