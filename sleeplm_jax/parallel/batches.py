"""From each process' rows to one global, sharded batch."""

from __future__ import annotations

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sleeplm_jax.errors import ConfigError
from sleeplm_jax.parallel.mesh import BATCH_AXES


class BatchPlacer:
    """Knows which rows of a global batch this process must load, and places them on its devices.

    Raises ConfigError when the batch does not divide over the mesh's batch axes.
    """

    def __init__(self, mesh: Mesh, batch_size: int):
        self.batch_size = batch_size
        self.sharding = NamedSharding(mesh, PartitionSpec(BATCH_AXES))
        ways = int(np.prod([mesh.shape[axis] for axis in BATCH_AXES]))
        if batch_size % ways:
            raise ConfigError(
                "data.batch_size", f"{batch_size} does not divide over {ways} data shards",
                "use a multiple",
            )
        spans = {
            index[0].indices(batch_size)[:2]
            for index in self.sharding.addressable_devices_indices_map((batch_size,)).values()
        }
        # Rows that several local devices need (tensor axis) are loaded once.
        self.rows = np.array(sorted({r for start, stop in spans for r in range(start, stop)}))

    def place(self, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
        """`batch` holds this process' rows; global_shape is given because without it hosts that
        share rows diverge silently."""
        return {
            name: jax.make_array_from_process_local_data(
                self.sharding, value, (self.batch_size, *value.shape[1:])
            )
            for name, value in batch.items()
        }
