"""Ranks find each other, and who is missing is named."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from sleeplm_jax.errors import ConfigError, UserError
from sleeplm_jax.parallel.processes import MissingRanks, lost, roll_call
from sleeplm_jax.parallel.ranks import Rank


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def called(places, timeout):
    """Every place's answer or exception, each called in a thread of its own."""
    answers = {}

    def one(key, place):
        try:
            answers[key] = roll_call(place, timeout)
        except Exception as error:
            answers[key] = error

    threads = [threading.Thread(target=one, args=item) for item in enumerate(places)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return [answers[key] for key in sorted(answers)]


def test_every_rank_learns_of_all():
    address = f"127.0.0.1:{free_port()}"
    tables = called([Rank(address, 3, rank) for rank in (0, 1, 2)], 20)
    assert tables[0] == tables[1] == tables[2]
    assert [row["rank"] for row in tables[0]] == [0, 1, 2]
    assert tables[0][0]["pid"] == os.getpid()


def test_the_missing_ranks_are_named_to_all_that_came():
    address = f"127.0.0.1:{free_port()}"
    errors = called([Rank(address, 4, rank) for rank in (0, 2)], 1.0)
    for error in errors:
        assert isinstance(error, MissingRanks) and "rank 1, 3" in str(error)


def test_a_missing_first_rank_is_named():
    [error] = called([Rank(f"127.0.0.1:{free_port()}", 2, 1)], 0.5)
    assert isinstance(error, MissingRanks) and "rank 0" in str(error)


def test_a_rank_given_twice_is_told():
    address = f"127.0.0.1:{free_port()}"
    errors = called([Rank(address, 3, rank) for rank in (0, 1, 1)], 5)
    assert all(isinstance(error, ConfigError) for error in errors[:1])
    assert "rank 1 of 3" in str(errors[0])


def test_strangers_on_the_port_do_not_disturb():
    port = free_port()
    answers = []
    caller = threading.Thread(
        target=lambda: answers.extend(called([Rank(f"127.0.0.1:{port}", 2, 0)], 10))
    )
    caller.start()
    for _ in range(100):
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as line:
                line.sendall(b"GET / HTTP/1.0\r\n\r\n")
            break
        except OSError:
            threading.Event().wait(0.05)
    [table] = called([Rank(f"127.0.0.1:{port}", 2, 1)], 10)
    caller.join(20)
    assert table == answers[0]


def test_a_lost_peer_is_told_from_other_errors():
    from jax.errors import JaxRuntimeError

    gone = JaxRuntimeError("INTERNAL: [/x/gloo/pair.cc:555] Connection closed by peer [::1]:41")
    saving = UserError("run", "saving failed", "see to the disk")
    saving.__cause__ = ValueError("a save")
    saving.__cause__.__cause__ = gone
    assert lost(gone) is gone and lost(saving) is gone
    memory = JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 5 bytes")
    for other in (memory, ValueError("Connection closed"), UserError("run", "gloo", "x")):
        assert lost(other) is None


# Ranks answer in files, since gloo writes into standard output, between the parts of others' lines.
COMPUTE = """
import sys, time
from pathlib import Path
from sleeplm_jax.parallel.processes import connect, leaving
folder = Path(sys.argv[1])
rank = connect(start_timeout=60, heartbeat=int(sys.argv[2]))
import jax, numpy as np
from jax.experimental import multihost_utils as m
gather = lambda value: m.process_allgather(np.array([value]))
"""


def ranks(body, folder, heartbeat=30, count=2):
    port = free_port()
    return [
        subprocess.Popen(
            [sys.executable, "-c", COMPUTE + body, str(folder), str(heartbeat)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, env=os.environ | {
                "SLEEPLM_COORDINATOR": f"127.0.0.1:{port}", "SLEEPLM_PROCESSES": str(count),
                "SLEEPLM_PROCESS": str(rank), "SLEEPLM_ONE_HOST": "1", "JAX_PLATFORMS": "cpu",
                "JAX_NUM_CPU_DEVICES": "2",
            },
        )
        for rank in range(count)
    ]


def wait_for(path):
    deadline = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_two_processes_compute_together(tmp_path):
    """The roll, then JAX on the same port: a sum over both processes' devices."""
    started = ranks(
        "total = int(gather(rank + 1).sum())\n"
        "(folder / str(rank)).write_text(f'{total} {jax.device_count()}')\n", tmp_path,
    )
    said = [process.communicate(timeout=120) for process in started]
    for rank, (process, (_, errors)) in enumerate(zip(started, said)):
        assert process.returncode == 0, errors[-2000:]
        assert (tmp_path / str(rank)).read_text() == "3 4"
        assert f"rank {rank} of 2: {socket.gethostname()}, process {process.pid}, 2 devices (cpu)" \
            in said[rank][0]
    assert "rank 1: " in said[0][0]  # rank 0 says who came, before JAX starts


@pytest.mark.parametrize("killed", [0, 1])
def test_without_a_launcher_too_the_others_end_when_one_is_killed(killed, tmp_path):
    """In a collective that notices it; killing rank 0 kills JAX's coordinator as well."""
    started = ranks(
        "with leaving():\n"
        "    for step in range(10_000):\n"
        "        gather(step)\n"
        "        (folder / str(rank)).touch()\n"
        "        time.sleep(0.01)\n", tmp_path,
    )
    for rank in range(2):
        wait_for(tmp_path / str(rank))
    started[killed].kill()
    began = time.monotonic()
    _, errors = started[1 - killed].communicate(timeout=120)
    started[killed].communicate()
    took = time.monotonic() - began
    # By the collective's error, in a line of ours, or by JAX's abort, whichever comes first.
    assert started[1 - killed].returncode in (134, -6), errors[-2000:]
    assert took < 30, took


def test_a_rank_that_gives_no_sign_of_life_is_dead_within_the_heartbeat(tmp_path):
    """Stopped while the other is in no collective: nothing else could tell."""
    started = ranks("gather(rank)\n(folder / str(rank)).touch()\ntime.sleep(300)\n", tmp_path,
                    heartbeat=6)
    for rank in range(2):
        wait_for(tmp_path / str(rank))
    os.kill(started[1].pid, signal.SIGSTOP)
    began = time.monotonic()
    try:
        _, errors = started[0].communicate(timeout=120)
    finally:
        started[1].kill()
        started[1].communicate()
    assert started[0].returncode == -6 and "heartbeat" in errors.lower(), errors[-2000:]
    assert time.monotonic() - began < 40
