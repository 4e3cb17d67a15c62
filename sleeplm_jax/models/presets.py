"""Published models and our own ladder of sizes, as configs. No JAX here.

`preset("sleeplm-base")` is a whole RunConfig: model, objective, text length and vocabulary as
published, everything else at its default. docs/models.md has the table with exact counts.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from sleeplm_jax.config import (
    DataConfig,
    EncoderConfig,
    ModelConfig,
    ObjectiveConfig,
    RunConfig,
    SignalSpec,
    TextConfig,
)
from sleeplm_jax.errors import ConfigError

# A day of a wearable, one value a minute (so a "second" of this spec is a minute): the 26 of LSM-1,
# whose table SensorLM's paper points at.
SENSORLM_SPEC = SignalSpec(
    (
        "HR", "HR-rest", "RR-valid", "RR-80", "RR-20", "RR-median", "RMSSD", "SDNN",
        "RR-entropy", "RRD-entropy", "steps", "jerk", "log-energy", "covariance",
        "log-energy-ratio", "crossings-sd", "crossings", "axis-mean", "kurtosis",
        "sleep-coefficient", "EDA", "EDA-slope", "EDA-contact", "skin-temperature",
        "skin-temperature-slope", "altimeter-sd",
    ),
    rate=1, seconds=1440,
)  # fmt: skip


def sleeplm_base() -> RunConfig:
    """SleepLM-Base as released (yang-ai-lab/SleepLM, sleep_coca_base_dualtransformer.json, with
    the demo's 5 modalities and prefix of 2): 385,408,033 parameters, 402,549,409 with its
    reconstruction head. Its loss weights are not published: CoCa's 1 and 2, and ours."""
    return RunConfig(
        name="sleeplm-base",
        data=DataConfig(text_length=256),
        model=ModelConfig(
            encoder=EncoderConfig(
                kind="dual_axis", width=768, depth=3, heads=12, mlp="swiglu", mlp_ratio=3.0,
                mlp_bias=False, qkv_bias=False, norm_epsilon=1e-6, patch_samples=16,
                stem_width=256, pool="cascade", caption_tokens=32, missing="zeros",
                dropout=0.1,
            ),
            text=TextConfig(
                width=768, depth=12, decoder_depth=12, heads=12, summary="shifted",
                decoder="separate",
            ),
            embed_dim=512, signal_projection="affine", reconstruction_mlp="relu",
            vocab_size=49_408,
        ),
        objective=ObjectiveConfig(contrastive=1.0, caption=2.0, reconstruction=1.0),
    )


def sensorlm_siglip_b() -> RunConfig:
    """SensorLM's released SigLIP config (big_vision `two_towers`, ViT B/10/2): 93,596,928 of the
    sensor encoder, 110,419,200 of the text tower at 32,000 tokens and a length of 256."""
    return RunConfig(
        name="sensorlm-siglip-b",
        data=DataConfig(text_length=256),
        model=ModelConfig(
            spec=SENSORLM_SPEC,
            encoder=EncoderConfig(
                width=768, depth=12, heads=12, mlp="gelu_tanh", norm_epsilon=1e-6,
                patch_channels=2, patch_samples=10, shared_filters=True, positions="full",
                pool="map",
            ),
            text=TextConfig(
                width=768, depth=12, decoder_depth=12, heads=12, mlp="gelu_tanh",
                norm_epsilon=1e-6, attention="bidirectional", summary="last",
            ),
            embed_dim=768, signal_projection="none", text_projection="affine", vocab_size=32_000,
        ),
        objective=ObjectiveConfig(
            contrastive=1.0, caption=0.0, reconstruction=0.0, contrastive_form="sigmoid"
        ),
    )


def sensorlm(name: str, width: int, depth: int, heads: int, text_depth: int) -> RunConfig:
    """A SensorLM of the paper's sizes. Only the sensor encoders' totals are published (3 M, 114 M,
    404 M, 1.27 B); they are not those of plain ViTs, and a gated MLP of hidden width 4 D is the
    reading that fits three of them. Text tower and decoder are CoCa's for that width."""
    part = dict(width=width, heads=heads, mlp="geglu", norm_epsilon=1e-6)
    return RunConfig(
        name=name,
        data=DataConfig(text_length=256),
        model=ModelConfig(
            spec=SENSORLM_SPEC,
            encoder=EncoderConfig(
                depth=depth, patch_channels=2, patch_samples=10, shared_filters=True,
                positions="full", caption_tokens=256, **part,
            ),
            text=TextConfig(
                width=width, heads=heads, depth=text_depth, decoder_depth=text_depth,
                norm_epsilon=1e-6,
            ),
            embed_dim=min(width, 768), vocab_size=32_000,
        ),
        objective=ObjectiveConfig(contrastive=1.0, caption=2.0, reconstruction=0.0),
    )


def rung(name: str, width: int, encoder_depth: int, text_depth: int, bottleneck: int,
         embed_dim: int, head: int = 64, caption_tokens: int = 32) -> RunConfig:
    """One size of our ladder: a vit2d ReCoCa whose parts grow together. The vocabulary is the
    corpus' (names hold at 2,048 tokens)."""
    large = width >= 512
    return RunConfig(
        name=name,
        data=DataConfig(text_length=128),
        model=ModelConfig(
            encoder=EncoderConfig(
                width=width, depth=encoder_depth, heads=width // head, patch_samples=64,
                stem_width=width, caption_tokens=caption_tokens,
            ),
            text=TextConfig(
                width=width, depth=text_depth, decoder_depth=text_depth, heads=width // head
            ),
            embed_dim=embed_dim, reconstruction_width=bottleneck,
            compute_dtype="bfloat16" if large else "float32", remat="dots" if large else "none",
        ),
    )


# name: width, encoder depth, depth of tower and of decoder, bottleneck, embedding
LADDER = {
    "sleeplm-1m": (64, 4, 2, 8, 64, 32, 16),
    "sleeplm-3m": (128, 3, 2, 16, 128, 64, 16),
    "sleeplm-10m": (192, 6, 4, 32, 192, 64, 16),
    "sleeplm-30m": (320, 8, 5, 64, 256),
    "sleeplm-100m": (512, 11, 7, 128, 384),
    "sleeplm-300m": (768, 16, 10, 256, 512),
    "sleeplm-1b": (1280, 18, 13, 384, 768),
    "sleeplm-2b": (1664, 21, 15, 512, 1024),
}
# name: width, depth, heads, depth of tower and of decoder
SENSORLM = {
    "sensorlm-s": (128, 12, 2, 6),
    "sensorlm-b": (768, 12, 12, 12),
    "sensorlm-l": (1024, 24, 16, 12),
    "sensorlm-xl": (1408, 40, 16, 18),
}
PRESETS: dict[str, Callable[[], RunConfig]] = {
    "sleeplm-base": sleeplm_base,
    "sensorlm-siglip-b": sensorlm_siglip_b,
    **{name: partial(sensorlm, name, *sizes) for name, sizes in SENSORLM.items()},
    **{name: partial(rung, name, *sizes) for name, sizes in LADDER.items()},
}


def preset(name: str) -> RunConfig:
    """The preset of this name; ConfigError that lists them for another."""
    if name not in PRESETS:
        raise ConfigError("preset", f"{name!r} is none", f"choose from {', '.join(PRESETS)}")
    return PRESETS[name]()
