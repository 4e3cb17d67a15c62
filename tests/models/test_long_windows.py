"""Windows from one epoch up to a night are one input of the same model."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sleeplm_jax.config import ObjectiveConfig, SignalSpec
from sleeplm_jax.config.validation import validate
from sleeplm_jax.models.build import bind, create, graph_of
from sleeplm_jax.models.presets import preset
from sleeplm_jax.models.summary import abstract_batch
from tests.models.test_recoca import SMALL
from tests.models.test_sleeplm import small

CHANNELS = SignalSpec().channels
COCA = ObjectiveConfig(reconstruction=0)


def window(config, seconds, patch_samples):
    """`config` over ten channels at 64 Hz, `seconds` long."""
    model = dataclasses.replace(
        config.model, spec=SignalSpec(CHANNELS, 64, seconds),
        encoder=dataclasses.replace(config.model.encoder, patch_samples=patch_samples),
    )
    data = dataclasses.replace(config.data, text_length=16)
    return validate(dataclasses.replace(config, data=data, model=model, objective=COCA))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "patch_samples", "tokens"),
    [(small(), 64, 12_000), (SMALL, 640, 1_200)], ids=["dual_axis", "vit2d"],
)
def test_twenty_minutes_are_read_as_one_input(config, patch_samples, tokens):
    config = window(config, 1200, patch_samples)
    graph, parameters = graph_of(config), jax.jit(lambda: create(config)[1])()
    encode = jax.jit(lambda signal, mask: bind(graph, parameters).encode_signal(signal, mask))
    rng = np.random.default_rng(0)
    signal = rng.standard_normal((2, 10, 76_800), np.float32)
    signal[1] = signal[0]
    signal[1, 3, -64:] += 30  # the last second of one channel
    mask = np.ones((2, 10), bool)
    out = encode(signal, mask)
    assert out["tokens"].shape == (2, tokens, 16)
    assert np.isfinite(out["features"]).all()
    assert np.abs(out["embedding"][0] - out["embedding"][1]).max() > 1e-5  # it was read
    mask[:, 3] = False
    out = encode(signal, mask)
    # two rows of a batch may be summed in another order
    np.testing.assert_allclose(out["embedding"][0], out["embedding"][1], atol=1e-6)


@pytest.mark.parametrize("config", [
    pytest.param(small(missing="masked"), id="dual_axis", marks=pytest.mark.slow),
    pytest.param(SMALL, id="vit2d"),
])
def test_a_night_of_eight_hours_compiles_in_linear_memory(config):
    """Compiled for this machine and never run: 9,600 tokens (30-s patches), whose scores alone
    would be 0.7 GB a layer if attention held them."""
    config = window(config, 8 * 3600, 1920)
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, remat="full"))
    graph = graph_of(config)
    shapes = jax.eval_shape(lambda: create(config)[1])

    def gradient(parameters, signal, mask):
        def loss(p):
            return bind(graph, p).encode_signal(signal, mask)["embedding"].sum()

        return jax.grad(loss)(parameters)

    signal = jax.ShapeDtypeStruct((1, 10, 8 * 3600 * 64), jnp.float32)
    mask = jax.ShapeDtypeStruct((1, 10), bool)
    memory = jax.jit(gradient).lower(shapes, signal, mask).compile().memory_analysis()
    scores = 2 * 9600**2 * 4
    assert memory.temp_size_in_bytes < scores / 3
    assert memory.argument_size_in_bytes > 10 * 8 * 3600 * 64 * 4


def test_sleeplm_base_takes_a_night_in_shapes():
    config = window(preset("sleeplm-base"), 8 * 3600, 16)
    graph = graph_of(config)
    shapes = jax.eval_shape(lambda: create(config)[1])
    out = jax.eval_shape(
        lambda p, b: bind(graph, p).encode_signal(b["signal"], b["channel_mask"]),
        shapes, abstract_batch(config, 4),
    )
    assert out["tokens"].shape == (4, 10 * 115_200, 768)
    assert out["caption_tokens"].shape == (4, 32, 768)
