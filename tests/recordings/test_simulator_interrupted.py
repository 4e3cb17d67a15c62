"""Ctrl-C and kill -9 in `simulate`: one line, nothing half-written, the same command goes on."""

import os
import signal
import subprocess
import sys
import time

from sleeplm_jax.recordings.simulator import simulate_night


def test_ctrl_c_is_one_line_and_leaves_no_part_of_a_night(tmp_path):
    out = tmp_path / "cohort"
    command = [sys.executable, "-m", "sleeplm_jax.cli", "simulate", "--out", str(out),
               "--nights", "40", "--hours", "8", "--workers", "2"]  # fmt: skip
    running = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        while not out.is_dir() and running.poll() is None:
            time.sleep(0.05)
        time.sleep(0.5)  # the workers are starting: neither they nor the parent may lose it
        os.killpg(running.pid, signal.SIGINT)  # as a terminal does: workers too
        said = running.communicate(timeout=30)[1]
    finally:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()
    assert running.returncode == 130
    assert "the same command goes on" in said
    assert "Traceback" not in said and "KeyboardInterrupt" not in said
    assert not list(out.iterdir())


def test_what_a_killed_writer_left_is_removed(tmp_path):
    for name in (".partial-x1y2-sim-0-0000.edf", ".partial-x1y2-sim-0-0001.edf"):
        (tmp_path / name).write_bytes(b"half")
    simulate_night(tmp_path, 0, hours=0.5)
    assert {p.name for p in tmp_path.iterdir()} == {
        "sim-0-0000.edf", "sim-0-0000.xml", "sim-0-0000.truth.json", ".partial-x1y2-sim-0-0001.edf",
    }  # another night's may be being written
