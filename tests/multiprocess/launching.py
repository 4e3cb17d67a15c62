"""Starts trainings of several processes as a user starts them, and reads what they leave."""

import contextlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from sleeplm_jax.files import read_rows
from sleeplm_jax.training.clock import RATES

LOCAL = Path(__file__).parents[2] / "launch" / "local.py"
TINY = Path(__file__).parents[1] / "training" / "tiny.py"
# Captions alone, hardly optimised: compiling is what such a test takes its time for.
QUICK = ("--objective.contrastive", "0", "--objective.reconstruction", "0")
PATIENCE_S = 300  # other tests' processes may hold the cores


def command(corpus_folder, out, *more):
    return [sys.executable, "-m", "sleeplm_jax.cli", "train", str(TINY), "--out", str(out),
            "--data.corpus", str(corpus_folder), *QUICK, *more]


@contextlib.contextmanager
def launched(corpus_folder, out, *more, processes=2, devices=1):
    """The launcher's process; ranks' logs lie in out/logs. Nothing of it is left running."""
    process = subprocess.Popen(
        [sys.executable, str(LOCAL), "--processes", str(processes), "--devices", str(devices),
         "--logs", str(out / "logs"), "--no-follow", "--", *command(corpus_folder, out, *more)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
    )
    try:
        yield process
    finally:
        end(process, 5)
        process.communicate()


def end(process, seconds):
    """Asks a launcher that still runs to end its ranks, and waits so long for it at most."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
    process.kill()


def ended(process):
    """Status, all that was said, and the seconds that it took from now."""
    began = time.monotonic()
    said, _ = process.communicate(timeout=PATIENCE_S)
    return process.returncode, said, time.monotonic() - began


def log(out, rank):
    """What a rank has said; nothing while it has no log yet."""
    path = out / "logs" / f"rank-{rank}.log"
    return path.read_text(errors="replace") if path.exists() else ""


def process_of(out, rank):
    """Process id of a rank of the latest launch, as rank 0 told."""
    return int(re.findall(rf"rank {rank}: .*process (\d+)", log(out, 0))[-1])


def rows(folder, split="train"):
    """Rows of the metrics without what depends on the clock; a line being written is left out."""
    return [{k: v for k, v in row.items() if k not in RATES}
            for row in read_rows(folder / "metrics.jsonl") if row["split"] == split]


def wait_until(condition, process, what):
    """Until `condition()` holds; fails when the process ends before."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if condition():
            return
        if process.poll() is not None:
            break
        time.sleep(0.02)
    said = "still running" if process.poll() is None else process.communicate()[0][-3000:]
    raise AssertionError(f"not seen: {what}; {said}")


def wait_for_step(folder, step, process):
    wait_until(
        lambda: (folder / "metrics.jsonl").exists()
        and any(row["step"] >= step for row in rows(folder)),
        process, f"step {step}",
    )
