"""Contrastive losses between signals and texts, with equal captions as positives.

Shapes: B batch (signals and texts), E embedding, K kinds of caption.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

# CLIP lets the learned temperature scale logits by 100 at most. As OpenCLIP the value is clipped
# after each update, so that a gradient that wants it lower is still felt (a clamp inside the loss
# would have none). SigLIP does not clip.
MAX_LOG_SCALE = math.log(100.0)


def positives(keys: jax.Array, kinds: jax.Array) -> jax.Array:
    """Which texts are true of which signals: bool `[B signals, B texts]`.

    `keys int32 [B, K]` hash what a caption of each kind would state of a signal, `kinds bool
    [B, K]` say which kinds a text holds. Text j is true of signal i when, for every kind that j
    holds, i's key equals j's: also when i was paired with a caption of another kind.
    """
    equal = keys[:, None, :] == keys[None, :, :]
    return jnp.all(equal | ~kinds[None, :, :], axis=-1) | jnp.eye(len(keys), dtype=bool)


def contrastive_logits(signal, text, log_scale, bias=0.0) -> jax.Array:
    """`[B signals, B texts]` float32 logits of L2-normalised embeddings `[B, E]`."""
    cosines = jnp.matmul(signal, text.T, preferred_element_type=jnp.float32)
    return jnp.exp(log_scale) * cosines + bias


def bounded(log_scale: jax.Array, form: str) -> jax.Array:
    """The learned log scale after an update: at most ln 100 for the softmax (and not below 0, as
    OpenCLIP), any for the sigmoid."""
    return jnp.clip(log_scale, 0.0, MAX_LOG_SCALE) if form == "softmax" else log_scale


def softmax_loss(logits, positive, valid=None) -> jax.Array:
    """Symmetric cross-entropy (CLIP); a row's target is spread evenly over its positives.

    `valid bool [B]`: rows and columns outside it (padding) take no part.
    """
    valid = jnp.ones(len(logits), bool) if valid is None else valid
    weight = valid / jnp.maximum(valid.sum(), 1)

    def one_way(logits, positive):
        positive = positive & valid[None, :]
        target = positive / jnp.maximum(positive.sum(-1, keepdims=True), 1)
        log_p = jax.nn.log_softmax(jnp.where(valid[None, :], logits, -jnp.inf), -1)
        return -(jnp.where(positive, log_p, 0.0) * target).sum(-1) @ weight

    return 0.5 * (one_way(logits, positive) + one_way(logits.T, positive.T))


def sigmoid_loss(logits, positive, valid=None) -> jax.Array:
    """Pairwise log-sigmoid (SigLIP): label +1 for every positive, -1 otherwise; summed over a
    row's texts, averaged over signals."""
    valid = jnp.ones(len(logits), bool) if valid is None else valid
    losses = -jax.nn.log_sigmoid(jnp.where(positive, logits, -logits))
    return (losses * (valid[:, None] & valid[None, :])).sum() / jnp.maximum(valid.sum(), 1)
