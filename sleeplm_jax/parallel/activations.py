"""How what a model computes on the way is sharded, where XLA's own choice costs too much."""

from __future__ import annotations

import math

import jax
from jax.sharding import PartitionSpec

from sleeplm_jax.parallel.mesh import BATCH_AXES


def between_blocks(x: jax.Array, split_tokens: bool = False) -> jax.Array:
    """`x [B, ..., N, D]` as it is to lie on the devices between two blocks; the values stay.

    Its rows stay where the batch put them. Parameters are split over `fsdp` and so are rows, and
    left to itself XLA may gather the rows instead of the kernels: with 16 rows a device of
    sleeplm-base on `data 8, fsdp 8` it moved 53 GB a step that way.

    With `split_tokens` its N tokens are split over the mesh axis `tensor`, where they divide:
    between blocks a token is by itself, so devices that share the work need not all hold all of
    them. All else is left to XLA, which then keeps a token's MLP and queries where the token is,
    and gathers the layer's kernels and the keys and values that it attends to.
    """
    sizes = jax.sharding.get_abstract_mesh().shape
    spec = [PartitionSpec.UNCONSTRAINED] * x.ndim
    rows = math.prod(sizes.get(axis, 1) for axis in BATCH_AXES)
    if sizes.get("fsdp", 1) > 1 and x.shape[0] % rows == 0:
        spec[0] = BATCH_AXES
    ways = sizes.get("tensor", 1)
    if split_tokens and ways > 1 and x.shape[-2] % ways == 0:
        spec[-2] = "tensor"
    if all(part is PartitionSpec.UNCONSTRAINED for part in spec):
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*spec))
