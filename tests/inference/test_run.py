"""A loaded run: what it computes does not depend on batching, and decoding is plain greedy."""

import shutil

import jax
import numpy as np
import pytest

from sleeplm_jax.config import CAPTION_KINDS
from sleeplm_jax.corpus.loader import Loader
from sleeplm_jax.corpus.tokenizer import BOS, EOS, PAD
from sleeplm_jax.errors import CheckpointError
from sleeplm_jax.inference.generation import Decoding
from sleeplm_jax.inference.run import Model
from sleeplm_jax.models.build import bind


@pytest.fixture(scope="module")
def model(trained_run):
    return Model.load(trained_run, batch_size=4)


@pytest.fixture(scope="module")
def batch(corpus, model):
    loader = Loader(corpus, "test", model.tokenizer, model.config.data)
    return next(loader.eval_batches(6))


def test_embeddings_are_unit_and_independent_of_batching(model, batch):
    together = model.embed_signals(batch["signal"], batch["channel_mask"])
    assert together.shape == (6, 16)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, rtol=1e-5)
    for i in (0, 5):
        alone = model.embed_signals(batch["signal"][i : i + 1], batch["channel_mask"][i : i + 1])
        np.testing.assert_allclose(alone[0], together[i], atol=1e-5)
    embeddings, features = model.encode_signals(batch["signal"], batch["channel_mask"])
    np.testing.assert_array_equal(embeddings, together)
    np.testing.assert_array_equal(
        features, model.pooled_features(batch["signal"], batch["channel_mask"])
    )


def test_texts_embed_alike_in_any_company(model):
    texts = ["N2 sleep.", "REM sleep with an arousal.", "Wake."]
    np.testing.assert_allclose(
        model.embed_texts(texts)[1], model.embed_texts(texts[1:2])[0], atol=1e-5
    )


def test_captions_are_the_greedy_choice_at_every_step(model, batch):
    """Against a loop that runs the whole text so far and takes the best word."""
    signal, mask = batch["signal"][:2], batch["channel_mask"][:2]
    # Random weights, for varied words: the tiny run has hardly learned to begin a sentence.
    rng = np.random.default_rng(0)
    parameters = jax.tree.map(
        lambda x: x + 0.2 * rng.normal(size=x.shape).astype(np.float32), model._parameters
    )
    model = Model(model.config, parameters, model.tokenizer, 0, {}, model.folder, batch_size=4)
    written = model.caption(signal, mask, "brain", Decoding(max_tokens=14))
    prefix = np.full((2, 2), -1, np.int32)
    prefix[:, 0] = CAPTION_KINDS.index("brain")

    @jax.jit
    def whole(parameters, text):
        module = bind(model._graph, parameters)
        seen = module.encode_signal(signal, mask)["caption_tokens"]
        return module.decode(module.encode_text(text)["tokens"], prefix, seen)

    text = np.full((2, 14), PAD, np.int32)
    text[:, 0] = BOS
    for place in range(13):
        logits = np.array(whole(parameters, text)[:, place, : model.tokenizer.vocab_size])
        logits[:, [PAD, BOS]] = -np.inf
        ended = (text[:, : place + 1] == EOS).any(1)
        text[:, place + 1] = np.where(ended, PAD, logits.argmax(-1))
    assert written == [model.tokenizer.decode(row) for row in text]
    assert all(written) and written[0] != written[1]


def test_caption_nll_is_what_training_minimised(model, batch):
    nll, tokens = model.caption_nll(
        batch["signal"], batch["channel_mask"], batch["text"], batch["prefix"]
    )
    outputs = jax.device_get(bind(model._graph, model._parameters)(batch))
    logits = (outputs["caption_hidden"] @ outputs["logits_kernel"]).astype(np.float64)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = np.zeros(6)
    for i, text in enumerate(batch["text"]):
        for t in range(1, len(text)):
            if text[t] != PAD:
                expected[i] -= log_p[i, t - 1, text[t]]
    np.testing.assert_allclose(nll, expected, rtol=1e-4)
    np.testing.assert_array_equal(tokens, (batch["text"][:, 1:] != PAD).sum(1))


def test_the_temperature_is_the_learned_one(model):
    assert model.logit_scale == pytest.approx(
        float(np.exp(model._parameters["logit_scale"])), rel=1e-6
    )


def test_best_and_latest_steps(trained_run):
    assert Model.load(trained_run, step="latest").step == 12
    assert Model.load(trained_run, step="best").step in (6, 12)
    with pytest.raises(CheckpointError, match="has no checkpoint 5"):
        Model.load(trained_run, step=5)


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="is no run folder"):
        Model.load(tmp_path)


def test_a_foreign_tokenizer_is_refused(trained_run, tmp_path, corpus):
    from sleeplm_jax.corpus.manifest import Corpus
    from sleeplm_jax.corpus.tokenizer import train_tokenizer

    run = shutil.copytree(trained_run, tmp_path / "run")
    other = shutil.copytree(corpus.path, tmp_path / "corpus")
    train_tokenizer(Corpus.open(other), vocab_size=800).save(run)
    with pytest.raises(CheckpointError, match="is not the tokenizer of step"):
        Model.load(run)
