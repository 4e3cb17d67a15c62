"""Schedules and decay groups."""

import jax
import numpy as np
import pytest

from sleeplm_jax.config import OptimizerConfig, RunConfig
from sleeplm_jax.models.build import create, with_vocabulary
from sleeplm_jax.parallel.rules import path_of
from sleeplm_jax.training.optimizer import decay_mask, learning_rate


def test_cosine_warms_up_and_ends_at_zero():
    rate = learning_rate(OptimizerConfig(learning_rate=1.0, warmup_steps=10), 110)
    assert rate(0) == 0 and rate(5) == pytest.approx(0.5) and rate(10) == pytest.approx(1.0)
    np.testing.assert_allclose(rate(60), 0.5 * (1 + np.cos(np.pi * 0.5)), atol=1e-6)
    assert rate(110) == pytest.approx(0, abs=1e-6)


def test_wsd_is_constant_then_falls_linearly():
    config = OptimizerConfig(
        learning_rate=1.0, warmup_steps=10, schedule="wsd", cooldown_share=0.25
    )
    rate = learning_rate(config, 100)
    assert rate(10) == rate(74) == 1.0 and rate(100) == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(rate(87.5), 0.5, atol=1e-6)


def test_only_matrices_decay():
    tree = jax.eval_shape(lambda: create(with_vocabulary(RunConfig(), 1000))[1])
    leaves = jax.tree_util.tree_leaves_with_path(decay_mask(tree))
    marked = {path_of(path): value for path, value in leaves}
    assert marked["encoder/stack/blocks/mlp/up/kernel"] and marked["encoder/stem/filters"]
    # Stacked biases have two dimensions: a rule by rank would have decayed them.
    for path in ("encoder/stack/blocks/mlp/up/bias", "text/norm/scale", "text/token_embedding",
                 "encoder/caption_pool/queries", "logit_scale"):
        assert not marked[path], path
