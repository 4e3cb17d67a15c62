"""Reconstruction losses: amplitudes by squared error, body position as a class.

Shapes: B batch, C channels, T samples, R patch rows (C / channels of a patch), P patches along
time, I values of a patch, S slots of time.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

POSITIONS = 5  # codes 0 to 4; -1 is unknown (recordings.channels.POSITIONS)


def reconstruction_loss(
    reconstructed, signal, channel_mask, valid=None, count=None
) -> jax.Array:
    """Mean squared error (z units squared) over present channels of `[B, C, T]`.

    A missing channel has no truth, so it neither costs nor counts. `channel_mask bool [B, C]`;
    give False for channels that are codes rather than amplitudes (position). `count`, here and
    below, is what the sum is divided by where the batch is a part of a whole; else its own.
    """
    present = channels_told(channel_mask, valid)
    error = jnp.square(reconstructed - signal).mean(-1)
    return jnp.where(present, error, 0.0).sum() / _or(count, present)


def channels_told(channel_mask, valid=None) -> jax.Array:
    """Channels that a reconstruction is measured on, bool `[B, C]`."""
    return channel_mask if valid is None else channel_mask & valid[:, None]


def draw_hidden(keys: jax.Array, shape: tuple[int, int], share: float) -> jax.Array:
    """Which patches the encoder is not shown, bool `[B, R, P]`: each with chance `share`, those
    of sample i drawn by `keys[i]`. `shape` is (R, P)."""
    return jax.vmap(lambda key: jax.random.bernoulli(key, share, shape))(keys)


def patches_told(hidden, channel_mask, valid=None) -> jax.Array:
    """Channels of hidden patches that are measured, bool `[B, R, channels of a row, P]`."""
    present = channels_told(channel_mask, valid)
    return present.reshape(*hidden.shape[:2], -1, 1) & hidden[:, :, None]


def patch_loss(patches, hidden, signal, channel_mask, valid=None, count=None) -> jax.Array:
    """Mean squared error (z units squared) over the hidden patches of present channels.

    `patches [B, R, P, I]`, a patch's values channel by channel, then in time; `hidden bool
    [B, R, P]`; `signal [B, C, T]`; `channel_mask bool [B, C]` as in `reconstruction_loss`. What
    the encoder was shown costs nothing, or copying it would be the task (MAE, arXiv 2111.06377).
    """
    batch, rows, places, _ = patches.shape
    channels, samples = signal.shape[1:]
    cut = signal.reshape(batch, rows, channels // rows, places, samples // places)
    there = patches.reshape(batch, rows, places, *cut.shape[2::2]).swapaxes(2, 3)
    error = jnp.square(there - cut).mean(-1)  # [B, R, channels of a row, P]
    told = patches_told(hidden, channel_mask, valid)
    return jnp.where(told, error, 0.0).sum() / _or(count, told)


def positions_told(codes, counts) -> jax.Array:
    """Samples of known position that are measured, bool `[B, S, T / S]` of `codes [B, T]` and
    `counts [B, S]`."""
    known = (codes[..., None] == jnp.arange(POSITIONS)).any(-1)
    return known.reshape(*counts.shape, -1) & counts[..., None]


def position_loss(logits, codes, counts, count=None) -> jax.Array:
    """Cross-entropy of the body position, mean over samples of known position.

    `logits [B, S, 5]`, each slot for T / S samples of `codes [B, T]` (0 to 4, -1 unknown);
    `counts bool`, `[B, S]` or `[B, 1]`: slots outside it take no part. Codes have no order
    (right, left, supine, prone, upright), so squared error between them would mean nothing.
    """
    batch, slots, classes = logits.shape
    cut = codes.reshape(batch, slots, -1, 1)
    known = (cut == jnp.arange(classes)).astype(jnp.float32).sum(2)
    known = jnp.where(counts[..., None], known, 0.0)
    nll = -(known * jax.nn.log_softmax(logits.astype(jnp.float32), -1)).sum()
    return nll / _or(count, positions_told(codes, counts))


def _or(count, told):
    return jnp.maximum(told.sum(), 1) if count is None else count
