"""How fast a training goes, and when it will be done."""

from __future__ import annotations

import math
import time

from sleeplm_jax.config import RunConfig


class Clock:
    """Rates since the last report, pauses left out, and the time to go."""

    def __init__(self, start: int, config: RunConfig):
        self.steps, self.batch = config.steps, config.data.batch_size
        self.wait, self._paused = 0.0, 0.0
        self._step, self._time = start, time.monotonic()
        self._rate = 0.0

    def rates(self, step: int) -> dict[str, float]:
        now = time.monotonic()
        busy = max(now - self._time - self._paused, 1e-9)
        done = step - self._step
        values = {
            "samples_per_s": done * self.batch / busy, "data_wait": min(self.wait / busy, 1.0),
        }
        self._rate = done / max(now - self._time, 1e-9)
        self._step, self._time, self.wait, self._paused = step, now, 0.0, 0.0
        return values

    def eta(self, step: int) -> str:
        left = (self.steps - step) / self._rate if self._rate else math.inf
        if not math.isfinite(left):
            return "?"
        minutes, seconds = divmod(round(left), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{seconds:02}s"

    def paused(self):
        clock = self

        class Pause:
            def __enter__(self):
                self.start = time.monotonic()

            def __exit__(self, *exc):
                clock._paused += time.monotonic() - self.start

        return Pause()
