import json
import pickle
import shutil

import numpy as np
import pytest

from sleeplm_jax.config import CAPTION_KINDS
from sleeplm_jax.corpus import manifest
from sleeplm_jax.corpus import tokenizer as module
from sleeplm_jax.corpus.manifest import Corpus
from sleeplm_jax.corpus.tokenizer import (
    BOS,
    EOS,
    PAD,
    UNK,
    Tokenizer,
    train_tokenizer,
    training_sentences,
)
from sleeplm_jax.errors import CorpusError

TEXTS = [
    "Stage N2 sleep.", "0123456789 98.05 % and 13.29/min, -4.5 to +6", "", "UPPER lower MiXed",
    "\u5348\u524d \u7761\u7720 \U0001f634 naïve Ångström µV", " two  spaces ", "tab\tand\nline",
]  # fmt: skip


@pytest.fixture
def own(corpus_folder, tmp_path):
    return shutil.copytree(corpus_folder, tmp_path / "own")


@pytest.mark.parametrize("text", TEXTS)
def test_any_text_comes_back(tokenizer, text):
    ids = tokenizer.encode(text, 256)
    assert UNK not in ids
    assert tokenizer.decode(ids) == text


def test_real_captions_come_back_and_are_short(corpus, tokenizer):
    for text in list(training_sentences(corpus, 7, 500)):
        ids = tokenizer.ids(text)
        assert tokenizer.decode(ids) == text
        assert len(ids) < len(text) / 1.8  # an event's times that occur once are spelled out


def test_form_of_a_row(tokenizer):
    row = tokenizer.encode("Stage N2 sleep.", 20)
    n = len(tokenizer.ids("Stage N2 sleep."))
    assert row.dtype == np.int32 and row.shape == (20,)
    assert row[0] == BOS == 1 and row[n + 1] == EOS == 2
    assert (row[n + 2 :] == PAD).all() and PAD == 0 and UNK == 3
    assert not np.isin(row[1 : n + 1], [PAD, BOS, EOS]).any()


def test_a_long_text_is_cut_and_keeps_its_end_mark(tokenizer):
    text = "one two three four five six seven " * 20
    row = tokenizer.encode(text, 16)
    assert row[0] == BOS and row[15] == EOS
    assert row[1:15].tolist() == tokenizer.ids(text)[:14]
    assert text.startswith(tokenizer.decode(row).rstrip("\ufffd"))


def test_decoding_ignores_what_is_no_text(tokenizer):
    ids = [BOS, *tokenizer.ids("wake"), PAD, UNK, tokenizer.vocab_size + 5, EOS, 300, 301]
    assert tokenizer.decode(ids) == "wake"


def test_special_words_in_a_text_are_just_text(tokenizer):
    row = tokenizer.encode("</s> <pad> <s>", 64)
    assert (row == EOS).sum() == 1 and tokenizer.decode(row) == "</s> <pad> <s>"


def test_only_the_train_split_is_read(own, monkeypatch):
    read = []

    class Watched(manifest.Source):
        def __getitem__(self, index):
            read.append(super().__getitem__(index)["subject"])
            return super().__getitem__(index)

    monkeypatch.setattr(manifest, "Source", Watched)
    corpus = Corpus.open(own)
    sentences = list(training_sentences(corpus, 0, 10_000))
    assert set(read) == {n["subject"] for n in corpus.nights("train")}
    assert len(sentences) > len(set(sentences)) > 100


def test_words_of_the_test_split_alone_do_not_enter(own, monkeypatch):
    corpus = Corpus.open(own)
    tested = {n["subject"] for n in corpus.nights("test")}

    def render(record, kind, rng, **_):
        return "quizzical zebra " * 3 if record.get("subject") in tested else "plain sleep"

    class Named(manifest.Source):
        def __getitem__(self, index):
            sample = super().__getitem__(index)
            return sample | {"record": {"subject": sample["subject"]}}

    monkeypatch.setattr(manifest, "Source", Named)
    monkeypatch.setattr("sleeplm_jax.captions.render.render", render)
    monkeypatch.setattr(module, "captions_version", lambda: "other")
    tokenizer = train_tokenizer(corpus, vocab_size=1024)
    assert len(tokenizer.ids("plain sleep")) <= 2
    assert len(tokenizer.ids("zebra")) >= 5
    assert tokenizer.vocab_size < 1024  # what the text supports, reported as it is


def test_training_again_gives_the_same_bytes_or_is_skipped(own, corpus_folder, monkeypatch):
    before = (own / "tokenizer.model").read_bytes()
    corpus = Corpus.open(own)
    written = (own / "tokenizer.model").stat().st_mtime_ns
    train_tokenizer(corpus, vocab_size=1024)
    assert (own / "tokenizer.model").stat().st_mtime_ns == written
    (own / "tokenizer.json").unlink()
    again = train_tokenizer(corpus, vocab_size=1024)
    assert (own / "tokenizer.model").read_bytes() == before
    assert again.hash == Tokenizer.load(corpus_folder).hash
    assert train_tokenizer(corpus, vocab_size=600).hash != again.hash


def test_numbers_with_their_units_are_cheap(corpus, tokenizer):
    """Split at every digit and sign, the numbers of captions take about four tokens each."""
    numbers = [w for text in training_sentences(corpus, 7, 400) for w in text.split()
               if w[0].isdigit()]  # fmt: skip
    pieces = [len(tokenizer.ids(number)) for number in numbers]
    assert len(numbers) > 1000 and np.mean(pieces) < 1.5  # of 1,024 pieces; of 2,048: 1.2
    assert np.mean([len(number) for number in numbers]) > 2.5


def test_all_captions_of_an_epoch_in_the_compact_style_fit_256_tokens(own):
    from sleeplm_jax.captions.render import render

    corpus, lengths = Corpus.open(own), []
    tokenizer = train_tokenizer(corpus)  # 2,048 pieces, as the command does
    for split in ("val", "test"):
        for index in range(corpus.samples(split)):
            record, rng = corpus.source(split)[index]["record"], np.random.default_rng(index)
            said = [render(record, kind, rng, "sleeplm", corpus.spec) for kind in CAPTION_KINDS]
            lengths.append(len(tokenizer.ids(" ".join(text for text in said if text))) + 2)
    assert np.percentile(lengths, 99) <= 256


def test_digits_can_be_kept_apart(own):
    tokenizer = train_tokenizer(Corpus.open(own), vocab_size=1024, numbers="digits")
    row = tokenizer.ids("13.29")
    assert len([i for i in row if tokenizer.decode([i]).strip().isdigit()]) == 4


def test_the_file_says_what_it_was_trained_on(corpus, corpus_folder, tokenizer):
    about = json.loads((corpus_folder / "tokenizer.json").read_text())
    assert about["corpus"] == corpus.hash and about["vocab_size"] == tokenizer.vocab_size
    assert about["sha256"] == tokenizer.hash and about["sentences"] > 500
    assert pickle.loads(pickle.dumps(tokenizer)).decode(tokenizer.ids("wake")) == "wake"


def test_a_copy_in_another_folder_works_alone(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    assert Tokenizer.load(tmp_path).ids("Stage N2") == tokenizer.ids("Stage N2")


def test_absent_damaged_and_other_tokenizers_are_named(own, tmp_path):
    with pytest.raises(CorpusError, match="holds no tokenizer .*run `sleeplm tokenizer"):
        Tokenizer.load(tmp_path / "nothing")
    model = own / "tokenizer.model"
    whole = model.read_bytes()
    model.write_bytes(whole[:-1])
    with pytest.raises(CorpusError, match="SHA-256 differs"):
        Tokenizer.load(own)
    model.write_bytes(whole)
    about = json.loads((own / "tokenizer.json").read_text())
    (own / "tokenizer.json").write_text(json.dumps(about | {"corpus": "f" * 64}))
    with pytest.raises(CorpusError, match="trained on an earlier state"):
        Corpus.open(own).tokenizer()
    (own / "tokenizer.json").write_text(json.dumps(about | {"format": 99}))
    with pytest.raises(CorpusError, match="tokenizer of format 99"):
        Tokenizer.load(own)
    with pytest.raises(CorpusError, match="--vocab-size"):
        train_tokenizer(Corpus.open(own), vocab_size=100)
