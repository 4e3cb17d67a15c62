"""Trainings of several processes on this machine, started as a user starts them."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.training.test_loop import TINY, rows, wait_for_step

LOCAL = Path(__file__).parents[2] / "launch" / "local.py"


def launch(corpus_folder, out, *more, processes=2, devices=2):
    """The launcher's process; ranks' logs lie in out/logs."""
    return subprocess.Popen(
        [sys.executable, str(LOCAL), "--processes", str(processes), "--devices", str(devices),
         "--logs", str(out / "logs"), "--grace", "60", "--",
         sys.executable, "-m", "sleeplm_jax.cli", "train", str(TINY), "--out", str(out),
         "--data.corpus", str(corpus_folder), *more],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )


def ended(process):
    """Status and all that was said; never left running."""
    try:
        said, _ = process.communicate(timeout=240)
    finally:
        process.kill()
    return process.returncode, said


def logs(out):
    return {path.stem: path.read_text() for path in sorted((out / "logs").iterdir())}


@pytest.mark.slow
def test_two_processes_train_as_one_does(corpus_folder, trained_run, tmp_path):
    """Same batches, losses equal to float32 rounding in another order of sums, one writer."""
    status, said = ended(launch(
        corpus_folder, tmp_path, "--mesh.data", "2", "--mesh.fsdp", "2",
    ))
    assert status == 0, said
    alone, together = rows(trained_run), rows(tmp_path / "tiny")
    assert [row["step"] for row in together] == list(range(1, 13))
    for name in ("loss", "contrastive", "caption", "reconstruction", "grad_norm"):
        np.testing.assert_allclose(
            [row[name] for row in together], [row[name] for row in alone], rtol=2e-4, err_msg=name
        )
    said = logs(tmp_path)
    assert "rank 1: " in said["rank-0"] and "data 2 fsdp 2" in said["rank-0"]
    assert "step" not in said["rank-1"]  # one speaks


@pytest.mark.slow
def test_a_signal_to_one_process_stops_all_at_the_same_step(corpus_folder, tmp_path):
    process = launch(corpus_folder, tmp_path, "--steps", "100000", "--eval-every", "100000",
                     "--checkpoint-every", "100000")
    wait_for_step(tmp_path / "tiny", 3, process)
    table = logs(tmp_path)["rank-0"]
    second = int(re.search(r"rank 1: .*process (\d+)", table)[1])
    os.kill(second, signal.SIGTERM)
    status, said = ended(process)
    assert status == 128 + signal.SIGTERM, said
    stopped = re.search(r"stopped at step ([\d,]+), saved", logs(tmp_path)["rank-0"])
    step = int(stopped[1].replace(",", ""))
    assert [p.name for p in (tmp_path / "tiny" / "checkpoints").iterdir()] == [str(step)]

    # One process goes on from there, on another mesh.
    alone = launch(corpus_folder, tmp_path, "--steps", "100000", "--eval-every", "100000",
                   "--checkpoint-every", "100000", processes=1, devices=1)
    wait_for_step(tmp_path / "tiny", step + 2, alone)
    alone.send_signal(signal.SIGTERM)
    status, said = ended(alone)
    assert status == 128 + signal.SIGTERM, said
    assert f"at step {step:,} of 100,000" in logs(tmp_path)["rank-0"]
    steps = [row["step"] for row in rows(tmp_path / "tiny")]
    assert steps == list(range(1, len(steps) + 1))


@pytest.mark.slow
def test_the_end_of_one_process_ends_the_launch(corpus_folder, tmp_path):
    process = launch(corpus_folder, tmp_path, "--steps", "100000")
    wait_for_step(tmp_path / "tiny", 2, process)
    second = int(re.search(r"rank 1: .*process (\d+)", logs(tmp_path)["rank-0"])[1])
    os.kill(second, signal.SIGKILL)
    began = time.monotonic()
    status, said = ended(process)
    assert status != 0 and "rank 1: status -9" in said
    assert time.monotonic() - began < 200


def test_what_cannot_be_started_is_told(tmp_path):
    for arguments, finding in (
        (["--processes", "2"], "after --"),
        (["--processes", "0", "--", "true"], "1 or more"),
        (["--processes", "1", "--", "no-such-command"], "no such command"),
    ):
        done = subprocess.run([sys.executable, str(LOCAL), "--logs", str(tmp_path), *arguments],
                              capture_output=True, text=True, timeout=60)
        assert done.returncode == 2 and finding in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("status", [0, 3])
def test_the_launcher_answers_with_the_first_failure(status, tmp_path):
    code = f"import os, sys; sys.exit({status} if os.environ['SLEEPLM_PROCESS'] == '1' else 0)"
    done = subprocess.run(
        [sys.executable, str(LOCAL), "--processes", "2", "--devices", "1", "--logs",
         str(tmp_path), "--", sys.executable, "-c", code],
        capture_output=True, text=True, timeout=60,
    )
    assert done.returncode == status
