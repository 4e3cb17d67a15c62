"""One process of several that save a small state to a store, or of one that reads it back.

`python -m tests.multiprocess.saving_to_a_store RANK PROCESSES save|read ADDRESS PORT`: arrays that
are split over the processes, copied to all of them, and both, below tuples and named fields.
"""

import os
import sys
from typing import Any, NamedTuple

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"

import jax
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from sleeplm_jax.checkpoints import Checkpoints


class Moments(NamedTuple):
    mean: dict
    count: Any


def state_on(mesh) -> dict:
    rng = np.random.default_rng(0)

    def array(shape, *spec):
        values = rng.standard_normal(shape).astype(np.float32)
        return jax.make_array_from_callback(
            shape, NamedSharding(mesh, P(*spec)), lambda index: values[index]
        )

    return {
        "parameters": {"halves": array((8, 6), "fsdp"), "below": {
            "copied": array((5,)), "quarters": array((4, 8), "data", "fsdp"),
        }},
        "optimizer": (Moments({"x": array((6, 4), None, "fsdp")}, array(())),
                      {"y": array((4, 4), "data")}),
    }


def run(rank: int, processes: int, act: str, address: str, port: str) -> None:
    if processes > 1:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(f"127.0.0.1:{port}", processes, rank)
    state = state_on(jax.make_mesh((processes, 2), ("data", "fsdp")))
    if act == "save":
        with Checkpoints(address, writing=True) as saved:
            saved.save(3, state, {})
    else:
        wanted = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
        )
        with Checkpoints(address) as saved:
            found = saved.restore(3, wanted)
        same = jax.tree.map(np.array_equal, found, state)
        print("the same" if all(jax.tree.leaves(same)) else "another")
    if processes > 1:
        jax.distributed.shutdown()


if __name__ == "__main__":
    run(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
