"""Transformer blocks and their scanned stack.

Shapes: B batch, N tokens, M context tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from sleeplm_jax.models.attention import Attention

NORM_EPSILON = 1e-5  # torch's default: weights move to PyTorch unchanged

REMAT_POLICIES: dict[str, Callable | None] = {
    "full": None,  # keep only a block's input
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}


def layer_norm(width: int, *, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """LayerNorm computed in float32 whatever the compute type."""
    return nnx.LayerNorm(width, epsilon=NORM_EPSILON, dtype=jnp.float32, rngs=rngs)


class Mlp(nnx.Module):
    """Two layers with exact (erf) GELU, as torch's default."""

    def __init__(self, width: int, hidden: int, *, dtype, rngs: nnx.Rngs):
        linear = dict(kernel_init=nnx.initializers.xavier_uniform(), dtype=dtype, rngs=rngs)
        self.up = nnx.Linear(width, hidden, **linear)
        self.down = nnx.Linear(hidden, width, **linear)

    def __call__(self, x):
        return self.down(jax.nn.gelu(self.up(x), approximate=False))


class Block(nnx.Module):
    """Pre-norm transformer block; with `cross`, attention over a context comes after its own."""

    def __init__(self, width, heads, mlp_ratio, *, cross=False, dtype, rngs: nnx.Rngs):
        self.dtype = dtype
        self.norm_self = layer_norm(width, rngs=rngs)
        self.attention = Attention(width, heads, dtype=dtype, rngs=rngs)
        if cross:
            self.norm_cross = layer_norm(width, rngs=rngs)
            self.norm_context = layer_norm(width, rngs=rngs)
            self.cross_attention = Attention(width, heads, dtype=dtype, rngs=rngs)
        self.norm_mlp = layer_norm(width, rngs=rngs)
        self.mlp = Mlp(width, int(width * mlp_ratio), dtype=dtype, rngs=rngs)

    def __call__(self, x, mask=None, context=None):
        cast = lambda y: y.astype(self.dtype)  # noqa: E731
        x = x + self.attention(cast(self.norm_self(x)), mask=mask)
        if context is not None:
            context = cast(self.norm_context(context))
            x = x + self.cross_attention(cast(self.norm_cross(x)), context)
        return x + self.mlp(cast(self.norm_mlp(x)))


class Stack(nnx.Module):
    """`depth` blocks of one shape, parameters stacked on a leading axis and scanned.

    One block is compiled whatever the depth; `remat` names what the backward pass recomputes.
    """

    def __init__(self, depth, width, heads, mlp_ratio, *, cross=False, dtype, remat="none", rngs):
        self.remat = remat

        @nnx.split_rngs(splits=depth)
        @nnx.vmap(in_axes=0, out_axes=0)
        def create(rngs):
            return Block(width, heads, mlp_ratio, cross=cross, dtype=dtype, rngs=rngs)

        self.blocks = create(rngs)

    def __call__(self, x, mask=None, context=None):
        graph, parameters = nnx.split(self.blocks)

        def body(x, layer):
            return nnx.merge(graph, layer)(x, mask, context), None

        if self.remat != "none":
            body = jax.checkpoint(body, policy=REMAT_POLICIES[self.remat], prevent_cse=False)
        return jax.lax.scan(body, x, parameters)[0]


class AttentionPool(nnx.Module):
    """Learned queries attending over tokens: `[B, N, D] -> [B, queries, D]` (CoCa's pooler)."""

    def __init__(self, queries: int, width: int, heads: int, *, dtype, rngs: nnx.Rngs):
        self.dtype = dtype
        self.queries = nnx.Param(0.02 * jax.random.normal(rngs.params(), (queries, width)))
        self.attention = Attention(width, heads, dtype=dtype, rngs=rngs)
        self.norm = layer_norm(width, rngs=rngs)

    def __call__(self, tokens, mask=None):
        queries = jnp.broadcast_to(
            self.queries[...].astype(self.dtype), (tokens.shape[0], *self.queries.shape)
        )
        return self.norm(self.attention(queries, tokens, mask)).astype(self.dtype)
