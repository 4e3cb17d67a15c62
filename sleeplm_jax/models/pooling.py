"""From tokens to decoder tokens and one vector: three ways of attentional pooling.

Shapes: B batch, N tokens, Q caption tokens, D width.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from sleeplm_jax.config import EncoderConfig
from sleeplm_jax.models.layers import Attention, Mlp, layer_norm


class AttentionPool(nnx.Module):
    """Learned queries attending over tokens: `[B, N, D] -> [B, queries, D]` (CoCa's pooler).

    `after`: "norm" a LayerNorm, "none" nothing (SleepLM's), "mlp" a residual MLP (SigLIP's MAP
    head, big_vision models/vit.py).
    """

    def __init__(self, queries: int, config: EncoderConfig, after="norm", *, kernel="auto", dtype,
                 rngs):
        width, self.dtype, self.after = config.width, dtype, after
        self.queries = nnx.Param(0.02 * jax.random.normal(rngs.params(), (queries, width)))
        self.attention = Attention(width, config.heads, kernel=kernel, dtype=dtype, rngs=rngs)
        if after != "none":
            self.norm = layer_norm(width, config.norm_epsilon, rngs=rngs)
        if after == "mlp":
            self.mlp = Mlp(width, int(width * config.mlp_ratio), config.mlp, bias=config.mlp_bias,
                           dtype=dtype, rngs=rngs)

    def __call__(self, tokens, mask=None):
        queries = jnp.broadcast_to(
            self.queries[...].astype(self.dtype), (tokens.shape[0], *self.queries.shape)
        )
        x = self.attention(queries, tokens, mask)
        if self.after == "norm":
            return self.norm(x).astype(self.dtype)
        if self.after == "mlp":
            return x + self.mlp(self.norm(x).astype(self.dtype))
        return x


def hide(encoder, x, hidden) -> jax.Array:
    """Patches `x [B, R, P, D]` with the encoder's mask token where `hidden [B, R, P]`."""
    if hidden is None:
        return x
    return jnp.where(hidden[..., None], encoder.mask_token[...].astype(x.dtype), x)


class Pooled(nnx.Module):
    """What every signal encoder ends in; `captions` and `embedding` say what is wanted."""

    def make_pools(self, config: EncoderConfig, *, captions: bool, embedding: bool, **common):
        cascade = config.pool == "cascade"
        if embedding:
            after = {"attention": "norm", "cascade": "none", "map": "mlp"}[config.pool]
            self.embedding_pool = AttentionPool(1, config, after, **common)
        if captions or (cascade and embedding):
            after = "none" if cascade else "norm"
            self.caption_pool = AttentionPool(config.caption_tokens, config, after, **common)
        if cascade and embedding:
            self.cascade = Attention(config.width, config.heads, **common)

    def pool(self, tokens, keys):
        """`(caption_tokens [B, Q, D], pooled [B, D])` of `tokens [B, N, D]`, None where not
        wanted; the Mask `keys` says which tokens may be read."""
        captions = self.caption_pool(tokens, keys) if hasattr(self, "caption_pool") else None
        if not hasattr(self, "embedding_pool"):
            return captions, None
        pooled = self.embedding_pool(tokens, keys)
        if hasattr(self, "cascade"):  # what was read from the tokens is only the query
            pooled = self.cascade(pooled, captions)
        return captions, pooled[:, 0]
