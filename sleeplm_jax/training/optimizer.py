"""Optax from a config: schedule, clipping, AdamW with decay on matrices only."""

from __future__ import annotations

import re

import jax
import optax

from sleeplm_jax.config import OptimizerConfig
from sleeplm_jax.parallel.rules import path_of

# By name, not by rank: the scanned layers give biases and norms a second dimension.
DECAYED = re.compile(r".*(kernel|filters)")


def learning_rate(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """Linear warm-up, then cosine to zero, or constant with a linear cooldown (WSD)."""
    warmup = min(config.warmup_steps, max(steps - 1, 0))
    ramp = optax.linear_schedule(0.0, config.learning_rate, max(warmup, 1))
    if config.schedule == "cosine":
        rest = optax.cosine_decay_schedule(config.learning_rate, max(steps - warmup, 1))
        return optax.join_schedules([ramp, rest], [warmup])
    cooldown = max(int(steps * config.cooldown_share), 1)
    return optax.join_schedules(
        [
            ramp,
            optax.constant_schedule(config.learning_rate),
            optax.linear_schedule(config.learning_rate, 0.0, cooldown),
        ],
        [warmup, max(steps - cooldown, warmup)],
    )


def decay_mask(parameters):
    return jax.tree_util.tree_map_with_path(
        lambda path, _: DECAYED.fullmatch(path_of(path)) is not None, parameters
    )


def make_optimizer(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.adamw(
            learning_rate(config, steps), b1=config.beta1, b2=config.beta2,
            weight_decay=config.weight_decay, mask=decay_mask,
        ),
    )
