"""Which values of a config fit together; the first that does not is named."""

from __future__ import annotations

import dataclasses
import re
import typing
from typing import Literal

from sleeplm_jax.config import ARTEFACTS, ModelConfig, ObjectiveConfig, RunConfig
from sleeplm_jax.config.files import flatten, from_dict, to_dict
from sleeplm_jax.errors import ConfigError

POSITIVE = (
    "steps", "log_every", "eval_every", "eval_samples", "checkpoint_every", "keep_checkpoints",
    "micro_batches", "start_timeout", "data.batch_size", "data.workers", "data.prefetch",
    "model.spec.rate", "model.spec.seconds", "model.embed_dim", "model.reconstruction_width",
    "model.encoder.width", "model.encoder.depth", "model.encoder.heads",
    "model.encoder.mlp_ratio", "model.encoder.patch_channels", "model.encoder.patch_samples",
    "model.encoder.caption_tokens",
    "model.text.width", "model.text.depth", "model.text.decoder_depth", "model.text.heads",
    "model.text.mlp_ratio", "model.encoder.norm_epsilon", "model.text.norm_epsilon",
    "objective.vocabulary_chunk", "optimizer.learning_rate", "optimizer.clip_norm",
)  # fmt: skip
NOT_NEGATIVE = (
    "seed", "data.unique_hours", "data.processes", "data.time_shift", "model.vocab_size",
    "model.encoder.stem_width", "optimizer.warmup_steps", "optimizer.weight_decay",
    "objective.z_loss", "keep_every", "checkpoint_minutes", "spike_factor", "watchdog_minutes",
)  # fmt: skip
SHARES = (
    "data.pair_probability", "data.channel_dropout", "objective.label_smoothing",
    "model.encoder.dropout", "objective.mask_share",
    "optimizer.beta1", "optimizer.beta2", "optimizer.momentum", "optimizer.cooldown_share",
)  # fmt: skip


def validate(config: RunConfig) -> RunConfig:
    """`config` itself, or ConfigError naming the first field that cannot work."""

    def need(ok: bool, where: str, finding: str, remedy: str) -> None:
        if not ok:
            raise ConfigError(where, finding, remedy)

    from_dict(type(config), to_dict(config))  # refuses values of a wrong type
    model, data, encoder, spec = config.model, config.data, config.model.encoder, config.model.spec
    values = flatten(config)
    for where in POSITIVE:
        need(values[where] > 0, where, f"is {values[where]}", "give a positive number")
    for where in NOT_NEGATIVE:
        need(values[where] >= 0, where, f"is {values[where]}", "give 0 or more")
    for where in SHARES:
        need(0 <= values[where] <= 1, where, f"is {values[where]}",
             "give a share between 0 and 1")
    for where, choices in literals(type(config)).items():
        need(values[where] in choices, where, f"is {values[where]!r}",
             f"choose from {', '.join(map(str, choices))}")
    need(
        config.name not in ("", ".", "..") and "/" not in config.name,
        "name", f"is {config.name!r}", "give a folder name without slashes",
    )
    profiled = config.profile_steps
    need(
        not profiled or (len(profiled) == 2 and 1 <= profiled[0] <= profiled[1]),
        "profile_steps", f"is {profiled}", "give the first and the last step, or nothing",
    )
    # JAX asks every half of it, and a busy host answers a second late.
    need(config.heartbeat >= 5, "heartbeat", f"is {config.heartbeat} s", "give 5 or more seconds")
    need(
        not (data.unique_hours and data.mixture), "data.unique_hours",
        "limits one corpus, and data.mixture names several", "leave one of them out",
    )
    need(data.text_length >= 8, "data.text_length", f"is {data.text_length}", "give 8 or more")
    need(
        len(set(spec.channels)) == len(spec.channels) > 0,
        "model.spec.channels", f"{spec.channels}", "name every channel once",
    )
    need(
        len(spec.channels) % encoder.patch_channels == 0,
        "model.encoder.patch_channels",
        f"{encoder.patch_channels} does not divide {len(spec.channels)} channels", "use a divisor",
    )
    need(
        spec.samples % encoder.patch_samples == 0,
        "model.encoder.patch_samples",
        f"{encoder.patch_samples} does not divide {spec.samples} samples", "use a divisor",
    )
    for part, where in ((encoder, "model.encoder"), (model.text, "model.text")):
        need(
            part.width % part.heads == 0,
            f"{where}.heads", f"{part.heads} heads do not divide width {part.width}",
            "use a divisor of the width",
        )
    validate_model(model, config.objective, need)
    need(
        data.batch_size % config.micro_batches == 0, "micro_batches",
        f"{config.micro_batches} do not divide data.batch_size {data.batch_size}", "use a divisor",
    )
    need(
        config.spike_factor == 0 or config.spike_factor > 1, "spike_factor",
        f"is {config.spike_factor}", "give more than 1 (such as 3), or 0 for none",
    )
    need(0 <= config.optimizer.ema < 1, "optimizer.ema", f"is {config.optimizer.ema}",
         "give a decay below 1 (such as 0.999), or 0 for none")
    need(
        sum(data.captions.weights()) > 0 and min(data.captions.weights()) >= 0,
        "data.captions", f"weights {data.captions.weights()}", "give at least one positive weight",
    )
    step = 0.5 if spec.rate % 2 == 0 else 1.0  # corpus.random_maps: whole samples and tenths of s
    need(
        data.time_shift == 0 or step <= data.time_shift < spec.seconds, "data.time_shift",
        f"is {data.time_shift} s", f"give 0, or from {step} s to less than {spec.seconds} s",
    )
    need(
        0 <= data.gain_jitter <= 2, "data.gain_jitter", f"is {data.gain_jitter}",
        "give 0 (none) to 2",
    )
    weights = (
        config.objective.contrastive, config.objective.caption, config.objective.reconstruction
    )
    need(
        min(weights) >= 0 and max(weights) > 0,
        "objective", f"weights {weights}", "give weights >= 0, at least one of them positive",
    )
    need(
        config.keep_every % config.checkpoint_every == 0, "keep_every",
        f"{config.keep_every} is no multiple of checkpoint_every {config.checkpoint_every}",
        "give a multiple, or 0 to keep none for ever",
    )
    for given in config.start_from_map:
        old, sign, _ = given.partition("=")
        try:
            re.compile(old)
        except re.error as error:
            need(False, "start_from_map", f"{old!r} is no regular expression ({error})",
                 "correct it")
        need(bool(old and sign), "start_from_map", f"{given!r} is not \"old=new\"",
             "give a path's old and new name; \"old=\" leaves it out")
    for group in config.optimizer.groups:
        try:
            re.compile(group.pattern)
        except re.error as error:
            need(False, "optimizer.groups", f"pattern {group.pattern!r} is no regular expression "
                 f"({error})", "correct it")
        need(
            group.rate >= 0 and group.decay >= 0, "optimizer.groups",
            f"group {group.pattern!r} has rate {group.rate} and decay {group.decay}",
            "give 0 or more; frozen=True keeps parameters as they are",
        )
    unknown = sorted(set(data.mask_artefacts) - set(ARTEFACTS))
    need(
        not unknown, "data.mask_artefacts", f"unknown artefacts {', '.join(unknown)}",
        f"choose from {', '.join(ARTEFACTS)}",
    )
    for keep in data.dropout_keep:
        unknown = [c for c in keep.split(",") if c not in spec.channels]
        need(
            not unknown,
            "data.dropout_keep", f"unknown channels {unknown} in {keep!r}",
            f"choose from {', '.join(spec.channels)}",
        )
    return config


def literals(kind: type, prefix: str = "") -> dict[str, tuple]:
    """`{"model.remat": ("none", "full", "dots"), ...}`: values of Literal fields."""
    found: dict[str, tuple] = {}
    for name, hint in typing.get_type_hints(kind).items():
        if dataclasses.is_dataclass(hint):
            found |= literals(hint, f"{prefix}{name}.")
        elif typing.get_origin(hint) is Literal:
            found[f"{prefix}{name}"] = typing.get_args(hint)
    return found


def validate_model(model: ModelConfig, objective: ObjectiveConfig, need) -> None:
    """What parts of a model ask of one another; `need` raises when its first argument is false."""
    encoder, text = model.encoder, model.text
    if encoder.kind == "dual_axis":
        for name, wanted in (("patch_channels", 1), ("shared_filters", False),
                             ("positions", "factored")):
            found = getattr(encoder, name)
            need(found == wanted, f"model.encoder.{name}", f"is {found!r} in a dual_axis encoder",
                 f"leave it at {wanted!r}: the setting is vit2d's")
        need(encoder.width // encoder.heads % 2 == 0, "model.encoder.heads",
             f"gives heads of odd width {encoder.width // encoder.heads}",
             "rotary positions need an even one")
        need(encoder.stem_width > 0, "model.encoder.stem_width",
             "is 0 in a dual_axis encoder", "give the convolution's width (SleepLM: 256)")
    need(
        encoder.missing == "masked" or encoder.kind == "dual_axis",
        "model.encoder.missing", "is 'zeros' in a vit2d encoder", "use 'masked'",
    )
    if objective.caption > 0:
        need(text.attention == "causal", "model.text.attention",
             f"is {text.attention!r} under a caption objective",
             "use 'causal': the decoder's text tokens must not see ahead")
    need(
        not (objective.contrastive > 0 and text.attention == "bidirectional"
             and text.summary != "last"),
        "model.text.summary", f"is {text.summary!r} in a bidirectional tower", "use 'last'",
    )
    if objective.contrastive > 0:
        for name, width in (("signal_projection", encoder.width), ("text_projection", text.width)):
            need(getattr(model, name) != "none" or width == model.embed_dim,
                 f"model.{name}", f"is 'none', but width {width} is not embed_dim "
                 f"{model.embed_dim}", "make them equal, or project")
