"""Reconstruction heads: the epoch from its caption tokens, or hidden patches from theirs.

Shapes: B batch, Q caption tokens, C channels, T samples, R patch rows, P patches along time,
I values a patch, S slots of body position, D width.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import nnx

from sleeplm_jax.config import ModelConfig
from sleeplm_jax.models.layers import Block, Stack

POSITIONS = 5  # right, left, supine, prone, upright


class Reconstruction(nnx.Module):
    """Regenerates the whole epoch from the caption tokens through one bottleneck (SleepLM).

    `[B, Q, D] -> {"reconstruction" [B, C, T]}` float32: two blocks, mean over the tokens, two
    linear layers. A coarse regulariser that keeps what captions do not name, not a codec. With
    `positions`, `position_logits [B, S, 5]` too, one slot a second.
    """

    def __init__(self, config: ModelConfig, *, positions: bool, dtype, rngs: nnx.Rngs):
        encoder, self.shape = config.encoder, config.spec.shape

        def block(rngs):
            return Block(
                encoder.width, encoder.heads, 2.0, mlp=config.reconstruction_mlp,
                dropout=encoder.dropout, kernel=config.attention, dtype=dtype, rngs=rngs,
            )

        self.stack = Stack(block, 2, rngs=rngs)
        linear = dict(dtype=dtype, rngs=rngs)
        self.bottleneck = nnx.Linear(encoder.width, config.reconstruction_width, **linear)
        self.to_signal = nnx.Linear(config.reconstruction_width, math.prod(self.shape), **linear)
        self.slots = config.spec.seconds
        if positions:
            self.to_position = nnx.Linear(
                config.reconstruction_width, self.slots * POSITIONS, **linear
            )

    def __call__(self, caption_tokens, key=None) -> dict[str, jax.Array]:
        x = jax.nn.relu(self.bottleneck(self.stack(caption_tokens, key=key).mean(1)))
        out = {"reconstruction": self.to_signal(x).reshape(-1, *self.shape)}
        if hasattr(self, "to_position"):
            out["position_logits"] = self.to_position(x).reshape(-1, self.slots, POSITIONS)
        return jax.tree.map(lambda y: y.astype(jnp.float32), out)


class PatchReconstruction(nnx.Module):
    """What a patch holds, told from its token by one linear layer (SimMIM, arXiv 2111.09886).

    `tokens [B, R * P, D] -> {"patches" [B, R, P, I]}` float32, values of a patch in PatchStem's
    order (channel, then time). With `positions`, `position_logits [B, P, 5]` too, from the mean
    over a time's tokens.
    """

    def __init__(self, config: ModelConfig, *, positions: bool, dtype, rngs: nnx.Rngs):
        encoder, linear = config.encoder, dict(dtype=dtype, rngs=rngs)
        self.rows = len(config.spec.channels) // encoder.patch_channels
        values = encoder.patch_channels * encoder.patch_samples
        self.to_patch = nnx.Linear(encoder.width, values, **linear)
        if positions:
            self.to_position = nnx.Linear(encoder.width, POSITIONS, **linear)

    def __call__(self, tokens) -> dict[str, jax.Array]:
        tokens = tokens.reshape(tokens.shape[0], self.rows, -1, tokens.shape[-1])
        out = {"patches": self.to_patch(tokens)}
        if hasattr(self, "to_position"):
            out["position_logits"] = self.to_position(tokens.mean(1))
        return jax.tree.map(lambda y: y.astype(jnp.float32), out)
