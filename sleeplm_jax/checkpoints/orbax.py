"""Orbax' ways that have to be gone round: what it logs, where it waits, how it says its errors."""

from __future__ import annotations

import contextlib
import logging
import re
import sys
import warnings
from collections.abc import Iterator

from sleeplm_jax.parallel.telling import all_say


def orbax_v1():
    from orbax.checkpoint import v1 as ocp  # `import orbax.checkpoint.v1` does not exist

    logging.getLogger("absl").setLevel(logging.CRITICAL)  # Orbax logs every save, and tracebacks
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
