"""Contrastive losses against plain references: torch-free, written the slow way."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sleeplm_jax.objectives.contrastive import (
    contrastive_logits,
    positives,
    sigmoid_loss,
    softmax_loss,
)

RNG = np.random.default_rng(0)


def embeddings(n=12, d=8):
    x = RNG.normal(size=(2, n, d)).astype(np.float32)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def reference_positives(keys, kinds):
    n = len(keys)
    out = np.zeros((n, n), bool)
    for signal in range(n):
        for text in range(n):
            held = np.flatnonzero(kinds[text])
            out[signal, text] = signal == text or (
                all(keys[signal, k] == keys[text, k] for k in held)
            )
    return out


def reference_softmax(logits, positive):
    total, n = 0.0, len(logits)
    for matrix, same in ((logits, positive), (logits.T, positive.T)):
        for row, own in zip(matrix, same):
            p = np.exp(row - row.max())
            p /= p.sum()
            total -= np.mean(np.log(p[own]))
    return total / (2 * n)


def test_positives_are_texts_that_are_true_of_a_signal():
    keys = RNG.integers(1, 3, size=(20, 5)).astype(np.int32)
    kinds = RNG.random((20, 5)) < 0.4
    kinds[np.arange(20), RNG.integers(0, 5, 20)] = True
    ours = np.asarray(positives(jnp.asarray(keys), jnp.asarray(kinds)))
    np.testing.assert_array_equal(ours, reference_positives(keys, kinds))
    assert ours.sum() > 20  # the case is not an identity matrix


def test_without_equal_captions_softmax_is_clips_cross_entropy():
    signal, text = embeddings()
    logits = contrastive_logits(signal, text, jnp.log(10.0))
    labels = jnp.arange(len(logits))
    cross = optax.softmax_cross_entropy_with_integer_labels
    expected = 0.5 * (cross(logits, labels).mean() + cross(logits.T, labels).mean())
    np.testing.assert_allclose(
        softmax_loss(logits, jnp.eye(len(logits), dtype=bool)), expected, rtol=1e-6
    )


@pytest.mark.parametrize("seed", range(3))
def test_softmax_spreads_targets_over_equal_captions(seed):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(10, 10)).astype(np.float32) * 3
    positive = (rng.random((10, 10)) < 0.3) | np.eye(10, dtype=bool)
    np.testing.assert_allclose(
        softmax_loss(jnp.asarray(logits), jnp.asarray(positive)),
        reference_softmax(logits, positive), rtol=1e-5,
    )


def test_sigmoid_labels_equal_captions_plus_one():
    logits = RNG.normal(size=(6, 6)).astype(np.float32)
    positive = (RNG.random((6, 6)) < 0.3) | np.eye(6, dtype=bool)
    sign = np.where(positive, 1.0, -1.0)
    expected = np.log1p(np.exp(-sign * logits)).sum() / 6
    np.testing.assert_allclose(
        sigmoid_loss(jnp.asarray(logits), jnp.asarray(positive)), expected, rtol=1e-5
    )


@pytest.mark.parametrize("loss", [softmax_loss, sigmoid_loss])
def test_padding_rows_change_nothing(loss):
    logits = jnp.asarray(RNG.normal(size=(9, 9)), jnp.float32)
    positive = jnp.asarray((RNG.random((9, 9)) < 0.2) | np.eye(9, dtype=bool))
    valid = jnp.arange(9) < 6
    value, gradient = jax.value_and_grad(loss)(logits, positive, valid)
    alone = loss(logits[:6, :6], positive[:6, :6])
    np.testing.assert_allclose(value, alone, rtol=1e-6)
    assert np.isfinite(gradient).all()
    assert not np.any(gradient[6:]) and not np.any(gradient[:, 6:])


def test_gradient_does_not_push_equal_captions_apart():
    """Two samples with the same caption: the dense loss is at rest when both fit both alike."""
    z = jnp.asarray([[1.0, 0.0], [1.0, 0.0]])
    keys, kinds = jnp.ones((2, 1), jnp.int32), jnp.ones((2, 1), bool)

    def loss(same):
        f = lambda s: softmax_loss(contrastive_logits(s, z, 0.0), same)  # noqa: E731
        return jnp.abs(jax.grad(f)(z)).max()

    assert loss(positives(keys, kinds)) < 1e-6
    # Treated as negatives, the same pair still has a loss of log 2 that nothing can lower.
    assert softmax_loss(contrastive_logits(z, z, 0.0), jnp.eye(2, dtype=bool)) > 0.69
