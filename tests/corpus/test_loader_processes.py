"""Batches made by processes; each start of workers costs some seconds, so tests share few."""

import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from sleeplm_jax.config import DataConfig
from sleeplm_jax.corpus.loader import Loader
from sleeplm_jax.errors import CorpusError
from tests.corpus.drawn_samples import Bytes, Drawn, DrawnCorpus


class Gone(DrawnCorpus):
    """A corpus of which a sample cannot be read."""

    def source(self, split):
        return GoneSource(self._samples, self.spec, self._seed)


class GoneSource(Drawn):
    def __getitem__(self, index):
        if index == 7:
            raise CorpusError("shards/train-00003", "sample 7 of train is gone", "look at its disk")
        return super().__getitem__(index)


def loader(corpus, **settings):
    data = DataConfig(text_length=200, **settings)
    return Loader(corpus, "train", Bytes(), data, seed=3)


def workers():
    return {child.pid for child in multiprocessing.active_children()}


def wait_until(true, seconds=20):
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.05)
    return true()


def test_any_number_of_processes_gives_the_batches_of_none():
    single = loader(DrawnCorpus())
    before, rows = workers(), [1, 2, 5]
    for processes, wanted_rows in ((2, None), (1, rows)):  # fewer and more parts than rows
        batches = loader(DrawnCorpus(), processes=processes, prefetch=3).iterate(5, 6, wanted_rows)
        held = []
        for step, batch in zip(range(5, 14), batches):  # the memory is gone round three times
            held.append(batch)
            if step == 7:  # what a launcher, a scheduler or a closed terminal tells all processes
                for pid in workers() - before:
                    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
                        os.kill(pid, number)
            wanted = single.batch(step, 6, wanted_rows)
            assert batch.keys() == wanted.keys()
        for step, batch in zip(range(5, 14), held):  # and nothing is written to what was given
            for name, array in single.batch(step, 6, wanted_rows).items():
                np.testing.assert_array_equal(batch[name], array, err_msg=name)
        batches.close()
    assert wait_until(lambda: workers() == before)


def test_what_a_worker_finds_is_raised_here_and_a_killed_one_is_told_of():
    before = workers()
    batches = loader(Gone(), processes=1, prefetch=2).iterate(0, 16)
    with pytest.raises(CorpusError, match="train-00003: sample 7 of train is gone"):
        list(itertools.islice(batches, 20))
    assert wait_until(lambda: workers() == before)
    batches = loader(DrawnCorpus(), processes=1, prefetch=2).iterate(0, 4)
    next(batches)
    (worker,) = workers() - before
    os.kill(worker, signal.SIGKILL)
    with pytest.raises(CorpusError, match="was killed"):
        list(itertools.islice(batches, 20))
    assert wait_until(lambda: workers() == before)


SCRIPT = """
import contextlib, time
from tests.corpus.test_loader_processes import DrawnCorpus, loader, workers
if __name__ == "__main__":
    batches = loader(DrawnCorpus(), processes=2, prefetch=2).iterate(0, 4)
    with contextlib.closing(batches):
        next(batches)
        print(*workers(), flush=True)
        time.sleep(600)
"""


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_workers_end_with_their_parent(tmp_path, number):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    root = str(Path(__file__).parents[2])
    parent = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=root, env=os.environ | {"PYTHONPATH": root}, start_new_session=True,
    )
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 2 and all(map(alive, pids))
    if number == signal.SIGINT:
        os.killpg(parent.pid, number)  # as a terminal does: to all of them
    else:
        parent.send_signal(number)
    said = parent.stderr.read()
    parent.wait(20)
    assert wait_until(lambda: not any(map(alive, pids)))
    assert said.count("Traceback") <= 1  # the parent's own
