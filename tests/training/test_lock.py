"""One training at a time in a run's folder; what a dead one left does not keep the next out."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from sleeplm_jax.errors import CheckpointError
from sleeplm_jax.files import write_atomically
from sleeplm_jax.places import place
from sleeplm_jax.training import lock
from sleeplm_jax.training.lock import RunLock

HOLD = """
import sys, time
from pathlib import Path
from sleeplm_jax.training.lock import RunLock
with RunLock(Path(sys.argv[1]), beat=0.1):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def silent(line):
    pass


def test_a_living_owner_is_named_and_a_dead_one_is_followed_at_once(holder, tmp_path):
    os.kill(holder.pid, signal.SIGSTOP)  # alive, and not renewing: its process id decides
    with pytest.raises(CheckpointError, match=f"by process {holder.pid} on ") as refused:
        RunLock(tmp_path, silent).__enter__()
    assert "\n" not in str(refused.value) and "--name" in str(refused.value)
    holder.kill()  # not yet waited for: a zombie is dead too
    deadline = time.monotonic() + 10
    while lock._process(holder.pid) is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    said = []
    began = time.monotonic()
    with RunLock(tmp_path, said.append):
        assert time.monotonic() - began < 3
        assert f"process {holder.pid}" in said[0] and "gone" in said[0]
        assert json.loads((tmp_path / "lock.json").read_text())["pid"] == os.getpid()
    assert not (tmp_path / "lock.json").exists()


def test_a_process_id_that_was_given_anew_is_another_process(tmp_path):
    own = RunLock(tmp_path)._own
    left = own | {"token": "other", "process": f"{os.getpid()} 1"}
    (tmp_path / "lock.json").write_text(json.dumps(left))
    with RunLock(tmp_path, silent):
        pass


@pytest.mark.parametrize("folder", ["{tmp}", "memory://lock/run"])
@pytest.mark.parametrize("lives", [True, False])
def test_an_owner_on_another_machine_is_judged_by_its_beats(lives, folder, tmp_path):
    """No clock of the other machine is read: whether the lock changes while one looks decides."""
    folder = place(folder.format(tmp=tmp_path))
    left = RunLock(folder)._own | {"token": "other", "host": "far", "machine": "far 1 2"}
    over = threading.Event()

    def beat():
        beats = 0
        while not over.is_set():
            write_atomically(folder / "lock.json", json.dumps(left | {"beats": beats}).encode())
            beats += lives
            over.wait(0.05)

    write_atomically(folder / "lock.json", json.dumps(left | {"beats": 0}).encode())
    other = threading.Thread(target=beat)
    if lives:
        other.start()
    try:
        said = []
        took = RunLock(folder, said.append, beat=0.1, lapse=0.6)
        if lives:
            with pytest.raises(CheckpointError, match="on far"):
                took.__enter__()
        else:
            with took:
                assert json.loads((folder / "lock.json").read_text())["pid"] == os.getpid()
            assert not (folder / "lock.json").exists()
        assert "far" in said[0]
    finally:
        over.set()
        if lives:
            other.join()
        (folder / "lock.json").unlink(missing_ok=True)


def test_who_was_stopped_while_another_took_over_ends(holder, tmp_path):
    taken = json.loads((tmp_path / "lock.json").read_text()) | {"token": "other", "pid": 77}
    os.kill(holder.pid, signal.SIGSTOP)
    time.sleep(0.3)
    write_atomically(tmp_path / "lock.json", json.dumps(taken).encode())
    os.kill(holder.pid, signal.SIGCONT)
    _, errors = holder.communicate(timeout=30)
    assert holder.returncode == 2 and "by process 77" in errors and "took over" in errors
    assert json.loads((tmp_path / "lock.json").read_text())["token"] == "other"


def test_of_two_at_the_same_moment_one_gets_it(tmp_path):
    for _ in range(10):
        got, refused = [], []
        gate = threading.Barrier(2)

        def one(got=got, refused=refused, gate=gate):
            mine = RunLock(tmp_path, silent)
            gate.wait()
            try:
                mine.__enter__()
                got.append(mine)
            except CheckpointError:
                refused.append(mine)

        threads = [threading.Thread(target=one) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(got), len(refused)) == (1, 1)
        got[0].__exit__()


def test_a_lock_that_cannot_be_read_lapses(tmp_path):
    (tmp_path / "lock.json").write_text("{")
    with RunLock(tmp_path, silent, beat=0.1, lapse=0.3):
        pass
