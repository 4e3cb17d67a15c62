"""The corpus in an object store, by the same code: fsspec's memory, and its local file system.

`local://` goes through fsspec as a store does, and worker processes see the same files in it;
`memory://` renames nothing and is seen by this process alone.
"""

import shutil
import uuid

import numpy as np
import pytest

from sleeplm_jax.cli import main
from sleeplm_jax.corpus import packing
from sleeplm_jax.corpus.check import check_corpus
from sleeplm_jax.corpus.manifest import Corpus, cache_folder
from sleeplm_jax.corpus.prepare import prepare_corpus
from sleeplm_jax.corpus.tokenizer import train_tokenizer
from sleeplm_jax.errors import CorpusError
from sleeplm_jax.files import write_atomically
from sleeplm_jax.places import place


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SLEEPLM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def store():
    return place(f"memory://bucket/{uuid.uuid4().hex}")


@pytest.fixture
def three(simulated_folder, tmp_path):
    folder = tmp_path / "recordings"
    folder.mkdir()
    for number in range(3):
        for path in simulated_folder.glob(f"sim-3-000{number}.*"):
            shutil.copy(path, folder)
    return folder


def run(folder, out, **kwargs):
    return prepare_corpus([folder], out, **{"workers": 1, "progress": False, **kwargs})


def test_a_store_gets_the_bytes_that_a_disk_gets(three, tmp_path, store):
    here, there = run(three, tmp_path / "disk"), run(three, store)
    assert there.hash == here.hash
    for path in (tmp_path / "disk" / "nights").glob("*.npz"):
        assert (store / "nights" / path.name).read_bytes() == path.read_bytes()
    assert (store / "corpus.json").read_bytes() == (tmp_path / "disk/corpus.json").read_bytes()
    a, b = Corpus.open(here.corpus.path).source("train"), Corpus.open(str(store)).source("train")
    assert len(a) == len(b) == 60
    for name, value in a[7].items():
        assert np.array_equal(value, b[7][name]), name
    shards = there.corpus.manifest["shards"]["folder"]
    assert {p.name for p in store.iterdir()} == {"nights", "corpus.json", shards}


def test_a_second_run_redoes_only_what_changed_and_tidies(three, store):
    first = run(three, store)
    again = run(three, store)
    assert (again.prepared, again.packed) == ((), False)
    write_atomically(store / "nights" / "sim-3-0001.npz", b"damaged")
    (three / "sim-3-0002.edf").unlink()
    (three / "bad.edf").write_bytes(b"0")
    third = run(three, store)
    assert third.prepared == ("sim-3-0001",) and len(third.failed) == 1
    assert b"bad.edf" in (store / "failures.csv").read_bytes()
    assert {p.name for p in (store / "nights").iterdir()} == {
        f"sim-3-000{n}.{kind}" for n in (0, 1) for kind in ("json", "npz")
    }  # fmt: skip
    assert len(list(store.glob("shards-*"))) == 1 and third.hash != first.hash


@pytest.mark.parametrize("name", ["copy_file", "write_json"])
def test_what_is_cut_short_leaves_the_old_corpus_valid(three, store, monkeypatch, name):
    before = run(three, store)
    calls, original = [], getattr(packing, name)

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == (2 if name == "copy_file" else 1):  # some shards are there, some not
            raise KeyboardInterrupt
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(packing, name, interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(three, store, splits=(0.0, 0.0, 1.0))
    left = Corpus.open(store, verify=True)
    assert left.hash == before.hash and len(left.source("train")) == 60
    after = run(three, store, splits=(0.0, 0.0, 1.0))
    assert after.prepared == () and after.corpus.splits == ("test",)
    assert len(list(store.glob("shards-*"))) == 1


def test_shards_come_to_the_cache_once_and_only_whole(three, store, cache, monkeypatch):
    corpus = run(three, store).corpus
    (cache.parent / "file").write_text("")
    with monkeypatch.context() as no_folder, pytest.raises(CorpusError, match="another folder by"):
        no_folder.setenv("SLEEPLM_CACHE", str(cache.parent / "file"))
        corpus.shards()
    folder = corpus.shards()
    assert folder.parent == cache == cache_folder()
    times = {p.name: p.stat().st_mtime_ns for p in folder.iterdir()}
    assert {p.name: p.stat().st_mtime_ns for p in Corpus.open(store).shards().iterdir()} == times
    listed = corpus.manifest["shards"]
    shard = next(f for f in listed["files"] if "train.array_record" in f["name"])
    (folder / shard["name"]).write_bytes(b"cut")
    assert len(Corpus.open(store).source("train")) == 60  # fetched again
    far = store / listed["folder"] / shard["name"]
    data = bytearray(far.read_bytes())
    data[len(data) // 2] ^= 1
    write_atomically(far, bytes(data))
    shutil.rmtree(folder)
    with pytest.raises(CorpusError, match="not what was written"):
        Corpus.open(store).source("train")
    far.unlink()
    with pytest.raises(CorpusError, match="shard is missing"):
        Corpus.open(store)


def test_tokenizer_and_check_work_there(three, store, capsys):
    corpus = run(three, store).corpus
    made = train_tokenizer(corpus, vocab_size=600)
    assert Corpus.open(store).tokenizer().hash == made.hash
    assert not any(c.findings for c in check_corpus(store, progress=False))
    assert main(["corpus", "check", str(store)]) == 0


@pytest.mark.slow
def test_worker_processes_write_to_a_store(three, tmp_path):
    here = run(three, tmp_path / "disk")
    out = place(f"local://{tmp_path}/far")
    there = run(three, out, workers=2)
    assert there.hash == here.hash and there.corpus.path == out
    assert len(there.prepared) == 3 and run(three, out, workers=2).prepared == ()
    for path in (tmp_path / "disk" / "nights").glob("*.npz"):
        assert (tmp_path / "far" / "nights" / path.name).read_bytes() == path.read_bytes()


def test_the_command_takes_an_address(three, store, capsys, monkeypatch):
    arguments = ["prepare", "--recordings", str(three), "--workers", "1", "--out"]
    assert main([*arguments, str(store)]) == 0
    assert Corpus.open(store).samples("test") == 60
    assert f"corpus: {store}" in capsys.readouterr().err
    assert main([*arguments, "nonsense://x/y"]) == 2
    assert "no protocol that fsspec knows" in capsys.readouterr().err
