"""Captioning loss: next-token cross-entropy. B batch, L text tokens, V vocabulary."""

from __future__ import annotations

import jax
import jax.numpy as jnp

PAD = 0


def caption_nll(logits, text) -> tuple[jax.Array, jax.Array]:
    """Summed negative log-likelihood `[B]` and number of predicted tokens `[B]`.

    `logits [B, L - 1, V]` predict `text[:, 1:]` (`text [B, L]`); pad is not predicted.
    """
    labels = text[:, 1:]
    real = labels != PAD
    log_p = jax.nn.log_softmax(logits, -1)
    nll = -jnp.take_along_axis(log_p, labels[..., None], -1)[..., 0]
    return (nll * real).sum(-1), real.sum(-1)


def caption_loss(logits, text, valid=None, label_smoothing: float = 0.0) -> jax.Array:
    """Mean over all predicted tokens of the batch (not a mean of sequence means)."""
    real = (text[:, 1:] != PAD) & (True if valid is None else valid[:, None])
    log_p = jax.nn.log_softmax(logits, -1)
    nll = -jnp.take_along_axis(log_p, text[:, 1:, None], -1)[..., 0]
    nll = (1 - label_smoothing) * nll - label_smoothing * log_p.mean(-1)
    return (nll * real).sum() / jnp.maximum(real.sum(), 1)
