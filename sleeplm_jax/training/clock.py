"""How fast a training goes, what it waits for, and when it will be done.

The host runs ahead of the device: a step is dispatched in no time and computed later. So a thread
waits for each step's result and notes when it came, and only that time counts as waiting for data
in which the device had nothing left to do.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import queue
import threading
import time
from collections import deque
from collections.abc import Iterator

import jax
import numpy as np

from sleeplm_jax.config import RunConfig
from sleeplm_jax.models.flops import training
from sleeplm_jax.parallel.peaks import peak_flops

# What a row of metrics says of speed; everything else in it is the same on every machine.
RATES = ("samples_per_s", "tokens_per_s", "patches_per_s", "sleep_hours_per_s", "step_s",
         "data_wait", "mfu", "hardware_use")

WINDOW_S = 1.0  # when a thread of a busy machine learns of short steps is too uneven to go by


class Clock:
    """Rates since the last report, pauses left out, and the time to go.

    Tokens are those of captions that are not padding (beginning and end marks count); patches are
    all that the encoder is given, masked channels' too. On several processes the tokens of this
    one's rows stand for all.
    """

    def __init__(self, start: int, config: RunConfig, now=time.monotonic):
        self.steps, self.batch, self._now = config.steps, config.data.batch_size, now
        encoder, spec = config.model.encoder, config.model.spec
        rows = len(spec.channels) // encoder.patch_channels
        self.patches = rows * (spec.samples // encoder.patch_samples)
        self.seconds = spec.seconds
        self.work = training(config)
        device = jax.devices()[0].device_kind
        peak = peak_flops(device, config.model.compute_dtype)
        self.peak = None if peak is None else peak * jax.device_count()
        self.no_peak = (
            f"no MFU: no peak is known of {device!r} in {config.model.compute_dtype}"
            if peak is None else ""
        )
        self._tokens: deque[float] = deque()  # of batches that are made and not yet trained on
        self._told, self._marks = 0.0, deque()
        self._watch = _Watch(now)
        self.begin(start)

    def begin(self, step: int) -> None:
        """From here on it counts: compilation is over."""
        self._first, self._began = step, self._now()
        self._past = deque([_Mark(step, self._began, self._told, 0.0)])  # of reports
        self._wait, self._pauses = 0.0, []

    def counted(self, batches: Iterator[dict[str, np.ndarray]], pad: int) -> Iterator[dict]:
        """The same batches, their tokens counted as they go by (in whichever thread)."""
        for batch in batches:
            text = batch["text"]
            self._tokens.append(float((text != pad).sum()) / len(text) * self.batch)
            yield batch

    def dispatched(self, step: int, result: jax.Array) -> None:
        """Step `step` was given to the device; `result` is any of its outputs."""
        self._told += self._tokens.popleft() if self._tokens else 0.0
        self._marks.append(_Mark(step, 0.0, self._told, self._wait))
        self._watch.look(step, result)

    @contextlib.contextmanager
    def waiting(self):
        """While the host waits for data; counts from when the device had nothing to do."""
        start = self._now()
        yield
        end, idle = self._now(), self._watch.idle_since()
        if idle is not None:
            self._wait += max(0.0, end - max(start, idle))

    @contextlib.contextmanager
    def paused(self):
        """While something else than training goes on."""
        start = self._now()
        try:
            yield
        finally:
            self._pauses.append((start, self._now()))

    def rates(self, step: int) -> dict[str, float]:
        """RATES since the step of the call before, or of one that lies WINDOW_S back; `mfu` and
        `hardware_use` where a peak is known, the second only where it differs. From one step's end
        on the device to another's: when the host read of them says nothing."""
        mark = _Mark(step, 0.0, self._told, self._wait)
        while self._marks and self._marks[0].step <= step:  # later steps are under way already
            mark = self._marks.popleft()
        end = self._watch.end_of(step)
        mark.time = self._now() if end is None else end
        while len(self._past) > 1 and self._past[1].time <= mark.time - WINDOW_S:
            self._past.popleft()
        before = self._past[0]
        pause = sum(max(0.0, min(stop, mark.time) - max(start, before.time))
                    for start, stop in self._pauses)
        self._pauses = [one for one in self._pauses if one[1] > before.time]
        busy, done = max(mark.time - before.time - pause, 1e-9), step - before.step
        samples = done * self.batch / busy
        values = {
            "samples_per_s": samples, "tokens_per_s": (mark.tokens - before.tokens) / busy,
            "patches_per_s": samples * self.patches,
            "sleep_hours_per_s": samples * self.seconds / 3600,
            "step_s": busy / max(done, 1),
            "data_wait": min((mark.wait - before.wait) / busy, 1.0),
        }
        if self.peak is not None:
            useful, computed = self.work
            values["mfu"] = samples * useful / self.peak
            if computed != useful:
                values["hardware_use"] = samples * computed / self.peak
        self._past.append(mark)
        return values

    def left(self, step: int) -> float:
        """Seconds to the last step at the mean speed since the beginning, evaluations included."""
        done = step - self._first
        return (self.steps - step) * (self._now() - self._began) / done if done else math.inf

    def close(self) -> None:
        self._watch.close()


@dataclasses.dataclass
class _Mark:
    """A step: when it was done; tokens with it and waiting before it, since the beginning."""

    step: int
    time: float
    tokens: float
    wait: float


class _Watch:
    """A thread that notes when the device finished each step."""

    def __init__(self, now):
        self._now, self._asked, self._done = now, 0, (0, 0.0)  # (how many, when the last)
        self._ends: dict[int, float] = {}
        self._news = threading.Condition()
        self._queue: queue.SimpleQueue = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="step watch", daemon=True)
        self._thread.start()

    def look(self, step: int, result: jax.Array) -> None:
        self._asked += 1
        self._last = step
        self._queue.put((step, result))

    def idle_since(self) -> float | None:
        """Since when the device has had no step to do; None while it has one."""
        done, when = self._done
        return when if done == self._asked else None

    def end_of(self, step: int) -> float | None:
        """When a step was done, which is known to be; None for one that was never looked at."""
        if not self._asked or step > self._last:
            return None
        with self._news:  # the thread may come a moment later than who read the step's result
            self._news.wait_for(lambda: step in self._ends, timeout=5)
            end = self._ends.get(step)
            self._ends = {other: when for other, when in self._ends.items() if other > step}
        return end

    def close(self) -> None:
        self._queue.put(None)
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while (asked := self._queue.get()) is not None:
            step, result = asked
            with contextlib.suppress(Exception):  # the loop will meet the same error, and tell it
                jax.block_until_ready(result)
            with self._news:
                when = self._now()
                self._done, self._ends[step] = (self._done[0] + 1, when), when
                self._news.notify_all()


def duration(seconds: float) -> str:
    """`2h05m`, `4m09s`, or `?` where it is not known."""
    if not math.isfinite(seconds):
        return "?"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d{hours:02}h"
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{seconds:02}s"
