"""Ends a process in which nothing moves any more, and leaves the stacks that say where it stands.

A collective waits for ever for a peer that reads a dead disk, and a job scheduler sees a process
that runs. So a thread watches what training reports.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from sleeplm_jax.config import RunConfig
from sleeplm_jax.files import write_atomically
from sleeplm_jax.places import Place, RemotePath, transferred

STATUS = 124  # as timeout(1) ends
# Before the first step: restoring, compiling, a peer that compiles; hours have been seen.
START_MINUTES = 120.0
HELD_S = 60.0  # beyond the limit, before stacks come that do not need Python's lock
TELLING_S = 20.0  # for the stacks to be written; the disk may be what hangs


class Watchdog:
    """While active: when nothing `moved` for `minutes`, stacks of all threads go to stderr and to
    `stacks-rank-N.txt` in `folder`, and the process ends with status 124.

    Before the first `moved` the limit is START_MINUTES where that is longer. `growing()`, asked
    only when little time is left, gives a number (bytes of checkpoints) whose change is progress
    too. 0 minutes: never. `last_words(why)`, where one was set, is called before the end.

    A tick counts for at most twice its length, so a process that was stopped (SIGSTOP, Ctrl-Z) or a
    machine that slept goes on where it was. What holds Python's lock in C code for ever holds this
    thread as well: then stacks still come (faulthandler's own thread), and another process of the
    training, whose main thread waits in a collective, ends it.
    """

    def __init__(
        self, minutes: float, folder: Place, rank: int = 0, *, start_minutes: float = START_MINUTES,
        growing: Callable[[], int] | None = None,
    ):
        self._limit = 60 * minutes
        self._start_limit = max(self._limit, 60 * start_minutes)
        self._folder, self._rank = folder, rank
        self._growing = growing
        self.last_words: Callable[[str], None] | None = None
        self._moves, self._what, self._when = 0, "the start", time.time()
        self._grown: int | None = None
        self._over = threading.Event()
        self._looker: threading.Thread | None = None
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> Watchdog:
        if self._limit:
            self._thread.start()
        return self

    def __exit__(self, *exc) -> None:
        self._over.set()
        if self._limit:
            self._thread.join()
            faulthandler.cancel_dump_traceback_later()

    def moved(self, what: str) -> None:
        """Something was done; `what` is named if it was the last."""
        self._what, self._when = what, time.time()
        self._moves += 1

    def _watch(self) -> None:
        tick = min(self._limit / 20, 1.0)
        idle, seen, looked, armed = 0.0, 0, 0.0, 0.0
        before = time.monotonic()
        while not self._over.wait(tick):
            now = time.monotonic()
            idle += min(now - before, 2 * tick)
            before = now
            limit = self._limit if self._moves else self._start_limit
            if self._moves != seen:
                idle, seen, looked, self._grown = 0.0, self._moves, 0.0, None
            elif idle >= limit:
                self._end(limit)
            elif self._growing and idle > limit / 2 and idle - looked >= limit / 10:
                looked = idle
                self._look()
            if now - armed > min(limit / 4, 60):
                armed = now
                _dump_later(limit + HELD_S)

    def _look(self) -> None:
        """Asks what grows, in a thread of its own: the disk may not answer."""
        if self._looker is not None and self._looker.is_alive():
            return

        def look():
            grown, before = self._growing(), self._grown
            if before is not None and grown != before:
                self._when = time.time()
                self._moves += 1
            self._grown = grown

        self._looker = threading.Thread(target=look, name="watchdog-look", daemon=True)
        self._looker.start()

    def _end(self, limit: float) -> None:
        telling = threading.Thread(target=self._tell, args=(limit,), daemon=True)
        telling.start()
        telling.join(TELLING_S)
        os._exit(STATUS)

    def _tell(self, limit: float) -> None:
        last = datetime.fromtimestamp(self._when).strftime("%H:%M:%S")
        line = (f"rank {self._rank}: nothing moved for {_length(limit)}; the last was {self._what} "
                f"at {last}")
        where = f"{self._folder}/stacks-rank-{self._rank}.txt"
        _to_stderr(f"sleeplm: {line}; stacks of all threads:\n{_threads()}\n")
        faulthandler.dump_traceback(file=_stderr())
        # Last, where the end of a log is looked at.
        _to_stderr(f"sleeplm: {line}; ending with status {STATUS}, stacks above and in {where}\n")
        self._write(f"{datetime.now():%Y-%m-%d %H:%M:%S} {line}\n{_threads()}\n")
        if self.last_words is not None:
            self.last_words(line)
        sys.stdout.flush()

    def _write(self, head: str) -> None:
        """Stacks into the run's folder."""
        name = f"stacks-rank-{self._rank}.txt"
        with tempfile.TemporaryFile() as scratch:
            scratch.write(head.encode())
            scratch.flush()
            faulthandler.dump_traceback(file=scratch)
            scratch.seek(0)
            write_atomically(self._folder / name, scratch.read())


def watched(config: RunConfig, folder: Place) -> Watchdog:
    """The watchdog of a run, in each of its processes."""
    import jax

    return Watchdog(
        config.watchdog_minutes, folder, jax.process_index(),
        growing=lambda: bytes_under(folder / "checkpoints") + transferred(),
    )


def bytes_under(folder: Place) -> int:
    """Bytes of all files under a folder of this machine, of a store none (0)."""
    if isinstance(folder, RemotePath):
        return 0
    total = 0
    for base, _, names in os.walk(folder):
        for name in names:
            try:
                total += Path(base, name).stat().st_size
            except OSError:  # renamed meanwhile
                pass
    return total


def _threads() -> str:
    """The names of the threads, which faulthandler's stacks lack."""
    return "\n".join(f"  thread 0x{t.ident or 0:016x} is {t.name}" for t in threading.enumerate())


def _length(seconds: float) -> str:
    return f"{seconds / 60:g} min" if seconds >= 60 else f"{seconds:g} s"


def _dump_later(seconds: float) -> None:
    try:
        faulthandler.dump_traceback_later(seconds, file=_stderr())
    except (OSError, RuntimeError):  # no stderr to write to
        pass


def _to_stderr(text: str) -> None:
    try:
        os.write(_stderr(), text.encode())
    except OSError:
        pass


def _stderr() -> int:
    """The process' own, whatever `sys.stderr` is now."""
    return 2
