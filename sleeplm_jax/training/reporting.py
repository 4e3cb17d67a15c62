"""What is said and written of a step."""

from __future__ import annotations

import math

import jax

from sleeplm_jax.errors import UserError
from sleeplm_jax.training.clock import Clock


def report(step: int, metrics: dict, writer, clock: Clock, say) -> None:
    """Writes a step's metrics; a step behind the device, so that reading them waits for nothing.

    Raises UserError when the loss stopped being a number.
    """
    values = {name: float(value) for name, value in jax.device_get(metrics).items()}
    values |= clock.rates(step)
    writer.write(step, "train", values)
    say(f"step {step:>6,}/{clock.steps:,}  loss {values['loss']:.4f}  {parts_text(values)}  "
        f"{values['samples_per_s']:.0f} samples/s  waiting {values['data_wait']:.0%}  "
        f"ETA {clock.eta(step)}")
    if not math.isfinite(values["loss"]):
        raise UserError(
            f"step {step}", f"loss is {values['loss']} (its update was left out)",
            "start a run of another --name with a lower --optimizer.learning-rate",
        )


def parts_text(values: dict) -> str:
    names = ("contrastive", "caption", "reconstruction", "position")
    return " ".join(f"{name} {values[name]:.3f}" for name in names if name in values)
