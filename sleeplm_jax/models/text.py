"""Unimodal text tower, after CoCa, SleepLM and SigLIP.

Shapes: B batch, L text tokens, D width, V vocabulary.
Token ids: pad 0, bos 1, eos 2 (the corpus' tokenizer fixes them).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from sleeplm_jax.config import TextConfig
from sleeplm_jax.models.attention_mask import Mask
from sleeplm_jax.models.layers import Block, Stack, layer_norm

PAD = 0


class TextEncoder(nnx.Module):
    """`text [B, L]` -> `(summary [B, D], tokens [B, L, D])`.

    `summary` says where the text's one vector is read (TextConfig.summary), None that there is
    none. Tokens leave without a norm; in a causal tower they see only the past, so that the
    decoder that reads them cannot see ahead.
    """

    def __init__(self, config: TextConfig, vocab: int, length: int, *, summary, dtype, remat,
                 kernel="auto", rngs):
        self.dtype, self.summary = dtype, summary
        self.causal = config.attention == "causal"
        normal = nnx.initializers.normal
        self.token_embedding = nnx.Param(normal(0.02)(rngs.params(), (vocab, config.width)))
        places = length + (summary in ("token", "shifted"))
        self.position_embedding = nnx.Param(normal(0.01)(rngs.params(), (places, config.width)))
        if summary in ("token", "shifted"):
            self.summary_token = nnx.Param(normal(0.01)(rngs.params(), (config.width,)))

        def block(rngs):
            return Block(
                config.width, config.heads, config.mlp_ratio, mlp=config.mlp,
                epsilon=config.norm_epsilon, kernel=kernel, dtype=dtype, rngs=rngs,
            )

        self.stack = Stack(block, config.depth, remat=remat, rngs=rngs)
        if summary:
            self.norm = layer_norm(config.width, config.norm_epsilon, rngs=rngs)

    def embed(self, text, start=0) -> jax.Array:
        """Token plus position embeddings `[B, L, D]`; `start` is the first token's position."""
        places = jax.lax.dynamic_slice_in_dim(
            self.position_embedding[...], start, text.shape[1]
        )
        return (self.token_embedding[...][text] + places).astype(self.dtype)

    def __call__(self, text):
        batch, length = text.shape
        x = self.embed(text)
        if self.summary not in ("token", "shifted"):
            # SigLIP's tower reads its padding too.
            keys = text != PAD if self.summary is None else None
            x = self.stack(x, Mask(causal=True, keys=keys) if self.causal else None)
            return (self.norm(x[:, -1]) if self.summary else None), x
        positions = self.position_embedding[...]
        # Ours keeps one position (the last row) however long the text, so a shorter input at
        # inference means the same as the padded one in training. SleepLM's takes the next one.
        place = positions[-1] if self.summary == "token" else positions[length]
        summary = (self.summary_token[...] + place).astype(self.dtype)
        x = jnp.concatenate([x, jnp.broadcast_to(summary, (batch, 1, summary.shape[0]))], 1)
        x = self.stack(x, Mask(causal=True, keys=self._seen(text)))
        return self.norm(x[:, -1]), x[:, :-1]

    def _seen(self, text):
        """Keys that later places may read, `bool [B, L + 1]`: all but padding."""
        real, one = text != PAD, jnp.ones((len(text), 1), bool)
        # SleepLM's key mask (open_clip's before `correct_cls_mask`) lies one place to the right:
        # its summary reads one pad and not itself, and what follows a pad in mid-text is hidden.
        return jnp.concatenate([real, one] if self.summary == "token" else [one, real], 1)
