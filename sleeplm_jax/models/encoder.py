"""Signal encoder: a ViT over 2-D patches (channels x time) of multichannel epochs.

Shapes: B batch, C channels, T samples, R patch rows (C / patch_channels), P patches along time,
N = R * P tokens, Q caption tokens, D width.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from sleeplm_jax.config import EncoderConfig, SignalSpec
from sleeplm_jax.models.attention_mask import Mask
from sleeplm_jax.models.layers import Block, Stack, layer_norm
from sleeplm_jax.models.pooling import Pooled, hide


class PatchStem(nnx.Module):
    """`[B, C, T] -> [B, R, P, D]`; every patch row has filters of its own, or all share one set.

    Channels differ in kind (an ECG's filters serve no airflow), so sharing them as image ViTs do
    would save few parameters and cost the first layers their use. With `stem_width` a second
    layer follows a GELU: rectified filters add up to band power, whatever the rhythm's phase.
    """

    def __init__(self, config: EncoderConfig, spec: SignalSpec, *, dtype, rngs: nnx.Rngs):
        self.dtype = dtype
        self.patch = (config.patch_channels, config.patch_samples)
        self.shared = config.shared_filters
        rows = 1 if self.shared else len(spec.channels) // config.patch_channels
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
        filters = self.filters[...].astype(self.dtype)
        if self.shared:
            x = jnp.einsum("brpi,id->brpd", x, filters[0])
        else:
            x = jnp.einsum("brpi,rid->brpd", x, filters)
        x = x + self.bias[...].astype(self.dtype)[:, None]
        if hasattr(self, "mix"):
            x = self.mix(jax.nn.gelu(x, approximate=False))
        return x


class Vit2d(Pooled):
    """Multichannel epochs to tokens, decoder tokens and one pooled vector.

    Call with `signal [B, C, T]` and `channel_mask [B, C]` (True: present). A patch row without
    any present channel is masked out of every attention, so that a missing channel's zeros are
    never read.
    """

    def __init__(self, config: EncoderConfig, spec: SignalSpec, *, captions=True, embedding=True,
                 hides=False, dtype, remat, split=False, kernel="auto", rngs: nnx.Rngs):
        self.dtype = dtype
        self.stem = PatchStem(config, spec, dtype=dtype, rngs=rngs)
        rows = len(spec.channels) // config.patch_channels
        patches = spec.samples // config.patch_samples
        normal = nnx.initializers.normal(0.02)
        if config.positions == "full":
            shape = (rows, patches, config.width)
            self.position_embedding = nnx.Param(normal(rngs.params(), shape))
        else:
            self.row_embedding = nnx.Param(normal(rngs.params(), (rows, config.width)))
            self.time_embedding = nnx.Param(normal(rngs.params(), (patches, config.width)))
        if hides:
            self.mask_token = nnx.Param(normal(rngs.params(), (config.width,)))

        def block(rngs):
            return Block(
                config.width, config.heads, config.mlp_ratio, mlp=config.mlp,
                mlp_bias=config.mlp_bias, qkv_bias=config.qkv_bias, epsilon=config.norm_epsilon,
                dropout=config.dropout, kernel=kernel, dtype=dtype, rngs=rngs,
            )

        self.stack = Stack(block, config.depth, remat=remat, split=split, rngs=rngs)
        self.norm = layer_norm(config.width, config.norm_epsilon, rngs=rngs)
        self.make_pools(config, captions=captions, embedding=embedding, kernel=kernel, dtype=dtype,
                        rngs=rngs)

    def __call__(self, signal, channel_mask, hidden=None, key=None):
        """`(tokens [B, N, D], token_mask [B, N], caption_tokens [B, Q, D], pooled [B, D])`, the
        last two None where the objectives need none. Tokens are row-major (channel, then time).
        `hidden bool [B, R, P]` says whose place a learned token takes, `key` draws dropout.
        """
        channel_mask = channel_mask.astype(bool)
        x = hide(self, self.stem(jnp.where(channel_mask[..., None], signal, 0.0)), hidden)
        batch, rows, patches, width = x.shape
        if hasattr(self, "position_embedding"):
            place = self.position_embedding[...]
        else:
            place = self.row_embedding[...][:, None] + self.time_embedding[...][None]
        x = (x + place.astype(self.dtype)).reshape(batch, rows * patches, width)
        present = channel_mask.reshape(batch, rows, -1).any(-1)
        token_mask = jnp.repeat(present, patches, axis=1)
        keys = Mask(keys=token_mask)
        x = self.norm(self.stack(x, keys, key=key)).astype(self.dtype)
        return x, token_mask, *self.pool(x, keys)
