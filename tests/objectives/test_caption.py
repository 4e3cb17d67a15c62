"""The captioning loss in chunks of the vocabulary against torch's plain cross-entropy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sleeplm_jax.objectives.caption import caption_loss, caption_nll

RNG = np.random.default_rng(1)
B, L, D, V = 3, 7, 5, 37


def case():
    text = RNG.integers(1, V, (B, L)).astype(np.int32)
    text[1, 4:] = 0
    text[2, 2:] = 0
    hidden = RNG.normal(size=(B, L - 1, D)).astype(np.float32)
    return hidden, RNG.normal(size=(D, V)).astype(np.float32), text


# 37 columns: one chunk, chunks that end evenly (37 of 1), and a last chunk that is moved back.
@pytest.mark.parametrize("chunk", [64, 1, 8, 36])
@pytest.mark.parametrize(("smoothing", "z"), [(0.0, 0.0), (0.1, 0.01)])
def test_value_and_gradient_are_torchs(chunk, smoothing, z):
    torch = pytest.importorskip("torch")
    hidden, kernel, text = case()

    def ours(hidden, kernel):
        return caption_loss(
            hidden, kernel, jnp.asarray(text), label_smoothing=smoothing, z_loss=z, chunk=chunk
        )

    value, gradients = jax.value_and_grad(ours, argnums=(0, 1))(hidden, kernel)
    theirs = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (hidden, kernel)]
    logits = (theirs[0] @ theirs[1]).reshape(-1, V)
    labels = torch.tensor(text[:, 1:].reshape(-1), dtype=torch.long)
    loss = torch.nn.functional.cross_entropy(
        logits, labels, ignore_index=0, label_smoothing=smoothing
    )
    loss = loss + z * logits.logsumexp(-1)[labels != 0].square().mean()
    loss.backward()
    # float32 against float64: a few roundings of sums over 37 columns.
    np.testing.assert_allclose(value, loss.item(), rtol=2e-6)
    for found, wanted in zip(gradients, theirs):
        np.testing.assert_allclose(found, wanted.grad.numpy(), atol=3e-7, rtol=2e-5)


@pytest.mark.parametrize("chunk", [64, 8])
def test_likelihood_of_each_text_counts_its_real_tokens(chunk):
    hidden, kernel, text = case()
    logits = (hidden @ kernel).astype(np.float64)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    nll, tokens = caption_nll(hidden, kernel, jnp.asarray(text), chunk)
    np.testing.assert_array_equal(tokens, [6, 3, 1])
    for i, count in enumerate([6, 3, 1]):
        wanted = -sum(log_p[i, t, text[i, t + 1]] for t in range(count))
        np.testing.assert_allclose(nll[i], wanted, rtol=1e-5)


@pytest.mark.parametrize("chunk", [64, 8])
def test_what_comes_after_the_end_and_what_is_not_valid_costs_nothing(chunk):
    hidden, kernel, text = case()
    valid = jnp.asarray([False, True, True])
    f = lambda h: caption_loss(h, kernel, jnp.asarray(text), valid, chunk=chunk)  # noqa: E731
    gradient = np.asarray(jax.grad(f)(hidden))
    assert not gradient[0].any() and not gradient[1, 3:].any() and not gradient[2, 1:].any()
    assert gradient[1, :3].any(-1).all() and gradient[2, 0].any()


def test_bfloat16_states_give_float32_losses():
    """The chunks' logits are float32 sums of bfloat16 products, as the whole ones are."""
    hidden, kernel, text = case()
    f = lambda chunk: jax.value_and_grad(caption_loss, (0, 1))(  # noqa: E731
        jnp.asarray(hidden, jnp.bfloat16), kernel, jnp.asarray(text), chunk=chunk
    )
    whole, chunked = f(64), f(8)
    assert chunked[0].dtype == jnp.float32 and chunked[1][1].dtype == jnp.float32
    assert chunked[1][0].dtype == jnp.bfloat16
    np.testing.assert_allclose(chunked[0], whole[0], rtol=1e-6)
    # Gradients of the logits are rounded to bfloat16 (2**-8) before they are multiplied.
    np.testing.assert_allclose(chunked[1][1], whole[1][1], atol=4e-3)


def test_the_logits_are_never_whole_in_memory():
    """What the compiled gradient holds besides its arguments and results."""
    tokens, width, vocabulary = 8 * 64, 16, 8192
    whole_logits = 4 * tokens * vocabulary

    def held(chunk):
        f = jax.grad(lambda h, k, t: caption_loss(h, k, t, chunk=chunk), argnums=(0, 1))
        shapes = [
            jax.ShapeDtypeStruct(s, d) for s, d in (
                ((8, 64, width), jnp.float32), ((width, vocabulary), jnp.float32),
                ((8, 65), jnp.int32),
            )
        ]
        return jax.jit(f).lower(*shapes).compile().memory_analysis().temp_size_in_bytes

    assert held(vocabulary) >= whole_logits  # else the comparison says nothing
    # Two buffers of 512 columns, an eighth of the whole, and small change.
    assert held(512) < whole_logits / 6
