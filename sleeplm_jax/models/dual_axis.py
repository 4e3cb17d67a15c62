"""SleepLM's signal encoder: attention over channels, then over time, by turns.

Shapes: B batch, C channels, T samples, P patches along time, N = C * P tokens, H heads, D width.
Source: yang-ai-lab/SleepLM, src/open_clip/biosignals_coca_model.py (MIT), its pure_transformer.
"""

from __future__ import annotations

import jax.numpy as jnp
from flax import nnx

from sleeplm_jax.config import EncoderConfig, SignalSpec
from sleeplm_jax.models.attention_mask import Mask
from sleeplm_jax.models.layers import Attention, Mlp, Stack, rms_norm, split_keys
from sleeplm_jax.models.pooling import Pooled, hide

ROTARY_BASE = 10_000.0


class AxisLayer(nnx.Module):
    """Attention along one axis and an MLP, both post-norm: `[B, N, D] -> [B, N, D]`."""

    def __init__(self, config: EncoderConfig, *, kernel, dtype, rngs: nnx.Rngs):
        self.dtype = dtype
        self.attention = Attention(
            config.width, config.heads, qkv_bias=config.qkv_bias, dropout=config.dropout,
            kernel=kernel, dtype=dtype, rngs=rngs,
        )
        self.norm = rms_norm(config.width, config.norm_epsilon, rngs=rngs)
        self.mlp = Mlp(config.width, int(config.width * config.mlp_ratio), config.mlp,
                       bias=config.mlp_bias, dropout=config.dropout, dtype=dtype, rngs=rngs)
        self.norm_mlp = rms_norm(config.width, config.norm_epsilon, rngs=rngs)

    def __call__(self, x, angles, mask=None, key=None):
        weights, mlp = split_keys(key, 2)
        x = x + self.attention(x, mask=mask, angles=angles, key=weights)
        x = self.norm(x).astype(self.dtype)
        return self.norm_mlp(x + self.mlp(x, mlp)).astype(self.dtype)


def each(keys, n: int):
    """A key for each of a sample's `n` parts: `[B] -> [B * n]`."""
    return None if keys is None else jnp.stack(split_keys(keys, n), 1).reshape(-1)


class DualBlock(nnx.Module):
    """Channel attention at every time, then temporal attention in every channel."""

    def __init__(self, config: EncoderConfig, *, kernel, dtype, rngs: nnx.Rngs):
        self.channel = AxisLayer(config, kernel=kernel, dtype=dtype, rngs=rngs)
        self.temporal = AxisLayer(config, kernel=kernel, dtype=dtype, rngs=rngs)

    def __call__(self, x, keys, channel_angles, time_angles, key=None):
        first, second = split_keys(key, 2)
        batch, channels, patches, width = x.shape
        x = x.swapaxes(1, 2).reshape(batch * patches, channels, width)
        x = self.channel(x, channel_angles, keys, each(first, patches))
        x = x.reshape(batch, patches, channels, width).swapaxes(1, 2)
        x = x.reshape(batch * channels, patches, width)
        x = self.temporal(x, time_angles, key=each(second, channels))
        return x.reshape(batch, channels, patches, width)


class DualAxis(Pooled):
    """As Vit2d, with one set of patch filters for all channels and two short attentions in place
    of a long one. Channels take part by their index: a learned vector, and rotary positions whose
    frequencies are learned and shared by all blocks.
    """

    def __init__(self, config: EncoderConfig, spec: SignalSpec, *, captions=True, embedding=True,
                 hides=False, dtype, remat, split=False, kernel="auto", rngs: nnx.Rngs):
        self.dtype, self.samples = dtype, config.patch_samples
        self.masked = config.missing == "masked"
        self.half = config.width // config.heads // 2
        self.filters = nnx.Linear(config.patch_samples, config.stem_width, dtype=dtype, rngs=rngs)
        self.project = nnx.Linear(config.stem_width, config.width, dtype=dtype, rngs=rngs)
        normal = nnx.initializers.normal(0.02)
        shape = (len(spec.channels), config.width)
        # torch's nn.Embedding starts at unit variance
        self.channel_embedding = nnx.Param(nnx.initializers.normal(1.0)(rngs.params(), shape))
        self.channel_frequencies = nnx.Param(normal(rngs.params(), (self.half,)))
        if hides:
            self.mask_token = nnx.Param(normal(rngs.params(), (config.width,)))
        self.stack = Stack(
            lambda rngs: DualBlock(config, kernel=kernel, dtype=dtype, rngs=rngs), config.depth,
            remat=remat, split=split, rngs=rngs,
        )
        self.norm = rms_norm(config.width, config.norm_epsilon, rngs=rngs)
        self.make_pools(config, captions=captions, embedding=embedding, kernel=kernel, dtype=dtype,
                        rngs=rngs)

    def __call__(self, signal, channel_mask, hidden=None, key=None):
        """`(tokens [B, N, D], token_mask [B, N], caption_tokens [B, Q, D], pooled [B, D])`, the
        last two None where the objectives need none. Tokens are channel-major. `hidden bool
        [B, C, P]` says whose place a learned token takes, `key` draws dropout.
        """
        channel_mask = channel_mask.astype(bool)
        signal = jnp.where(channel_mask[..., None], signal, 0.0).astype(self.dtype)
        batch, channels, samples = signal.shape
        patches = samples // self.samples
        x = self.filters(signal.reshape(batch, channels, patches, self.samples))
        x = hide(self, self.project(x), hidden)
        x = x + self.channel_embedding[...].astype(self.dtype)[:, None]
        if not self.masked:
            channel_mask = jnp.ones_like(channel_mask)
        channel_angles = jnp.arange(channels)[:, None] * self.channel_frequencies[...]
        fixed = ROTARY_BASE ** (-jnp.arange(self.half, dtype=jnp.float32) / self.half)
        time_angles = jnp.arange(patches, dtype=jnp.float32)[:, None] * fixed
        keys = Mask(keys=jnp.repeat(channel_mask, patches, axis=0)) if self.masked else None
        x = self.stack(x, keys, channel_angles, time_angles, key=key)
        x = self.norm(x).astype(self.dtype).reshape(batch, channels * patches, -1)
        token_mask = jnp.repeat(channel_mask, patches, axis=1)
        return x, token_mask, *self.pool(x, Mask(keys=token_mask) if self.masked else None)
