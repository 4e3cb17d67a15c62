"""Ranks find each other, and who is missing is named."""

import os
import socket
import subprocess
import sys
import threading

import pytest

from sleeplm_jax.errors import ConfigError
from sleeplm_jax.parallel.processes import MissingRanks, Place, place_from, roll_call


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
    tables = called([Place(address, 3, rank) for rank in (0, 1, 2)], 20)
    assert tables[0] == tables[1] == tables[2]
    assert [row["rank"] for row in tables[0]] == [0, 1, 2]
    assert tables[0][0]["pid"] == os.getpid()


def test_the_missing_ranks_are_named_to_all_that_came():
    address = f"127.0.0.1:{free_port()}"
    errors = called([Place(address, 4, rank) for rank in (0, 2)], 1.0)
    for error in errors:
        assert isinstance(error, MissingRanks) and "rank 1, 3" in str(error)


def test_a_missing_first_rank_is_named():
    [error] = called([Place(f"127.0.0.1:{free_port()}", 2, 1)], 0.5)
    assert isinstance(error, MissingRanks) and "rank 0" in str(error)


def test_a_rank_given_twice_is_told():
    address = f"127.0.0.1:{free_port()}"
    errors = called([Place(address, 3, rank) for rank in (0, 1, 1)], 5)
    assert all(isinstance(error, ConfigError) for error in errors[:1])
    assert "rank 1 of 3" in str(errors[0])


def test_strangers_on_the_port_do_not_disturb():
    port = free_port()
    answers = []
    caller = threading.Thread(
        target=lambda: answers.extend(called([Place(f"127.0.0.1:{port}", 2, 0)], 10))
    )
    caller.start()
    for _ in range(100):
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as line:
                line.sendall(b"GET / HTTP/1.0\r\n\r\n")
            break
        except OSError:
            threading.Event().wait(0.05)
    [table] = called([Place(f"127.0.0.1:{port}", 2, 1)], 10)
    caller.join(20)
    assert table == answers[0]


def test_places_come_from_launcher_or_slurm():
    assert place_from({}) is None
    ours = {"SLEEPLM_COORDINATOR": "10.0.0.1:4000", "SLEEPLM_PROCESSES": "8",
            "SLEEPLM_PROCESS": "3"}
    assert place_from(ours) == Place("10.0.0.1:4000", 8, 3)
    slurm = {"SLEEPLM_COORDINATOR": "10.0.0.1:4000", "SLURM_NTASKS": "2", "SLURM_PROCID": "1"}
    assert place_from(slurm) == Place("10.0.0.1:4000", 2, 1)


@pytest.mark.parametrize("change, finding", [
    ({"SLEEPLM_COORDINATOR": "nowhere"}, "host:port"),
    ({"SLEEPLM_COORDINATOR": "10.0.0.1:0"}, "host:port"),
    ({"SLEEPLM_PROCESS": "8"}, "8 of 8"),
    ({"SLEEPLM_PROCESSES": "many"}, "'many'"),
    ({"SLEEPLM_COORDINATOR": "127.0.1.1:4000"}, "its own host only"),
    ({"SLEEPLM_COORDINATOR": "localhost:4000"}, "its own host only"),
])
def test_an_environment_that_cannot_be_is_refused(change, finding):
    ours = {"SLEEPLM_COORDINATOR": "10.0.0.1:4000", "SLEEPLM_PROCESSES": "8",
            "SLEEPLM_PROCESS": "3"}
    with pytest.raises(ConfigError, match=finding):
        place_from(ours | change)


def test_a_loopback_address_serves_on_one_host():
    one = {"SLEEPLM_COORDINATOR": "127.0.0.1:4000", "SLEEPLM_PROCESSES": "2",
           "SLEEPLM_PROCESS": "1", "SLEEPLM_ONE_HOST": "1"}
    assert place_from(one) == Place("127.0.0.1:4000", 2, 1)


def test_two_processes_compute_together(tmp_path):
    """The roll, then JAX on the same port: a sum over both processes' devices."""
    script = (
        "import sys\n"
        "from sleeplm_jax.parallel.processes import connect\n"
        "rank = connect(start_timeout=60, heartbeat=30)\n"
        "import jax, numpy as np\n"
        "from jax.experimental import multihost_utils as m\n"
        "total = int(m.process_allgather(np.array([rank + 1])).sum())\n"
        # A file, since gloo writes into standard output, between the parts of others' lines.
        "open(f'{sys.argv[1]}/{rank}', 'w').write(f'{total} {jax.device_count()}')\n"
    )
    port = free_port()
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, env=os.environ | {
                "SLEEPLM_COORDINATOR": f"127.0.0.1:{port}", "SLEEPLM_PROCESSES": "2",
                "SLEEPLM_PROCESS": str(rank), "SLEEPLM_ONE_HOST": "1", "JAX_PLATFORMS": "cpu",
                "JAX_NUM_CPU_DEVICES": "2",
            },
        )
        for rank in range(2)
    ]
    said = [process.communicate(timeout=120) for process in ranks]
    for rank, (process, (_, errors)) in enumerate(zip(ranks, said)):
        assert process.returncode == 0, errors[-2000:]
        assert (tmp_path / str(rank)).read_text() == "3 4"
    assert "rank 1: " in said[0][0]
