"""What the model must and must not be able to see, and that its parts can be left out."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sleeplm_jax.config import (
    EncoderConfig,
    ModelConfig,
    ObjectiveConfig,
    RunConfig,
    SignalSpec,
    TextConfig,
)
from sleeplm_jax.models.attention import attend
from sleeplm_jax.models.build import bind, create, graph_of, parameter_count, with_vocabulary

RNG = np.random.default_rng(0)
SMALL = RunConfig(
    model=ModelConfig(
        spec=SignalSpec(("ECG", "C3", "C4", "POS"), 16, 8),
        encoder=EncoderConfig(width=16, depth=2, heads=2, patch_samples=32, caption_tokens=4),
        text=TextConfig(width=16, depth=2, decoder_depth=2, heads=2),
        embed_dim=8, reconstruction_width=8, vocab_size=128,
    ),
)


def batch_of(n=3, spec=SMALL.model.spec, length=12):
    text = RNG.integers(3, 128, (n, length)).astype(np.int32)
    text[:, 0] = 1
    text[1:, length // 2 :] = 0
    return {
        "signal": RNG.normal(size=(n, *spec.shape)).astype(np.float32),
        "channel_mask": np.ones((n, len(spec.channels)), bool),
        "text": text,
        "prefix": np.array([[4, -1], [0, 4], [2, -1]], np.int32)[:n],
    }


def run(model, batch):
    """The outputs, with the logits that the loss never makes as a whole."""
    out = model(batch)
    return out | {"logits": model.logits(out["caption_hidden"])}


@pytest.fixture(scope="module")
def model():
    graph, parameters = create(SMALL)
    return jax.jit(lambda batch: run(bind(graph, parameters), batch)), bind(graph, parameters)


def test_shapes_and_unit_embeddings(model):
    out = model[0](batch_of())
    assert out["signal_embedding"].shape == out["text_embedding"].shape == (3, 8)
    assert out["logits"].shape == (3, 11, 128) and out["logits"].dtype == jnp.float32
    assert out["reconstruction"].shape == (3, 4, 128)
    for name in ("signal_embedding", "text_embedding"):
        np.testing.assert_allclose(np.linalg.norm(out[name], axis=-1), 1, rtol=1e-5)


def test_a_missing_channel_is_never_read(model):
    batch = batch_of()
    batch["channel_mask"][0, 1] = False
    before = model[0](batch)
    batch["signal"] = batch["signal"].copy()
    batch["signal"][0, 1] = 1e3 * RNG.normal(size=128)
    after = model[0](batch)
    jax.tree.map(np.testing.assert_array_equal, before, after)
    batch["channel_mask"][0, 1] = True
    seen = model[0](batch)["signal_embedding"][0]
    assert np.abs(seen - before["signal_embedding"][0]).max() > 0.01


def test_captions_see_only_the_past(model):
    batch = batch_of()
    before = np.asarray(model[0](batch)["logits"])
    batch["text"] = batch["text"].copy()
    batch["text"][0, 7] = 99
    after = np.asarray(model[0](batch)["logits"])
    np.testing.assert_array_equal(before[0, :7], after[0, :7])
    assert np.abs(before[0, 7:] - after[0, 7:]).max() > 1e-4


def test_padding_does_not_change_a_text(model):
    text = batch_of()["text"][1:2]
    longer = np.pad(text, ((0, 0), (0, 20)))
    np.testing.assert_allclose(
        model[1].encode_text(text)["embedding"], model[1].encode_text(longer)["embedding"],
        atol=1e-6,
    )


def test_the_prefix_and_the_signal_condition_the_captions(model):
    batch = batch_of()
    before = np.asarray(model[0](batch)["logits"])
    other = dict(batch, prefix=np.array([[3, -1], [0, 4], [2, -1]], np.int32))
    assert np.abs(model[0](other)["logits"][0] - before[0]).max() > 1e-4
    np.testing.assert_allclose(model[0](other)["logits"][1:], before[1:], atol=1e-6)
    louder = dict(batch, signal=batch["signal"] * 2)
    assert np.abs(model[0](louder)["logits"] - before).max() > 1e-4


def test_attention_equals_plain_softmax():
    q, k, v = RNG.normal(size=(3, 2, 5, 3, 4)).astype(np.float32)
    mask = RNG.random((2, 1, 5, 5)) < 0.7
    mask[..., 0] = True
    expected = np.zeros_like(v)
    for b in range(2):
        for h in range(3):
            scores = q[b, :, h] @ k[b, :, h].T / 2.0
            scores[~mask[b, 0]] = -np.inf
            p = np.exp(scores - scores.max(-1, keepdims=True))
            expected[b, :, h] = p / p.sum(-1, keepdims=True) @ v[b, :, h]
    np.testing.assert_allclose(attend(q, k, v, mask), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("weights", "lacks"),
    [
        (dict(contrastive=1, caption=0, reconstruction=0), ("decoder", "reconstruction")),
        (dict(contrastive=0, caption=1, reconstruction=0), ("signal_projection", "reconstruction")),
        (dict(contrastive=1, caption=2, reconstruction=0), ("reconstruction",)),
    ],
)
def test_an_objective_of_weight_zero_leaves_its_module_out(weights, lacks):
    config = dataclasses.replace(SMALL, objective=ObjectiveConfig(**weights))
    parameters = jax.eval_shape(lambda: create(config)[1])
    assert not set(lacks) & set(parameters)
    assert parameter_count(parameters) < parameter_count(jax.eval_shape(lambda: create(SMALL)[1]))


def test_scanned_layers_equal_a_loop(model):
    from flax import nnx

    stack = model[1].encoder.stack
    x = jnp.asarray(RNG.normal(size=(2, 6, 16)), jnp.float32)
    graph, parameters = nnx.split(stack.blocks)
    y = x
    for layer in range(2):
        y = nnx.merge(graph, jax.tree.map(lambda p, i=layer: p[i], parameters))(y)
    np.testing.assert_allclose(stack(x), y, atol=1e-6)
    assert np.abs(y - x).max() > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("remat", ["full", "dots"])
def test_remat_changes_no_gradient(remat):
    batch = batch_of()

    def gradient(config):
        graph, parameters = create(config)
        f = lambda p: (bind(graph, p)(batch)["signal_embedding"][:, 0]).sum()  # noqa: E731
        return jax.jit(jax.grad(f))(parameters)

    again = dataclasses.replace(SMALL, model=dataclasses.replace(SMALL.model, remat=remat))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), gradient(SMALL), gradient(again)
    )


@pytest.mark.slow
def test_bfloat16_keeps_float32_parameters_and_logits():
    config = dataclasses.replace(
        SMALL, model=dataclasses.replace(SMALL.model, compute_dtype="bfloat16")
    )
    graph, parameters = create(config)
    assert {x.dtype for x in jax.tree.leaves(parameters)} == {jnp.dtype("float32")}
    out = run(bind(graph, parameters), batch_of())
    assert out.pop("caption_hidden").dtype == jnp.bfloat16  # the logits' factors, not the logits
    assert {x.dtype for x in jax.tree.leaves(out)} == {jnp.dtype("float32")}
    exact = run(bind(graph_of(SMALL), parameters), batch_of())
    assert np.isfinite(np.asarray(out["logits"])).all()
    assert out["logits"].shape == exact["logits"].shape


def test_two_dimensional_patches_cover_several_channels():
    encoder = dataclasses.replace(SMALL.model.encoder, patch_channels=2, stem_width=24)
    config = dataclasses.replace(SMALL, model=dataclasses.replace(SMALL.model, encoder=encoder))
    graph, parameters = create(config)
    batch = batch_of()
    tokens, mask, *_ = bind(graph, parameters).encoder(batch["signal"], batch["channel_mask"])
    assert tokens.shape == (3, 2 * 4, 16) and mask.all()


def test_the_vocabulary_is_rounded_up_for_sharding():
    assert with_vocabulary(SMALL, 1001).model.vocab_size == 1024
