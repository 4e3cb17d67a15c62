"""What a finished cell lost: the same people, epochs and batches whatever it was trained with."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from sleeplm_jax.corpus.loader import Loader
from sleeplm_jax.errors import CheckpointError, CorpusError
from sleeplm_jax.inference.run import Model
from sleeplm_jax.scaling.measure import held_out_hash, measured
from sleeplm_jax.scaling.study import Measure

SOME = Measure(samples=48, batch_size=16)


@pytest.fixture(scope="module")
def found(trained_run, corpus):
    return measured(trained_run, SOME, corpus)


def test_the_caption_loss_is_what_inference_finds(found, trained_run, corpus):
    """By another road: inference's nats of every text, batched by hand."""
    model = Model.load(trained_run, "latest")
    data = dataclasses.replace(model.config.data, channel_dropout=0.0)
    whole = next(Loader(corpus, "test", model.tokenizer, data).eval_batches(48, samples=48))
    nll, tokens = model.caption_nll(
        whole["signal"], whole["channel_mask"], whole["text"], whole["prefix"])
    told = whole["kinds"].any(-1)
    # A batch holds every third sample, and its loss is a mean over its tokens.
    means = [(nll * told)[k::3].sum() / (tokens * told)[k::3].sum() for k in range(3)]
    assert found["losses"]["caption"] == pytest.approx(np.mean(means), rel=1e-4)
    assert found["losses"]["total"] > found["losses"]["caption"] > 0


def test_the_error_is_one_minus_balanced_accuracy(found):
    assert 0 <= found["losses"]["zero_shot_error"] <= 1
    assert found["figures"] | {"samples": 48, "people": 1, "simulated": True} == found["figures"]


def test_the_batch_that_a_cell_was_trained_with_changes_nothing(found, trained_run, corpus,
                                                               tmp_path):
    other = tmp_path / "other"
    shutil.copytree(trained_run, other)
    config = json.loads((other / "config.json").read_text())
    config["data"]["batch_size"], config["data"]["channel_dropout"] = 4, 0.7
    (other / "config.json").write_text(json.dumps(config))
    again = measured(other, SOME, corpus)
    assert again["held_out"] == found["held_out"]
    assert again["losses"] == pytest.approx(found["losses"], rel=1e-5)


def test_the_evaluation_batch_is_part_of_what_is_measured(found, trained_run, corpus):
    wider = measured(trained_run, Measure(samples=48, batch_size=24), corpus)
    assert wider["held_out"] != found["held_out"]
    # More to confuse it with: an untrained model's loss grows by about ln(24 / 16) = 0.41.
    assert wider["losses"]["contrastive"] > found["losses"]["contrastive"] + 0.1
    assert wider["losses"]["caption"] == pytest.approx(found["losses"]["caption"], rel=0.02)


def test_the_hash_names_people_epochs_and_words(trained_run, corpus):
    model = Model.load(trained_run, "latest")
    ask = held_out_hash(SOME, model.config, corpus, model.tokenizer)
    assert ask == held_out_hash(SOME, model.config, corpus, model.tokenizer)
    others = [
        held_out_hash(dataclasses.replace(SOME, split="val"), model.config, corpus,
                      model.tokenizer),
        held_out_hash(SOME, dataclasses.replace(
            model.config, data=dataclasses.replace(model.config.data, text_length=40)), corpus,
            model.tokenizer),
    ]
    assert len({ask, *others}) == 3


def test_what_cannot_be_measured_is_one_line(trained_run, corpus, tmp_path):
    with pytest.raises(CorpusError, match="less than a batch of 512"):
        measured(trained_run, Measure(samples=512, batch_size=512), corpus)
    unfinished = tmp_path / "unfinished"
    shutil.copytree(trained_run, unfinished)
    config = json.loads((unfinished / "config.json").read_text())
    (unfinished / "config.json").write_text(json.dumps(config | {"steps": 99}))
    with pytest.raises(CheckpointError, match="is at step 12 of 99"):
        measured(unfinished, SOME, corpus)
