"""ReCoCa: signal encoder, text tower, caption decoder and reconstruction head in one module.

Shapes: B batch, C channels, T samples, L text, Q caption tokens, D width, E embedding, V vocab.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import nnx

from sleeplm_jax.config import ModelConfig, ObjectiveConfig
from sleeplm_jax.models.encoder import SignalEncoder
from sleeplm_jax.models.layers import Stack
from sleeplm_jax.models.text import CaptionDecoder, TextEncoder


class Reconstruction(nnx.Module):
    """Regenerates the whole epoch from the caption tokens through one bottleneck (SleepLM).

    `[B, Q, D] -> [B, C, T]` float32: two blocks, mean over the tokens, two linear layers. A
    coarse regulariser that keeps what captions do not name, not a codec.
    """

    def __init__(self, config: ModelConfig, *, dtype, rngs: nnx.Rngs):
        encoder, self.shape = config.encoder, config.spec.shape
        self.stack = Stack(2, encoder.width, encoder.heads, 2.0, dtype=dtype, rngs=rngs)
        self.bottleneck = nnx.Linear(
            encoder.width, config.reconstruction_width, dtype=dtype, rngs=rngs
        )
        self.to_signal = nnx.Linear(
            config.reconstruction_width, math.prod(self.shape), dtype=dtype, rngs=rngs
        )

    def __call__(self, caption_tokens):
        x = self.stack(caption_tokens).mean(1)
        x = self.to_signal(jax.nn.relu(self.bottleneck(x)))
        return x.reshape(-1, *self.shape).astype(jnp.float32)


class ReCoCa(nnx.Module):
    """The sleep-language model. Objectives of weight zero leave their module out.

    contrastive only: CLIP (softmax) or SigLIP (sigmoid); caption only: Cap; both: CoCa; with
    reconstruction: ReCoCa, SleepLM's.
    """

    def __init__(
        self, config: ModelConfig, objective: ObjectiveConfig, text_length: int, *, rngs: nnx.Rngs
    ):
        if config.vocab_size <= 0:
            raise ValueError("vocab_size must be set from the tokenizer before a model is built")
        dtype = jnp.dtype(config.compute_dtype)
        common = dict(dtype=dtype, remat=config.remat, rngs=rngs)
        self.encoder = SignalEncoder(config.encoder, config.spec, **common)
        self.text = TextEncoder(config.text, config.vocab_size, text_length, **common)
        if objective.contrastive > 0:
            project = dict(use_bias=False, dtype=jnp.float32, rngs=rngs)
            self.signal_projection = nnx.Linear(config.encoder.width, config.embed_dim, **project)
            self.text_projection = nnx.Linear(config.text.width, config.embed_dim, **project)
            # CLIP starts at temperature 0.07; SigLIP at scale 10 and bias -10, so that the many
            # negatives do not dominate the first steps.
            sigmoid = objective.contrastive_form == "sigmoid"
            self.logit_scale = nnx.Param(jnp.asarray(math.log(10.0 if sigmoid else 1 / 0.07)))
            if sigmoid:
                self.logit_bias = nnx.Param(jnp.asarray(-10.0))
        if objective.caption > 0:
            if config.text.width != config.encoder.width:
                self.to_decoder = nnx.Linear(
                    config.encoder.width, config.text.width, dtype=dtype, rngs=rngs
                )
            self.decoder = CaptionDecoder(config.text, config.vocab_size, **common)
        if objective.reconstruction > 0:
            self.reconstruction = Reconstruction(config, dtype=dtype, rngs=rngs)

    def encode_signal(self, signal, channel_mask) -> dict[str, jax.Array]:
        """`signal [B, C, T]`, `channel_mask [B, C]` -> `caption_tokens [B, Q, D]`, `features
        [B, 2 D]` (pooled vector and mean of present tokens) and, for contrastive models, the
        L2-normalised `embedding [B, E]` (float32)."""
        tokens, token_mask, caption_tokens, pooled = self.encoder(signal, channel_mask)
        weight = token_mask[..., None] / jnp.maximum(token_mask.sum(1), 1)[:, None, None]
        mean = (tokens.astype(jnp.float32) * weight).sum(1)
        out = {
            "caption_tokens": caption_tokens,
            "features": jnp.concatenate([pooled.astype(jnp.float32), mean], -1),
        }
        if hasattr(self, "signal_projection"):
            out["embedding"] = unit(self.signal_projection(pooled))
        return out

    def encode_text(self, text) -> dict[str, jax.Array]:
        """`text [B, L]` -> causal `tokens [B, L, D]`, L2-normalised `embedding [B, E]`."""
        summary, tokens = self.text(text)
        out = {"tokens": tokens}
        if hasattr(self, "text_projection"):
            out["embedding"] = unit(self.text_projection(summary))
        return out

    def decode(self, text_tokens, prefix, caption_tokens):
        """Next-token logits `[B, L, V]` of text tokens `[B, L, D]`, prefix `[B, K]`."""
        if hasattr(self, "to_decoder"):
            caption_tokens = self.to_decoder(caption_tokens)
        return self.decoder(text_tokens, prefix, caption_tokens)

    def __call__(self, batch: dict) -> dict[str, jax.Array]:
        """All outputs that the objectives need, for a batch of the loader."""
        signal = self.encode_signal(batch["signal"], batch["channel_mask"])
        text = self.encode_text(batch["text"])
        out = {}
        if hasattr(self, "signal_projection"):
            out["signal_embedding"], out["text_embedding"] = signal["embedding"], text["embedding"]
            out["logit_scale"] = self.logit_scale[...]
            if hasattr(self, "logit_bias"):
                out["logit_bias"] = self.logit_bias[...]
        if hasattr(self, "decoder"):
            # The tower is causal: dropping its last token is feeding it text[:, :-1].
            out["logits"] = self.decode(
                text["tokens"][:, :-1], batch["prefix"], signal["caption_tokens"]
            )
        if hasattr(self, "reconstruction"):
            out["reconstruction"] = self.reconstruction(signal["caption_tokens"])
        return out


def unit(x: jax.Array) -> jax.Array:
    """L2-normalised along the last axis, in float32."""
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt((x * x).sum(-1, keepdims=True) + 1e-12)
