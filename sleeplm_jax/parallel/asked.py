"""What one process is asked, all do at the same point of the program.

JAX has such a service for SIGTERM. It answers once a second, hears no other signal, lets no
handler stand beside its own, and counts with the steps that its callers name: a checkpoint
library's and ours together break it. So it is off (processes.connect) and this takes its place.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable

from sleeplm_jax.parallel.processes import coordination, first_line

LISTEN_S = 1.0  # between two looks for what another process was asked
ANSWER_S = 60.0  # for every process to say where it is


class Asked:
    """One request, made to any process, that all take up after the same `poll`.

    Every process polls at the same points. When one is asked, a thread of each holds its own
    polls, says how many there were, and hears the others; all act at the poll after the highest
    count, which none can have passed. Until then a poll costs nothing and waits for nobody, and
    nothing here needs the main thread, which may be in a collective.

    `unbegun(request)` is called, in that thread of every process, when none has polled yet: there
    is nothing to agree on, and the first poll may be an hour of compiling away. Use as a context
    manager, in all processes in the same order.
    """

    _made = 0

    def __init__(self, unbegun: Callable[[str], None]):
        Asked._made += 1
        self._key = f"sleeplm/asked/{Asked._made}"
        self._client, self._rank, self._processes = coordination()
        self._unbegun = unbegun
        self._lock = threading.Lock()
        self._polls, self._act_at, self._agreed = 0, None, ""
        self._mine, self._over = "", False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="asked", daemon=True)

    def __enter__(self) -> Asked:
        self._thread.start()
        return self

    def __exit__(self, *exc) -> None:
        self._over = True
        self._wake.set()
        self._thread.join(2 * LISTEN_S)

    @property
    def begun(self) -> bool:
        return self._polls > 0

    def ask(self, request: str) -> None:
        """This process is asked; what is asked first, anywhere, holds."""
        self._mine = self._mine or request
        self._wake.set()

    def poll(self) -> str:
        """What all are to do now, "" for nothing; once there is something it stays."""
        with self._lock:
            self._polls += 1
            return self._agreed if self._act_at and self._polls >= self._act_at else ""

    def _listen(self) -> None:
        while not self._over:
            self._wake.wait(None if self._client is None else LISTEN_S)
            if self._over:
                return
            try:
                if request := self._heard():
                    self._agree(request)
                    return
            except Exception as error:  # the coordinator or a rank is gone: the heartbeat ends us
                if not self._over:
                    print(f"sleeplm: rank {self._rank}: asked to stop, but the processes cannot "
                          f"agree ({first_line(error)})", file=sys.stderr, flush=True)
                return

    def _heard(self) -> str:
        """What was asked of any process."""
        if self._client is None:
            return self._mine
        if self._mine:
            try:
                self._client.key_value_set(self._key, self._mine)
            except Exception as error:
                if "ALREADY_EXISTS" not in str(error):
                    raise
        try:
            return self._client.key_value_try_get(self._key)
        except Exception as error:
            if "NOT_FOUND" not in str(error):
                raise
            return ""

    def _agree(self, request: str) -> None:
        with self._lock:
            last = max(self._counts())
            if last == 0:
                self._together()
                self._unbegun(request)
            self._agreed, self._act_at = request, last + 1

    def _counts(self) -> list[int]:
        """How often each process has polled; they poll no further until all have been heard."""
        if self._client is None:
            return [self._polls]
        self._client.key_value_set(f"{self._key}/{self._rank}", str(self._polls))
        return [
            int(self._client.blocking_key_value_get(f"{self._key}/{rank}", int(ANSWER_S * 1000)))
            for rank in range(self._processes)
        ]

    def _together(self) -> None:
        """All have heard, and the coordinator's process leaves last: the others need it."""
        if self._client is not None:
            self._client.wait_at_barrier(self._key, int(ANSWER_S * 1000))
            time.sleep(0.5 if self._rank == 0 else 0)
