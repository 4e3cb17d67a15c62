"""Transformer layers and their scanned stack.

Shapes: B batch, N tokens, M context tokens, D width, H heads.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from sleeplm_jax.models.attention import attend, kept
from sleeplm_jax.parallel.activations import between_blocks

REMAT_POLICIES: dict[str, Callable | None] = {
    "full": None,  # keep only a block's input
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}
ACTIVATIONS: dict[str, Callable] = {
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),  # erf, torch's default
    "gelu_tanh": lambda x: jax.nn.gelu(x, approximate=True),  # big_vision's
    "relu": jax.nn.relu,
    "swiglu": jax.nn.silu,
    "geglu": lambda x: jax.nn.gelu(x, approximate=False),
}
GATED = ("swiglu", "geglu")


def layer_norm(width: int, epsilon: float, *, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """LayerNorm computed in float32 whatever the compute type."""
    return nnx.LayerNorm(width, epsilon=epsilon, dtype=jnp.float32, rngs=rngs)


def rms_norm(width: int, epsilon: float, *, rngs: nnx.Rngs) -> nnx.RMSNorm:
    """RMSNorm computed in float32 whatever the compute type."""
    return nnx.RMSNorm(width, epsilon=epsilon, dtype=jnp.float32, rngs=rngs)


def rotate(x: jax.Array, angles: jax.Array) -> jax.Array:
    """Rotary positions on `x [B, N, H, d]` by `angles [N, d/2]`: interleaved, features 2i and
    2i + 1 make a pair (RoFormer, arXiv 2104.09864, and SleepLM; not GPT-NeoX's halves)."""
    cos, sin = jnp.cos(angles)[:, None, :], jnp.sin(angles)[:, None, :]
    even, odd = x[..., 0::2].astype(jnp.float32), x[..., 1::2].astype(jnp.float32)
    turned = jnp.stack([even * cos - odd * sin, even * sin + odd * cos], -1)
    return turned.reshape(x.shape).astype(x.dtype)


def drop(x: jax.Array, rate: float, keys: jax.Array | None) -> jax.Array:
    """Dropout of `x [B, ...]` by `keys [B]`; without keys (evaluation) or at a rate of 0 `x`."""
    if keys is None or rate == 0:
        return x
    return jnp.where(kept(keys, rate, x.shape), x / (1 - rate), 0).astype(x.dtype)


def split_keys(keys: jax.Array | None, n: int):
    """`n` arrays of keys out of one `[B]`, or that many None."""
    if keys is None:
        return [None] * n
    return list(jax.vmap(lambda key: jax.random.split(key, n), out_axes=1)(keys))


class Attention(nnx.Module):
    """Multi-head attention of `x [B, N, D]` over `context [B, M, D]` (itself when None)."""

    def __init__(self, width: int, heads: int, *, qkv_bias=True, dropout=0.0, kernel="auto",
                 dtype, rngs: nnx.Rngs):
        self.heads, self.dropout, self.kernel = heads, dropout, kernel
        # Torch's MultiheadAttention and ViT both use Xavier here.
        linear = dict(kernel_init=nnx.initializers.xavier_uniform(), dtype=dtype, rngs=rngs)
        self.q = nnx.Linear(width, width, use_bias=qkv_bias, **linear)
        self.k = nnx.Linear(width, width, use_bias=qkv_bias, **linear)
        self.v = nnx.Linear(width, width, use_bias=qkv_bias, **linear)
        self.out = nnx.Linear(width, width, **linear)

    def _split(self, x):
        return x.reshape(*x.shape[:-1], self.heads, -1)

    def keys_values(self, context) -> tuple[jax.Array, jax.Array]:
        """Keys and values `[B, M, H, D/H]` of a context: what a cache keeps."""
        return self._split(self.k(context)), self._split(self.v(context))

    def read(self, x, k, v, mask=None, angles=None, key=None):
        """Attention of `x [B, N, D]` over keys and values as `keys_values` gives them; `key [B]`
        draws the dropout of its weights."""
        q = self._split(self.q(x))
        if angles is not None:
            q, k = rotate(q, angles), rotate(k, angles)
        chance = {} if key is None else dict(dropout=self.dropout, dropout_keys=key)
        return self.out(attend(q, k, v, mask, kernel=self.kernel, **chance).reshape(x.shape))

    def __call__(self, x, context=None, mask=None, angles=None, key=None):
        context = x if context is None else context
        return self.read(x, *self.keys_values(context), mask, angles, key)


class Mlp(nnx.Module):
    """`down(f(up x))`, or gated `down(f(gate x) * up x)` (GLU variants, arXiv 2002.05202)."""

    def __init__(self, width: int, hidden: int, kind="gelu", *, bias=True, dropout=0.0, dtype,
                 rngs: nnx.Rngs):
        linear = dict(
            kernel_init=nnx.initializers.xavier_uniform(), use_bias=bias, dtype=dtype, rngs=rngs
        )
        self.kind, self.dropout = kind, dropout
        self.up = nnx.Linear(width, hidden, **linear)
        if kind in GATED:
            self.gate = nnx.Linear(width, hidden, **linear)
        self.down = nnx.Linear(hidden, width, **linear)

    def __call__(self, x, key=None):
        act, (inner, outer) = ACTIVATIONS[self.kind], split_keys(key, 2)
        x = act(self.gate(x)) * self.up(x) if self.kind in GATED else act(self.up(x))
        return drop(self.down(drop(x, self.dropout, inner)), self.dropout, outer)


class Block(nnx.Module):
    """Pre-norm transformer block.

    `cross` adds attention over a context: "joint" between its own attention and the one MLP,
    "separate" after that MLP and with an MLP of its own (open_clip's CoCa, SleepLM).
    """

    def __init__(self, width, heads, mlp_ratio, *, mlp="gelu", mlp_bias=True, qkv_bias=True,
                 cross=None, epsilon=1e-5, dropout=0.0, kernel="auto", dtype, rngs: nnx.Rngs):
        self.dtype, self.cross, self.dropout = dtype, cross, dropout
        common = dict(dropout=dropout, dtype=dtype, rngs=rngs)

        def make_mlp():
            return Mlp(width, int(width * mlp_ratio), mlp, bias=mlp_bias, **common)

        self.norm_self = layer_norm(width, epsilon, rngs=rngs)
        reads = dict(qkv_bias=qkv_bias, kernel=kernel, **common)
        self.attention = Attention(width, heads, **reads)
        if cross:
            self.norm_cross = layer_norm(width, epsilon, rngs=rngs)
            self.norm_context = layer_norm(width, epsilon, rngs=rngs)
            self.cross_attention = Attention(width, heads, **reads)
        self.norm_mlp = layer_norm(width, epsilon, rngs=rngs)
        self.mlp = make_mlp()
        if cross == "separate":
            self.norm_cross_mlp = layer_norm(width, epsilon, rngs=rngs)
            self.cross_mlp = make_mlp()

    def _normed(self, norm, x):
        return norm(x).astype(self.dtype)

    def __call__(self, x, mask=None, context=None, key=None):
        weights, after, mlp, cross = split_keys(key, 4)
        return self.around(
            x, lambda y: drop(self.attention(y, mask=mask, key=weights), self.dropout, after),
            lambda y: self.cross_attention(y, self.context(context), key=cross), mlp,
        )

    def context(self, tokens):
        """What cross-attention takes its keys and values from, of tokens `[B, M, D]`."""
        return self._normed(self.norm_context, tokens)

    def around(self, x, own, across, key=None):
        """The block with its attentions given as functions of the normed `x`, so that one order
        of layers serves whole texts and one token at a time (decoding.py)."""
        x = x + own(self._normed(self.norm_self, x))
        if self.cross == "separate":
            x = x + self.mlp(self._normed(self.norm_mlp, x), key)
        if self.cross:
            x = x + across(self._normed(self.norm_cross, x))
        if self.cross == "separate":
            return x + self.cross_mlp(self._normed(self.norm_cross_mlp, x))
        return x + self.mlp(self._normed(self.norm_mlp, x), key)


class Stack(nnx.Module):
    """`depth` blocks of one shape, parameters stacked on a leading axis and scanned.

    `make(rngs)` gives one block. One block is compiled whatever the depth; `remat` names what the
    backward pass recomputes; `split` splits tokens between blocks over the mesh axis `tensor`.
    """

    def __init__(self, make: Callable, depth: int, *, remat="none", split=False, rngs: nnx.Rngs):
        self.depth, self.remat, self.split = depth, remat, split
        self.blocks = nnx.split_rngs(splits=depth)(nnx.vmap(make, in_axes=0, out_axes=0))(rngs)

    def __call__(self, x, *others, key=None):
        """`x` through every block; `others` (masks, a context) go to each, `key [B]` draws each
        one's dropout."""
        graph, parameters = nnx.split(self.blocks)
        keys = None if key is None else jnp.stack(split_keys(key, self.depth))

        def body(x, layer):
            parameters, key = layer
            x = nnx.merge(graph, parameters)(x, *others, key=key)
            return between_blocks(x, self.split), None

        x = between_blocks(x, self.split)
        if self.remat != "none":
            body = jax.checkpoint(body, policy=REMAT_POLICIES[self.remat], prevent_cse=False)
        return jax.lax.scan(body, x, (parameters, keys))[0]
