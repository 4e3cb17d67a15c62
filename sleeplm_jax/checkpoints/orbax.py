"""Orbax' ways that have to be gone round: what it logs, where it waits, how it says its errors."""

from __future__ import annotations

import contextlib
import logging
import re
import sys
import warnings
from collections.abc import Iterator

from sleeplm_jax.parallel.telling import all_say


class SaveErrors(logging.Filter):
    """Keeps Orbax' log to itself, which has every save and tracebacks, and remembers the error of
    a thread that writes: the save's future tells it only when all processes have met in a barrier,
    to which one that waits for the failed one never comes (20 minutes)."""

    def __init__(self):
        super().__init__()
        self.last: BaseException | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and record.exc_info[1] and record.threadName.startswith("async_save"):
            self.last = record.exc_info[1]
        return record.levelno >= logging.CRITICAL


save_errors = SaveErrors()


def orbax_v1():
    from orbax.checkpoint import v1 as ocp  # `import orbax.checkpoint.v1` does not exist

    log = logging.getLogger("absl")
    log.setLevel(logging.ERROR)
    log.addFilter(save_errors)  # once, however often it is added
    return ocp


def barriers_on_hosts() -> None:
    """Orbax' barriers through the coordination service. By default they are collectives of the
    devices, which a training step of another process may meet (gloo then ends the run)."""
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    flags.FLAGS.experimental_orbax_use_distributed_barrier = True


def count_alike() -> None:
    """Orbax names its barriers by the operations that a process has begun, and one that fails to
    read may not have begun any: the next save would wait for ever (seen)."""
    from orbax.checkpoint._src.futures.synchronization import OperationIdGenerator

    own = int(OperationIdGenerator.get_current_operation_id())
    for _ in range(max(all_say("operations", own)) - own):
        OperationIdGenerator.next_operation_id()


def reason(error: BaseException) -> str:
    """The kind and first line of what an error was caused by, without the paths in it."""
    while error.__cause__ is not None:
        error = error.__cause__
    first = next(iter(str(error).strip().splitlines()), "")
    first = re.sub(r"( local file)? ?[\"']/[^\"']*[\"']:?", "", first)
    return f"{type(error).__name__}: {first[:200]}"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what Python says of the tasks that Orbax abandons when one of them fails."""
    log, hook = logging.getLogger("asyncio"), sys.unraisablehook
    level = log.level
    try:
        log.setLevel(logging.CRITICAL + 1)
        sys.unraisablehook = lambda unraisable: None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # "coroutine was never awaited"
            yield
    finally:
        log.setLevel(level)
        sys.unraisablehook = hook
