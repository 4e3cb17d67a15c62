"""Contrastive losses with equal captions, value and gradients, against torch written plainly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sleeplm_jax.objectives.contrastive import (
    bounded,
    contrastive_logits,
    positives,
    sigmoid_loss,
    softmax_loss,
)

torch = pytest.importorskip("torch")
RNG = np.random.default_rng(4)
N, E = 9, 6


def drawn():
    signal, text = RNG.normal(size=(2, N, E)).astype(np.float32)
    keys = RNG.integers(0, 2, (N, 3)).astype(np.int32)
    kinds = RNG.random((N, 3)) < 0.5
    kinds[:, 0] |= ~kinds.any(1)
    return signal, text, keys, kinds


def reference(form, signal, text, scale, bias, same):
    """Every pair written out: CLIP's two cross-entropies with spread targets, SigLIP's sum."""
    unit = torch.nn.functional.normalize
    logits = scale.exp() * unit(signal) @ unit(text).T + bias
    total = 0.0
    if form == "sigmoid":
        for i in range(N):
            for j in range(N):
                sign = 1.0 if same[i, j] else -1.0
                total = total - torch.nn.functional.logsigmoid(sign * logits[i, j])
        return total / N
    for matrix, true in ((logits, same), (logits.T, same.T)):
        for i in range(N):
            log_p = matrix[i] - matrix[i].logsumexp(0)
            total = total - log_p[torch.tensor(true[i])].mean()
    return total / (2 * N)


@pytest.mark.parametrize(
    ("form", "scale", "bias"), [("softmax", 1 / 0.07, 0.0), ("sigmoid", 10.0, -10.0)]
)
def test_value_and_gradients_are_a_plain_references(form, scale, bias):
    signal, text, keys, kinds = drawn()
    same = np.array([
        [i == j or all(keys[i, k] == keys[j, k] for k in range(3) if kinds[j, k])
         for j in range(N)] for i in range(N)
    ])
    assert N < same.sum() < N * N and (same != same.T).any()
    loss = softmax_loss if form == "softmax" else sigmoid_loss

    def ours(signal, text, log_scale, bias):
        unit = lambda x: x / jnp.linalg.norm(x, axis=-1, keepdims=True)  # noqa: E731
        logits = contrastive_logits(unit(signal), unit(text), log_scale, bias)
        return loss(logits, positives(jnp.asarray(keys), jnp.asarray(kinds)))

    inputs = (signal, text, np.float32(np.log(scale)), np.float32(bias))
    value, gradients = jax.value_and_grad(ours, argnums=(0, 1, 2, 3))(*inputs)
    theirs = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in inputs]
    wanted = reference(form, *theirs, same)
    wanted.backward()
    np.testing.assert_allclose(value, wanted.item(), rtol=1e-5)
    for found, x in zip(gradients, theirs):
        grad = x.grad.numpy()
        np.testing.assert_allclose(found, grad, atol=2e-5 * max(1, np.abs(grad).max()))


def test_clips_temperature_is_bounded_after_an_update_and_siglips_is_not():
    for log_scale, wanted in ((9.0, np.log(100)), (-1.0, 0.0), (2.0, 2.0)):
        np.testing.assert_allclose(bounded(jnp.float32(log_scale), "softmax"), wanted, rtol=1e-6)
        assert bounded(jnp.float32(log_scale), "sigmoid") == log_scale
    # At the bound a gradient still reaches the temperature: it can come down again.
    signal, text = jnp.eye(3), jnp.roll(jnp.eye(3), 1, 0)  # every pair is wrong
    f = lambda s: softmax_loss(contrastive_logits(signal, text, s), jnp.eye(3, dtype=bool))  # noqa: E731
    assert jax.grad(f)(jnp.log(100.0) + 0.1) > 1
