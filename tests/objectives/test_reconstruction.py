"""Reconstruction of hidden patches and of the body position, against loops and torch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sleeplm_jax.objectives.reconstruction import draw_hidden, patch_loss, position_loss

RNG = np.random.default_rng(2)


def test_only_hidden_patches_of_present_channels_count():
    b, rows, per_row, count, length = 2, 3, 2, 4, 5
    signal = RNG.normal(size=(b, rows * per_row, count * length)).astype(np.float32)
    told = RNG.normal(size=(b, rows, count, per_row * length)).astype(np.float32)
    hidden = RNG.random((b, rows, count)) < 0.5
    mask = RNG.random((b, rows * per_row)) < 0.6
    errors, wanted = [], np.zeros_like(told)
    for i in range(b):
        for r in range(rows):
            for p in range(count):
                for c in range(per_row):
                    channel = r * per_row + c
                    if not (hidden[i, r, p] and mask[i, channel]):
                        continue
                    place = slice(c * length, (c + 1) * length)
                    truth = signal[i, channel, p * length : (p + 1) * length]
                    errors.append(((told[i, r, p, place] - truth) ** 2).mean())
                    wanted[i, r, p, place] = 2 * (told[i, r, p, place] - truth) / length
    f = lambda x: patch_loss(x, jnp.asarray(hidden), signal, jnp.asarray(mask))  # noqa: E731
    value, gradient = jax.value_and_grad(f)(told)
    assert 5 < len(errors) < b * rows * count * per_row
    np.testing.assert_allclose(value, np.mean(errors), rtol=1e-5)
    np.testing.assert_allclose(gradient, wanted / len(errors), rtol=1e-5, atol=1e-7)


def test_nothing_hidden_costs_nothing():
    shown, there = jnp.zeros((1, 2, 3), bool), jnp.ones((1, 2), bool)
    assert patch_loss(jnp.zeros((1, 2, 3, 4)), shown, jnp.ones((1, 2, 12)), there) == 0


def test_position_is_cross_entropy_over_samples_of_known_position():
    torch = pytest.importorskip("torch")
    b, slots, per_slot = 3, 4, 6
    codes = RNG.integers(-1, 5, (b, slots * per_slot))
    counts = np.array([[True], [True], [False]])
    logits = RNG.normal(size=(b, slots, 5)).astype(np.float32)
    f = lambda x: position_loss(x, jnp.asarray(codes, jnp.float32), jnp.asarray(counts))  # noqa: E731
    value, gradient = jax.value_and_grad(f)(logits)
    theirs = torch.tensor(logits, dtype=torch.float64, requires_grad=True)
    spread = theirs.repeat_interleave(per_slot, 1)[:2].reshape(-1, 5)
    loss = torch.nn.functional.cross_entropy(
        spread, torch.tensor(codes[:2].reshape(-1)), ignore_index=-1
    )
    loss.backward()
    np.testing.assert_allclose(value, loss.item(), rtol=1e-6)
    np.testing.assert_allclose(gradient, theirs.grad.numpy(), atol=1e-7)


def test_an_unknown_position_costs_nothing():
    f = lambda x: position_loss(x, jnp.full((2, 8), -1.0), jnp.ones((2, 1), bool))  # noqa: E731
    value, gradient = jax.value_and_grad(f)(jnp.ones((2, 4, 5)))
    assert value == 0 and not np.any(gradient)


def test_the_share_of_hidden_patches_is_as_asked():
    hidden = np.asarray(draw_hidden(jax.random.split(jax.random.key(3), 64), (10, 30), 0.3))
    # 19,200 draws: standard deviation 0.0033.
    assert abs(hidden.mean() - 0.3) < 0.014
    assert hidden.reshape(64, -1).std(0).min() > 0  # not the same for every sample
