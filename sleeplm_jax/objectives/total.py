"""The weighted sum of a model's objectives on one batch."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from sleeplm_jax.config import ObjectiveConfig
from sleeplm_jax.objectives.caption import caption_loss
from sleeplm_jax.objectives.contrastive import (
    contrastive_logits,
    positives,
    sigmoid_loss,
    softmax_loss,
)
from sleeplm_jax.objectives.reconstruction import reconstruction_loss


def total_loss(
    outputs: dict, batch: dict, config: ObjectiveConfig, amplitude_channels: tuple[bool, ...]
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """`(loss, parts)` from a model's outputs and its batch, all float32 scalars.

    `amplitude_channels` says which input channels are amplitudes (position is a code and is not
    reconstructed). `batch["valid"]`, where present, marks padding rows of an evaluation.
    """
    valid = batch.get("valid", jnp.ones(len(batch["signal"]), bool))
    # A sample that no sentence can be made of has no text to be matched or written.
    told = valid & batch["kinds"].any(-1)
    parts: dict[str, jax.Array] = {}
    if config.contrastive > 0:
        logits = contrastive_logits(
            outputs["signal_embedding"], outputs["text_embedding"], outputs["logit_scale"],
            outputs.get("logit_bias", 0.0),
        )
        same = jnp.eye(len(logits), dtype=bool)
        if config.equal_captions:
            same = positives(batch["keys"], batch["kinds"])
        form = softmax_loss if config.contrastive_form == "softmax" else sigmoid_loss
        parts["contrastive"] = form(logits, same, told)
    if config.caption > 0:
        parts["caption"] = caption_loss(
            outputs["logits"], batch["text"], told, config.label_smoothing
        )
    if config.reconstruction > 0:
        mask = batch["channel_mask"] & jnp.asarray(amplitude_channels)
        parts["reconstruction"] = reconstruction_loss(
            outputs["reconstruction"], batch["signal"], mask, valid
        )
    return sum(getattr(config, name) * value for name, value in parts.items()), parts
