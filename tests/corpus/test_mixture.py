import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from sleeplm_jax.captions.record import caption_keys
from sleeplm_jax.config import DataConfig, SignalSpec
from sleeplm_jax.corpus.loader import Loader
from sleeplm_jax.corpus.manifest import Corpus
from sleeplm_jax.corpus.mixture import Mixture, open_data, tokenizer_for
from sleeplm_jax.corpus.prepare import prepare_corpus
from sleeplm_jax.corpus.tokenizer import train_tokenizer
from sleeplm_jax.errors import ConfigError, CorpusError

DATA = DataConfig(text_length=96, prefetch=2)


@pytest.fixture(scope="module")
def other(corpus_folder, simulated_folder, tmp_path_factory):
    """A corpus of three of the nights, its own tokenizer; measured already, so made in a moment."""
    return another(corpus_folder, simulated_folder, tmp_path_factory.mktemp("mixed"))


def another(corpus_folder, simulated_folder, folder, **splits):
    """Nights 2, 3 and 4 as a corpus in `folder`; only the first is not trained on, as in the other
    corpus (there for testing)."""
    out = shutil.copytree(corpus_folder, folder / "other")
    chosen = {"sim-3-0002": "val", "sim-3-0003": "train", "sim-3-0004": "train"} | splits
    (folder / "splits.json").write_text(json.dumps(chosen))
    nights = [simulated_folder / f"{name}.edf" for name in chosen]
    made = prepare_corpus(
        nights, out, workers=1, progress=False, splits_file=folder / "splits.json"
    ).corpus
    train_tokenizer(made, vocab_size=700)
    return out


@pytest.fixture(scope="module")
def data(corpus_folder, other):
    return replace(
        DATA, mixture=(f"{corpus_folder}=0.25", f"{other}=0.75"), tokenizer=str(corpus_folder)
    )


@pytest.fixture(scope="module")
def mixed(data):
    return open_data(data)


@pytest.fixture(scope="module")
def loader(mixed, data):
    return Loader(mixed, "train", tokenizer_for(mixed, data), data, seed=2)


def test_proportions_hold_in_every_window_of_samples(loader, corpus):
    first = len(corpus.source("train"))
    mine = np.array([loader.position(index) < first for index in range(400)])
    for size in (4, 7, 50):
        had = np.convolve(mine, np.ones(size), "valid")
        assert np.abs(had - size / 4).max() <= 1


def test_rows_are_those_of_the_corpora(loader, mixed, corpus, other):
    sizes = corpus.samples("train"), Corpus.open(other).samples("train")
    assert len(loader) == sum(sizes) == mixed.samples("train")
    sources = corpus.source("train"), Corpus.open(other).source("train")
    batch = loader.batch(3, 32)
    for row, place in enumerate(batch["index"]):
        part = int(place >= sizes[0])
        stored = sources[part][int(place) - part * sizes[0]]
        assert batch["stage"][row] == stored["stage"]
        if batch["channel_mask"][row].sum() == stored["mask"].sum():  # keys compare across corpora
            wanted = caption_keys(stored["record"], mixed.spec)
            np.testing.assert_array_equal(batch["keys"][row], wanted)


def test_going_on_from_a_step_gives_the_same_batches(loader):
    straight = [loader.batch(step, 8) for step in range(40, 44)]
    for wanted, got in zip(straight, loader.iterate(40, 8)):
        for name, array in wanted.items():
            np.testing.assert_array_equal(got[name], array)


def test_a_mixture_of_one_is_that_corpus(corpus, corpus_folder, tokenizer):
    alone = Mixture.open([f"{corpus_folder}=3"])
    assert alone.hash == corpus.hash
    one, two = (Loader(c, "train", tokenizer, DATA, 5).batch(1, 8) for c in (corpus, alone))
    assert all((one[name] == two[name]).all() for name in one)


def test_hash_tells_corpora_and_weights(mixed, corpus_folder, other, tmp_path):
    same = Mixture.open([f"{corpus_folder}=1", f"{other}=3"])
    assert same.hash == mixed.hash != Mixture.open([f"{corpus_folder}=1", f"{other}=2"]).hash
    moved = shutil.copytree(other, tmp_path / "moved")
    assert Mixture.open([f"{corpus_folder}=1", f"{moved}=3"]).hash == mixed.hash
    assert mixed.names == (corpus_folder.name, "other")


def test_passes_of_each_are_told(mixed, corpus_folder):
    size = mixed.corpora[1].samples("train")
    told = mixed.passes(4 * size)
    assert f"other 75.0%, {size:,} samples, 3 passes" in told and corpus_folder.name in told


@pytest.mark.parametrize(
    "entries, finding",
    [
        (["{a}"], "no corpus with a weight"),
        (["{a}=0"], "no corpus with a weight"),
        (["{a}=much"], "no corpus with a weight"),
        (["=1"], "no corpus with a weight"),
        (["{a}=1", "{a}=2"], "twice"),
        (["{a}=1", "{a}/=2"], "twice"),
        (["{a}=1", "{b}=1.2345678"], "fewer digits"),
        (["{a}=1", "{a}/nowhere=1"], "holds no corpus"),
    ],
)
def test_what_is_no_mixture_is_told_in_a_line(corpus_folder, other, entries, finding):
    with pytest.raises((ConfigError, CorpusError), match=finding) as caught:
        Mixture.open([entry.format(a=corpus_folder, b=other) for entry in entries])
    assert "\n" not in str(caught.value)


def test_a_copy_of_a_corpus_is_no_second_one(corpus_folder, tmp_path):
    copied = shutil.copytree(corpus_folder, tmp_path / "copied")
    with pytest.raises(CorpusError, match="same corpus"):
        Mixture.open([f"{corpus_folder}=1", f"{copied}=1"])


def test_corpora_of_different_specs_do_not_mix(corpus_folder, other, monkeypatch):
    plain = Corpus.spec.func
    narrow = SignalSpec(channels=("C3", "C4"))
    monkeypatch.setattr(
        Corpus, "spec", property(lambda c: narrow if c.path.name == "other" else plain(c))
    )
    with pytest.raises(CorpusError, match="other: holds samples of C3,C4"):
        Mixture.open([f"{corpus_folder}=1", f"{other}=1"])


def test_tokenizers_that_differ_want_one_to_be_named(mixed, data, tokenizer):
    with pytest.raises(CorpusError, match="--data.tokenizer"):
        tokenizer_for(mixed, replace(data, tokenizer=""))
    assert tokenizer_for(mixed, data).hash == tokenizer.hash


def test_nobody_is_held_out_of_one_corpus_and_trained_on_in_another(
    corpus_folder, simulated_folder, tmp_path
):
    bad = another(corpus_folder, simulated_folder, tmp_path, **{"sim-3-0003": "test"})
    wanted = r"has 1 people in its val and test splits .*/sim-3-0003 is in the training split"
    for entries in ([f"{corpus_folder}=1", f"{bad}=1"], [f"{bad}=1", f"{corpus_folder}=1"]):
        with pytest.raises(CorpusError, match=wanted):
            Mixture.open(entries)
    manifest = json.loads((bad / "corpus.json").read_text())
    for night in manifest["nights"]:  # the same signals under other names
        night["subject"] = f"renamed-{night['subject']}"
    (bad / "corpus.json").write_text(json.dumps(manifest))
    with pytest.raises(CorpusError, match="renamed-sim-3-0003 is in the training split"):
        Mixture.open([f"{corpus_folder}=1", f"{bad}=1"])
