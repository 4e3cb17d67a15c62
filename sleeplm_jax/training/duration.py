"""How long a run is: its steps, from what a person counts in."""

from __future__ import annotations

import dataclasses
import math
import re

from sleeplm_jax.config import RunConfig
from sleeplm_jax.errors import ConfigError

UNITS = {
    "step": "steps", "steps": "steps", "sample": "samples", "samples": "samples",
    "pass": "passes", "passes": "passes", "hour": "hours", "hours": "hours",
}


def with_duration(config: RunConfig, samples: int) -> RunConfig:
    """`config` with `steps` from its `duration` ("20 passes", "2e6 samples", "5000 hours" of
    sleep, "3000 steps"), rounded up to whole steps; as it is where none is given.

    `samples` is how many the training split holds. Raises ConfigError for a text that is no
    duration.
    """
    if not config.duration:
        return config
    found = re.fullmatch(r"\s*([0-9.]+(?:[eE][+]?[0-9]+)?)\s*([a-z]+)\s*", config.duration)
    unit = UNITS.get(found[2]) if found else None
    try:
        number = float(found[1]) if found else math.nan
    except ValueError:  # 1.2.3
        number = math.nan
    if not (number > 0) or unit is None:
        raise ConfigError(
            "duration", f"is {config.duration!r}",
            "give a number and one of steps, samples, passes or hours, such as '20 passes'",
        )
    per_unit = {
        "steps": config.data.batch_size, "samples": 1, "passes": samples,
        "hours": 3600 / config.model.spec.seconds,
    }[unit]
    # The small subtraction keeps a quotient that is whole but for rounding from one step more.
    steps = max(math.ceil(number * per_unit / config.data.batch_size - 1e-9), 1)
    return dataclasses.replace(config, steps=steps)
