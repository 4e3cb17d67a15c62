"""Profiles of chosen steps: what host and device did in them, for XProf or Perfetto."""

from __future__ import annotations

from collections.abc import Callable

import jax

from sleeplm_jax.config import RunConfig
from sleeplm_jax.files import FolderCopy
from sleeplm_jax.places import Place

STEP = "train"  # the name of a step in a profile; its number is the argument step_num


class Profile:
    """Traces the steps `config.profile_steps` (first and last, counted from 1) of this process into
    `<run>/profile`. Steps are named in the trace; a run that is resumed past them has none.
    """

    def __init__(self, config: RunConfig, folder: Place, say: Callable[[str], None]):
        self.first, self.last = config.profile_steps or (0, -1)
        self.folder, self._say = folder / "profile", say
        self._copy: FolderCopy | None = None

    def step(self, number: int):
        """A context for step `number`, which it names; begins the trace before the first one."""
        if self.first <= number <= self.last and self._copy is None:
            self._copy = FolderCopy(self.folder)
            jax.profiler.start_trace(str(self._copy.path))
        return jax.profiler.StepTraceAnnotation(STEP, step_num=number)

    def due(self, number: int) -> bool:
        """Whether step `number`, which is under way, is the last one that is traced."""
        return self._copy is not None and number >= self.last

    def end(self, result: jax.Array) -> None:
        """Ends the trace when `result`, of its last step, is there."""
        jax.block_until_ready(result)
        self.close()

    def close(self) -> None:
        """Ends a trace that is under way, and says how to look at it."""
        if self._copy is None:
            return
        copy, self._copy = self._copy, None
        self.first, self.last = 0, -1
        jax.profiler.stop_trace()
        copy.close()
        self._say(f"profile in {self.folder}: `tensorboard --logdir {self.folder}` (pip install "
                  "xprof), or its .trace.json.gz at https://ui.perfetto.dev")
