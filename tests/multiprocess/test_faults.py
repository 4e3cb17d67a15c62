"""What a cluster does to a training of several processes, done to real ones."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from tests.multiprocess.launching import (
    LOCAL,
    PATIENCE_S,
    command,
    ended,
    launched,
    log,
    process_of,
    rows,
    wait_for_step,
)

LONG = ("--steps", "100000", "--eval-every", "100000", "--checkpoint-every", "8")


def checkpoints(folder):
    names = (folder / "checkpoints").iterdir()
    return sorted(int(path.name) for path in names if path.name.isdigit())


@pytest.mark.slow
def test_killed_restarted_from_a_damaged_checkpoint_and_stalled(corpus_folder, tmp_path):
    """One run through four faults: a second start, kill -9 of a rank, a damaged checkpoint, and a
    rank that stops answering without a word."""
    folder = tmp_path / "tiny"
    with launched(corpus_folder, tmp_path, *LONG) as first:
        wait_for_step(folder, 18, first)
        # ---- The same command once more: refused in one line, the first one goes on.
        again = subprocess.run(
            command(corpus_folder, tmp_path, *LONG), capture_output=True, text=True, timeout=300
        )
        assert again.returncode == 2, again.stderr
        told = [line for line in again.stderr.splitlines() if line.startswith("sleeplm: ")]
        assert len(told) == 1 and f"by process {process_of(tmp_path, 0)} on " in told[0]
        # ---- kill -9 of one process
        os.kill(process_of(tmp_path, 1), signal.SIGKILL)
        status, said, took = ended(first)
    assert status == 128 + signal.SIGKILL and "rank 1 ended with status 137" in said
    assert took < 30, took  # the others had five seconds, then they were killed
    assert "rank 0: lost another process" in log(tmp_path, 0) or "rank 0 " in said
    before = rows(folder)

    # ---- The newest checkpoint is damaged: the one before is used, and a line says so
    earlier, newest = checkpoints(folder)[-2:]
    data = (folder / "checkpoints" / str(newest) / "parameters").rglob("*")
    largest = max((path for path in data if path.is_file()), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])
    with launched(corpus_folder, tmp_path, *LONG, "--watchdog-minutes", "0.1") as second:
        wait_for_step(folder, before[-1]["step"] + 1, second)
        after = rows(folder)
        assert f"passed over for {earlier}" in log(tmp_path, 0)
        assert f"resuming {folder} at step {earlier:,}" in log(tmp_path, 0)
        # What the killed run had done since, done again: bit for bit.
        assert after[: len(before)] == before and before[-1]["step"] > earlier

        # ---- A rank stops: nothing moves, and the other one says where it stood
        os.kill(process_of(tmp_path, 1), signal.SIGSTOP)
        status, said, took = ended(second)
    assert status == 124, said
    assert 5 < took < 60, took
    stacks = (folder / "stacks-rank-0.txt").read_text()
    last = int(re.search(r"the last was step ([\d,]+) ", stacks)[1].replace(",", ""))
    assert abs(last - rows(folder)[-1]["step"]) <= 3
    assert "in train\n" in stacks and "loop.py" in stacks
    assert "rank 0: nothing moved for 6 s; the last was step " in said
    assert json.loads((folder / "status.json").read_text())["state"] == "failed"


def test_a_signal_to_one_process_stops_all_at_the_same_step(corpus_folder, tmp_path):
    """SLURM's warning, in a run that evaluates and saves after every step, so that it comes in the
    middle of one of them: honoured after the batch, not after the evaluation."""
    folder = tmp_path / "tiny"
    with launched(corpus_folder, tmp_path, "--steps", "100000", "--eval-every", "1",
                  "--eval-samples", "60") as process:
        wait_for_step(folder, 3, process)
        os.kill(process_of(tmp_path, 1), signal.SIGUSR1)
        status, said, took = ended(process)
    assert status == 128 + signal.SIGTERM, said
    assert took < 60, took
    assert "rank 0 ended with status 143" in said and "rank 1 ended with status 143" in said
    assert "rank 1: SIGUSR1: stopping after this step" in log(tmp_path, 1)
    stopped = re.search(r"stopped at step ([\d,]+), saved", log(tmp_path, 0))
    step = int(stopped[1].replace(",", ""))
    assert checkpoints(folder)[-1] == step == rows(folder)[-1]["step"]
    assert not (folder / "lock.json").exists()
    # An evaluation that was broken off is owed: there is no row of it.
    about = json.loads((folder / "checkpoints" / str(step) / "about" / "data.json").read_text())
    evaluated = [row["step"] for row in rows(folder, "val")]
    assert evaluated == list(range(1, step + (not about.get("owed", False))))
    assert json.loads((folder / "status.json").read_text())["state"] == "stopped"


def test_ranks_that_cannot_start_are_told_in_one_line(corpus_folder, tmp_path):
    """A rank that never comes, named within the timeout; a coordinator that others cannot reach."""
    missing = {"SLEEPLM_COORDINATOR": "127.0.0.1:41873", "SLEEPLM_PROCESSES": "2",
               "SLEEPLM_PROCESS": "1", "SLEEPLM_ONE_HOST": "1"}
    loopback = {"SLEEPLM_COORDINATOR": "127.0.0.1:41873", "SLEEPLM_PROCESSES": "2",
                "SLEEPLM_PROCESS": "0"}
    began = time.monotonic()
    started = [
        subprocess.Popen(
            command(corpus_folder, tmp_path, "--start-timeout", "2"), env=os.environ | place,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ) for place in (missing, loopback)
    ]
    errors = [process.communicate(timeout=120)[1] for process in started]
    assert [process.returncode for process in started] == [2, 2], errors
    assert "rank 0: did not come within 2 s" in errors[0]
    assert "its own host only" in errors[1]
    assert all(error.count("\n") == 1 for error in errors), errors
    assert time.monotonic() - began < 60
    assert not (tmp_path / "tiny").exists()


@pytest.mark.slow
def test_a_full_disk_of_one_ends_all_and_the_run_goes_on_when_there_is_room(
    corpus_folder, tmp_path
):
    """Rank 1's files may not exceed 100 kB: its part of the first checkpoint does not fit. Orbax
    would wait for it in rank 0 for 20 minutes."""
    folder = tmp_path / "tiny"
    train = command(corpus_folder, tmp_path, "--steps", "20", "--eval-every", "20",
                    "--checkpoint-every", "4", "--mesh.data", "1", "--mesh.fsdp", "2")

    def run(what):
        return subprocess.run(
            [sys.executable, str(LOCAL), "--processes", "2", "--devices", "1", "--no-follow",
             "--logs", str(tmp_path / "logs"), "--", *what],
            capture_output=True, text=True, timeout=PATIENCE_S,
            env=os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
        )

    limited = 'if [ "$SLEEPLM_PROCESS" = 1 ]; then ulimit -f 100; fi; exec "$@"'
    full = run(["bash", "-c", limited, "--", *train])
    assert full.returncode == 2, full.stderr
    assert "sleeplm: rank 1" in log(tmp_path, 1) and "saving failed" in log(tmp_path, 1)
    assert checkpoints(folder) == []
    whole = run(train)
    assert whole.returncode == 0, whole.stderr
    assert [row["step"] for row in rows(folder)] == list(range(1, 21))
