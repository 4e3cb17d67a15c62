"""Optax from a config: schedules, parameter groups, and AdamW, Lion or Muon.

Every optimiser gives a direction; decay and learning rate come after it and are the same for all:
`p -= rate(step) * group.rate * (direction + weight_decay * group.decay * p)`, decay on matrices
only (Loshchilov and Hutter, 2019, with the rate multiplied in, as PyTorch's AdamW does).
"""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sleeplm_jax.config import OptimizerConfig, ParameterGroup
from sleeplm_jax.errors import ConfigError
from sleeplm_jax.parallel.rules import path_of

# By name, not by rank: the scanned layers give biases and norms a second dimension.
MATRIX = re.compile(r".*(kernel|filters)")
# The rows of an output table answer to one token each, as an embedding's do: Muon's papers leave
# both to Adam.
TABLE = re.compile(r"decoder/logits/kernel")


def schedule_numbers(config: OptimizerConfig, steps: int) -> dict[str, np.generic]:
    """What `learning_rate` goes by in a run of `steps` steps: scalars, for a compiled program to
    take as its input."""
    warmup = min(config.warmup_steps, max(steps - 1, 0))
    turn, last = warmup, max(steps - warmup, 1)  # where the last part begins, and its length
    if config.schedule != "cosine":
        last = max(int(steps * config.cooldown_share), 1)
        turn = max(steps - last, warmup)
    return {
        "peak": np.float32(config.learning_rate), "warmup": np.int32(warmup),
        "turn": np.int32(turn), "last": np.int32(last),
        # What XLA makes of a division by a constant.
        "per_warmup": np.float32(1) / np.float32(max(warmup, 1)),
        "per_last": np.float32(1) / np.float32(last),
    }


def learning_rate(config: OptimizerConfig, numbers: dict) -> optax.Schedule:
    """Step -> rate. Linear warm-up to the peak, then cosine to zero; constant, with a linear
    cooldown to zero at the end (`wsd`); or falling with one over the root of the step
    (`rsqrt`, big_vision's), with the same cooldown. `numbers` are schedule_numbers', or traced."""
    peak, warmup, turn = numbers["peak"], numbers["warmup"], numbers["turn"]

    def falling(step):
        start = jnp.maximum(warmup, 1)  # so that the curve leaves the ramp at its peak
        return peak * jnp.sqrt(start / (start + jnp.maximum(step - warmup, 0)))

    def rate(step):
        ramp = peak - peak * (1 - jnp.minimum(step, warmup) * numbers["per_warmup"])
        since = jnp.clip(step - turn, 0, numbers["last"])
        if config.schedule == "cosine":
            middle = peak
            last = peak * (0.5 * (1 + jnp.cos(since * (jnp.pi * numbers["per_last"]))))
        else:
            wsd = config.schedule == "wsd"
            middle = peak if wsd else falling(step)
            last = (peak if wsd else falling(turn)) * (1 - since * numbers["per_last"])
        return jnp.where(step < warmup, ramp, jnp.where(step < turn, middle, last))

    return rate


def decay_mask(parameters):
    """True for the matrices of a tree of parameters."""
    return _by_path(lambda path, _: MATRIX.fullmatch(path) is not None, parameters)


def muon_axes(parameters):
    """Which axes of a parameter Muon orthogonalises: the last two of every hidden matrix, each
    layer of a stack and each patch row's filters by itself; None for what is AdamW's."""

    def one(path, x):
        if not MATRIX.fullmatch(path) or TABLE.fullmatch(path):
            return None
        return optax.contrib.MuonDimensionNumbers((x.ndim - 2,), (x.ndim - 1,))

    return _by_path(one, parameters)


def groups_of(config: OptimizerConfig, parameters) -> dict[str, ParameterGroup]:
    """Path -> the first group whose pattern matches the whole path, else the plain one.

    Raises ConfigError when a pattern reaches no parameter: it is misspelt, or stands behind one
    that took all of its parameters.
    """
    groups = (*config.groups, ParameterGroup())
    chosen = {
        path_of(key): next(g for g in groups if re.fullmatch(g.pattern, path_of(key)))
        for key, _ in jax.tree_util.tree_leaves_with_path(parameters)
    }
    for group in config.groups:
        if not any(taken is group for taken in chosen.values()):
            some = ", ".join(sorted(chosen)[:3])
            raise ConfigError(
                "optimizer.groups", f"pattern {group.pattern!r} takes no parameter",
                f"match whole paths (such as {some}), and put it before wider patterns",
            )
    return chosen


def group_table(config: OptimizerConfig, parameters) -> list[str]:
    """One line a group: pattern, parameters, how they are updated. Together all parameters."""
    chosen = groups_of(config, parameters)
    sizes = {path_of(k): x.size for k, x in jax.tree_util.tree_leaves_with_path(parameters)}
    axes = jax.tree_util.tree_leaves_with_path(
        muon_axes(parameters), is_leaf=lambda x: isinstance(x, tuple)
    )
    muon = {path_of(k) for k, _ in axes} if config.kind == "muon" else set()
    lines = []
    for group in (*config.groups, ParameterGroup()):
        paths = [path for path, taken in chosen.items() if taken == group]
        if not paths:
            continue
        count = sum(sizes[path] for path in paths)
        how = "frozen" if group.frozen else (
            f"{config.kind}, rate x{group.rate:g}, weight decay "
            f"{config.weight_decay * group.decay:g} on matrices"
        )
        if muon and not group.frozen:
            how += f", {sum(sizes[p] for p in paths if p in muon):,} by Muon, the rest by AdamW"
        lines.append(f"{group.pattern}: {count:,} parameters, {how}")
    return lines


def make_optimizer(
    config: OptimizerConfig, parameters
) -> optax.GradientTransformationExtraArgs:
    """The update rule for a tree of parameters (arrays or shapes); its `update` also takes
    `numbers=`, those of the schedule.

    Raises ConfigError for a group that takes no parameter.
    """
    chosen = groups_of(config, parameters)

    def trained(tree):
        return _by_path(lambda path, _: not chosen[path].frozen, tree)

    def finish(updates, state, parameters, *, numbers, **_):
        rate = learning_rate(config, numbers)(state)

        def one(key, update, parameter):
            path = path_of(key)
            group = chosen[path]
            if MATRIX.fullmatch(path):
                update = update + config.weight_decay * group.decay * parameter
            return (-rate * group.rate * update).astype(parameter.dtype)

        return jax.tree_util.tree_map_with_path(one, updates, parameters), state + 1

    rule = optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        _direction(config),
        optax.GradientTransformationExtraArgs(lambda _: jnp.zeros((), jnp.int32), finish),
    )
    if not any(group.frozen for group in chosen.values()):
        return rule
    # Frozen parameters are masked out: no moments are kept for them, and they do not clip.
    return optax.chain(
        optax.masked(rule, trained),
        optax.masked(optax.set_to_zero(), lambda tree: jax.tree.map(lambda x: not x, trained(tree)))
    )


def _direction(config: OptimizerConfig) -> optax.GradientTransformation:
    adam = optax.scale_by_adam(b1=config.beta1, b2=config.beta2)
    if config.kind == "adamw":
        return adam
    if config.kind == "lion":
        return optax.scale_by_lion(b1=config.beta1, b2=config.beta2)

    def labels(tree):
        return jax.tree.map(
            lambda _, axes: "adamw" if axes is None else "muon", tree, muon_axes(tree)
        )

    muon = optax.chain(
        optax.contrib.scale_by_muon(
            beta=config.momentum, weight_dimension_numbers=muon_axes
        ),
        optax.stateless(lambda updates, _: jax.tree.map(_like_adam, updates)),
    )
    return optax.partition({"muon": muon, "adamw": adam}, labels)


def _like_adam(update):
    """An orthogonalised matrix scaled to the root mean square of an AdamW update (Liu et al.,
    2025), so that learning rate and decay mean the same for both."""
    return update * (0.2 * max(update.shape[-2:]) ** 0.5)


def _by_path(function, tree):
    return jax.tree_util.tree_map_with_path(lambda key, x: function(path_of(key), x), tree)
