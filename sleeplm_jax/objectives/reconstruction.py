"""Reconstruction loss. B batch, C channels, T samples."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def reconstruction_loss(reconstructed, signal, channel_mask, valid=None) -> jax.Array:
    """Mean squared error (z units squared) over present channels of `[B, C, T]`.

    A missing channel has no truth, so it neither costs nor counts. `channel_mask bool [B, C]`;
    give False for channels that are codes rather than amplitudes (position).
    """
    present = channel_mask if valid is None else channel_mask & valid[:, None]
    error = jnp.square(reconstructed - signal).mean(-1)
    return jnp.where(present, error, 0.0).sum() / jnp.maximum(present.sum(), 1)
