"""What one process is asked, all take up after the same poll; no process waits without a reason.

Processes are threads here, and JAX's coordination service a dict with its errors; real processes
are in tests/multiprocess.
"""

import random
import threading
import time

import pytest

from sleeplm_jax.parallel import asked
from sleeplm_jax.parallel.asked import Asked


class Service:
    def __init__(self):
        self.values, self.changed = {}, threading.Condition()
        self.arrived = {}

    def key_value_set(self, key, value):
        with self.changed:
            if key in self.values:
                raise RuntimeError(f"ALREADY_EXISTS: key {key} already exists.")
            self.values[key] = value
            self.changed.notify_all()

    def key_value_try_get(self, key):
        with self.changed:
            if key not in self.values:
                raise RuntimeError(f"NOT_FOUND: Config key {key} not found.")
            return self.values[key]

    def blocking_key_value_get(self, key, timeout):
        with self.changed:
            if not self.changed.wait_for(lambda: key in self.values, timeout / 1000):
                raise RuntimeError("DEADLINE_EXCEEDED")
            return self.values[key]

    def wait_at_barrier(self, key, timeout):
        with self.changed:
            self.arrived[key] = self.arrived.get(key, 0) + 1
            self.changed.notify_all()


def processes(monkeypatch, count, unbegun=lambda request: None):
    """`count` requests that know of one another."""
    monkeypatch.setattr(asked, "LISTEN_S", 0.02)
    service, made = Service(), []
    for rank in range(count):
        monkeypatch.setattr(asked, "coordination", lambda rank=rank: (service, rank, count))
        monkeypatch.setattr(Asked, "_made", 0)
        made.append(Asked(unbegun))
    return made


@pytest.mark.parametrize("seed", range(8))
def test_all_stop_after_the_same_poll(seed, monkeypatch):
    """Every pair of polls in another order and pace; two are asked different things at once."""
    draw = random.Random(seed)
    made = processes(monkeypatch, 4)
    stopped = {}

    def run(rank, request, pace):
        polls = 0
        with request:
            while not (told := request.poll()):
                polls += 1
                if rank == 0 and polls == 5:
                    request.ask("15")
                if rank == 2 and polls == 5:
                    request.ask("2")
                # Steps are collective: none is far ahead of another. Here they drift freely,
                # which is harder.
                time.sleep(draw.random() * pace)
                assert polls < 5000
            stopped[rank] = (polls, told)
            # It stays, and the others may still listen.
            assert request.poll() == told
            while len(stopped) < len(made):
                time.sleep(0.01)

    threads = [
        threading.Thread(target=run, args=(rank, request, draw.choice([0.001, 0.004, 0.02])))
        for rank, request in enumerate(made)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(set(stopped.values())) == 1 and len(stopped) == 4, stopped


def test_before_the_first_poll_all_leave(monkeypatch):
    left = []
    made = processes(monkeypatch, 3, left.append)
    for request in made:
        request.__enter__()
    made[1].ask("15")
    deadline = time.monotonic() + 10
    while len(left) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert left == ["15"] * 3
    for request in made:
        request.__exit__()


def test_a_process_that_is_gone_is_told_and_holds_nothing_up(monkeypatch, capsys):
    monkeypatch.setattr(asked, "ANSWER_S", 0.1)
    here, _ = processes(monkeypatch, 2)
    with here:
        assert here.poll() == ""
        here.ask("15")
        time.sleep(0.5)
        assert here.poll() == ""
    assert "cannot agree (DEADLINE_EXCEEDED)" in capsys.readouterr().err


def test_one_alone_is_asked_without_any_service():
    with Asked(lambda request: None) as request:
        assert request.poll() == "" and request.begun
        request.ask("2")
        request.ask("15")
        deadline = time.monotonic() + 10
        while not (told := request.poll()) and time.monotonic() < deadline:
            time.sleep(0.001)
        assert told == "2"
