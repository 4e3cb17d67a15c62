"""Steps whose update was left out: said, written down, and when they end a training.

The device decides (training.step); here its answer is read a step late, the same in all processes.
`bad_batches.jsonl` in the run's folder has a row for each: `step`, `reason`, `loss`, `grad_norm`
(null where they are no numbers) and `indices`, the batch's samples by their place in the training
split.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax

from sleeplm_jax.config import RunConfig
from sleeplm_jax.errors import UserError
from sleeplm_jax.files import RowFile
from sleeplm_jax.places import Place

FILE = "bad_batches.jsonl"
IN_A_ROW = 50  # as many, and no single batch is at fault


class BadSteps:
    """Use as a context manager. `refused` is the error to end with, once there is one.

    `made(step, size)` makes the batch of the step after `step` steps again, as the loader does.
    """

    def __init__(
        self, config: RunConfig, folder: Place, start: int, made: Callable[[int, int], dict],
        say: Callable[[str], None] = print, *, lead: bool = True,
    ):
        self.config, self.folder, self.made, self._say = config, folder, made, say
        self.lead, self.refused = lead, None
        self._late: tuple[int, dict] | None = None
        self._row, self._start, self._file = 0, start, None

    def __enter__(self) -> BadSteps:
        # What was written after the step that a run goes on from is going to be written again.
        if self.lead and (self.folder / FILE).exists():
            self._open()
        return self

    def __exit__(self, *exc) -> None:
        if self._file is not None:
            self._file.close()

    def look(self, step: int | None = None, metrics: dict[str, jax.Array] | None = None) -> None:
        """Step `step` is on its way; looks at the one before it. Without them: at the last one."""
        late, self._late = self._late, None if step is None else (step, metrics)
        if late is None:
            return
        step, metrics = late
        if not bool(jax.device_get(metrics["bad"])):
            self._row = 0
            return
        self._row += 1
        values = {name: float(x) for name, x in jax.device_get(metrics).items()}
        why = self._why(values)
        if self.lead:
            self._write(step, why, values)
        if self.config.bad_step == "stop":
            self.refused = UserError(
                f"step {step}", f"{why} (its update was left out, the state is saved, and bad_step "
                "is 'stop')", f"look at its samples in {self.folder / FILE}; the same command goes "
                "on behind them",
            )
        elif self._row == IN_A_ROW:
            self.refused = UserError(
                f"steps {step - IN_A_ROW + 1} to {step}", f"each update was left out, the last "
                f"because {why}: not one batch is at fault", self._remedy(values),
            )

    def _why(self, values: dict[str, float]) -> str:
        if not math.isfinite(values["loss"]):
            return f"loss is {values['loss']}"
        if not math.isfinite(values["grad_norm"]):
            return f"gradient is {values['grad_norm']}"
        return (f"loss {values['loss']:.4g} is over {self.config.spike_factor:g} times its running "
                f"mean {values['loss_mean']:.4g}")

    def _remedy(self, values: dict[str, float]) -> str:
        remedy = "start a run of another --name with a lower --optimizer.learning-rate"
        if math.isfinite(values["loss"]) and math.isfinite(values["grad_norm"]):
            return f"raise --spike-factor if losses of this size are in order, else {remedy}"
        return f"{remedy}, with --start-from {self.folder} from its best checkpoint"

    def _write(self, step: int, why: str, values: dict[str, float]) -> None:
        if self._file is None:
            self._open()
        numbers = {n: values[n] if math.isfinite(values[n]) else None
                   for n in ("loss", "grad_norm")}
        # Made again, since a sample with nothing to say gives its turn to another.
        indices = self.made(step - 1, self.config.data.batch_size)["index"].tolist()
        self._file.append({"step": step, "reason": why, **numbers, "indices": indices})
        self._file.flush()
        self._say(f"  step {step:,}: {why}; its update is left out, its samples are in {FILE}")

    def _open(self) -> None:
        self._file = RowFile(self.folder / FILE, lambda row: row["step"] <= self._start)
