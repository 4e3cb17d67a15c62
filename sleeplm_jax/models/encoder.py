"""Signal encoder: a ViT over 2-D patches (channels x time) of multichannel epochs.

Shapes: B batch, C channels, T samples, R patch rows (C / patch_channels), P patches along time,
N = R * P tokens, D width.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from sleeplm_jax.config import EncoderConfig, SignalSpec
from sleeplm_jax.models.layers import AttentionPool, Stack, layer_norm


class PatchStem(nnx.Module):
    """`[B, C, T] -> [B, R, P, D]`; every patch row has filters of its own.

    Channels differ in kind (an ECG's filters serve no airflow), so sharing them as image ViTs do
    would save few parameters and cost the first layers their use. With `stem_width` a second
    layer follows a GELU: rectified filters add up to band power, whatever the rhythm's phase.
    """

    def __init__(self, config: EncoderConfig, spec: SignalSpec, *, dtype, rngs: nnx.Rngs):
        self.dtype = dtype
        self.patch = (config.patch_channels, config.patch_samples)
        rows = len(spec.channels) // config.patch_channels
        inputs = config.patch_channels * config.patch_samples
        first = config.stem_width or config.width
        init = nnx.initializers.variance_scaling(1.0, "fan_in", "truncated_normal", in_axis=1,
                                                 out_axis=2, batch_axis=0)
        self.filters = nnx.Param(init(rngs.params(), (rows, inputs, first)))
        self.bias = nnx.Param(jnp.zeros((rows, first)))
        if config.stem_width:
            self.mix = nnx.Linear(first, config.width, dtype=dtype, rngs=rngs)

    def __call__(self, signal):
        batch, channels, samples = signal.shape
        pc, ps = self.patch
        x = signal.reshape(batch, channels // pc, pc, samples // ps, ps).swapaxes(2, 3)
        x = x.reshape(batch, channels // pc, samples // ps, pc * ps).astype(self.dtype)
        x = jnp.einsum("brpi,rid->brpd", x, self.filters[...].astype(self.dtype))
        x = x + self.bias[...].astype(self.dtype)[:, None]
        if hasattr(self, "mix"):
            x = self.mix(jax.nn.gelu(x, approximate=False))
        return x


class SignalEncoder(nnx.Module):
    """Multichannel epochs to tokens, decoder tokens and one pooled vector.

    Call with `signal [B, C, T]` and `channel_mask [B, C]` (True: present). A patch row without
    any present channel is masked out of every attention, so that a missing channel's zeros are
    never read.
    """

    def __init__(self, config: EncoderConfig, spec: SignalSpec, *, dtype, remat, rngs: nnx.Rngs):
        self.config = config
        self.stem = PatchStem(config, spec, dtype=dtype, rngs=rngs)
        rows = len(spec.channels) // config.patch_channels
        patches = spec.samples // config.patch_samples
        normal = nnx.initializers.normal(0.02)
        self.row_embedding = nnx.Param(normal(rngs.params(), (rows, config.width)))
        self.time_embedding = nnx.Param(normal(rngs.params(), (patches, config.width)))
        self.stack = Stack(
            config.depth, config.width, config.heads, config.mlp_ratio,
            dtype=dtype, remat=remat, rngs=rngs,
        )
        self.norm = layer_norm(config.width, rngs=rngs)
        pool = dict(width=config.width, heads=config.heads, dtype=dtype, rngs=rngs)
        self.embedding_pool = AttentionPool(1, **pool)
        self.caption_pool = AttentionPool(config.caption_tokens, **pool)
        self.dtype = dtype

    def __call__(self, signal, channel_mask):
        """`(tokens [B, N, D], token_mask [B, N], caption_tokens [B, Q, D], pooled [B, D])`."""
        channel_mask = channel_mask.astype(bool)
        signal = jnp.where(channel_mask[..., None], signal, 0.0)
        x = self.stem(signal)
        batch, rows, patches, width = x.shape
        place = self.row_embedding[...][:, None] + self.time_embedding[...][None]
        x = (x + place.astype(self.dtype)).reshape(batch, rows * patches, width)
        present = channel_mask.reshape(batch, rows, -1).any(-1)
        token_mask = jnp.repeat(present, patches, axis=1)
        keys = token_mask[:, None, None, :]
        x = self.norm(self.stack(x, keys)).astype(self.dtype)
        return x, token_mask, self.caption_pool(x, keys), self.embedding_pool(x, keys)[:, 0]
