"""What is said and written of a training while it goes on."""

from __future__ import annotations

import contextlib
import math
import time
from collections import deque
from collections.abc import Callable

import jax

from sleeplm_jax.config import RunConfig
from sleeplm_jax.errors import Interrupted, UserError
from sleeplm_jax.places import Place
from sleeplm_jax.training.clock import Clock, duration
from sleeplm_jax.training.profiling import Profile
from sleeplm_jax.training.status import RunStatus
from sleeplm_jax.training.writers import MetricsWriter, NoWriter

SAY_EVERY_S = 10.0  # between plain lines
REDRAW_S = 0.1  # between two views of one terminal line
PARTS = ("contrastive", "caption", "reconstruction", "position")
IN_FLIGHT = 2  # steps given to the device and not known to be done
BAR = 24  # characters


class Reporter:
    """The progress of a run: a line on the terminal, rows of metrics, the run's status, profiles.

    Metrics stay on the device until the step after theirs is under way, so that reading them holds
    nothing up. `say` gets plain lines, one in ten seconds at most; where it has a method `update`,
    that gets the lines of a view to be shown in place instead. Only the lead process writes.
    """

    def __init__(
        self, config: RunConfig, folder: Place, start: int, say: Callable[[str], None], *,
        lead: bool = True, **about,
    ):
        self.config, self.folder, self.start, self.lead = config, folder, start, lead
        self.clock = Clock(start, config)
        self.status = RunStatus(folder, lead, steps=config.steps, **about)
        self.writer: MetricsWriter | NoWriter = NoWriter()
        self._say, self._update = say, getattr(say, "update", None)
        self._profile = Profile(config, folder, say) if lead else None
        self._new: tuple[int, dict] | None = None
        self._late: tuple[int, dict] | None = None
        self._flying: deque[jax.Array] = deque()  # of steps that may not be done yet
        self._said = -math.inf

    def __enter__(self) -> Reporter:
        if self.lead:
            self.writer = MetricsWriter(self.folder, self.start, self.config)
        if self.clock.no_peak:
            self._say(self.clock.no_peak)
        self.status.set("running", step=self.start)
        return self

    def begin(self) -> None:
        """All is compiled: from here on speed is measured."""
        self.clock.begin(self.start)

    def __exit__(self, kind, error, trace) -> None:
        if self._profile is not None:
            self._profile.close()
        self.clock.close()
        self.writer.close()
        if self._update is not None:
            self._update([])
        if error is None:
            self.status.set("done")
        elif isinstance(error, Interrupted):
            self.status.set("stopped")
        else:
            first = str(error).strip().partition("\n")[0]
            why = first if isinstance(error, UserError) else f"{kind.__name__}: {first}"
            self.status.set("failed", why[:300])

    # ---- Around each step

    def step(self, step: int):
        """Around the dispatch of the step after `step`: names it in a profile."""
        if self._profile is None:
            return contextlib.nullcontext()
        with self.clock.paused():  # to begin a trace takes its time
            return self._profile.step(step + 1)

    def trained(self, step: int, metrics: dict[str, jax.Array]) -> None:
        """Step `step` is on its way; its metrics are kept if they are due.

        Returns when the step IN_FLIGHT before it is done: a host that ran ahead further would fill
        the device's memory with batches, and nobody would see that the device hangs.
        """
        self.clock.dispatched(step, metrics["loss"])
        self._flying.append(metrics["loss"])
        if len(self._flying) > IN_FLIGHT:
            jax.block_until_ready(self._flying.popleft())
        if self._profile is not None and self._profile.due(step):
            with self.clock.paused():
                self._profile.end(metrics["loss"])
        if step % self.config.log_every == 0 or step == self.config.steps:
            self._new = (step, metrics)

    def read(self) -> None:
        """Reads the metrics of the step before, while the device works on the last one."""
        if self._late is not None:
            self._report(*self._late)
        self._late, self._new = self._new, None

    def catch_up(self) -> None:
        """Waits for all steps and reads what is kept."""
        while self._late is not None or self._new is not None:
            self.read()

    # ---- What they were

    def _report(self, step: int, metrics: dict[str, jax.Array]) -> None:
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        values |= self.clock.rates(step)
        self.writer.write(step, "train", values)
        left = self.clock.left(step)
        self.status.set("running", step=step, loss=values["loss"], seconds_left=left)
        self._show(step, values, left)

    def _show(self, step: int, values: dict[str, float], left: float) -> None:
        last, now = step == self.config.steps, time.monotonic()
        if now - self._said < (SAY_EVERY_S if self._update is None else REDRAW_S) and not last:
            return
        self._said = now
        if self._update is None:
            self._say(plain(step, self.config.steps, values, left))
        else:
            self._update(view(self.config.name, step, self.config.steps, values, left))

    def evaluated(self, step: int, values: dict[str, float], best: float) -> None:
        """Held-out losses after a step; `best` is the lowest one before them."""
        self.writer.write(step, "val", values)
        loss = values["loss"]
        self.status.set("running", step=step, val_loss=loss, best=min(best, loss))
        self._say(f"  held-out loss {loss:.4f}  " + parts(values)
                  + ("  (best so far)" if loss < best else ""))


def parts(values: dict[str, float]) -> str:
    return " ".join(f"{name} {values[name]:.3f}" for name in PARTS if name in values)


def model_words(values: dict[str, float]) -> str:
    """Norms, learning rate, temperature, and skipped steps where there are any."""
    words = [
        f"{word} {values[name]:.3g}" for name, word in (
            ("grad_norm", "gradient"), ("parameter_norm", "parameters"), ("learning_rate", "rate"),
            ("temperature", "temperature"),
        ) if name in values
    ]
    if values.get("skipped"):
        words.append(f"{values['skipped']:.0f} skipped")
    return "  ".join(words)


def speed_words(values: dict[str, float]) -> str:
    words = [
        f"{number(values['samples_per_s'])} samples/s",
        f"{number(values['tokens_per_s'])} tokens/s",
        f"{number(values['patches_per_s'])} patches/s",
        f"{number(values['sleep_hours_per_s'])} h of sleep/s",
    ]
    if "mfu" in values:
        words.append(f"MFU {values['mfu']:.1%}")
    if "hardware_use" in values:
        words.append(f"(with what is computed again {values['hardware_use']:.1%})")
    return "  ".join([*words, f"waiting for data {values['data_wait']:.0%}"])


def number(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def plain(step: int, steps: int, values: dict[str, float], left: float) -> str:
    """One line for a log."""
    told = [f"step {step:>6,}/{steps:,}", f"loss {values['loss']:.4f}", parts(values),
            model_words(values), speed_words(values), f"ETA {duration(left)}"]
    return "  ".join(word for word in told if word)


def view(name: str, step: int, steps: int, values: dict[str, float], left: float) -> list[str]:
    """Lines for a terminal that shows them in place."""
    done = round(BAR * step / steps)
    return [
        f"{name}  [{'#' * done}{'-' * (BAR - done)}]  {step:,}/{steps:,}  {step / steps:.1%}  "
        f"ETA {duration(left)}",
        f"  loss {values['loss']:.4f}  {parts(values)}",
        f"  {model_words(values)}",
        f"  {speed_words(values)}",
    ]
