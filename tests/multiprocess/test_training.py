"""Trainings of several processes on this machine, started as a user starts them."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from tests.multiprocess.launching import (
    LOCAL,
    PATIENCE_S,
    TINY,
    ended,
    launched,
    log,
    process_of,
    rows,
    wait_until,
)


@pytest.mark.slow
def test_two_processes_train_as_one_does(corpus_folder, trained_run, tmp_path):
    """Same batches, losses equal to float32 rounding in another order of sums, one writer."""
    done = subprocess.run(
        [sys.executable, str(LOCAL), "--processes", "2", "--devices", "2", "--logs",
         str(tmp_path / "logs"), "--", sys.executable, "-m", "sleeplm_jax.cli", "train", str(TINY),
         "--out", str(tmp_path), "--data.corpus", str(corpus_folder), "--mesh.data", "2",
         "--mesh.fsdp", "2"],
        capture_output=True, text=True, timeout=2 * PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    alone, together = rows(trained_run), rows(tmp_path / "tiny")
    assert [row["step"] for row in together] == list(range(1, 13))
    for name in ("loss", "contrastive", "caption", "reconstruction", "grad_norm"):
        np.testing.assert_allclose(
            [row[name] for row in together], [row[name] for row in alone], rtol=2e-4, err_msg=name
        )
    assert "rank 1: " in log(tmp_path, 0) and "data 2 fsdp 2" in log(tmp_path, 0)
    assert "step" not in log(tmp_path, 1)  # one speaks
    assert log(tmp_path, 0).partition("\n")[2] in done.stdout  # and is shown


@pytest.mark.slow
def test_asked_while_it_compiles_it_ends_at_once(corpus_folder, tmp_path):
    with launched(corpus_folder, tmp_path, "--steps", "100") as process:
        wait_until(lambda: "training " in log(tmp_path, 0), process, "the model")
        os.kill(process_of(tmp_path, 1), signal.SIGTERM)
        status, said, took = ended(process)
    assert status == 143, said
    assert took < 20, took
    for rank in range(2):
        assert "stopped before the first step; nothing new to save" in log(tmp_path, rank)
    assert not rows(tmp_path / "tiny")
