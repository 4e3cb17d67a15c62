"""`sleeplm` as a command, that also writes which rows of which batch each rank puts on its devices.

$RECORDED/rank-N.jsonl gets a line a batch: the SHA-256 of each of its rows, by its place in the
global batch.
"""

import hashlib
import json
import os
import sys
from pathlib import Path

import numpy as np

from sleeplm_jax.cli import main
from sleeplm_jax.parallel.batches import BatchPlacer

place = BatchPlacer.place


def recorded(self, batch):
    if "valid" not in batch:  # not a held-out one
        hashes = {
            int(row): hashlib.sha256(b"".join(
                np.ascontiguousarray(batch[name][i]).tobytes() for name in sorted(batch)
            )).hexdigest() for i, row in enumerate(self.rows)
        }
        path = Path(os.environ["RECORDED"]) / f"rank-{os.environ['SLEEPLM_PROCESS']}.jsonl"
        with path.open("a") as file:
            file.write(json.dumps(hashes) + "\n")
    return place(self, batch)


BatchPlacer.place = recorded
if __name__ == "__main__":
    sys.exit(main())
