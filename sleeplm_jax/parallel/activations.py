"""How what a model computes on the way is sharded, where XLA's own choice costs memory."""

from __future__ import annotations

import jax
from jax.sharding import PartitionSpec


def split_tokens(x: jax.Array) -> jax.Array:
    """`x [B, ..., N, D]` with its N tokens split over the mesh axis `tensor`, where they divide.

    Between blocks a token is by itself, so devices that share the work need not all hold all of
    them. All else is left to XLA, which then keeps a token's MLP and queries where the token is,
    and gathers the layer's kernels and the keys and values that it attends to.
    """
    ways = jax.sharding.get_abstract_mesh().shape.get("tensor", 1)
    if ways == 1 or x.shape[-2] % ways:
        return x
    free = (PartitionSpec.UNCONSTRAINED,) * (x.ndim - 2)
    where = PartitionSpec(*free, "tensor", PartitionSpec.UNCONSTRAINED)
    return jax.lax.with_sharding_constraint(x, where)
