"""ReCoCa: signal encoder, text tower, caption decoder and reconstruction head in one module.

Shapes: B batch, C channels, T samples, L text, Q caption tokens, D width, E embedding, V vocab.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import nnx

from sleeplm_jax.config import ModelConfig, ObjectiveConfig
from sleeplm_jax.models.decoder import CaptionDecoder
from sleeplm_jax.models.dual_axis import DualAxis
from sleeplm_jax.models.encoder import Vit2d
from sleeplm_jax.models.layers import split_keys
from sleeplm_jax.models.reconstruction import PatchReconstruction, Reconstruction
from sleeplm_jax.models.text import TextEncoder

ENCODERS = {"vit2d": Vit2d, "dual_axis": DualAxis}


class ReCoCa(nnx.Module):
    """The sleep-language model. Objectives of weight zero leave their module out.

    contrastive only: CLIP (softmax) or SigLIP (sigmoid); caption only: Cap; both: CoCa; with
    reconstruction: ReCoCa, SleepLM's (docs/models.md has the table).
    """

    def __init__(
        self, config: ModelConfig, objective: ObjectiveConfig, text_length: int, *, rngs: nnx.Rngs
    ):
        if config.vocab_size <= 0:
            raise ValueError("vocab_size must be set from the tokenizer before a model is built")
        dtype = jnp.dtype(config.compute_dtype)
        common = dict(dtype=dtype, remat=config.remat, kernel=config.attention, rngs=rngs)
        contrastive, caption = objective.contrastive > 0, objective.caption > 0
        masked = objective.reconstruction > 0 and objective.reconstruction_form == "masked"
        raw = objective.reconstruction > 0 and not masked
        self.encoder = ENCODERS[config.encoder.kind](
            config.encoder, config.spec, embedding=contrastive,
            captions=caption or raw, hides=masked, split=config.split_tokens, **common,
        )
        if contrastive or caption:
            summary = config.text.summary if contrastive else None
            self.text = TextEncoder(
                config.text, config.vocab_size, text_length, summary=summary, **common
            )
        if contrastive:
            for name, width in (("signal_projection", config.encoder.width),
                                ("text_projection", config.text.width)):
                form = getattr(config, name)
                if form != "none":
                    setattr(self, name, nnx.Linear(
                        width, config.embed_dim, use_bias=form == "affine", dtype=jnp.float32,
                        rngs=rngs,
                    ))
            # CLIP starts at temperature 0.07; SigLIP at scale 10 and bias -10, so that the many
            # negatives do not dominate the first steps.
            sigmoid = objective.contrastive_form == "sigmoid"
            self.logit_scale = nnx.Param(jnp.float32(math.log(10.0 if sigmoid else 1 / 0.07)))
            if sigmoid:
                self.logit_bias = nnx.Param(jnp.float32(-10.0))
        if caption:
            if config.text.width != config.encoder.width:
                self.to_decoder = nnx.Linear(
                    config.encoder.width, config.text.width, dtype=dtype, rngs=rngs
                )
            self.decoder = CaptionDecoder(config.text, config.vocab_size, **common)
        if masked or raw:
            positions = objective.position_classes and "POS" in config.spec.channels
            head = PatchReconstruction if masked else Reconstruction
            self.reconstruction = head(config, positions=positions, dtype=dtype, rngs=rngs)
        self.masked = masked

    def _project(self, name, x):
        return unit(getattr(self, name)(x) if hasattr(self, name) else x)

    def encode_signal(self, signal, channel_mask, hidden=None, key=None) -> dict[str, jax.Array]:
        """`signal [B, C, T]`, `channel_mask [B, C]` -> `tokens [B, N, D]` and `features [B, F]`
        (pooled vector, or the mean caption token where nothing is pooled, and mean of present
        tokens); what captions and reconstruction read, `caption_tokens [B, Q, D]`; for contrastive
        models the L2-normalised `embedding [B, E]` (float32). In training, `hidden [B, R, P]` are
        patches that the encoder does not see, and `key [B]` draws dropout."""
        tokens, token_mask, caption_tokens, pooled = self.encoder(
            signal, channel_mask, hidden, key
        )
        weight = token_mask[..., None] / jnp.maximum(token_mask.sum(1), 1)[:, None, None]
        mean = (tokens.astype(jnp.float32) * weight).sum(1)
        features = [mean]
        if pooled is not None or caption_tokens is not None:
            whole = caption_tokens.mean(1) if pooled is None else pooled
            features = [whole.astype(jnp.float32), mean]
        out = {"tokens": tokens, "features": jnp.concatenate(features, -1)}
        if caption_tokens is not None:
            out["caption_tokens"] = caption_tokens
        if pooled is not None:
            out["embedding"] = self._project("signal_projection", pooled)
        return out

    def encode_text(self, text) -> dict[str, jax.Array]:
        """`text [B, L]` -> causal `tokens [B, L, D]`, L2-normalised `embedding [B, E]`."""
        summary, tokens = self.text(text)
        out = {"tokens": tokens}
        if summary is not None:
            out["embedding"] = self._project("text_projection", summary)
        return out

    def embeddings(self, batch: dict, key=None) -> tuple[jax.Array, jax.Array]:
        """`signal_embedding` and `text_embedding` `[B, E]` as `__call__` gives them, alone."""
        first, _ = split_keys(key, 2)
        signal = self.encode_signal(
            batch["signal"], batch["channel_mask"], batch.get("hidden_patches"), first
        )
        return signal["embedding"], self.encode_text(batch["text"])["embedding"]

    def context(self, caption_tokens) -> jax.Array:
        """What the decoder's cross-attention reads, `[B, Q, D text]`."""
        if hasattr(self, "to_decoder"):
            return self.to_decoder(caption_tokens)
        return caption_tokens

    def hidden(self, text_tokens, prefix, caption_tokens) -> jax.Array:
        """The decoder's last states `[B, L, D]`, normed, of text tokens `[B, L, D]`, prefix
        `[B, K]` and caption tokens `[B, Q, D]`."""
        return self.decoder(text_tokens, prefix, self.context(caption_tokens))

    def logits(self, hidden) -> jax.Array:
        """Next-token logits `[B, L, V]` float32."""
        return self.decoder.read_out(hidden)

    def decode(self, text_tokens, prefix, caption_tokens) -> jax.Array:
        """Next-token logits `[B, L, V]`."""
        return self.logits(self.hidden(text_tokens, prefix, caption_tokens))

    def __call__(self, batch: dict, key=None) -> dict[str, jax.Array]:
        """All outputs that the objectives need, for a batch of the loader; `key [B]` draws dropout
        in training. `batch["hidden_patches"] bool [B, R, P]`, where present, hides patches.

        Where the objective has them: `signal_embedding, text_embedding [B, E]`, `logit_scale`,
        `logit_bias`; `caption_hidden [B, L - 1, D]` and `logits_kernel [D, V]` (float32), whose
        product are the logits of `text[:, 1:]`; `reconstruction [B, C, T]`, or `patches
        [B, R, P, I]` of a masked one; `position_logits [B, S, 5]`.
        """
        first, second = split_keys(key, 2)
        signal = self.encode_signal(
            batch["signal"], batch["channel_mask"], batch.get("hidden_patches"), first
        )
        text = self.encode_text(batch["text"]) if hasattr(self, "text") else {}
        out = {}
        if hasattr(self, "logit_scale"):
            out["signal_embedding"], out["text_embedding"] = signal["embedding"], text["embedding"]
            out["logit_scale"] = self.logit_scale[...]
            if hasattr(self, "logit_bias"):
                out["logit_bias"] = self.logit_bias[...]
        if hasattr(self, "decoder"):
            # The tower is causal: dropping its last token is feeding it text[:, :-1].
            out["caption_hidden"] = self.hidden(
                text["tokens"][:, :-1], batch["prefix"], signal["caption_tokens"]
            )
            out["logits_kernel"] = self.decoder.logits.kernel[...]
        if self.masked:
            out |= self.reconstruction(signal["tokens"])
        elif hasattr(self, "reconstruction"):
            out |= self.reconstruction(signal["caption_tokens"], second)
        return out


def unit(x: jax.Array) -> jax.Array:
    """L2-normalised along the last axis, in float32."""
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt((x * x).sum(-1, keepdims=True) + 1e-12)
