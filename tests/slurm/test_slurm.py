"""Trainings on a real SLURM of two nodes (cluster.py): preempted, requeued, resumed; its logs."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.multiprocess.launching import PATIENCE_S, command, ended, launched, rows
from tests.slurm.cluster import Cluster, missing

SLURM = Path(__file__).parents[2] / "launch" / "slurm.py"
STEPS = 80  # more than are done until SLURM has preempted, about a second
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(missing() is not None, reason=f"no SLURM here: {missing()}"),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with Cluster(tmp_path_factory.mktemp("slurm"), gpus=2) as running:
        yield running


def launch(cluster, *arguments):
    """What launch/slurm.py says, its status."""
    done = subprocess.run([sys.executable, str(SLURM), *map(str, arguments)], text=True,
                          env=cluster.environment, capture_output=True, timeout=PATIENCE_S)
    return done.returncode, done.stdout.strip(), done.stderr


def submitted(cluster, logs, *arguments):
    """The job's number."""
    status, said, errors = launch(cluster, "submit", "--logs", logs, *arguments)
    assert status == 0, errors
    return said


def state(cluster, job):
    return re.search(r"JobState=(\w+)", cluster.run("scontrol", "show", "job", job)).group(1)


def until(condition, what, cluster, logs):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            texts = [path.read_text(errors="replace")[-2000:] for path in logs.rglob("*.log")]
            raise AssertionError("\n".join([f"not seen: {what}", *texts, cluster.logs()]))
        time.sleep(0.1)


def test_a_training_on_two_nodes_is_preempted_and_goes_on_as_if_it_were_not(
    corpus_folder, cluster, tmp_path
):
    """Rows of metrics equal, bit for bit, those of an undisturbed run of the same processes."""
    logs, run = tmp_path / "logs", tmp_path / "tiny"
    steps = ("--steps", str(STEPS), "--checkpoint-every", str(STEPS), "--eval-every", "40",
             "--mesh.data", "2")
    # As launch/local.py starts them; both nodes are this machine.
    like_local = ("JAX_PLATFORMS=cpu", "JAX_NUM_CPU_DEVICES=1", "SLEEPLM_ONE_HOST=1",
                  "JAX_DISABLE_MOST_OPTIMIZATIONS=1",
                  "XLA_FLAGS=--xla_cpu_enable_concurrency_optimized_scheduler=false")
    job = submitted(
        cluster, logs, "--nodes", 2, "--exclusive", "--partition", "low",
        *(word for one in like_local for word in ("--env", one)),
        "--", *command(corpus_folder, tmp_path, *steps),
    )
    until(lambda: (run / "metrics.jsonl").exists() and rows(run), "a step", cluster, logs)
    urgent = cluster.run("sbatch", "--parsable", "--partition=high", "--nodes=2", "--exclusive",
                         "--output=/dev/null", "--wrap=sleep 1")
    until(lambda: state(cluster, urgent) != "PENDING", "the other job", cluster, logs)
    step = rows(run)[-1]["step"]
    assert step < STEPS, "it had ended before it was preempted"
    status, said, errors = launch(cluster, "watch", job, "--every", 0.5)
    assert status == 0, said + errors
    assert "completed" in said and "restarts 1" in said

    _, said, _ = launch(cluster, "logs", job, "--logs", logs, "--rank", 0, "--lines", 1000)
    assert "SIGTERM: stopping after this step, then saving" in said
    assert f"resuming {run} at step {step:,} of {STEPS:,}" in said
    # Who came, by SLURM's name of the first node; each rank its line, at each start.
    table = rf"rank %d of 2: \S+, process \d+, 1 device \(cpu\), coordinator {cluster.nodes[0]}:"
    assert len(re.findall(table % 0, said)) == 2
    _, said, _ = launch(cluster, "logs", job, "--logs", logs, "--rank", 1, "--lines", 1000)
    assert len(re.findall(table % 1, said)) == 2
    assert "goes back into the queue: stopped and saved" in (logs / f"job-{job}.log").read_text()

    # Each start has left what it was made of.
    first, second = (json.loads(path.read_text()) for path in sorted(
        (run / "launches").glob("*.json")))
    assert first["step"] == 0 and first["config"]["steps"] == STEPS
    assert second["step"] > 0 and second["variables"]["SLURM_RESTART_COUNT"] == "1"

    with launched(corpus_folder, tmp_path / "undisturbed", *steps) as process:
        status, said, _ = ended(process)
    assert status == 0, said
    for split in ("train", "val"):
        assert rows(run, split) == rows(tmp_path / "undisturbed" / "tiny", split)


TASK = """
import os, sys, json
print(json.dumps([sys.argv[1:], os.environ["SLEEPLM_COORDINATOR"], os.environ.get("WORD")]))
sys.exit(int(sys.argv[1]))
"""


@pytest.fixture
def task(tmp_path):
    """A folder whose name is no easy one, and a command that shows what reaches it."""
    folder = tmp_path / "it's 100%j"
    folder.mkdir()
    (folder / "task.py").write_text(TASK)
    return folder / "logs", [sys.executable, folder / "task.py"]


def test_words_reach_the_tasks_as_they_were_given(cluster, task):
    logs, line = task
    words = ["0", "a b", "$HOME", "it's", "*", "--x=\"y\"", "100%t"]
    job = submitted(cluster, logs, "--nodes", 2, "--gpus", 1, "--env", "WORD=x $y 'z'", "--",
                    *line, *words)
    assert launch(cluster, "watch", job, "--every", 0.2)[0] == 0
    for rank in (0, 1):
        status, said, _ = launch(cluster, "logs", job, "--logs", logs, "--rank", rank)
        assert status == 0
        port = 20000 + int(job) % 10000
        assert said.splitlines()[-1] == (
            '[["0", "a b", "$HOME", "it\'s", "*", "--x=\\"y\\"", "100%t"], '
            f'"{cluster.nodes[0]}:{port}", "x $y \'z\'"]'
        )


def test_a_sweep_is_one_job_for_each_line(cluster, task, tmp_path):
    logs, line = task
    (tmp_path / "sweep.txt").write_text("0 --seed 1 --name 'one two'\n\n# not this\n3 --seed 2\n")
    job = submitted(cluster, logs, "--sweep", tmp_path / "sweep.txt", "--parallel", 1, "--", *line)
    status, said, _ = launch(cluster, "watch", job, "--every", 0.2)
    assert status == 3 and f"{job}_1: failed" in said and f"{job}_0: completed" in said
    _, said, _ = launch(cluster, "logs", f"{job}_0", "--logs", logs)
    assert '["0", "--seed", "1", "--name", "one two"]' in said
    _, said, _ = launch(cluster, "logs", f"{job}_1", "--logs", logs)
    assert '["3", "--seed", "2"]' in said


def test_what_another_start_may_mend_is_started_again_so_often_and_no_more(cluster, task):
    logs, line = task
    job = submitted(cluster, logs, "--retries", 1, "--", *line, "134")
    status, said, _ = launch(cluster, "watch", job, "--every", 0.2)
    assert status == 134 and "restarts 1" in said and "restarts 2" not in said
    _, said, _ = launch(cluster, "logs", job, "--logs", logs)
    assert "restart 0" in said and "restart 1" in said
    other = submitted(cluster, logs, "--", *line, "2")  # a mistake is not mended by itself
    status, said, _ = launch(cluster, "watch", other, "--every", 0.2)
    assert status == 2 and "restarts" not in said


def test_cancelled_it_does_not_come_back(cluster, tmp_path):
    """Its tasks are told (SIGTERM); the job ends for good."""
    logs = tmp_path / "logs"
    (tmp_path / "task.py").write_text(
        "import signal, sys, time\n"
        "def stop(*_):\n    print('saved', flush=True)\n    sys.exit(143)\n"
        "signal.signal(signal.SIGTERM, stop)\nprint('begun', flush=True)\ntime.sleep(60)\n"
    )
    job = submitted(cluster, logs, "--", sys.executable, tmp_path / "task.py")
    log = logs / job / "rank-0.log"
    until(lambda: log.exists() and "begun" in log.read_text(), "its start", cluster, logs)
    cluster.run("scancel", job)
    status, said, _ = launch(cluster, "watch", job, "--every", 0.2)
    assert status != 0 and "cancelled" in said and "restarts" not in said
    assert "saved" in log.read_text()


def test_tasks_find_each_other_without_a_launcher(cluster, tmp_path):
    """`srun` alone: who is which, and whose GPUs, comes from SLURM's own variables; a batch script
    is no task."""
    body = ("import json; from sleeplm_jax.parallel.ranks import gpus_here, rank_here; "
            "rank = rank_here(); print(json.dumps([rank and vars(rank), gpus_here()]))")
    (tmp_path / "job.sh").write_text(
        f"#!/bin/bash\nexport SLEEPLM_ONE_HOST=1\n{sys.executable} -c '{body}'\n"
        f"srun {sys.executable} -c '{body}'\n"
    )
    job = cluster.run("sbatch", "--parsable", "--nodes=2", "--ntasks-per-node=2",
                      "--gpus-per-node=2", f"--output={tmp_path}/said", f"--chdir={Path.cwd()}",
                      str(tmp_path / "job.sh"))
    assert launch(cluster, "watch", job, "--every", 0.2)[0] == 0, (tmp_path / "said").read_text()
    alone, *tasks = map(json.loads, (tmp_path / "said").read_text().splitlines())
    assert alone == [None, None]
    assert sorted(tasks, key=lambda task: task[0]["process"]) == [
        [{"coordinator": f"{cluster.nodes[0]}:{20000 + int(job) % 10000}", "processes": 4,
          "process": rank, "one_host": True, "told_by": "SLURM"}, [rank % 2]]
        for rank in range(4)
    ]


def test_what_slurm_refuses_is_one_line(cluster, tmp_path):
    for arguments, finding in (
        (("submit", "--partition", "nowhere", "--logs", tmp_path, "--", "true"), "nowhere"),
        (("watch", "99999"), "knows none"),
        (("logs", "99999", "--logs", tmp_path), "no ranks' logs"),
    ):
        status, said, errors = launch(cluster, *arguments)
        assert (status, said) == (2, "") and finding in errors and errors.count("\n") == 1


def test_nothing_is_left_of_a_cluster(tmp_path):
    with Cluster(tmp_path) as running:
        assert running.nodes[0] in Path("/etc/hosts").read_text()
        processes = running.processes
    assert running.nodes[0] not in Path("/etc/hosts").read_text()
    for number in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(number, 0)
