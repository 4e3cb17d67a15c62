"""Reconstruction losses: amplitudes by squared error, body position as a class.

Shapes: B batch, C channels, T samples, R patch rows (C / channels of a patch), P patches along
time, I values of a patch, S slots of time.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

POSITIONS = 5  # codes 0 to 4; -1 is unknown (recordings.channels.POSITIONS)


def reconstruction_loss(reconstructed, signal, channel_mask, valid=None) -> jax.Array:
    """Mean squared error (z units squared) over present channels of `[B, C, T]`.

    A missing channel has no truth, so it neither costs nor counts. `channel_mask bool [B, C]`;
    give False for channels that are codes rather than amplitudes (position).
    """
    present = channel_mask if valid is None else channel_mask & valid[:, None]
    error = jnp.square(reconstructed - signal).mean(-1)
    return jnp.where(present, error, 0.0).sum() / jnp.maximum(present.sum(), 1)


def draw_hidden(key: jax.Array, shape: tuple[int, int, int], share: float) -> jax.Array:
    """Which patches the encoder is not shown, bool `[B, R, P]`: each with chance `share`."""
    return jax.random.bernoulli(key, share, shape)


def patch_loss(patches, hidden, signal, channel_mask, valid=None) -> jax.Array:
    """Mean squared error (z units squared) over the hidden patches of present channels.

    `patches [B, R, P, I]`, a patch's values channel by channel, then in time; `hidden bool
    [B, R, P]`; `signal [B, C, T]`; `channel_mask bool [B, C]` as in `reconstruction_loss`. What
    the encoder was shown costs nothing, or copying it would be the task (MAE, arXiv 2111.06377).
    """
    batch, rows, count, _ = patches.shape
    channels, samples = signal.shape[1:]
    cut = signal.reshape(batch, rows, channels // rows, count, samples // count)
    told = patches.reshape(batch, rows, count, channels // rows, samples // count).swapaxes(2, 3)
    error = jnp.square(told - cut).mean(-1)  # [B, R, channels of a row, P]
    present = channel_mask if valid is None else channel_mask & valid[:, None]
    counts = present.reshape(batch, rows, -1, 1) & hidden[:, :, None]
    return jnp.where(counts, error, 0.0).sum() / jnp.maximum(counts.sum(), 1)


def position_loss(logits, codes, counts) -> jax.Array:
    """Cross-entropy of the body position, mean over samples of known position.

    `logits [B, S, 5]`, each slot for T / S samples of `codes [B, T]` (0 to 4, -1 unknown);
    `counts bool`, broadcastable to `[B, S]`: slots outside it take no part. Codes have no order
    (right, left, supine, prone, upright), so squared error between them would mean nothing.
    """
    batch, slots, classes = logits.shape
    codes = codes.reshape(batch, slots, -1, 1)
    share = (codes == jnp.arange(classes)).astype(jnp.float32).mean(2)
    share = jnp.where(jnp.broadcast_to(counts, (batch, slots))[..., None], share, 0.0)
    nll = -(share * jax.nn.log_softmax(logits.astype(jnp.float32), -1)).sum()
    known = share.sum()
    return nll / jnp.where(known > 0, known, 1.0)
