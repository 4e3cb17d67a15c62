"""Batches made by several processes: what threads of one process cannot do at once in Python.

Grain's own process prefetch is not used: its workers outlive a killed parent (they wait for a stop
that nobody can give any more), and each prints a traceback on Ctrl-C. These are of
`parallel.workers`, which does neither.
"""

from __future__ import annotations

import functools
import itertools
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Any

import numpy as np

from sleeplm_jax.errors import CorpusError
from sleeplm_jax.parallel.workers import worker_pool

if TYPE_CHECKING:
    from sleeplm_jax.corpus.loader import Batch, Loader

ALIGNMENT = 64  # bytes between the arrays of a batch

_loader: Any = None  # of a worker: its loader, and the memory that it writes to
_memory: Any = None


def batches(
    loader: Loader, start_step: int, batch_size: int, rows: np.ndarray, processes: int, ahead: int
) -> Iterator[Batch]:
    """The rows `rows` of the batches from `start_step` on, without end, in their order.

    Each batch is shared out among the `processes`; at most `ahead` batches are begun, and lie in
    memory that all of them share. Raises what a worker raised, CorpusError when one was killed.
    Closing the iterator ends the workers.
    """
    # Memory without a name: nothing is left behind however the processes end. In /dev/shm where
    # that has room, else in the folder for temporary files.
    each = _size(loader.empty(len(rows)))
    context = multiprocessing.get_context("spawn")
    memory = context.RawArray("b", ahead * each)
    slots = [_laid(loader, len(rows), memory, slot * each) for slot in range(ahead)]
    parts = [part for part in np.array_split(np.arange(len(rows)), processes) if len(part)]

    def begin(pool: ProcessPoolExecutor, step: int) -> list[Future]:
        offset = (step - start_step) % ahead * each
        indices = step * batch_size + rows
        return [
            pool.submit(_fill, offset, len(rows), int(part[0]), indices[part]) for part in parts
        ]

    with worker_pool(processes, functools.partial(_begin, loader, memory)) as pool:
        begun = [begin(pool, start_step + step) for step in range(ahead)]
        try:
            for step in itertools.count(start_step):
                for future in begun.pop(0):
                    future.result()
                slot = slots[(step - start_step) % ahead]
                batch = {name: array.copy() for name, array in slot.items()}
                begun.append(begin(pool, step + ahead))
                yield batch
        except BrokenProcessPool as error:
            raise CorpusError(
                "data.processes", "a process that makes batches was killed (out of memory?)",
                "give fewer of them, or a smaller data.prefetch",
            ) from error


def _size(batch: Batch) -> int:
    return sum(-(-array.nbytes // ALIGNMENT) * ALIGNMENT for array in batch.values())


def _laid(loader: Loader, rows: int, memory: Any, offset: int) -> Batch:
    """A batch whose arrays lie in `memory` from `offset` on."""
    laid = {}
    for name, form in loader.empty(rows).items():
        flat = np.frombuffer(memory, np.uint8, form.nbytes, offset)
        laid[name] = flat.view(form.dtype).reshape(form.shape)
        offset += -(-form.nbytes // ALIGNMENT) * ALIGNMENT
    return laid


def _begin(loader: Loader, memory: Any) -> None:
    global _loader, _memory
    _loader, _memory = loader, memory


def _fill(offset: int, rows: int, first: int, indices: np.ndarray) -> None:
    batch = _laid(_loader, rows, _memory, offset)
    _loader.fill(indices, {name: a[first : first + len(indices)] for name, a in batch.items()})
