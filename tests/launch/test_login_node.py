"""What launch/ needs: the standard library, little time, no words left in doubt."""

import ast
import os
import subprocess
import sys
import time

import pytest

from tests.launch.calling import BESIDE, LAUNCH, called

SCRIPTS = sorted(path.name for path in LAUNCH.glob("*.py") if path.stem not in BESIDE)


def test_only_the_standard_library_is_imported():
    for path in LAUNCH.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else \
                [node.module] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                top = name.partition(".")[0]
                allowed = top in sys.stdlib_module_names or top in BESIDE
                assert allowed or (path.name, top) == ("gke.py", "yaml"), name


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_comes_at_once_and_without_any_package(script):
    """-S: no site-packages, so neither JAX, nor this project, nor pyyaml."""
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-S", "-E", "-s", str(LAUNCH / script), "--help"],
                          capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert f"python launch/{script}" in done.stdout
    assert time.monotonic() - began < 10  # a process on a busy machine; an import of JAX is more


SBATCH = """#!/usr/bin/env python3
import os, sys
open(os.environ["GIVEN"], "w").write(sys.stdin.read())
print("4321;other")
"""


def slurm(*arguments):
    return called("slurm", *arguments)


def test_a_batch_script_is_bash_and_says_what_was_asked(tmp_path):
    done = slurm("render", "--nodes", 4, "--tasks-per-node", 2, "--gpus", 8, "--cpus", 6,
                 "--memory", "200G", "--time", "1-12", "--partition", "big", "--warn", 240,
                 "--no-requeue", "--exclusive", "--sbatch=--reservation=the one", "--setup",
                 "module load cuda", "--logs", tmp_path / "a b", "--", "sleeplm", "train", "x.py")
    assert done.returncode == 0, done.stderr
    header = [line.removeprefix("#SBATCH ") for line in done.stdout.splitlines()
              if line.startswith("#SBATCH")]
    assert {"--nodes=4", "--ntasks=8", "--ntasks-per-node=2", "--gpus-per-node=8",
            "--cpus-per-task=6", "--mem=200G", "--time=1-12", "--partition=big",
            "--signal=USR1@240", "--no-requeue", "--exclusive",
            "--reservation='the one'"} <= set(header)
    assert "scontrol requeue" not in done.stdout and "\nmodule load cuda\n" in done.stdout
    assert subprocess.run(["bash", "-n"], input=done.stdout, text=True).returncode == 0


@pytest.mark.parametrize("tool, words", [
    ("pyxis", "--container-image=reg/i:1 --container-mounts=/a:/b,/c:/d:ro"),
    ("apptainer", "apptainer exec --nv --bind /a:/b --bind /c:/d:ro reg/i:1 sleeplm"),
])
def test_a_container_is_the_tools_own(tool, words):
    done = slurm("render", "--gpus", 1, "--container", "reg/i:1", "--container-tool", tool,
                 "--mount", "/a:/b", "--mount", "/c:/d:ro", "--", "sleeplm", "train", "x.py")
    assert words in done.stdout
    assert subprocess.run(["bash", "-n"], input=done.stdout, text=True).returncode == 0


def test_submitted_is_what_was_rendered(tmp_path, monkeypatch):
    (tmp_path / "sbatch").write_text(SBATCH)
    (tmp_path / "sbatch").chmod(0o755)
    line = ("--nodes", 2, "--logs", tmp_path / "logs", "--", "sleeplm", "train", "x.py")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("GIVEN", str(tmp_path / "given"))
    done = slurm("submit", *line)
    assert (done.returncode, done.stdout) == (0, "4321\n")
    rendered = slurm("render", *line).stdout
    assert (tmp_path / "given").read_text() == rendered
    assert (tmp_path / "logs" / "job-4321.sh").read_text() == rendered


@pytest.mark.parametrize("arguments, finding", [
    (("render", "--nodes", "2"), "after --"),
    (("render", "--nodes", "0", "--", "true"), "1 or more"),
    (("render", "--gpus", "3", "--tasks-per-node", "2", "--", "true"), "do not divide"),
    (("render", "--time", "soon", "--", "true"), "--time soon"),
    # Warned at its start it would save and go back into the queue, for ever.
    (("render", "--time", "3", "--", "true"), "is 180 s, and SLURM warns 180 s before"),
    (("render", "--time", "0:20:00", "--warn", "1200", "--", "true"), "is 1200 s"),
    (("render", "--sbatch=-N4", "--", "true"), "sets --nodes itself"),
    (("render", "--sbatch=-o /tmp/x", "--", "true"), "sets --output itself"),
    (("render", "--name", "a b", "--", "true"), "--name"),
    (("render", "--partition", "a\nb", "--", "true"), "no spaces"),
    (("render", "--sbatch=--signal=TERM", "--", "true"), "itself"),
    (("render", "--mount", "/a:/b", "--", "true"), "--container"),
    (("render", "--container", "i", "--mount", "a", "--", "true"), "absolute"),
    (("render", "--parallel", "2", "--", "true"), "--sweep"),
    (("render", "--sweep", "/nowhere", "--", "true"), "cannot be read"),
    (("render", "--env", "A B=1", "--", "true"), "NAME=VALUE"),
    (("watch", "x"), "job's number"),
    (("submit", "--", "true"), "no such command"),
])
def test_bad_input_of_slurm_is_taught_in_one_line(arguments, finding, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    done = slurm(*arguments)
    assert done.returncode == 2 and done.stdout == ""
    assert finding in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("limit, seconds", [
    ("30", 1800), ("30:10", 1810), ("1:00:00", 3600), ("1-0", 86400), ("1-2:30", 95400),
    ("0-0:10:05", 605),
])
def test_a_time_limit_is_read_as_sbatch_reads_it(limit, seconds):
    sys.path.insert(0, str(LAUNCH))
    try:
        from slurm import seconds_of
    finally:
        sys.path.remove(str(LAUNCH))
    assert seconds_of(limit) == seconds


def test_a_sweeps_words_are_whole(tmp_path):
    (tmp_path / "sweep").write_text("--seed 1 --name 'a b'\n--seed 2 # two\n\n")
    done = slurm("render", "--sweep", tmp_path / "sweep", "--parallel", 1, "--", "true")
    assert "#SBATCH --array=0-1%1\n" in done.stdout
    assert "  0) more=(--seed 1 --name 'a b') ;;\n  1) more=(--seed 2) ;;\n" in done.stdout
