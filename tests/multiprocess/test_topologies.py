"""A training goes on with other processes and devices than it was saved from."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.multiprocess.launching import LOCAL, TINY, end, rows

RECORDED = Path(__file__).with_name("recorded.py")
SAVED = 10  # the step that the others go on from
# With XLA's default scheduling for the CPU two runs of four processes (`fsdp 4`) ended within 50
# steps in "gloo::EnforceNotMet ... 6272 vs 16", which looks like two all-reduces of a step that met
# in another order; without it 100 steps went through (by hand: seconds each on two cores).
IN_ORDER = "--xla_cpu_enable_concurrency_optimized_scheduler=false"
# A rate that does not depend on how many steps there will be.
STEADY = ("--optimizer.schedule", "wsd", "--optimizer.cooldown-share", "0.001")
TOPOLOGIES = {  # processes, devices of each, mesh
    "2x2": (2, 2, ("--mesh.data", "2", "--mesh.fsdp", "2")),
    "1x8": (1, 8, ()),
    "1x1": (1, 1, ()),
    "4x1": (4, 1, ("--mesh.data", "1", "--mesh.fsdp", "4")),
}
STEPS = SAVED + 100


def trained(corpus_folder, out, topology, until=None, save_every=1000):
    """Hashes of the rows of each global batch, in order, of a training on this topology; `until`
    so many steps have their row it goes on, and is then told to stop."""
    processes, devices, mesh = TOPOLOGIES[topology]
    (out / "rows").mkdir(parents=True)
    command = subprocess.Popen(
        [sys.executable, str(LOCAL), "--processes", str(processes), "--devices", str(devices),
         "--logs", str(out / "logs"), "--", sys.executable, str(RECORDED), "train", str(TINY),
         "--out", str(out), "--data.corpus", str(corpus_folder), "--steps", str(STEPS),
         "--eval-every", "1000", "--checkpoint-every", str(save_every), "--keep-checkpoints",
         "100", "--log-every", "1", *STEADY, *mesh],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=os.environ | {"RECORDED": str(out / "rows"), "XLA_FLAGS": IN_ORDER},
    )
    try:
        if until is not None:
            while command.poll() is None and len(rows(out / "tiny")) < until:
                time.sleep(0.2)
            command.terminate()
        said, _ = command.communicate(timeout=600)
    finally:
        end(command, 20)
    assert command.returncode == (0 if until is None else 143), said
    batches = []
    for path in sorted((out / "rows").iterdir()):
        for number, line in enumerate(path.read_text().splitlines()):
            if len(batches) <= number:
                batches.append({})
            for row, digest in json.loads(line).items():
                assert batches[number].setdefault(row, digest) == digest
    return batches


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_it_goes_on_anywhere_with_the_same_batches_and_losses(corpus_folder, tmp_path):
    """Saved by 2 processes of 2 devices, gone on with on 1 x 8, 1 x 1 and 4 x 1, as they would
    have: batches bit for bit; losses to the rounding of sums in another order, which training makes
    larger from step to step. Four processes on two cores take seconds a step: 20 of them."""
    batches = trained(corpus_folder, tmp_path / "2x2", "2x2", save_every=SAVED)
    losses = np.array([row["loss"] for row in rows(tmp_path / "2x2" / "tiny")])
    found = {}
    for topology, until in {"1x8": None, "1x1": None, "4x1": SAVED + 20}.items():
        run = tmp_path / topology / "tiny"
        shutil.copytree(tmp_path / "2x2" / "tiny", run)
        if until is not None:  # its rows are waited for: what is copied must not be taken for them
            lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
            kept = [line for line in lines if json.loads(line)["step"] <= SAVED]
            (run / "metrics.jsonl").write_text("".join(kept))
        for path in (run / "checkpoints").iterdir():
            if path.name != str(SAVED):
                shutil.rmtree(path)
        again = trained(corpus_folder, run.parent, topology, until)
        new = np.array([row["loss"] for row in rows(run)])
        assert len(new) >= (until or STEPS) and (new[:SAVED] == losses[:SAVED]).all()
        # Some more are made ahead than are used.
        steps = len(new) - SAVED
        assert again[:steps] == batches[SAVED : len(new)]
        assert all(len(batch) == 8 for batch in again[:steps])
        apart = np.abs(new / losses[: len(new)] - 1)
        found[topology] = apart[: SAVED + 10].max(), apart.max()
    print("largest relative differences of a loss, over 10 and over all steps:", found)
    for ten, whole in found.values():
        assert ten < 1e-6 and whole < 1e-4, found
