"""What a query may look at, said so that a kernel need not be given a whole matrix.

Shapes: B batch, N queries, M keys, H heads.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("keys", "lengths", "dense"), meta_fields=("causal", "prefix"),
)
@dataclass(frozen=True)
class Mask:
    """Which keys a query may look at; everything given must hold.

    `causal`: key j when j <= i. `prefix` K, under `causal`: the first K keys are seen by all, as
    the decoder's modality tokens are. `keys bool [B, M]`: keys that are there. `lengths int32
    [B]`: keys below it. `dense bool`, broadcastable to `[B, H, N, M]`: anything else, at the
    price of its size and of the fast kernels.
    """

    causal: bool = False
    prefix: int = 0
    keys: jax.Array | None = None
    lengths: jax.Array | None = None
    dense: jax.Array | None = None

    def present(self, length: int) -> jax.Array | None:
        """bool `[B, length]` from `keys` and `lengths`, None where neither is given."""
        if self.lengths is None:
            return self.keys
        below = jnp.arange(length) < self.lengths[:, None]
        return below if self.keys is None else below & self.keys

    def answered(self, queries: int, keys: int) -> jax.Array | None:
        """bool `[B, queries or 1]`: queries that see some key; None where all do. Not for
        `dense`."""
        present = self.present(keys)
        if present is None or not self.causal:
            return None if present is None else present.any(1, keepdims=True)
        last = jnp.clip(jnp.arange(queries), self.prefix - 1, keys - 1)
        return (jnp.cumsum(present, 1) > 0)[:, last]

    def whole(self, queries: int, keys: int) -> jax.Array | None:
        """bool, broadcastable to `[B, H, queries, keys]`, None where all is seen."""
        seen, present = self.dense, self.present(keys)
        if present is not None:
            present = present[:, None, None, :]
            seen = present if seen is None else seen & present
        if self.causal:
            past = jnp.arange(keys) <= jnp.maximum(jnp.arange(queries)[:, None], self.prefix - 1)
            seen = past[None, None] if seen is None else seen & past
        return seen
