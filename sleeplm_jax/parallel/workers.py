"""A pool of processes that dies with its parent and leaves Ctrl-C to it."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import connection, resource_tracker
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any

HELD = {signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP}


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Ctrl-C ends the parent, which ends its workers: they must not each print a traceback. What a
    launcher, a scheduler or a closed terminal tells the whole group is the parent's affair too: a
    training needs its workers until it has saved.

    Held back, not ignored: processes started here keep the signal blocked, and the parent gets one
    that arrived meanwhile as soon as they are started. Blocking alone does not hold it here: it
    may reach any thread that a library started, and Python then interrupts the main one.
    """
    came: list[tuple] = []
    handler = signal.getsignal(signal.SIGINT)
    ours = handler is not None and threading.current_thread() is threading.main_thread()
    if ours:
        signal.signal(signal.SIGINT, lambda *what: came.append(what))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if ours:
            signal.signal(signal.SIGINT, handler)
            if came:
                signal.raise_signal(signal.SIGINT)


class _Process(SpawnProcess):
    def terminate(self) -> None:
        """By SIGKILL: SIGTERM is held back, and a pool that lost a worker waits for ever for the
        others that it terminates (Python 3.12)."""
        self.kill()


class _Context(SpawnContext):
    Process = _Process


class _Pool(ProcessPoolExecutor):
    def submit(self, *arguments: Any, **named: Any) -> Future:
        with interrupts_held():  # a submission may start a process, which inherits it
            return super().submit(*arguments, **named)


@contextlib.contextmanager
def worker_pool(
    workers: int, start: Callable[[], None] | None = None
) -> Iterator[ProcessPoolExecutor]:
    """A pool of spawned processes, each of which runs `start` first.

    Leaving it by an exception ends the workers at once. A worker whose parent is gone, however it
    went, ends within a moment: nothing goes on writing behind a second run's back. A script needs
    the usual `if __name__ == "__main__":` guard.
    """
    # Python's tracker of resources unblocks SIGINT in whoever starts it, and the first spawned
    # process would: it is started before anything is held back.
    resource_tracker.ensure_running()
    before = set(multiprocessing.active_children())
    # "spawn": forking a process that holds JAX's or BLAS' threads can deadlock.
    pool = _Pool(workers, _Context(), _begin, (start,))
    try:
        yield pool
        pool.shutdown()
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in set(multiprocessing.active_children()) - before:
            process.kill()
        raise


def _begin(start: Callable[[], None] | None) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if start is not None:
        start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])  # becomes ready when the parent is gone
        os._exit(1)
