"""Shards that are cut, lost or damaged after a corpus was prepared: one line with the file."""

import os
import shutil
from dataclasses import replace

import pytest

from sleeplm_jax.config import DataConfig
from sleeplm_jax.corpus.loader import Loader
from sleeplm_jax.corpus.manifest import Corpus
from sleeplm_jax.errors import CorpusError
from sleeplm_jax.parallel.feeding import Feed

DATA = DataConfig(text_length=96, prefetch=2)


@pytest.fixture
def own(corpus_folder, tmp_path):
    return shutil.copytree(corpus_folder, tmp_path / "own", ignore=shutil.ignore_patterns("nights"))


def shard(own, split="train"):
    return next(own.glob(f"shards-*/*{split}.array_record*"))


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


def emptied(path):
    os.truncate(path, 0)


def zeroed(path):
    path.write_bytes(b"\0" * path.stat().st_size)


def lost(path):
    path.unlink()


def folder_lost(path):
    shutil.rmtree(path.parent)


def flipped(path):
    data = bytearray(path.read_bytes())
    for place in range(len(data) // 10, len(data), len(data) // 10):
        data[place] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [cut, emptied, lost, folder_lost])
def test_damage_before_training_is_found_when_the_corpus_is_opened(own, damage):
    path = shard(own)
    damage(path)
    with pytest.raises(CorpusError, match="shard"):
        Corpus.open(own, verify=False)


@pytest.mark.parametrize(
    "damage, begun",
    [(cut, False), (cut, True), (emptied, False), (zeroed, True), (flipped, True), (lost, False),
     (lost, True), (folder_lost, False)],
)
def test_damage_while_training_stops_it_with_the_shard_named(own, tokenizer, damage, begun):
    corpus = Corpus.open(own)
    loader = Loader(corpus, "train", tokenizer, replace(DATA, channel_dropout=0.0), seed=1)
    if begun:
        loader.batch(0, 2)
    path = shard(own)
    damage(path)
    with Feed(loader.iterate(1, 16), lambda batch: batch) as feed:
        if begun and damage in (lost, folder_lost):  # an open file stays readable
            assert len(next(feed)["index"]) == 16
            return
        with pytest.raises(CorpusError) as caught:
            for _ in range(40):  # twice the split and more
                next(feed)
    line = str(caught.value)
    assert path.name in line and "sample " in line and "\n" not in line and len(line) < 500
