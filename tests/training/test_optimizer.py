"""Schedules, groups and update rules, against PyTorch and plain numpy."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sleeplm_jax.config import OptimizerConfig, ParameterGroup, RunConfig
from sleeplm_jax.config.files import load_config, save_config
from sleeplm_jax.errors import ConfigError
from sleeplm_jax.models.build import create, with_vocabulary
from sleeplm_jax.parallel.rules import path_of
from sleeplm_jax.training.optimizer import (
    decay_mask,
    group_table,
    learning_rate,
    make_optimizer,
    muon_axes,
    schedule_numbers,
)


@functools.cache
def shapes():
    return jax.eval_shape(lambda: create(with_vocabulary(RunConfig(), 1000))[1])


def by_path(tree, **options):
    leaves = jax.tree_util.tree_leaves_with_path(tree, **options)
    return {path_of(path): value for path, value in leaves}


def small(seed=0):
    """A tree with the kinds of leaf that matter: matrix, stack of matrices, table, vector."""
    draw = np.random.default_rng(seed).normal
    return jax.tree.map(jnp.asarray, {
        "encoder": {"kernel": draw(size=(6, 4)), "bias": draw(size=(4,))},
        "stack": {"kernel": draw(size=(3, 6, 4)), "scale": draw(size=(3, 4))},
        "decoder": {"logits": {"kernel": draw(size=(4, 8))}},
    })


def run(config, parameters, gradients, steps=100):
    optimizer = make_optimizer(config, parameters)
    numbers, state = schedule_numbers(config, steps), optimizer.init(parameters)
    for gradient in gradients:
        updates, state = optimizer.update(gradient, state, parameters, numbers=numbers)
        parameters = optax.apply_updates(parameters, updates)
    return parameters


def rate_of(config, steps):
    return learning_rate(config, schedule_numbers(config, steps))


def test_cosine_warms_up_and_ends_at_zero():
    rate = rate_of(OptimizerConfig(learning_rate=1.0, warmup_steps=10), 110)
    assert rate(0) == 0 and rate(5) == pytest.approx(0.5) and rate(10) == pytest.approx(1.0)
    np.testing.assert_allclose(rate(60), 0.5 * (1 + np.cos(np.pi * 0.5)), atol=1e-6)
    assert rate(110) == pytest.approx(0, abs=1e-6)


def test_wsd_is_constant_then_falls_linearly():
    config = OptimizerConfig(
        learning_rate=1.0, warmup_steps=10, schedule="wsd", cooldown_share=0.25
    )
    rate = rate_of(config, 100)
    assert rate(10) == rate(74) == 1.0 and rate(100) == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(rate(87.5), 0.5, atol=1e-6)


def test_rsqrt_falls_with_the_root_and_cools_down():
    config = OptimizerConfig(
        learning_rate=1.0, warmup_steps=100, schedule="rsqrt", cooldown_share=0.1
    )
    rate = rate_of(config, 1000)
    np.testing.assert_allclose([rate(100), rate(400)], [1.0, 0.5], atol=1e-6)
    # Without a jump into the cooldown, which ends at zero.
    np.testing.assert_allclose(rate(900), (100 / 900) ** 0.5, atol=1e-6)
    np.testing.assert_allclose(rate(950), 0.5 * (100 / 900) ** 0.5, atol=1e-6)
    assert rate(1000) == pytest.approx(0, abs=1e-6)


def test_only_matrices_decay():
    marked = by_path(decay_mask(shapes()))
    assert marked["encoder/stack/blocks/mlp/up/kernel"] and marked["encoder/stem/filters"]
    # Stacked biases have two dimensions: a rule by rank would have decayed them.
    for path in ("encoder/stack/blocks/mlp/up/bias", "text/norm/scale", "text/token_embedding",
                 "encoder/caption_pool/queries", "logit_scale"):
        assert not marked[path], path


def test_adamw_is_pytorchs():
    torch = pytest.importorskip("torch")
    config = OptimizerConfig(
        learning_rate=0.01, warmup_steps=0, schedule="wsd", clip_norm=1e9, weight_decay=0.1
    )
    start, gradients = small(), [small(seed) for seed in range(1, 6)]
    ours = by_path(run(config, start, gradients, steps=10**6))
    tensors = {
        k: torch.tensor(np.asarray(v), requires_grad=True) for k, v in by_path(start).items()
    }
    theirs = torch.optim.AdamW([
        {"params": [v for k, v in tensors.items() if "kernel" in k], "weight_decay": 0.1},
        {"params": [v for k, v in tensors.items() if "kernel" not in k], "weight_decay": 0.0},
    ], lr=0.01, betas=(config.beta1, config.beta2), eps=1e-8)
    for gradient in gradients:
        for k, v in by_path(gradient).items():
            tensors[k].grad = torch.tensor(np.asarray(v))
        theirs.step()
    # A wsd of a million steps has one step of warm-up at most.
    for path, value in ours.items():
        np.testing.assert_allclose(value, tensors[path].detach(), rtol=1e-5, atol=1e-6)


def test_lion_moves_by_the_sign():
    config = OptimizerConfig(
        kind="lion", learning_rate=0.5, warmup_steps=0, schedule="wsd", weight_decay=0.0,
    )
    start, gradient = small(), small(1)
    moved = run(config, start, [gradient], steps=10**6)
    for before, after, slope in zip(*map(jax.tree.leaves, (start, moved, gradient))):
        np.testing.assert_allclose(after - before, -0.5 * np.sign(slope), atol=1e-6)


def test_muon_orthogonalises_every_layer_by_itself():
    config = OptimizerConfig(
        kind="muon", learning_rate=1.0, warmup_steps=0, schedule="wsd", weight_decay=0.0,
        clip_norm=1e9,
    )
    start = small()
    moved = by_path(jax.tree.map(lambda a, b: b - a, start, run(config, start, [small(1)], 10**6)))
    for matrix in (moved["encoder/kernel"], *moved["stack/kernel"]):
        # Newton-Schulz takes singular values near 1 (0.7-1.2 in five steps), here times
        # 0.2 sqrt(6): each layer its own, or a stack's would share one norm.
        values = np.linalg.svd(np.asarray(matrix), compute_uv=False) / (0.2 * 6**0.5)
        assert 0.6 < values.min() and values.max() < 1.3, values
    for path in ("encoder/bias", "stack/scale", "decoder/logits/kernel"):  # AdamW's first step
        np.testing.assert_allclose(np.abs(moved[path]), 1.0, rtol=1e-3)


def test_muon_takes_every_hidden_matrix_and_no_table():
    axes = by_path(muon_axes(shapes()), is_leaf=lambda x: isinstance(x, tuple))
    assert axes["encoder/stack/blocks/mlp/up/kernel"] == ((1,), (2,))
    assert axes["encoder/stem/filters"] == ((1,), (2,))
    assert axes["text_projection/kernel"] == ((0,), (1,))
    assert not {"decoder/logits/kernel", "text/token_embedding", "logit_scale"} & axes.keys()
    hidden = {p for p in by_path(shapes()) if p.endswith("/kernel")} - {"decoder/logits/kernel"}
    assert hidden <= axes.keys()


def test_groups_scale_rate_and_decay_and_freeze():
    groups = (
        ParameterGroup("stack/.*", frozen=True),
        ParameterGroup("encoder/.*", rate=0.5, decay=0.0),
    )
    plain = OptimizerConfig(learning_rate=0.1, warmup_steps=0, schedule="wsd", clip_norm=1e9)
    start, gradient = small(), small(1)
    alike, other = (
        by_path(run(c, start, [gradient], 10**6))
        for c in (
            dataclasses.replace(plain, weight_decay=0.0), dataclasses.replace(plain, groups=groups)
        )
    )
    before = by_path(start)
    assert (other["stack/kernel"] == before["stack/kernel"]).all()
    np.testing.assert_allclose(
        other["encoder/kernel"] - before["encoder/kernel"],
        0.5 * (alike["encoder/kernel"] - before["encoder/kernel"]), rtol=1e-4, atol=1e-7,
    )


def test_frozen_parameters_neither_clip_nor_keep_moments():
    config = OptimizerConfig(
        learning_rate=1.0, warmup_steps=0, schedule="wsd", clip_norm=1.0, weight_decay=0.0,
        kind="lion", groups=(ParameterGroup("stack/.*", frozen=True),),
    )
    start = small()
    huge = jax.tree.map(lambda x: x, small(1)) | {"stack": jax.tree.map(
        lambda x: x * jnp.inf, start["stack"])}
    optimizer = make_optimizer(config, start)
    state = optimizer.init(start)
    updates, _ = optimizer.update(
        huge, state, start, numbers=schedule_numbers(config, 10**6)
    )
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(updates))
    assert not any("stack" in path for path in by_path(state))


def test_the_table_counts_every_parameter_once():
    config = OptimizerConfig(
        kind="muon", groups=(ParameterGroup("text/.*", rate=0.1), ParameterGroup("logit_scale"))
    )
    lines = group_table(config, shapes())
    counts = [int(line.split(": ")[1].split(" ")[0].replace(",", "")) for line in lines]
    assert sum(counts) == sum(x.size for x in jax.tree.leaves(shapes()))
    assert "rate x0.1" in lines[0] and "by Muon" in lines[0]


def test_a_pattern_that_takes_nothing_is_named():
    for groups in (
        (ParameterGroup("txet/.*"),), (ParameterGroup("text/.*"), ParameterGroup("text/norm/.*")),
    ):
        with pytest.raises(ConfigError, match="takes no parameter"):
            make_optimizer(OptimizerConfig(groups=groups), shapes())


def test_groups_come_back_from_a_saved_config(tmp_path):
    config = RunConfig(optimizer=OptimizerConfig(groups=(ParameterGroup("text/.*", frozen=True),)))
    save_config(config, tmp_path / "config.json")
    assert load_config(tmp_path / "config.json") == config
