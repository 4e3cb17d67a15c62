"""One class, many published models: what a setting leaves out, hides, or draws by chance."""

import dataclasses

import jax
import numpy as np
import pytest

from sleeplm_jax.config.validation import validate
from sleeplm_jax.errors import ConfigError
from sleeplm_jax.models.build import bind, create, graph_of
from sleeplm_jax.models.summary import abstract_batch
from tests.models.test_recoca import SMALL, batch_of
from tests.models.test_sleeplm import small


def with_(config, encoder=None, text=None, objective=None, **model):
    """`config` with these fields of its parts."""
    parts = dict(
        encoder=dataclasses.replace(config.model.encoder, **encoder or {}),
        text=dataclasses.replace(config.model.text, **text or {}), **model,
    )
    objective = dataclasses.replace(config.objective, **objective or {})
    model = dataclasses.replace(config.model, **parts)
    return validate(dataclasses.replace(config, model=model, objective=objective))


def made(config, seed=0):
    return graph_of(config), jax.jit(lambda: create(config, seed)[1])()


BASE = {"encoder", "text"}
CONTRASTIVE = {"signal_projection", "text_projection", "logit_scale"}


@pytest.mark.parametrize("config", [SMALL, small()], ids=["vit2d", "dual_axis"])
@pytest.mark.parametrize(
    ("weights", "modules", "outputs"),
    [
        ((1, 0, 0), BASE | CONTRASTIVE, {"signal_embedding", "text_embedding", "logit_scale"}),
        ((0, 1, 0), BASE | {"decoder"}, {"caption_hidden", "logits_kernel"}),
        ((1, 2, 0), BASE | CONTRASTIVE | {"decoder"},
         {"signal_embedding", "text_embedding", "logit_scale", "caption_hidden", "logits_kernel"}),
        ((0, 0, 1), {"encoder", "reconstruction"}, {"reconstruction"}),
    ],
    ids=["CLIP", "Cap", "CoCa", "autoencoder"],
)
def test_each_objective_alone_has_its_modules_and_outputs(config, weights, modules, outputs):
    objective = dict(zip(("contrastive", "caption", "reconstruction"), weights))
    config = with_(config, objective=objective)
    graph = graph_of(config)
    shapes = jax.eval_shape(lambda: create(config)[1])
    assert set(shapes) == modules
    out = jax.eval_shape(lambda p, b: bind(graph, p)(b), shapes, abstract_batch(config, 2))
    assert set(out) == outputs
    if weights[0] == 0:  # no vector of the whole is learned, so none is there
        assert not {"embedding_pool", "cascade"} & set(shapes["encoder"])
        assert not {"summary_token", "norm"} & set(shapes.get("text", {}))


def test_the_sigmoid_form_adds_a_bias_and_map_pooling_no_caption_tokens():
    config = with_(
        SMALL, encoder=dict(pool="map"), text=dict(attention="bidirectional", summary="last"),
        objective=dict(caption=0, reconstruction=0, contrastive_form="sigmoid"),
    )
    graph, parameters = made(config)
    assert "caption_pool" not in parameters["encoder"] and "logit_bias" in parameters
    tower = jax.jit(lambda text: bind(graph, parameters).text(text)[1])
    text = batch_of()["text"]
    other = text.copy()
    other[0, 3] += 1
    before, after = (np.asarray(tower(t)) for t in (text, other))
    assert np.abs(before[0, 0] - after[0, 0]).max() > 0  # earlier places see later ones
    with pytest.raises(ConfigError, match="causal"):
        with_(config, objective=dict(caption=1))


@pytest.mark.parametrize(
    "settings",
    [dict(mlp="geglu"), dict(positions="full", shared_filters=True), dict(qkv_bias=False)],
    ids=["geglu", "shared", "no bias"],
)
def test_settings_of_the_vit_change_its_answers(settings):
    config = with_(SMALL, encoder=settings, objective=dict(caption=0, reconstruction=0))
    graph, parameters = made(config)
    batch = batch_of()
    encode = jax.jit(lambda *x: bind(graph, parameters).encode_signal(*x)["embedding"])
    out = np.asarray(encode(batch["signal"], batch["channel_mask"]))
    assert np.isfinite(out).all() and np.abs(out[0] - out[1]).max() > 1e-3


@pytest.mark.parametrize("config", [SMALL, small(missing="masked")], ids=["vit2d", "dual_axis"])
def test_a_hidden_patch_is_not_read_and_is_told_from_its_token(config):
    config = with_(config, objective=dict(
        contrastive=0, caption=0, reconstruction=1, reconstruction_form="masked",
        position_classes=True,
    ))
    graph, parameters = made(config)
    spec, samples = config.model.spec, config.model.encoder.patch_samples
    rows, patches = len(spec.channels), spec.samples // samples
    rng = np.random.default_rng(0)
    batch = {
        "signal": rng.normal(size=(2, *spec.shape)).astype(np.float32),
        "channel_mask": np.ones((2, rows), bool),
        "hidden_patches": np.zeros((2, rows, patches), bool),
    }
    batch["hidden_patches"][:, 1, 2] = True
    run = jax.jit(lambda b: bind(graph, parameters)(b))
    before = run(batch)
    assert before["patches"].shape == (2, rows, patches, samples)
    assert before["position_logits"].shape == (2, patches, 5)
    louder = dict(batch, signal=batch["signal"].copy())
    louder["signal"][:, 1, 2 * samples : 3 * samples] += 5
    jax.tree.map(np.testing.assert_array_equal, before, run(louder))
    seen = dict(louder, hidden_patches=np.zeros_like(batch["hidden_patches"]))
    assert np.abs(run(seen)["patches"] - before["patches"]).max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("config", [SMALL, small()], ids=["vit2d", "dual_axis"])
def test_dropout_is_drawn_from_its_key_alone(config):
    config = with_(config, encoder=dict(dropout=0.3), objective=dict(contrastive=0, caption=0))
    graph, parameters = made(config)
    rng = np.random.default_rng(0)
    spec = config.model.spec
    batch = {
        "signal": rng.normal(size=(2, *spec.shape)).astype(np.float32),
        "channel_mask": np.ones((2, len(spec.channels)), bool),
    }
    run = jax.jit(lambda key: bind(graph, parameters)(batch, key)["reconstruction"])
    still = run(None)
    first, again, other = (
        np.asarray(run(jax.random.split(jax.random.key(n), 2))) for n in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    # A sample's draw is its own: exchanged keys exchange the draws.
    batch = {name: np.repeat(x[:1], 2, 0) for name, x in batch.items()}
    keys = jax.random.split(jax.random.key(1), 2)
    alike = jax.jit(lambda keys: bind(graph, parameters)(batch, keys)["reconstruction"])
    np.testing.assert_allclose(alike(keys)[::-1], alike(keys[::-1]), atol=1e-5)
    assert np.abs(first - other).max() > 1e-4 and np.abs(first - still).max() > 1e-4


def test_dropout_keeps_the_mean_and_the_share():
    from sleeplm_jax.models.layers import drop

    x = np.full((400, 400), 2.0, np.float32)
    keys = jax.random.split(jax.random.key(0), 400)
    y = np.asarray(drop(x, 0.25, keys))
    assert abs((y == 0).mean() - 0.25) < 0.005 and abs(y.mean() - 2) < 0.02
    assert drop(x, 0.25, None) is x and drop(x, 0.0, keys) is x


