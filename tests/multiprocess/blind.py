"""`sleeplm` as a command, whose rank 1 cannot read checkpoint 12: as when one host's disk fails."""

import os
import sys

from sleeplm_jax.checkpoints import Checkpoints
from sleeplm_jax.cli import main

read = Checkpoints._read


def blind(self, where, abstract):
    if where.name == "12" and os.environ["SLEEPLM_PROCESS"] == "1":
        return {}, "cannot be read (OSError: [Errno 5] Input/output error)"
    return read(self, where, abstract)


Checkpoints._read = blind
if __name__ == "__main__":
    sys.exit(main())
