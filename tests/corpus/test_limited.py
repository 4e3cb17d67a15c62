"""Part of a training split: whole nights of the first people, less always within more."""

import dataclasses
import pickle

import numpy as np
import pytest

from sleeplm_jax.corpus.limited import limited
from sleeplm_jax.corpus.loader import Loader
from sleeplm_jax.corpus.mixture import open_data
from sleeplm_jax.errors import ConfigError, CorpusError

HOURS = 0.5  # of each of the corpus' three training nights


def data(corpus_folder, **changes):
    from tests.fixtures_run import tiny_config

    found = tiny_config(corpus_folder, corpus_folder).data
    return dataclasses.replace(found, **changes)


def test_less_lies_within_more_and_nights_stay_whole(corpus):
    names = [{n["night"] for n in limited(corpus, hours).nights("train")}
             for hours in (0.1, HOURS, 2 * HOURS, 3 * HOURS)]
    assert [len(found) for found in names] == [1, 1, 2, 3]
    assert names[0] == names[1] < names[2] < names[3]
    part = limited(corpus, 0.6)
    assert part.samples("train") == sum(n["samples"] for n in part.nights("train")) == 2 * 60
    assert len(part.source("train")) == part.samples("train")


def test_its_samples_are_those_of_its_nights(corpus):
    part = limited(corpus, 2 * HOURS)
    source, index = part.source("train"), part.index("train")
    again = pickle.loads(pickle.dumps(source))
    for place in (0, 59, 60, 119):
        sample = source[place]
        assert sample["recording"] == index["recording"][place] == again[place]["recording"]
        assert sample["epoch"] == index["epoch"][place]
    with pytest.raises(IndexError):
        source[120]


def test_nothing_else_changes(corpus):
    part = limited(corpus, HOURS)
    assert part.hash == corpus.hash and part.spec == corpus.spec
    for split in ("val", "test"):
        assert part.nights(split) == corpus.nights(split)
        assert len(part.source(split)) == corpus.samples(split)
    assert part.subjects("train") < corpus.subjects("train") or len(part.subjects("train")) == 1


def test_a_loader_sees_these_nights_alone_pass_after_pass(corpus_folder, tokenizer):
    part = open_data(data(corpus_folder, unique_hours=HOURS))
    loader = Loader(part, "train", tokenizer, data(corpus_folder))
    for turn in range(2):
        places = [loader.position(index) for index in range(turn * 60, turn * 60 + 60)]
        assert sorted(places) == list(range(60))
    assert np.isfinite(loader.batch(0, 4)["signal"]).all()


def test_none_is_the_whole_corpus(corpus_folder, corpus):
    assert open_data(data(corpus_folder)) == corpus


def test_more_than_there_is_is_refused(corpus):
    with pytest.raises(CorpusError, match=r"holds 1\.5 h .* data\.unique_hours asks for 2"):
        limited(corpus, 2.0)


def test_a_mixture_is_not_limited(corpus_folder):
    from sleeplm_jax.config.validation import validate
    from tests.fixtures_run import tiny_config

    config = tiny_config(corpus_folder, corpus_folder)
    mixed = dataclasses.replace(config.data, mixture=(f"{corpus_folder}=1",), unique_hours=1.0)
    with pytest.raises(ConfigError, match="limits one corpus"):
        validate(dataclasses.replace(config, data=mixed))
