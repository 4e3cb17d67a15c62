"""Mistakes and damage around a corpus: one line that says what to do, and nothing lost."""

import hashlib
import json
import shutil

import pytest

from sleeplm_jax.corpus.discovery import find_recordings
from sleeplm_jax.corpus.manifest import Corpus
from sleeplm_jax.corpus.prepare import prepare_corpus
from sleeplm_jax.corpus.splits import read_splits
from sleeplm_jax.corpus.tokenizer import Tokenizer, train_tokenizer
from sleeplm_jax.errors import CorpusError, RecordingError
from sleeplm_jax.files import write_csv, write_json
from sleeplm_jax.recordings.montage_subjects import recording_name
from tests.corpus.test_discovery import edf


def test_a_corpus_never_tidies_away_a_users_files(tmp_path):
    mine = tmp_path / "study" / "nights"
    edf(mine / "a.edf", "EEG")
    (mine / "notes.txt").write_text("x")
    before = sorted(p.name for p in mine.iterdir())
    for given in (mine, mine / "a.edf"):
        with pytest.raises(CorpusError, match="holds other files"):
            prepare_corpus([given], tmp_path / "study", progress=False)
    assert sorted(p.name for p in mine.iterdir()) == before


def test_names_that_would_share_a_nights_file_are_told_apart(tmp_path):
    edf(tmp_path / "a b.edf", "EEG")
    edf(tmp_path / "a_b.edf", "EEG")
    edf(tmp_path / "p1" / "PSG.edf", "EEG")
    edf(tmp_path / "p2" / "PSG.edf", "EEG")
    edf(tmp_path / "p1-PSG.edf", "EEG")
    nights = [f.night for f in find_recordings([tmp_path])]
    assert len(set(nights)) == 5 and "p2-PSG" in nights
    moved = tmp_path.with_name(tmp_path.name + "-moved")
    tmp_path.rename(moved)
    assert [f.night for f in find_recordings([moved])] == nights


def test_file_names_that_are_not_utf8_can_be_written(tmp_path):
    odd = b"n\xff".decode("utf-8", "surrogateescape")
    write_csv(tmp_path / "a.csv", ("file",), [(odd,)])
    write_json(tmp_path / "a.json", {"file": odd})
    assert json.loads((tmp_path / "a.json").read_text()) == {"file": odd}
    assert recording_name(f"{odd}.edf").encode() == b"n\\udcff"


@pytest.mark.parametrize("text", ["", "subject,split\n", "{}", "x" * 200_000 + "\ny,test\n"])
def test_splits_that_name_nobody_are_refused(tmp_path, text):
    path = tmp_path / ("s.json" if text == "{}" else "s.csv")
    path.write_text(text)
    with pytest.raises(CorpusError, match="names no subject|cannot be read"):
        read_splits(path)


def test_a_wrong_montage_or_number_of_workers_is_one_error_not_one_a_night(tmp_path):
    edf(tmp_path / "a.edf", "EEG")
    with pytest.raises(RecordingError, match="no such montage"):
        prepare_corpus([tmp_path], tmp_path / "c", montage="absent", progress=False)
    with pytest.raises(CorpusError, match="workers: is -1"):
        prepare_corpus([tmp_path], tmp_path / "c", workers=-1, progress=False)
    assert not (tmp_path / "c").exists()


@pytest.fixture
def copied(corpus, tmp_path):
    shutil.copytree(corpus.path, tmp_path / "corpus")
    return tmp_path / "corpus"


@pytest.mark.parametrize("part", ["hash", "spec", "splits", "nights", "shards", "simulated"])
def test_a_manifest_without_a_part_is_said_to_be_damaged(copied, part):
    manifest = json.loads((copied / "corpus.json").read_text())
    for spoilt in ({k: v for k, v in manifest.items() if k != part}, manifest | {part: 5}):
        (copied / "corpus.json").write_text(json.dumps(spoilt))
        with pytest.raises(CorpusError, match="is damaged .*; run `sleeplm prepare` again"):
            Corpus.open(copied)


def test_a_tokenizer_that_does_not_parse_is_said_to_be_damaged(tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(b"garbage")
    about = {"format": 1, "sha256": hashlib.sha256(b"garbage").hexdigest(), "corpus": "x",
             "settings": {}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(about))
    with pytest.raises(CorpusError, match="is damaged"):
        Tokenizer.load(tmp_path)


def test_an_absurd_vocabulary_is_refused(corpus):
    with pytest.raises(CorpusError, match="--vocab-size: is 1000000000000"):
        train_tokenizer(corpus, vocab_size=10**12)
