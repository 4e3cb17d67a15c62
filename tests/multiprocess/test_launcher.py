"""launch/local.py: one status, whole groups, logs that stay. Its processes are small scripts."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.multiprocess.launching import LOCAL

RANK = """
import os, signal, subprocess, sys, time
rank = int(os.environ["SLEEPLM_PROCESS"])
def say(line): print(line, flush=True)
def saves(seconds=0.3):
    def asked(*_):
        say("saving")
        time.sleep(seconds)
        say("saved")
        sys.exit(143)
    signal.signal(signal.SIGTERM, asked)
"""


def start(folder, body, *options, processes=2):
    return subprocess.Popen(
        [sys.executable, str(LOCAL), "--processes", str(processes), "--devices", "1", "--logs",
         str(folder / "logs"), *options, "--", sys.executable, "-c", RANK + body],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )


def ended(process):
    try:
        said, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, said, errors


def wait_for(folder, word, ranks=2):
    deadline = time.monotonic() + 30
    for rank in range(ranks):
        path = folder / "logs" / f"rank-{rank}.log"
        while not (path.exists() and word in path.read_text()):
            assert time.monotonic() < deadline
            time.sleep(0.02)


def lives(pid):
    """Whether a process runs; one that nobody waited for is dead."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.parametrize(("body", "status"), [
    ("", 0),
    ("sys.exit(3 * rank)", 3),
    # One dies by a signal and the other only loses it, at the same moment: the cause is told.
    ("sys.exit(134) if rank == 0 else os.kill(os.getpid(), signal.SIGKILL)", 137),
    ("os.abort() if rank == 0 else time.sleep(60)", 134),
    ("sys.exit(124) if rank == 1 else time.sleep(60)", 124),
    ("sys.exit(143)", 143),
])
def test_the_status_is_that_of_the_first_failure(body, status, tmp_path):
    began = time.monotonic()
    code, _, errors = ended(start(tmp_path, body.replace("sleep(60)", "sleep(4)")))
    assert code == status, errors
    assert time.monotonic() - began < 20


def test_a_rank_that_fails_takes_the_others_and_all_that_they_started_along(tmp_path):
    """A grandchild that would outlive its parent, and a rank that does not hear SIGTERM."""
    code, said, errors = ended(start(tmp_path, """
child = subprocess.Popen(["sleep", "300"])
say(f"child {child.pid}")
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if rank == 1:
    time.sleep(0.5)
    sys.exit(2)
time.sleep(300)
"""))
    assert code == 2 and "rank 1 ended with status 2 (a mistake of the input)" in errors
    assert "rank 0 has not ended" in errors and "killing it" in errors
    children = [
        int((tmp_path / "logs" / f"rank-{rank}.log").read_text().split("child ")[1].split()[0])
        for rank in range(2)
    ]
    assert f"child {children[0]}" in said  # rank 0 is followed
    assert not any(lives(child) for child in children)


def test_asked_to_stop_all_save_and_the_status_says_so(tmp_path):
    body = "saves(); say('up'); time.sleep(300)"
    for number, status in ((signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGUSR1, 143)):
        folder = tmp_path / number.name
        process = start(folder, body)
        wait_for(folder, "up")
        process.send_signal(number)
        code, said, errors = ended(process)
        assert code == status and said.count("saved") == 1, errors
        assert "saved" in (folder / "logs" / "rank-1.log").read_text()


def test_a_second_ctrl_c_ends_all_at_once(tmp_path):
    process = start(tmp_path, "saves(60); say('up'); time.sleep(300)")
    wait_for(tmp_path, "up")
    process.send_signal(signal.SIGINT)
    wait_for(tmp_path, "saving")
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    code, _, _ = ended(process)
    assert code == 130 and time.monotonic() - began < 10


def test_who_does_not_end_in_time_is_killed(tmp_path):
    process = start(tmp_path, "saves(60); say('up'); time.sleep(300)", "--grace", "0.5")
    wait_for(tmp_path, "up")
    process.terminate()
    code, _, errors = ended(process)
    assert code == 137 and "rank 1 has not ended 0.5 s later: killing it" in errors


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's own, of Linux")
def test_when_the_launcher_is_killed_the_ranks_save_and_stop(tmp_path):
    process = start(tmp_path, "saves(); say(f'up {os.getpid()} .'); time.sleep(300)")
    wait_for(tmp_path, " .")
    ranks = [
        int((tmp_path / "logs" / f"rank-{rank}.log").read_text().split("up ")[1].split()[0])
        for rank in range(2)
    ]
    process.kill()
    process.communicate()
    try:
        wait_for(tmp_path, "saved")
        deadline = time.monotonic() + 10
        while any(lives(rank) for rank in ranks) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not any(lives(rank) for rank in ranks)
    finally:
        for rank in ranks:
            with contextlib.suppress(ProcessLookupError):
                os.kill(rank, signal.SIGKILL)


def test_logs_of_earlier_starts_stay_and_are_not_shown_again(tmp_path):
    ended(start(tmp_path, "say(f'first {rank}')"))
    code, said, _ = ended(start(tmp_path, "say(f'second {rank}')"))
    assert code == 0 and said == "second 0\n"
    kept = (tmp_path / "logs" / "rank-1.log").read_text()
    assert kept.index("first 1") < kept.index("second 1") and kept.count("rank 1 of 2\n") == 2
    _, said, _ = ended(start(tmp_path, "say('third')", "--no-follow"))
    assert said == ""


def test_what_cannot_be_started_is_told(tmp_path):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for arguments, finding in (
            (["--processes", "2"], "after --"),
            (["--processes", "0", "--", "true"], "1 or more"),
            (["--processes", "1", "--", "no-such-command"], "no such command"),
            (["--processes", "1", "--port", port, "--", "true"], "something listens there"),
        ):
            done = subprocess.run(
                [sys.executable, str(LOCAL), "--logs", str(tmp_path), *arguments],
                capture_output=True, text=True, timeout=60,
            )
            assert done.returncode == 2 and finding in done.stderr
            assert "Traceback" not in done.stderr


def test_it_needs_neither_jax_nor_this_package():
    code = (f"import sys, runpy; sys.argv = ['local.py', '--help']\n"
            f"try: runpy.run_path({str(LOCAL)!r}, run_name='__main__')\n"
            "except SystemExit: pass\n"
            "print('HEAVY', sorted({'jax', 'numpy', 'sleeplm_jax'} & set(sys.modules)))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "HEAVY []"
