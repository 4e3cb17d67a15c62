"""What the disk and the terminal do to a command: one line, never a traceback."""

import os
import subprocess
import sys

import pytest

from sleeplm_jax.cli import main

SLEEPLM = [sys.executable, "-m", "sleeplm_jax.cli"]


@pytest.mark.parametrize("arguments", [
    ["simulate", "--nights", "1", "--hours", "0.5", "--out"],
    ["prepare", "--recordings", ".", "--out"],
])  # fmt: skip
def test_a_file_in_place_of_the_folder_to_write_to_is_one_line(
    arguments, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.edf").write_bytes(b"")
    assert main([*arguments, "a.edf"]) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith("sleeplm: a.edf") and "cannot be read or written" in said
    assert "\n" not in said


@pytest.mark.parametrize("out", ["report.png", ".", "report"])
def test_a_report_is_not_written_over_its_own_picture(out, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["describe", "run", "a.edf", "--out", out]) == 2
    assert "names no HTML file" in capsys.readouterr().err


def test_no_channels_is_not_ten_channels(capsys):
    assert main(["prepare", "--recordings", ".", "--out", "x", "--channels="]) == 2
    assert "has unknown ''" in capsys.readouterr().err
    assert main(["prepare", "--recordings", ".", "--out", "x", "--channels", "C3, c3"]) == 2
    assert "has 'C3' twice" in capsys.readouterr().err


def test_an_old_locale_and_a_reader_that_leaves_are_no_failures(simulated_folder):
    inspect = [*SLEEPLM, "inspect", str(simulated_folder / "sim-3-0000.edf"), "--json"]
    shown = subprocess.run(inspect, capture_output=True, env={**os.environ,
                           "PYTHONIOENCODING": "ascii"}, check=True)  # fmt: skip
    assert b"\\xb5V" in shown.stdout
    read, write = os.pipe()
    os.close(read)  # `| head` that has already ended
    left = subprocess.run(inspect, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert left.returncode == 141 and left.stderr == b""
