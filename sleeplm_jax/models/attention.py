"""Attention: one function for all modules, so that faster kernels have one door to come in by.

Shapes: B batch, N queries, M keys, D width, H heads.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx


def attend(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """Scaled dot-product attention `[B, N, H, D/H] -> [B, N, H, D/H]`, softmax in float32.

    `mask` bool, broadcastable to `[B, H, N, M]`: True where a query may look at a key. A query
    whose keys are all masked attends to all of them evenly (finite, never NaN).
    """
    scores = jnp.einsum("bnhd,bmhd->bhnm", q, k, preferred_element_type=jnp.float32)
    scores = scores * (q.shape[-1] ** -0.5)
    if mask is not None:
        scores = jnp.where(mask, scores, -1e30)
    weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
    return jnp.einsum("bhnm,bmhd->bnhd", weights, v)


class Attention(nnx.Module):
    """Multi-head attention of `x [B, N, D]` over `context [B, M, D]` (itself when None)."""

    def __init__(self, width: int, heads: int, *, dtype, rngs: nnx.Rngs):
        self.heads = heads
        # Torch's MultiheadAttention and ViT both use Xavier here.
        linear = dict(kernel_init=nnx.initializers.xavier_uniform(), dtype=dtype, rngs=rngs)
        self.q = nnx.Linear(width, width, **linear)
        self.k = nnx.Linear(width, width, **linear)
        self.v = nnx.Linear(width, width, **linear)
        self.out = nnx.Linear(width, width, **linear)

    def __call__(self, x, context=None, mask=None):
        context = x if context is None else context

        def split(y):
            return y.reshape(*y.shape[:-1], self.heads, -1)

        mixed = attend(split(self.q(x)), split(self.k(context)), split(self.v(context)), mask)
        return self.out(mixed.reshape(x.shape))
