"""Ctrl-C while processes start: not lost, not raised half-way, not inherited."""

import os
import signal
import threading
import time

import pytest

from sleeplm_jax.parallel.workers import interrupts_held, worker_pool


@pytest.mark.parametrize("other_thread", [False, True])
def test_an_interrupt_waits_for_the_end_and_is_not_lost(other_thread):
    """With a thread of a library about, the signal reaches that one, whatever this one blocks."""
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    if other_thread:
        thread.start()
    reached = []
    try:
        with pytest.raises(KeyboardInterrupt):
            with interrupts_held():
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.05)
                reached.append(sum(range(1000)))  # a handler would have run by now
            reached.append("after")
    finally:
        stop.set()
    assert reached == [499500]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_without_an_interrupt_nothing_is_left_behind():
    before = signal.getsignal(signal.SIGINT)
    with interrupts_held():
        pass
    assert signal.getsignal(signal.SIGINT) is before
    from_thread = []

    def held():  # handlers can be set by the main thread only
        with interrupts_held():
            from_thread.append(True)

    thread = threading.Thread(target=held)
    thread.start()
    thread.join()
    assert from_thread


def blocked() -> bool:
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_workers_are_started_with_interrupts_blocked_and_ended_on_an_error():
    with worker_pool(2) as pool:
        assert [f.result() for f in [pool.submit(blocked) for _ in range(4)]] == [True] * 4
    started = time.monotonic()
    with pytest.raises(ZeroDivisionError):
        with worker_pool(1) as pool:
            pool.submit(time.sleep, 60)
            raise ZeroDivisionError
    assert time.monotonic() - started < 30
