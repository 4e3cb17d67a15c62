"""The weighted sum of a model's objectives on one batch."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from sleeplm_jax.config import ObjectiveConfig
from sleeplm_jax.objectives import ring
from sleeplm_jax.objectives.caption import caption_loss
from sleeplm_jax.objectives.contrastive import (
    contrastive_logits,
    positives,
    sigmoid_loss,
    softmax_loss,
)
from sleeplm_jax.objectives.reconstruction import (
    patch_loss,
    position_loss,
    reconstruction_loss,
)


def total_loss(
    outputs: dict, batch: dict, config: ObjectiveConfig, amplitude_channels: tuple[bool, ...]
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """`(loss, parts)` from a model's outputs and its batch, all float32 scalars.

    `parts` are unweighted: `contrastive`, `caption`, `reconstruction`, and `position`, which has
    the reconstruction's weight. `amplitude_channels` says which input channels are amplitudes;
    the other one is the body position, a code. `batch["valid"]`, where present, marks padding
    rows of an evaluation; `batch["hidden_patches"]` what a masked reconstruction has to tell.
    """
    valid = batch.get("valid", jnp.ones(len(batch["signal"]), bool))
    # A sample that no sentence can be made of has no text to be matched or written.
    told = valid & batch["kinds"].any(-1)
    parts: dict[str, jax.Array] = {}
    if config.contrastive > 0:
        parts["contrastive"] = _contrastive(outputs, batch, told, config)
    if config.caption > 0:
        parts["caption"] = caption_loss(
            outputs["caption_hidden"], outputs["logits_kernel"], batch["text"], told,
            label_smoothing=config.label_smoothing, z_loss=config.z_loss,
            chunk=config.vocabulary_chunk,
        )
    if config.reconstruction > 0:
        parts |= _reconstruction(outputs, batch, amplitude_channels, valid)
    # Position is a part of the reconstruction, told apart in the log.
    weights = {
        "contrastive": config.contrastive, "caption": config.caption,
        "reconstruction": config.reconstruction, "position": config.reconstruction,
    }
    loss = sum(weights[name] * x for name, x in parts.items())
    return loss, parts


def _contrastive(outputs, batch, told, config: ObjectiveConfig) -> jax.Array:
    pair = outputs["signal_embedding"], outputs["text_embedding"]
    log_scale, bias = outputs["logit_scale"], outputs.get("logit_bias", 0.0)
    keys, kinds = batch["keys"], batch["kinds"]
    if ring.ways(len(told)) > 1:  # a batch over several devices is not gathered
        return ring.ring_loss(
            *pair, jnp.exp(log_scale), bias, keys, kinds, told,
            form=config.contrastive_form, equal=config.equal_captions,
        )
    same = positives(keys, kinds) if config.equal_captions else jnp.eye(len(told), dtype=bool)
    form = softmax_loss if config.contrastive_form == "softmax" else sigmoid_loss
    return form(contrastive_logits(*pair, log_scale, bias), same, told)


def _reconstruction(outputs, batch, amplitude_channels, valid) -> dict[str, jax.Array]:
    signal, mask, parts = batch["signal"], batch["channel_mask"], {}
    amplitudes = mask & jnp.asarray(amplitude_channels)
    hidden = batch.get("hidden_patches")
    if "patches" in outputs:
        parts["reconstruction"] = patch_loss(
            outputs["patches"], hidden, signal, amplitudes, valid
        )
    else:
        parts["reconstruction"] = reconstruction_loss(
            outputs["reconstruction"], signal, amplitudes, valid
        )
    if "position_logits" in outputs:
        channel = amplitude_channels.index(False)
        counts = (mask[:, channel] & valid)[:, None]
        if "patches" in outputs:  # only where the encoder did not see it
            row = channel * hidden.shape[1] // len(amplitude_channels)
            counts = counts & hidden[:, row]
        parts["position"] = position_loss(
            outputs["position_logits"], signal[:, channel], counts
        )
    return parts
