"""launch/tpu_vm.py: gcloud's words, and what they do on hosts that a stand-in for gcloud makes."""

import os
import shlex
import subprocess
import sys
import time

import pytest

from tests.launch.calling import LAUNCH, called

TPU_VM = LAUNCH / "tpu_vm.py"
# Each host is a home folder; ssh runs its command there, scp copies into it.
GCLOUD = """#!/usr/bin/env python3
import os, shutil, subprocess, sys
words = sys.argv[1:]
with open(os.environ["TOLD"], "a") as file:
    print(repr(words), file=file)
verb = words[3]
for host in ("host-0", "host-1"):
    home = os.path.join(os.environ["HOSTS"], host)
    os.makedirs(home, exist_ok=True)
    if verb == "scp":
        shutil.copy(words[4], os.path.join(home, words[5].partition(":")[2]))
    if verb == "ssh":
        [line] = [word.partition("=")[2] for word in words if word.startswith("--command=")]
        status = subprocess.run(["bash", "-c", line], cwd=home, env=os.environ | {"HOME": home})
        if status.returncode:
            sys.exit(status.returncode)
"""


def tpu_vm(*arguments, **more):
    return subprocess.run([sys.executable, str(TPU_VM), *map(str, arguments)],
                          capture_output=True, text=True, timeout=60, **more)


def printed(*arguments):
    done = called("tpu_vm", *arguments)
    assert done.returncode == 0, done.stderr
    return [shlex.split(line) for line in done.stdout.splitlines()]


def test_slices_are_asked_for_by_their_names():
    [line] = printed("create", "t", "--zone", "z", "--tpu", "v5p:2x2x4", "--spot")
    assert line == ["gcloud", "compute", "tpus", "tpu-vm", "create", "t", "--zone=z", "--type=v5p",
                    "--topology=2x2x4", "--version=v2-alpha-tpuv5", "--spot"]
    [line] = printed("create", "t", "--zone", "z", "--project", "p", "--tpu", "v5e:4x4", "--queued")
    assert line == ["gcloud", "compute", "tpus", "queued-resources", "create", "t", "--node-id=t",
                    "--zone=z", "--project=p", "--accelerator-type=v5litepod-16",
                    "--runtime-version=v2-alpha-tpuv5-lite"]
    [line] = printed("delete", "t", "--zone", "z", "--queued")
    assert line[3:6] == ["queued-resources", "delete", "t"] and "--force" in line


@pytest.mark.parametrize("arguments, finding", [
    (("create", "t", "--zone", "z", "--tpu", "v5p:16"), "3 numbers"),
    (("create", "t", "--zone", "z", "--tpu", "v5e:4x4", "--", "true"), "takes no command"),
    (("create", "T_1", "--zone", "z", "--tpu", "v5e:4x4"), "small letters"),
    (("start", "t", "--zone", "z", "--"), "after --"),
    (("start", "t", "--zone", "z", "--env", "A", "--", "true"), "NAME=VALUE"),
    (("start", "t", "--", "true"), "--zone"),
])
def test_bad_input_is_taught_in_one_line(arguments, finding):
    done = called("tpu_vm", *arguments)
    assert done.returncode == 2 and finding in done.stderr.splitlines()[-1]


def test_without_gcloud_it_says_so():
    done = tpu_vm("delete", "t", "--zone", "z", "--run", env=os.environ | {"PATH": "/nowhere"})
    assert done.returncode == 2 and "no such command" in done.stderr


@pytest.fixture
def hosts(tmp_path):
    """The environment of two hosts, and their homes."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "gcloud").write_text(GCLOUD)
    (tools / "gcloud").chmod(0o755)
    homes = [tmp_path / "hosts" / f"host-{number}" for number in (0, 1)]
    for home in homes:
        (home / "sleeplm_jax").mkdir(parents=True)
    return homes, os.environ | {"PATH": f"{tools}:{os.environ['PATH']}",
                                "HOSTS": str(tmp_path / "hosts"), "TOLD": str(tmp_path / "told")}


def until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_command_runs_on_all_hosts_until_it_is_asked_to_stop(hosts, tmp_path):
    """Its words are whole, it outlives the connection, a second start is refused."""
    homes, environment = hosts
    task = tmp_path / "task.py"
    task.write_text(
        "import os, signal, sys, time\n"
        "def stop(*_):\n    print('saved', flush=True)\n    sys.exit(143)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "print(sys.argv[1:], os.environ['WORD'], flush=True)\ntime.sleep(60)\n"
    )
    words = ["it's", "$HOME", "a b", "*", '"']
    line = ("start", "t", "--zone", "z", "--env", "WORD=x 'y' $z", "--run", "--", sys.executable,
            task, *words)
    done = tpu_vm(*line, env=environment)
    assert done.returncode == 0, done.stderr
    logs = [home / "sleeplm-run" / "log" for home in homes]
    try:
        for log in logs:
            until(lambda log=log: log.exists() and log.read_text())
            assert log.read_text() == f"{words} x 'y' $z\n"
        again = tpu_vm(*line, env=environment)
        assert again.returncode == 1 and "runs here already" in again.stderr
        told = tpu_vm("logs", "t", "--zone", "z", "--run", env=environment).stdout
        assert told.count("it's") == 2
    finally:
        done = tpu_vm("stop", "t", "--zone", "z", "--run", env=environment)
    assert done.returncode == 0, done.stderr
    for log in logs:
        until(lambda log=log: "saved" in log.read_text())


def test_a_commit_comes_to_all_hosts(hosts, tmp_path):
    """As far as the clone: installing it is the package index' affair."""
    homes, environment = hosts
    code = tmp_path / "code"
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(code)]
    subprocess.run(["git", "init", "-q", str(code)], check=True)
    (code / "requirements.lock").write_text("")
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "one"], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    pip = homes[0].parent / "pip"
    for home in homes:  # in place of an environment with pip
        (home / "sleeplm-venv" / "bin").mkdir(parents=True)
        (home / "sleeplm-venv" / "bin" / "python").write_text(f'#!/bin/sh\necho "$@" >> {pip}\n')
        (home / "sleeplm-venv" / "bin" / "python").chmod(0o755)
    done = tpu_vm("copy", "t", "--zone", "z", "--run", env=environment, cwd=code)
    assert done.returncode == 0, done.stderr
    for home in homes:
        found = subprocess.run(["git", "-C", str(home / "sleeplm_jax"), "rev-parse", "HEAD"],
                               capture_output=True, text=True)
        assert found.stdout == head.stdout
    assert pip.read_text().splitlines() == [
        "-m pip install --quiet -c sleeplm_jax/requirements.lock -e sleeplm_jax[tpu,stores]"] * 2
