"""Reconstruction losses and the total against numpy written by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from sleeplm_jax.config import ObjectiveConfig
from sleeplm_jax.objectives.reconstruction import reconstruction_loss
from sleeplm_jax.objectives.total import total_loss

RNG = np.random.default_rng(1)


def test_reconstruction_of_missing_channels_costs_nothing():
    truth = RNG.normal(size=(3, 4, 8)).astype(np.float32)
    mask = np.array([[1, 1, 0, 1], [0, 1, 1, 1], [1, 0, 0, 0]], bool)
    guess = RNG.normal(size=truth.shape).astype(np.float32)
    expected = ((guess - truth) ** 2)[mask].mean()
    f = lambda g: reconstruction_loss(g, jnp.asarray(truth), jnp.asarray(mask))  # noqa: E731
    value, gradient = jax.value_and_grad(f)(jnp.asarray(guess))
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    assert not np.any(np.asarray(gradient)[~mask]) and np.all(np.abs(gradient).max(-1)[mask] > 0)


def test_total_weighs_its_parts_and_leaves_position_out():
    n, length = 4, 6
    batch = {
        "signal": jnp.zeros((n, 2, 8)), "channel_mask": jnp.ones((n, 2), bool),
        "text": jnp.asarray(RNG.integers(1, 9, (n, length))),
        "keys": jnp.arange(n * 5).reshape(n, 5), "kinds": jnp.ones((n, 5), bool),
    }
    z = RNG.normal(size=(2, n, 3)).astype(np.float32)
    outputs = {
        "signal_embedding": z[0], "text_embedding": z[1], "logit_scale": jnp.zeros(()),
        "caption_hidden": jnp.asarray(RNG.normal(size=(n, length - 1, 9)), jnp.float32),
        "logits_kernel": jnp.eye(9),
        # Only the code channel (second) is wrong.
        "reconstruction": jnp.zeros((n, 2, 8)).at[:, 1].set(5.0),
    }
    config = ObjectiveConfig(contrastive=0.5, caption=3.0, reconstruction=2.0)
    loss, parts = total_loss(outputs, batch, config, (True, False))
    assert parts["reconstruction"] == 0
    np.testing.assert_allclose(loss, 0.5 * parts["contrastive"] + 3 * parts["caption"], rtol=1e-6)
    everything, _ = total_loss(outputs, batch, config, (True, True))
    np.testing.assert_allclose(everything - loss, 2.0 * 12.5, rtol=1e-5)
