"""Cross-attending caption decoder, after CoCa and SleepLM's modality-prefixed ReCoCa.

Shapes: B batch, L text tokens, K prefix tokens, D width, Q signal tokens, V vocabulary.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from sleeplm_jax.config import CAPTION_KINDS, TextConfig
from sleeplm_jax.models.attention_mask import Mask
from sleeplm_jax.models.layers import Block, Stack, layer_norm


class CaptionDecoder(nnx.Module):
    """`[modality prefix; text] -> hidden states [B, L, D]`, reading the signal's tokens.

    `prefix [B, K]`: rows of CAPTION_KINDS, -1 for an empty slot (an embedding of its own). The
    prefix sees itself, text sees the prefix and earlier text (SleepLM's mask). The tower's text
    tokens come un-normed, with their positions; the prefix has none.
    """

    def __init__(self, config: TextConfig, vocab: int, *, dtype, remat, kernel="auto",
                 rngs):
        self.dtype = dtype
        normal = nnx.initializers.normal(0.02)
        self.prefix_embedding = nnx.Param(
            normal(rngs.params(), (len(CAPTION_KINDS) + 1, config.width))
        )

        def block(rngs):
            return Block(
                config.width, config.heads, config.mlp_ratio, mlp=config.mlp,
                cross=config.decoder, epsilon=config.norm_epsilon, kernel=kernel, dtype=dtype,
                rngs=rngs,
            )

        self.stack = Stack(block, config.decoder_depth, remat=remat, rngs=rngs)
        self.norm = layer_norm(config.width, config.norm_epsilon, rngs=rngs)
        self.logits = nnx.Linear(
            config.width, vocab, use_bias=False, kernel_init=normal, dtype=dtype, rngs=rngs
        )

    def start(self, prefix) -> jax.Array:
        """The prefix' tokens `[B, K, D]`."""
        # -1 (empty slot) reads the extra last row.
        rows = jnp.where(prefix < 0, len(CAPTION_KINDS), prefix)
        return self.prefix_embedding[...][rows].astype(self.dtype)

    def __call__(self, text_tokens, prefix, signal_tokens):
        x = jnp.concatenate([self.start(prefix), text_tokens.astype(self.dtype)], 1)
        slots = prefix.shape[1]
        x = self.stack(x, Mask(causal=True, prefix=slots), signal_tokens)
        return self.norm(x[:, slots:]).astype(self.dtype)

    def read_out(self, hidden) -> jax.Array:
        """Logits: `hidden [B, L, D] -> [B, L, V]`, summed in float32 whatever the compute type."""
        kernel = self.logits.kernel[...].astype(self.dtype)
        return jnp.matmul(hidden, kernel, preferred_element_type=jnp.float32)
