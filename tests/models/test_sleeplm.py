"""The setting that is SleepLM: equal to a plain numpy pass written from its description."""

import dataclasses

import jax
import numpy as np
import pytest

from sleeplm_jax.config import SignalSpec
from sleeplm_jax.config.validation import validate
from sleeplm_jax.errors import ConfigError
from sleeplm_jax.models.build import bind, create, graph_of
from sleeplm_jax.models.presets import preset
from tests.models import sleeplm_numpy as plain

HEADS = 2


def small(**encoder):
    """sleeplm-base with small numbers in it: every other setting is the preset's."""
    config = preset("sleeplm-base")
    model = dataclasses.replace(
        config.model, spec=SignalSpec(("ECG", "C3", "POS"), 8, 6), embed_dim=8, vocab_size=128,
        reconstruction_width=8,
        encoder=dataclasses.replace(
            config.model.encoder,
            **dict(width=16, depth=2, heads=HEADS, patch_samples=8, stem_width=12,
                   caption_tokens=3) | encoder,
        ),
        text=dataclasses.replace(
            config.model.text, width=16, depth=2, decoder_depth=2, heads=HEADS
        ),
    )
    data = dataclasses.replace(config.data, text_length=10)
    return validate(dataclasses.replace(config, model=model, data=data))


@pytest.fixture(scope="module")
def parts():
    """The jitted model and its parameters, all of them random (also what starts at 0 or 1)."""
    config = small()
    graph, parameters = graph_of(config), jax.jit(lambda: create(config)[1])()
    leaves, tree = jax.tree.flatten(parameters)
    rng = np.random.default_rng(1)
    leaves = [x + 0.1 * rng.standard_normal(x.shape).astype(np.float32) for x in leaves]
    parameters = jax.tree.unflatten(tree, leaves)
    run = jax.jit(lambda batch: bind(graph, parameters)(batch))
    return run, jax.tree.map(lambda x: np.asarray(x, np.float64), parameters)


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    text = rng.integers(3, 128, (3, 10)).astype(np.int32)
    text[0, 6:] = 0  # padded
    text[1, 4] = 0  # id 0 in mid-text ("!" in CLIP's vocabulary)
    return {
        "signal": rng.normal(size=(3, 3, 48)).astype(np.float32),
        "channel_mask": np.ones((3, 3), bool),
        "text": text,
        "prefix": np.array([[4, -1], [0, 4], [2, -1]], np.int32),
    }


def unit(x):
    return x / np.linalg.norm(x)


def test_the_whole_pass_equals_numpy(parts, batch):
    """float32 against float64: 1e-4 of the largest value, some ten times the rounding seen."""
    run, p = parts
    out = run(batch)
    for i in range(3):
        pooled, captions = plain.encode_signal(p, batch["signal"][i].astype(np.float64), HEADS)
        summary, tokens = plain.encode_text(p, batch["text"][i], HEADS)
        expected = {
            "signal_embedding": unit(plain.linear(p["signal_projection"], pooled)),
            "text_embedding": unit(plain.linear(p["text_projection"], summary)),
            "logits": plain.decode(p, tokens[:-1], batch["prefix"][i], captions, HEADS),
            "reconstruction": plain.reconstruct(p, captions, HEADS, (3, 48)),
        }
        found = {name: np.asarray(out[name][i]) for name in expected if name in out}
        found["logits"] = np.asarray(out["caption_hidden"][i] @ out["logits_kernel"])
        for name, value in expected.items():
            np.testing.assert_allclose(
                found[name], value, atol=1e-4 * np.abs(value).max(), err_msg=name
            )


def test_an_all_present_mask_equals_no_mask_and_a_missing_channel_is_never_read(parts, batch):
    run, p = parts
    masked = small(missing="masked")
    graph = graph_of(masked)
    f32 = jax.tree.map(lambda x: x.astype(np.float32), p)
    encode = jax.jit(lambda b: bind(graph, f32).encode_signal(b["signal"], b["channel_mask"]))
    np.testing.assert_allclose(
        encode(batch)["embedding"], run(batch)["signal_embedding"], atol=1e-6
    )
    gone = dict(batch, channel_mask=np.array([[1, 0, 1]] * 3, bool))
    before = encode(gone)
    gone["signal"] = batch["signal"].copy()
    gone["signal"][:, 1] = 1e3
    jax.tree.map(np.testing.assert_array_equal, before, encode(gone))
    pooled, captions = plain.encode_signal(
        p, np.where(gone["channel_mask"][0][:, None], batch["signal"][0], 0.0), HEADS,
        gone["channel_mask"][0],
    )
    np.testing.assert_allclose(before["caption_tokens"][0], captions, atol=1e-4)
    np.testing.assert_allclose(
        before["embedding"][0], unit(plain.linear(p["signal_projection"], pooled)), atol=1e-5
    )
    # SleepLM's own way: zeros that are attended, and so another answer.
    zeros = run(gone)["signal_embedding"]
    assert np.abs(zeros - before["embedding"]).max() > 1e-3


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (dict(patch_channels=3), "model.encoder.patch_channels"),
        (dict(stem_width=0), "model.encoder.stem_width"),
        (dict(width=6, heads=2), "model.encoder.heads"),
        (dict(kind="vit2d"), "model.encoder.missing"),
        (dict(kind="vit3d"), "model.encoder.kind"),
        (dict(dropout=1.5), "model.encoder.dropout"),
    ],
)
def test_settings_that_cannot_stand_together_name_their_field(change, field):
    with pytest.raises(ConfigError) as caught:
        small(**change)
    assert caught.value.where == field
