"""The weighted sum of a model's objectives on one batch.

The contrastive loss compares every sample with every other; all else is a sum over samples
divided by a count of the batch. So a part of a batch gives its share of all but the contrastive
loss, when it is given the whole's counts.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from sleeplm_jax.config import ObjectiveConfig
from sleeplm_jax.objectives import ring
from sleeplm_jax.objectives.caption import caption_loss, predicted
from sleeplm_jax.objectives.contrastive import (
    contrastive_logits,
    positives,
    sigmoid_loss,
    softmax_loss,
)
from sleeplm_jax.objectives.reconstruction import (
    channels_told,
    patch_loss,
    patches_told,
    position_loss,
    positions_told,
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
    parts: dict[str, jax.Array] = {}
    if config.contrastive > 0:
        pair = outputs["signal_embedding"], outputs["text_embedding"]
        head = {name: outputs[name] for name in ("logit_scale", "logit_bias") if name in outputs}
        parts["contrastive"] = contrastive_loss(pair, head, batch, config)
    parts |= losses_of_samples(outputs, batch, config, amplitude_channels)
    return weighted(parts, config), parts


def weighted(parts: dict[str, jax.Array], config: ObjectiveConfig) -> jax.Array:
    """The loss of these parts. Position is a part of the reconstruction, told apart in the log."""
    weights = {
        "contrastive": config.contrastive, "caption": config.caption,
        "reconstruction": config.reconstruction, "position": config.reconstruction,
    }
    return sum((weights[name] * x for name, x in parts.items()), jnp.float32(0))


def contrastive_loss(pair, head: dict, batch: dict, config: ObjectiveConfig) -> jax.Array:
    """Of a whole batch: `pair` its L2-normalised embeddings `[B, E]` of signals and texts, `head`
    the `logit_scale` and, of a sigmoid, the `logit_bias`."""
    told = _told(batch)
    log_scale, bias = head["logit_scale"], head.get("logit_bias", 0.0)
    keys, kinds = batch["keys"], batch["kinds"]
    if ring.ways(len(told)) > 1:  # a batch over several devices is not gathered
        return ring.ring_loss(
            *pair, jnp.exp(log_scale), bias, keys, kinds, told,
            form=config.contrastive_form, equal=config.equal_captions,
        )
    same = positives(keys, kinds) if config.equal_captions else jnp.eye(len(told), dtype=bool)
    form = softmax_loss if config.contrastive_form == "softmax" else sigmoid_loss
    return form(contrastive_logits(*pair, log_scale, bias), same, told)


def losses_of_samples(
    outputs: dict, batch: dict, config: ObjectiveConfig, amplitude_channels: tuple[bool, ...],
    counts: dict[str, jax.Array] | None = None,
) -> dict[str, jax.Array]:
    """All parts but the contrastive. Of a part of a batch, with `counts` of the whole: its shares,
    which add up to the whole's."""
    counts, parts, valid = counts or {}, {}, _valid(batch)
    if config.caption > 0:
        parts["caption"] = caption_loss(
            outputs["caption_hidden"], outputs["logits_kernel"], batch["text"], _told(batch),
            label_smoothing=config.label_smoothing, z_loss=config.z_loss,
            chunk=config.vocabulary_chunk, count=counts.get("caption"),
        )
    if config.reconstruction == 0:
        return parts
    signal, count = batch["signal"], counts.get("reconstruction")
    amplitudes = batch["channel_mask"] & jnp.asarray(amplitude_channels)
    if "patches" in outputs:
        parts["reconstruction"] = patch_loss(
            outputs["patches"], batch["hidden_patches"], signal, amplitudes, valid, count
        )
    else:
        parts["reconstruction"] = reconstruction_loss(
            outputs["reconstruction"], signal, amplitudes, valid, count
        )
    if "position_logits" in outputs:
        parts["position"] = position_loss(
            outputs["position_logits"], *_positions(batch, amplitude_channels),
            counts.get("position"),
        )
    return parts


def counts_of(
    batch: dict, config: ObjectiveConfig, amplitude_channels: tuple[bool, ...]
) -> dict[str, jax.Array]:
    """What `losses_of_samples` divides a whole batch's sums by, at least 1 each: predicted tokens,
    channels or hidden patches, samples of known position."""
    counts, valid = {}, _valid(batch)
    if config.caption > 0:
        counts["caption"] = predicted(batch["text"], _told(batch))
    if config.reconstruction > 0:
        amplitudes = batch["channel_mask"] & jnp.asarray(amplitude_channels)
        if "hidden_patches" in batch:
            told = patches_told(batch["hidden_patches"], amplitudes, valid)
        else:
            told = channels_told(amplitudes, valid)
        counts["reconstruction"] = told
        if config.position_classes and not all(amplitude_channels):
            counts["position"] = positions_told(*_positions(batch, amplitude_channels))
    return {name: jnp.maximum(told.sum(), 1) for name, told in counts.items()}


def _valid(batch) -> jax.Array:
    return batch.get("valid", jnp.ones(len(batch["signal"]), bool))


def _told(batch) -> jax.Array:
    """A sample that no sentence can be made of has no text to be matched or written."""
    return _valid(batch) & batch["kinds"].any(-1)


def _positions(batch, amplitude_channels) -> tuple[jax.Array, jax.Array]:
    """Codes `[B, T]` and which of them are told, `[B, 1]` or `[B, patches]`."""
    channel, hidden = amplitude_channels.index(False), batch.get("hidden_patches")
    counts = (batch["channel_mask"][:, channel] & _valid(batch))[:, None]
    if hidden is not None:  # only where the encoder did not see it
        counts = counts & hidden[:, channel * hidden.shape[1] // len(amplitude_channels)]
    return batch["signal"][:, channel], counts
