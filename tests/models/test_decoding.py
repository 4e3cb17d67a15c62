"""One token at a time with caches gives what the pass over the whole text gives."""

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
from sleeplm_jax.models.build import bind
from sleeplm_jax.models.decoding import Writer, observe, start, step
from tests.models.drawn import drawn

PLAIN = RunConfig(
    model=ModelConfig(
        spec=SignalSpec(("ECG", "C3", "C4", "POS"), 16, 8),
        encoder=EncoderConfig(width=16, depth=1, heads=2, patch_samples=32, caption_tokens=4),
        text=TextConfig(width=24, depth=2, decoder_depth=3, heads=3),
        embed_dim=8, reconstruction_width=8, vocab_size=128,
    ),
)
# SleepLM's decoder blocks and summary mask; and a captioner without a summary token.
SLEEPLM = dataclasses.replace(PLAIN, model=dataclasses.replace(
    PLAIN.model, text=TextConfig(width=16, depth=2, decoder_depth=2, heads=2, summary="shifted",
                                 decoder="separate"),
))  # fmt: skip
CAPTIONER = dataclasses.replace(PLAIN, objective=ObjectiveConfig(contrastive=0, reconstruction=0))
LENGTH = 9


def stepped(graph, parameters, signal, mask, prefix, text, slots, apart=False):
    """Logits f32 [T, G, W, V] of tokens int [T, G, W] whose texts go from lane to lane as
    `slots [T, G, W, T]` says: in which lane the token of an earlier position stands."""
    model = bind(graph, parameters)
    writer = Writer.of(model, observe(model, signal, mask), apart)
    length, groups, lanes = text.shape
    cache = start(writer, prefix, lanes, length)

    def body(cache, now):
        tokens, before, position, past = now
        logits, cache = step(writer, cache, tokens, before, position, past)
        return cache, logits

    before = np.zeros_like(text)
    for t in range(1, length):
        before[t] = np.take_along_axis(text[t - 1], slots[t, :, :, t - 1], 1)
    entries = slots[..., None] == np.arange(lanes)
    entries &= (np.arange(length) < np.arange(length)[:, None, None, None])[..., None]
    past = entries.reshape(length, groups, lanes, length * lanes)
    return jax.lax.scan(body, cache, (text, before, jnp.arange(length), past))[1]


def whole(graph, parameters, signal, mask, prefix, text):
    """Logits f32 [N, T, V] of the pass over whole texts int [N, T], N a multiple of the signals."""

    def logits(p):
        model = bind(graph, p)
        seen = model.encode_signal(signal, mask)["caption_tokens"]
        seen = jnp.repeat(seen, len(text) // len(signal), 0)
        return model.decode(model.encode_text(text)["tokens"], prefix, seen)

    return np.asarray(jax.jit(logits)(parameters))


@pytest.mark.parametrize(
    ("config", "apart"), [(PLAIN, False), (SLEEPLM, False), (CAPTIONER, False), (SLEEPLM, True)],
    ids=["ours", "sleeplm", "cap", "apart"],
)
def test_steps_equal_the_whole_pass_for_several_prompts_of_an_epoch(config, apart):
    """Float32 sums in another order: 2e-5 of logits of size 10; a missed entry moves them by
    tenths."""
    graph, parameters = drawn(config)
    rng = np.random.default_rng(1)
    signal = rng.normal(size=(2, *config.model.spec.shape)).astype(np.float32)
    mask = np.array([[True, True, False, True], [True] * 4])
    prefix = np.array([[[0, -1], [1, 3], [4, -1]], [[2, -1], [-1, -1], [3, 0]]], np.int32)
    text = rng.integers(3, 128, (6, LENGTH)).astype(np.int32)
    text[0, 4] = text[3, 6] = 0  # a word of CLIP's that towers take for padding
    slots = np.zeros((LENGTH, 6, 1, LENGTH), int)
    found = jax.jit(lambda p: stepped(
        graph, p, signal, mask, prefix, text.T[:, :, None], slots, apart
    ))(parameters)

    wanted = whole(graph, parameters, signal, mask, prefix.reshape(6, 2), text)
    assert np.abs(wanted).max() > 1
    np.testing.assert_allclose(
        np.asarray(found)[:, :, 0].swapaxes(0, 1), wanted, atol=2e-5 * np.abs(wanted).max()
    )


def test_a_text_that_changed_lanes_reads_its_own_past():
    """Three lanes; each position's lane is drawn anew, and the text is followed through them."""
    graph, parameters = drawn(SLEEPLM)
    rng = np.random.default_rng(2)
    signal = rng.normal(size=(1, *SLEEPLM.model.spec.shape)).astype(np.float32)
    mask, prefix = np.ones((1, 4), bool), np.array([[[1, -1], [4, 2]]], np.int32)
    lanes = 3
    text = rng.integers(3, 128, (LENGTH, 2, lanes)).astype(np.int32)
    # parent[t]: from which lane of position t - 1 the lane goes on (beams merge and die).
    parent = rng.integers(0, lanes, (LENGTH, 2, lanes))
    slots = np.zeros((LENGTH, 2, lanes, LENGTH), int)
    histories = np.zeros((LENGTH, 2, lanes, LENGTH), np.int32)
    for t in range(LENGTH):
        for g in range(2):
            for w in range(lanes):
                if t:
                    before = parent[t, g, w]
                    slots[t, g, w] = slots[t - 1, g, before]
                    slots[t, g, w, t - 1] = before
                    histories[t, g, w] = histories[t - 1, g, before]
                histories[t, g, w, t] = text[t, g, w]
    found = jax.jit(lambda p: stepped(graph, p, signal, mask, prefix, text, slots))(parameters)
    rows = histories[-1].reshape(2 * lanes, LENGTH)
    wanted = whole(graph, parameters, signal, mask, np.repeat(prefix[0], lanes, 0), rows)[:, -1]
    np.testing.assert_allclose(
        np.asarray(found)[-1].reshape(2 * lanes, -1), wanted, atol=2e-5 * np.abs(wanted).max()
    )


def test_bfloat16_steps_keep_float32_logits():
    config = dataclasses.replace(
        PLAIN, model=dataclasses.replace(PLAIN.model, compute_dtype="bfloat16")
    )
    graph, parameters = drawn(config)

    def one(p):
        model = bind(graph, p)
        signal = jnp.ones((1, *config.model.spec.shape))
        seen = observe(model, signal, jnp.ones((1, 4), bool))
        writer = Writer.of(model, seen)
        cache = start(writer, jnp.array([[[0, -1]]]), 2, 3)
        tokens, past = jnp.array([[1, 1]]), jnp.zeros((1, 2, 6), bool)
        return seen, cache, *step(writer, cache, tokens, tokens, 0, past)

    seen, cache, logits, after = jax.jit(one)(parameters)
    kept = {x.dtype for x in jax.tree.leaves((seen, cache.text, cache.decoder))}
    assert kept == {jnp.dtype("bfloat16")}
    assert logits.dtype == jnp.float32 and logits.shape == (1, 2, 128)
    np.testing.assert_array_equal(logits[:, 0], logits[:, 1])
    assert jax.tree.map(jnp.shape, cache) == jax.tree.map(jnp.shape, after)
