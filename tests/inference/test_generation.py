"""How words are chosen, against plain searches that run the whole pass over every text."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sleeplm_jax.config import EncoderConfig, ModelConfig, RunConfig, SignalSpec, TextConfig
from sleeplm_jax.errors import ConfigError
from sleeplm_jax.inference.generation import GREEDY, Decoding, Words, draw, generate
from sleeplm_jax.models.build import bind
from sleeplm_jax.models.decoding import observe
from tests.models.drawn import drawn

VOCABULARY, EOS = 8, 2
WORDS = Words(0, 1, EOS, np.arange(VOCABULARY) < 2)  # eos and five words
CONFIG = RunConfig(
    model=ModelConfig(
        spec=SignalSpec(("C3", "C4"), 16, 4),
        encoder=EncoderConfig(width=8, depth=1, heads=1, patch_samples=32, caption_tokens=2),
        text=TextConfig(width=8, depth=1, decoder_depth=1, heads=2),
        embed_dim=8, reconstruction_width=8, vocab_size=VOCABULARY,
    ),
)  # fmt: skip
CONFIG = dataclasses.replace(CONFIG, data=dataclasses.replace(CONFIG.data, text_length=24))
PROMPTS = np.array([[[0, -1], [4, 1]], [[2, -1], [3, -1]]], np.int32)


@pytest.fixture(scope="module")
def model():
    graph, parameters = drawn(CONFIG, seed=3, spread=0.6)
    signal = np.random.default_rng(3).normal(size=(2, *CONFIG.model.spec.shape)).astype(np.float32)
    return graph, parameters, signal


@functools.partial(jax.jit, static_argnames=("graph", "decoding", "length"))
def _run(graph, parameters, signal, prompts, wanted, index, seed, decoding, length):
    model = bind(graph, parameters)
    seen = observe(model, signal, jnp.ones(signal.shape[:2], bool))
    return generate(model, seen, prompts, wanted, index, seed, decoding, WORDS, length)


def written(model, decoding, length, prompts=PROMPTS, rows=slice(None), wanted=None, index=None):
    graph, parameters, signal = model
    prompts = prompts[rows]
    groups = prompts.shape[0] * prompts.shape[1]
    texts, scores = _run(
        graph, parameters, signal[rows], prompts, np.ones(groups, bool) if wanted is None else
        wanted, np.arange(groups, dtype=np.uint32) if index is None else index,
        np.uint32(decoding.seed), dataclasses.replace(decoding, seed=0), length,
    )
    return np.asarray(texts), np.asarray(scores)


@functools.partial(jax.jit, static_argnames="graph")
def _logits(graph, parameters, signal, prefix, text):
    model = bind(graph, parameters)
    seen = model.encode_signal(signal, jnp.ones(signal.shape[:2], bool))["caption_tokens"]
    seen = jnp.repeat(seen, len(text), 0)
    prefix = jnp.repeat(prefix, len(text), 0)
    return model.decode(model.encode_text(text)["tokens"], prefix, seen)


def logits_of(model, group, texts, length):
    """f64 [N, T, V] of the whole pass over these texts; -inf for barred words."""
    graph, parameters, signal = model
    rows = np.zeros((len(texts), length), np.int32)
    for row, text in zip(rows, texts, strict=True):
        row[: len(text)] = text
    epoch, prompt = divmod(group, PROMPTS.shape[1])
    prefix = PROMPTS[epoch, prompt][None]
    found = _logits(graph, parameters, signal[epoch : epoch + 1], prefix, rows)
    return np.where(WORDS.barred, -np.inf, np.asarray(found, np.float64))


def log_p(model, group, texts, length):
    """f64 [N, T, V]: log probabilities of what follows each position of these texts."""
    logits = logits_of(model, group, texts, length)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


@pytest.mark.parametrize("power", [0.0, 1.0])
def test_beams_wide_enough_find_the_best_of_all_texts(model, power):
    """128 beams hold every text of three words (125), so the search is exhaustive."""
    length, inner = 5, range(3, VOCABULARY)
    texts, scores = written(
        model, Decoding(beams=128, samples=4, length_penalty=power), length
    )
    all_texts = [
        [1, *words, EOS] for n in range(length - 1) for words in itertools.product(inner, repeat=n)
    ]
    for group in range(4):
        p = log_p(model, group, all_texts, length)
        found = np.array([
            sum(p[i, t, text[t + 1]] for t in range(len(text) - 1)) / (len(text) - 1) ** power
            for i, text in enumerate(all_texts)
        ])
        best = np.argsort(-found)[:4]
        np.testing.assert_allclose(scores[group], found[best], atol=1e-4)
        for row, i in zip(texts[group], best, strict=True):
            assert row.tolist() == all_texts[i] + [0] * (length - len(all_texts[i]))


def plain_beams(model, group, beams, length, power):
    """The same search with lists of tokens, without a cache: the best text that ended."""
    live, ended = [(0.0, [1])], []
    for size in range(1, length):
        p = log_p(model, group, [text for _, text in live], length)
        candidates = sorted(
            ((score + p[i, size - 1, token], [*text, token])
             for i, (score, text) in enumerate(live) for token in range(2, VOCABULARY)),
            key=lambda found: -found[0],
        )[: 2 * beams]
        ended += [(score / size**power, text) for score, text in candidates if text[-1] == EOS]
        live = [(score, text) for score, text in candidates if text[-1] != EOS][:beams]
    return max(ended, default=(live[0][0] / (length - 1) ** power, live[0][1]))


def test_few_beams_are_a_plain_beam_search_that_may_stop_early(model):
    length = 12
    texts, scores = written(model, Decoding(beams=3), length)
    greedy, _ = written(model, GREEDY, length)
    for group in range(4):
        score, text = plain_beams(model, group, 3, length, 1.0)
        assert texts[group, 0].tolist() == text + [0] * (length - len(text))
        assert scores[group, 0] == pytest.approx(score, abs=1e-4)
    assert (texts != greedy).any()


def test_one_beam_finds_what_greedy_decoding_finds_while_nothing_ends(model):
    """An end is a candidate of two even where it is second best: so none is allowed here."""
    length = 12
    one = dataclasses.replace(GREEDY, min_tokens=length)
    greedy, score = written(model, one, length)
    texts, scores = written(model, dataclasses.replace(one, beams=2, samples=2), length)
    assert (greedy != EOS).all() and (texts != EOS).all()
    assert (scores[:, 0] * (length - 1) >= score[:, 0] - 1e-4).all()
    for group in range(4):
        text = [1]
        while len(text) < length:
            p = log_p(model, group, [text], length)[0, len(text) - 1]
            p[EOS] = -np.inf
            text.append(int(p.argmax()))
        assert greedy[group, 0].tolist() == text


def test_draws_hang_on_seed_and_index_and_not_on_the_batch(model):
    decoding, index = Decoding(temperature=1.5, samples=3), np.array([5, 9, 70, 3], np.uint32)
    texts, _ = written(model, decoding, 12, index=index)
    alone, _ = written(model, decoding, 12, rows=slice(1, 2), index=index[2:])
    np.testing.assert_array_equal(texts[2:], alone)
    other, _ = written(model, dataclasses.replace(decoding, seed=1), 12, index=index)
    moved, _ = written(model, decoding, 12, index=index + 1)
    assert (texts != other).any() and (texts != moved).any()
    assert len({tuple(row) for row in texts[0].tolist()}) > 1


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        (dict(temperature=2.0), [0, 1, 2, 3, 4]),
        (dict(temperature=1.0, top_k=2), [1, 3]),
        (dict(temperature=1.0, top_p=0.75), [1, 3]),  # 0.5 + 0.3 passes 0.75
        # Of the three best 0.526 and 0.316, passing 0.82; of all 0.5 and 0.3 do not.
        (dict(temperature=1.0, top_k=3, top_p=0.82), [1, 3]),
    ],
)
def test_words_are_drawn_as_often_as_probable(settings, kept):
    """20,000 draws: six standard errors of a share are at most 0.021."""
    share = np.array([0.05, 0.5, 0.0, 0.3, 0.15]) + 1e-12
    decoding = Decoding(**settings)
    keys = jax.random.split(jax.random.key(0), 20_000)
    drawn = jax.jit(jax.vmap(lambda key: draw(jnp.log(share), key, decoding)))(keys)
    found = np.bincount(np.asarray(drawn), minlength=5) / len(keys)
    expected = np.where(np.isin(np.arange(5), kept), share ** (1 / decoding.temperature), 0)
    np.testing.assert_allclose(found, expected / expected.sum(), atol=0.021)


def test_a_text_cannot_end_before_its_least_length(model):
    """The start counts, as in SleepLM's: with 6, the first place of an end is the seventh."""
    texts, _ = written(model, Decoding(temperature=3.0, samples=16), 20)
    later, _ = written(model, Decoding(temperature=3.0, samples=16, min_tokens=6), 20)
    assert (texts[..., :6] == EOS).any()
    assert not (later[..., :6] == EOS).any() and (later[..., 6] == EOS).any()


def test_what_was_said_is_penalised(model):
    length = 12
    decoding = Decoding(repetition_penalty=1.7)
    texts, _ = written(model, decoding, length)
    for group in range(4):
        text = [1]
        while len(text) < length and text[-1] != EOS:
            logits = logits_of(model, group, [text], length)[0, len(text) - 1]
            for token in set(text):
                logits[token] *= 1.7 if logits[token] < 0 else 1 / 1.7
            text.append(int(logits.argmax()))
        assert texts[group, 0].tolist() == text + [0] * (length - len(text))
    assert (texts != written(model, GREEDY, length)[0]).any()


def test_unwanted_groups_are_not_waited_for(model):
    wanted = np.array([True, False, False, True])
    all_of_them, _ = written(model, GREEDY, 12)
    some, _ = written(model, GREEDY, 12, wanted=wanted)
    np.testing.assert_array_equal(some[wanted], all_of_them[wanted])
    assert (some[~wanted][..., 1:] == 0).all()


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        (dict(beams=0), "beams"), (dict(beams=2, temperature=1.0), "temperature"),
        (dict(samples=2), "samples"), (dict(beams=2, samples=3), "samples"),
        (dict(top_p=0.0), "top_p"), (dict(top_k=5), "temperature"), (dict(max_tokens=1), "max_t"),
        (dict(min_tokens=9, max_tokens=8), "min_tokens"), (dict(seed=-1), "seed"),
    ],
)  # fmt: skip
def test_settings_that_contradict_one_another_are_refused(settings, field):
    with pytest.raises(ConfigError, match=rf"^decoding\.{field}"):
        Decoding(**settings)
