"""Batches on the devices before they are asked for: a thread makes and places them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

AHEAD = 2  # batches on the devices beside the one in use

_END = object()


class Feed:
    """The iterator `place(batch) for batch in batches`, gone through ahead of time in a thread.

    At most `ahead` placed batches wait, and one more is in the making. What `batches` or `place`
    raise is raised here, by the `next` whose turn it is. `close` ends the thread and closes
    `batches`; as a context manager it does so when it is left.
    """

    def __init__(
        self, batches: Iterator[Any], place: Callable[[Any], Any], ahead: int = AHEAD
    ):
        self._batches, self._place = batches, place
        self._ready: queue.Queue = queue.Queue(ahead)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="feed", daemon=True)
        self._thread.start()

    def __iter__(self) -> Feed:
        return self

    def __next__(self) -> Any:
        if self._over.is_set():
            raise StopIteration
        value, error = self._ready.get()
        if error is not None:
            self._over.set()
            raise error
        if value is _END:
            self._over.set()
            raise StopIteration
        return value

    def close(self) -> None:
        self._over.set()
        while self._thread.is_alive():  # it may be waiting to hand over a batch
            try:
                self._ready.get(timeout=0.05)
            except queue.Empty:
                pass
        self._thread.join()

    def __enter__(self) -> Feed:
        return self

    def __exit__(self, *exc) -> None:
        self.close()

    def _work(self) -> None:
        try:
            for batch in self._batches:
                if self._over.is_set():
                    return
                self._ready.put((self._place(batch), None))
                if self._over.is_set():
                    return
            self._ready.put((_END, None))
        except BaseException as error:  # raised where the batches are used
            self._ready.put((None, error))
        finally:
            if hasattr(self._batches, "close"):
                self._batches.close()  # generators end in the thread that ran them
