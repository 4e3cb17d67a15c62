import json
import pickle
import shutil

import pytest

from sleeplm_jax.config import SignalSpec
from sleeplm_jax.corpus.manifest import Corpus
from sleeplm_jax.errors import CorpusError


@pytest.fixture
def own(corpus_folder, tmp_path):
    return shutil.copytree(corpus_folder, tmp_path / "own")


def first_shard(folder):
    return next(folder.glob("shards-*/*test.array_record*"))


def test_an_absent_corpus_is_named(tmp_path):
    with pytest.raises(CorpusError, match="holds no corpus .*run `sleeplm prepare"):
        Corpus.open(tmp_path)


def test_another_version_is_refused(own):
    file = own / "corpus.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format": 99}))
    with pytest.raises(CorpusError, match="corpus of format 99, this version reads 2"):
        Corpus.open(own)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"hash": 1}'])
def test_an_unreadable_manifest_is_named(own, text):
    (own / "corpus.json").write_text(text)
    with pytest.raises(CorpusError, match="cannot be read"):
        Corpus.open(own)


def test_a_missing_shard_is_named(own):
    first_shard(own).unlink()
    with pytest.raises(CorpusError, match="test.array_record.*shard is missing"):
        Corpus.open(own)


def test_a_truncated_shard_is_named(own):
    shard = first_shard(own)
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(CorpusError, match="bytes, written were"):
        Corpus.open(own, verify=False)


def test_a_changed_byte_is_found(own):
    shard = first_shard(own)
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    with pytest.raises(CorpusError, match="SHA-256 differs"):
        Corpus.open(own)


def test_damage_that_was_not_looked_for_stops_the_reading(own):
    shard = first_shard(own)
    shard.write_bytes(b"\0" * shard.stat().st_size)
    corpus = Corpus.open(own, verify=False)
    with pytest.raises(CorpusError):
        corpus.source("test")[0]


def test_another_spec_is_refused(corpus_folder):
    Corpus.open(corpus_folder, spec=SignalSpec())
    with pytest.raises(CorpusError, match="C3,C4 at 64 Hz for 30 s"):
        Corpus.open(corpus_folder, spec=SignalSpec(channels=("C3", "C4")))


def test_unknown_and_empty_splits_are_named(own, simulated_folder):
    with pytest.raises(CorpusError, match="no split 'dev'"):
        Corpus.open(own).source("dev")
    corpus = Corpus.open(own)
    corpus.manifest["splits"]["val"]["samples"] = 0
    with pytest.raises(CorpusError, match="val split is empty"):
        corpus.source("val")


def test_the_index_says_where_each_sample_is_from(corpus):
    for split in corpus.splits:
        source, index = corpus.source(split), corpus.index(split)
        assert len(source) == len(index["epoch"]) == corpus.samples(split)
        for i in range(len(source)):
            for name, column in index.items():
                assert source[i][name] == column[i]


def test_a_source_survives_pickling_and_knows_its_length(corpus):
    source = corpus.source("val")
    again = pickle.loads(pickle.dumps(source))
    assert (again[3]["signal"] == source[3]["signal"]).all()
    for outside in (-1, len(source)):
        with pytest.raises(IndexError):
            source[outside]


def test_the_corpus_can_be_moved(own, tmp_path):
    moved = own.rename(tmp_path / "moved")
    corpus = Corpus.open(moved)
    assert corpus.source("train")[0]["recording"].startswith("sim-")
    assert corpus.tokenizer().vocab_size
