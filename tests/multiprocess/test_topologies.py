"""A training goes on with other processes and devices than it was saved from."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.multiprocess.launching import LOCAL, TINY, rows

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
}


def trained(corpus_folder, out, topology, steps, save_every=1000):
    """Hashes of the rows of each global batch, in order, of a training on this topology."""
    processes, devices, mesh = TOPOLOGIES[topology]
    (out / "rows").mkdir(parents=True)
    done = subprocess.run(
        [sys.executable, str(LOCAL), "--processes", str(processes), "--devices", str(devices),
         "--logs", str(out / "logs"), "--", sys.executable, str(RECORDED), "train", str(TINY),
         "--out", str(out), "--data.corpus", str(corpus_folder), "--steps", str(steps),
         "--eval-every", "1000", "--checkpoint-every", str(save_every), "--keep-checkpoints",
         "100", "--log-every", "1", *STEADY, *mesh],
        capture_output=True, text=True, timeout=600,
        env=os.environ | {"RECORDED": str(out / "rows"), "XLA_FLAGS": IN_ORDER},
    )
    assert done.returncode == 0, done.stdout + done.stderr
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
    """Saved by 2 processes of 2 devices, gone on with on 1 x 8 and 1 x 1, as they would have:
    batches bit for bit; losses to the rounding of sums in another order, which training makes
    larger from step to step."""
    batches = trained(corpus_folder, tmp_path / "2x2", "2x2", SAVED + 100, save_every=SAVED)
    losses = np.array([row["loss"] for row in rows(tmp_path / "2x2" / "tiny")])
    found = {}
    for topology, steps in {"1x8": 100, "1x1": 100}.items():
        run = tmp_path / topology / "tiny"
        shutil.copytree(tmp_path / "2x2" / "tiny", run)
        for path in (run / "checkpoints").iterdir():
            if path.name != str(SAVED):
                shutil.rmtree(path)
        again = trained(corpus_folder, run.parent, topology, SAVED + steps)
        # Some more are made ahead than are used.
        assert again[:steps] == batches[SAVED : SAVED + steps]
        assert all(len(batch) == 8 for batch in again[:steps])
        new = np.array([row["loss"] for row in rows(run)])
        assert len(new) == SAVED + steps and (new[:SAVED] == losses[:SAVED]).all()
        apart = np.abs(new / losses[: SAVED + steps] - 1)
        found[topology] = apart[: SAVED + 10].max(), apart.max()
    print("largest relative differences of a loss, over 10 and over all steps:", found)
    for ten, whole in found.values():
        assert ten < 1e-6 and whole < 1e-4, found
