"""Small configs that together hold every setting of the model family that changes its arithmetic,
and random weights that leave no bias or scale at its neutral start."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np

from sleeplm_jax.config import DataConfig, RunConfig
from sleeplm_jax.models.build import create
from sleeplm_jax.models.presets import preset
from tests.training import tiny

LENGTH = 20


def changed(config: RunConfig, encoder=None, text=None, objective=None, **model) -> RunConfig:
    """`config` with fields of its parts replaced."""
    parts = config.model
    return dataclasses.replace(
        config,
        model=dataclasses.replace(
            parts, encoder=dataclasses.replace(parts.encoder, **(encoder or {})),
            text=dataclasses.replace(parts.text, **(text or {})), **model,
        ),
        objective=dataclasses.replace(config.objective, **(objective or {})),
    )


def small(vocab_size: int = 384) -> RunConfig:
    config = tiny.get_config()
    return changed(
        dataclasses.replace(config, data=DataConfig(text_length=LENGTH)),
        encoder=dict(depth=2), text=dict(depth=2, decoder_depth=2), vocab_size=vocab_size,
    )


def small_sleeplm(vocab_size: int = 514 + 126) -> RunConfig:
    """SleepLM's settings at a small size; its bottleneck is half its width."""
    config = changed(
        preset("sleeplm-base"),
        encoder=dict(width=32, depth=2, heads=4, patch_samples=96, stem_width=24, caption_tokens=5),
        text=dict(width=32, depth=2, decoder_depth=2, heads=4),
        embed_dim=16, reconstruction_width=16, vocab_size=vocab_size,
    )
    return dataclasses.replace(config, data=dataclasses.replace(config.data, text_length=LENGTH))


def family() -> dict[str, RunConfig]:
    base = small()
    return {
        "vit2d": base,
        "vit2d-plain": changed(
            base, encoder=dict(stem_width=0, patch_channels=2, shared_filters=True,
                               positions="full", pool="cascade", mlp="geglu", mlp_bias=False),
            text=dict(width=24, mlp="swiglu", decoder="separate", summary="last"),
            objective=dict(contrastive_form="sigmoid", reconstruction=0.0),
            signal_projection="affine", text_projection="affine",
        ),
        "siglip": changed(
            base, encoder=dict(pool="map", mlp="gelu_tanh", qkv_bias=False),
            text=dict(attention="bidirectional", summary="last", mlp="gelu_tanh"),
            objective=dict(contrastive_form="sigmoid", caption=0.0, reconstruction=0.0),
            signal_projection="none", text_projection="affine", embed_dim=32,
        ),
        "cap": changed(base, objective=dict(contrastive=0.0, reconstruction=0.0)),
        "reconstruction-alone": changed(
            base, objective=dict(contrastive=0.0, caption=0.0), reconstruction_mlp="relu"
        ),
        "dual-axis": changed(
            small_sleeplm(384), encoder=dict(missing="masked", pool="attention", qkv_bias=True,
                                             mlp="gelu", mlp_bias=True),
            text=dict(summary="token"), objective=dict(position_classes=True),
        ),
        "masked": changed(base, objective=dict(
            caption=0.0, reconstruction_form="masked", position_classes=True)),
        "sleeplm": small_sleeplm(384),
    }


def weights(config: RunConfig, seed: int = 0) -> dict:
    """Parameters of `config`, each a little off its start: biases and scales too."""
    shapes = jax.eval_shape(lambda: create(config)[1])
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        name = path[-1].key
        noise = np.asarray(rng.standard_normal(leaf.shape), np.float32)
        if name == "scale":
            return np.asarray(1 + 0.1 * noise, np.float32)
        if name == "logit_scale":
            return np.asarray(2.5 + 0.1 * noise, np.float32)
        scale = leaf.shape[-2] ** -0.5 if name == "kernel" else 0.1
        return np.asarray(noise * scale, np.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def inputs(config: RunConfig, batch: int = 3, seed: int = 0) -> dict[str, np.ndarray]:
    """Signals, of which some channels are missing, and texts of several lengths."""
    rng = np.random.default_rng(seed)
    spec, length = config.model.spec, config.data.text_length
    mask = rng.random((batch, len(spec.channels))) < 0.7
    mask[0] = True
    text = rng.integers(4, 300, (batch, length))
    text[:, 0] = 1
    for row, end in enumerate(rng.integers(3, length, batch)):
        text[row, end] = 2
        text[row, end + 1 :] = 0
    prefix = np.stack([rng.integers(0, 5, batch), rng.integers(-1, 5, batch)], 1)
    rows = len(spec.channels) // config.model.encoder.patch_channels
    patches = spec.samples // config.model.encoder.patch_samples
    hidden = {}
    if config.objective.reconstruction_form == "masked":
        hidden["hidden_patches"] = rng.random((batch, rows, patches)) < 0.5
    return hidden | {
        "signal": rng.standard_normal((batch, *spec.shape)).astype(np.float32),
        "channel_mask": mask, "text": text.astype(np.int32), "prefix": prefix.astype(np.int32),
        "valid": np.ones(batch, bool),
    }


