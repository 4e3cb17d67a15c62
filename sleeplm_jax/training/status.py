"""How a run stands, in its folder: `status.json`, for `sleeplm runs` and whoever waits for it.

Nothing of the machine stands in it. A process that is killed cannot say so: its run stays
"running", and whoever reads it tells from the time that it is lost.
"""

from __future__ import annotations

import contextlib
import json
import math
import threading
import time
from typing import Literal

from sleeplm_jax.files import write_json
from sleeplm_jax.places import Place

FILE = "status.json"
EVERY_S = 10.0  # between two writings of one state
LOST_S = 600.0  # a running run that has not written for so long, and for 5 of its pauses, is lost
STARTING_LOST_S = 7200.0  # before its first step it restores and compiles

State = Literal["running", "stopped", "failed", "done"]


class RunStatus:
    """Writes a run's status; on the lead process only (`enabled`). Threads may share it."""

    def __init__(self, folder: Place, enabled: bool = True, **about):
        """`about` stands in every status: steps, parameters."""
        self.path, self.enabled = folder / FILE, enabled
        self._values: dict = dict(about)
        self._written = -1e9
        self._state: str | None = None
        self._lock = threading.Lock()

    def set(self, state: State, why: str = "", **values) -> None:
        """Writes what has changed: a new state at once, news of the same one every 10 s.

        What is given stays until it is given anew: step, loss, val_loss, best, seconds_left. Never
        raises: a disk that is full must not end a training for want of its status.
        """
        if not self.enabled:
            return
        with self._lock:
            self._values |= {  # what is no number is null: JSON has no NaN
                name: value if math.isfinite(value) else None
                for name, value in values.items() if value is not None
            }
            now = time.monotonic()
            if state == self._state and now - self._written < EVERY_S:
                return
            between = now - self._written if self._state == state else 0.0
            told = self._values | {"state": state, "time": time.time(), "every_s": between}
            if why:
                told["why"] = why
            with contextlib.suppress(Exception):
                write_json(self.path, told)
            self._state, self._written = state, now


def read_status(folder: Place) -> dict | None:
    """The status of a run folder, None where there is none; {} where it cannot be read."""
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def is_lost(status: dict, now: float) -> bool:
    """Whether a "running" run has not been heard of for too long."""
    try:
        age, between = now - float(status["time"]), float(status.get("every_s", 0.0))
    except (KeyError, TypeError, ValueError):
        return True
    return age > max(STARTING_LOST_S if is_starting(status) else LOST_S, 5 * between)


def is_starting(status: dict) -> bool:
    """Whether a "running" run has told of no step since it was started."""
    return "loss" not in status
