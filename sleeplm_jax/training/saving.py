"""When a run is saved, and what is said of it with each checkpoint."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import jax

from sleeplm_jax.checkpoints import Checkpoints
from sleeplm_jax.config import RunConfig
from sleeplm_jax.config.files import to_dict
from sleeplm_jax.parallel.telling import first_says

ASK_S = 10.0  # between two questions whether it is time, each a message of rank 0's


class Saving:
    """Saves a run after those of its steps that are due; all processes together.

    `config.checkpoint_every` steps and held-out evaluations are due by themselves, and a temporary
    checkpoint when the last one is `config.checkpoint_minutes` old by rank 0's clock.
    """

    def __init__(self, saved: Checkpoints, config: RunConfig, about: dict, start: int,
                 now: Callable[[], float] = time.monotonic):
        self.saved, self.config = saved, config
        self._last = start  # the step that is saved, as all processes know it: listings may lag
        self.about = about | {
            "seed": config.seed, "config": to_dict(config),
            "topology": {
                "processes": jax.process_count(), "devices": jax.device_count(),
                "mesh": dict(jax.sharding.get_abstract_mesh().shape),
            },
        }
        self.by_time = ByTime(60 * config.checkpoint_minutes, start, lambda: saved.saving, now)

    def due(self, step: int, val_loss: float | None) -> bool:
        """Whether to save after `step`; `val_loss` is its held-out loss, where it has one. Raises
        CheckpointError where the save before it has failed meanwhile."""
        self.saved.look()
        return self._regular(step, val_loss) or self.by_time.due(step)

    def save(self, step: int, state: dict, best: float, val_loss: float | None = None,
             **more) -> None:
        """Starts a save; it is temporary where the step alone would not ask for it. Waits for the
        device, and for an earlier save that has not ended. `more` is further metadata."""
        metadata = self.about | more | {
            "next_index": step * self.config.data.batch_size,
            "best": best if math.isfinite(best) else None,
        }
        again, self._last = step == self._last, step
        # The evaluation of a stopped run's last step comes later than its checkpoint.
        if again and val_loss is not None:
            self.saved.amend(step, metadata, val_loss)
        else:
            self.saved.save(step, state, metadata, val_loss,
                            temporary=not self._regular(step, val_loss))
        self.by_time.begin_again()

    def last(self, step: int, state: dict, best: float, **more) -> None:
        """Saves where a run stops, unless it is saved, and waits until it is written."""
        if self._last != step:
            self.save(step, state, best, **more)
        self.saved.wait()

    def _regular(self, step: int, val_loss: float | None) -> bool:
        return val_loss is not None or step % self.config.checkpoint_every == 0


class ByTime:
    """Says after which step `seconds` have passed since the last save: the same on all processes.

    Clocks differ, and hosts run ahead of their devices by different numbers of steps, so rank 0
    decides, at steps that all know before: its answer holds the step of the next question, some
    ASK_S later. Between questions nothing is exchanged, and no device takes part.
    """

    def __init__(self, seconds: float, start: int, busy: Callable[[], bool],
                 now: Callable[[], float] = time.monotonic):
        self.seconds, self._busy, self._now = seconds, busy, now
        self._next, self._ahead = start + 1, 1
        self._asked, self._since = (start, now()), now()

    def begin_again(self) -> None:
        self._since = self._now()

    def due(self, step: int) -> bool:
        if self.seconds <= 0 or step < self._next:
            return False
        save, self._next = first_says("whether to save", self._answer(step))
        return save

    def _answer(self, step: int) -> tuple[bool, int]:
        """On rank 0: whether to save now, unless a save is still being written, and the step of
        the next question."""
        now = self._now()
        done, then = self._asked
        pace = (now - then) / max(step - done, 1)
        wait = min(ASK_S, self.seconds / 10)
        # At most twice as far as the last time: the first steps may have been queued, not done.
        self._ahead = max(1, min(2 * self._ahead, int(wait / max(pace, 1e-9))))
        self._asked = step, now
        return now - self._since >= self.seconds and not self._busy(), step + self._ahead
