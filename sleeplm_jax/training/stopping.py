"""Being asked to stop: a flag read between steps, never an exception in the middle of one."""

from __future__ import annotations

import os
import signal

import jax


class StopRequest:
    """While active, SIGINT, SIGTERM and SIGUSR1 (SLURM's warning before a job's end) ask training
    to stop instead of killing the process.

    An exception inside a step could leave the donated state unreadable. A second signal acts as
    it would have without this.

    With several processes JAX's own service hears SIGTERM, in whichever of them, and has all stop
    after the same step; a Python handler for it would silence that (measured), so there is none,
    and SIGUSR1 is handed on as SIGTERM.
    """

    def __init__(self):
        self._asked = 0
        self._several = jax.process_count() > 1

    def __enter__(self) -> StopRequest:
        numbers = (signal.SIGUSR1,) if self._several else (
            signal.SIGINT, signal.SIGTERM, signal.SIGUSR1,
        )
        self._before = {number: signal.signal(number, self._ask) for number in numbers}
        return self

    def __exit__(self, *exc) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def at(self, step: int) -> int:
        """The signal to stop on after `step` steps, 0 to go on; the same on every process.

        All processes must ask at the same steps.
        """
        if self._several:
            from jax.experimental import multihost_utils

            return signal.SIGTERM if multihost_utils.reached_preemption_sync_point(step) else 0
        return self._asked

    def _ask(self, number: int, frame) -> None:
        signal.signal(number, self._before[number])
        if self._several:
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            self._asked = number
