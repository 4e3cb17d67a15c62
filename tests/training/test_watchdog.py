"""A process in which nothing moves ends, and says where it stood; one that is slow goes on."""

import os
import signal
import subprocess
import sys
import time

import pytest

HEAD = """
import ctypes, os, signal, sys, threading, time
from pathlib import Path
from sleeplm_jax.training import watchdog
from sleeplm_jax.training.watchdog import Watchdog, bytes_under
folder = Path(sys.argv[1])
"""
MINUTES = 1.0 / 60  # one second


def start(folder, body):
    return subprocess.Popen(
        [sys.executable, "-c", HEAD + body, str(folder)], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )


def ended(process):
    try:
        said, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, said, errors


def test_stacks_are_written_and_the_process_ends_though_the_main_thread_is_in_c(tmp_path):
    """Two at once: a wait that frees Python's lock, and a disk that does not answer either."""
    stalled = start(tmp_path, f"""
def reads_a_dead_disk():
    ctypes.CDLL(None).sleep(60)
with Watchdog({MINUTES}, folder, 3) as watch:
    watch.last_words = lambda why: print("last words:", why)
    watch.moved("step 7, given to the devices")
    reads_a_dead_disk()
""")
    deaf = start(tmp_path / "deaf", f"""
watchdog.TELLING_S = 0.5
watchdog.write_atomically = lambda path, data: time.sleep(60)
with Watchdog({MINUTES}, folder) as watch:
    watch.moved("step 1")
    time.sleep(60)
""")
    began = time.monotonic()
    status, said, errors = ended(stalled)
    assert status == 124
    assert "rank 3: nothing moved for 1 s; the last was step 7, given to the devices" in errors
    assert "reads_a_dead_disk" in errors and "Thread 0x" in errors and "is MainThread" in errors
    assert "last words: rank 3: nothing moved" in said
    kept = (tmp_path / "stacks-rank-3.txt").read_text()
    assert "reads_a_dead_disk" in kept and "step 7" in kept
    status, _, errors = ended(deaf)
    assert status == 124 and "step 1" in errors
    assert time.monotonic() - began < 30


def test_what_is_slow_goes_on(tmp_path):
    """Before the first step there is more time; so there is while a checkpoint grows."""
    began = time.monotonic()
    status, _, errors = ended(start(tmp_path, f"""
with Watchdog({MINUTES}, folder, start_minutes=10, growing=lambda: bytes_under(folder)) as watch:
    time.sleep(2)  # compiles
    watch.moved("step 1")
    with open(folder / "array", "wb", buffering=0) as file:
        for _ in range(25):  # saves
            file.write(b"x" * 100)
            time.sleep(0.1)
    print("saved", file=sys.stderr, flush=True)
    time.sleep(60)
"""))
    assert status == 124 and "saved" in errors.partition("nothing moved")[0]
    assert time.monotonic() - began > 5.0


def test_a_process_that_was_stopped_goes_on(tmp_path):
    process = start(tmp_path, f"""
with Watchdog({MINUTES}, folder) as watch:
    watch.moved("step 1")
    print("up", flush=True)
    time.sleep(0.4)
    watch.moved("step 2")
    time.sleep(0.4)
""")
    assert process.stdout.readline() == "up\n"
    os.kill(process.pid, signal.SIGSTOP)
    time.sleep(2.5)
    os.kill(process.pid, signal.SIGCONT)
    assert ended(process)[0] == 0


def test_held_by_c_code_that_keeps_python_out_stacks_still_come(tmp_path):
    status, _, errors = ended(start(tmp_path, f"""
watchdog.HELD_S = 0.5
def keeps_python_out():
    ctypes.PyDLL(None).sleep(4)
with Watchdog({MINUTES}, folder) as watch:
    watch.moved("step 1")
    time.sleep(0.2)
    keeps_python_out()
"""))
    assert status == 0 and "keeps_python_out" in errors


@pytest.mark.parametrize("minutes", [0.0, 10.0])
def test_nothing_is_left_behind(minutes, tmp_path):
    import threading

    from sleeplm_jax.training.watchdog import Watchdog

    before = threading.active_count()
    with Watchdog(minutes, tmp_path) as watch:
        watch.moved("step 1")
    assert threading.active_count() == before and not list(tmp_path.iterdir())
