"""What several processes must decide alike about checkpoints."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from sleeplm_jax.checkpoints import Checkpoints
from tests.multiprocess.launching import LOCAL, TINY, ended, launched, log, rows

BLIND = Path(__file__).with_name("blind.py")


@pytest.mark.slow
def test_all_fall_back_to_the_checkpoint_that_all_can_read(trained_run, corpus_folder, tmp_path):
    """Rank 1 alone cannot read step 12: both go on from 8, and nobody waits for ever."""
    shutil.copytree(trained_run, tmp_path / "tiny")
    done = subprocess.run(
        [sys.executable, str(LOCAL), "--processes", "2", "--devices", "1", "--logs",
         str(tmp_path / "logs"), "--", sys.executable, str(BLIND), "train", str(TINY),
         "--out", str(tmp_path), "--data.corpus", str(corpus_folder)],
        capture_output=True, text=True, timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = log(tmp_path, 0)
    assert "checkpoint 12 cannot be read (OSError: [Errno 5] Input/output error) by rank 1: " \
        "passed over for 8, moved to" in said
    assert (tmp_path / "tiny" / "damaged" / "12").is_dir()
    again, before = rows(tmp_path / "tiny"), rows(trained_run)
    assert again[:8] == before[:8] and [row["step"] for row in again] == list(range(1, 13))
    np.testing.assert_allclose(  # two devices sum in another order than one
        [row["loss"] for row in again], [row["loss"] for row in before], rtol=1e-5
    )
    assert Checkpoints(tmp_path / "tiny" / "checkpoints").latest == 12


@pytest.mark.slow
def test_checkpoints_by_time_are_of_the_same_steps_in_all_processes(corpus_folder, tmp_path):
    """Orbax would raise, or wait for ever, if the ranks saved after different steps."""
    folder, seen = tmp_path / "tiny" / "checkpoints", set()
    with launched(corpus_folder, tmp_path, "--steps", "100000", "--eval-every", "100000",
                  "--checkpoint-every", "100000", "--checkpoint-minutes", "0.05") as process:
        deadline = time.monotonic() + 200
        while len(seen) < 4 and time.monotonic() < deadline and process.poll() is None:
            seen |= set(Checkpoints(folder).steps)
            time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        status, said, _ = ended(process)
    assert status == 128 + signal.SIGTERM, said
    assert len(seen) >= 4
    # Each was temporary: the last, of the stop, is left, and the one before, which goes only when
    # another is written after it.
    step = int(re.search(r"stopped at step ([\d,]+), saved", log(tmp_path, 0))[1]
               .replace(",", ""))
    left = Checkpoints(folder).steps
    assert left[-1] == step >= max(seen) and len(left) <= 2
    assert Checkpoints(folder).about(step)["temporary"] is True
    assert sorted(os.listdir(folder)) == sorted(map(str, left))
