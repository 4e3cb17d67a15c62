"""Being asked to stop: a flag read between steps, never an exception in the middle of one."""

from __future__ import annotations

import signal


class StopRequest:
    """While active, SIGINT and SIGTERM set `signal` instead of killing the process.

    An exception inside a step could leave the donated state unreadable. A second signal acts as
    it would have without this.
    """

    signal: int = 0

    def __enter__(self) -> StopRequest:
        self._before = {n: signal.signal(n, self._ask) for n in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *exc) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame) -> None:
        self.signal = number
        signal.signal(number, self._before[number])
