"""Text tower and cross-attending decoder, after CoCa and SleepLM's modality-prefixed ReCoCa.

Shapes: B batch, L text tokens, K prefix tokens, D width, Q signal tokens, V vocabulary.
Token ids: pad 0, bos 1, eos 2 (the corpus' tokenizer fixes them).
"""

from __future__ import annotations

import jax.numpy as jnp
from flax import nnx

from sleeplm_jax.config import CAPTION_KINDS, TextConfig
from sleeplm_jax.models.layers import Stack, layer_norm

PAD = 0


class TextEncoder(nnx.Module):
    """Causal tower with a learned summary token at the end, which sees every real token.

    Returns `(summary [B, D], tokens [B, L, D])`; tokens are causal, so that the decoder that
    reads them cannot see ahead.
    """

    def __init__(self, config: TextConfig, vocab: int, length: int, *, dtype, remat, rngs):
        self.dtype = dtype
        normal = nnx.initializers.normal
        self.token_embedding = nnx.Param(normal(0.02)(rngs.params(), (vocab, config.width)))
        self.position_embedding = nnx.Param(normal(0.01)(rngs.params(), (length + 1, config.width)))
        self.summary_token = nnx.Param(normal(0.01)(rngs.params(), (config.width,)))
        self.stack = Stack(
            config.depth, config.width, config.heads, config.mlp_ratio,
            dtype=dtype, remat=remat, rngs=rngs,
        )
        self.norm = layer_norm(config.width, rngs=rngs)

    def __call__(self, text):
        batch, length = text.shape
        x = self.token_embedding[...][text]
        summary = jnp.broadcast_to(self.summary_token[...], (batch, 1, x.shape[-1]))
        positions = self.position_embedding[...]
        # The summary keeps one position (the last row) however long the text, so a shorter
        # input at inference means the same as the padded one in training.
        places = jnp.concatenate([positions[:length], positions[-1:]])
        x = (jnp.concatenate([x, summary], 1) + places).astype(self.dtype)
        causal = jnp.tril(jnp.ones((length + 1, length + 1), bool))
        real = jnp.concatenate([text != PAD, jnp.ones((batch, 1), bool)], 1)
        x = self.stack(x, causal[None, None] & real[:, None, None, :])
        return self.norm(x[:, -1]), x[:, :-1]


class CaptionDecoder(nnx.Module):
    """`[modality prefix; text] -> next-token logits [B, L, V]` (float32), reading the signal.

    `prefix [B, K]`: rows of CAPTION_KINDS, -1 for an empty slot (an embedding of its own). The
    prefix sees itself, text sees the prefix and earlier text (SleepLM's mask). The tower's text
    tokens come un-normed, with their positions.
    """

    def __init__(self, config: TextConfig, vocab: int, *, dtype, remat, rngs):
        self.dtype = dtype
        normal = nnx.initializers.normal(0.02)
        self.prefix_embedding = nnx.Param(
            normal(rngs.params(), (len(CAPTION_KINDS) + 1, config.width))
        )
        self.stack = Stack(
            config.decoder_depth, config.width, config.heads, config.mlp_ratio,
            cross=True, dtype=dtype, remat=remat, rngs=rngs,
        )
        self.norm = layer_norm(config.width, rngs=rngs)
        self.logits = nnx.Linear(
            config.width, vocab, use_bias=False, kernel_init=normal, dtype=dtype, rngs=rngs
        )

    def __call__(self, text_tokens, prefix, signal_tokens):
        # -1 (empty slot) reads the extra last row.
        rows = jnp.where(prefix < 0, len(CAPTION_KINDS), prefix)
        start = self.prefix_embedding[...][rows].astype(self.dtype)
        x = jnp.concatenate([start, text_tokens.astype(self.dtype)], 1)
        slots, total = prefix.shape[1], x.shape[1]
        mask = jnp.tril(jnp.ones((total, total), bool))
        mask = mask.at[:slots, :slots].set(True)
        x = self.stack(x, mask[None, None], signal_tokens)
        x = self.norm(x[:, slots:]).astype(self.dtype)
        return self.logits(x).astype(jnp.float32)
