"""The per-night stage on Apache Beam gives the bytes that the process pool gives."""

import builtins
import shutil

import pytest

from sleeplm_jax.corpus import beam
from sleeplm_jax.corpus.prepare import prepare_corpus, survey
from sleeplm_jax.errors import CorpusError, UserError
from sleeplm_jax.places import place


@pytest.fixture
def three(simulated_folder, tmp_path):
    folder = tmp_path / "recordings"
    folder.mkdir()
    for number in range(3):
        for path in simulated_folder.glob(f"sim-3-000{number}.*"):
            shutil.copy(path, folder)
    (folder / "bad.edf").write_bytes(b"0")
    return folder


def run(folder, out, **kwargs):
    return prepare_corpus([folder], out, progress=False, **{"workers": 1, **kwargs})


def nights(folder):
    return {p.name: p.read_bytes() for p in (folder / "nights").glob("*.npz")}


@pytest.mark.slow
def test_the_direct_runner_prepares_what_the_pool_prepares(three, tmp_path):
    pytest.importorskip("apache_beam")
    flags = "--runner=DirectRunner"
    pool = run(three, tmp_path / "pool")
    other = run(three, tmp_path / "beam", runner="beam", beam_flags=flags)
    assert nights(tmp_path / "beam") == nights(tmp_path / "pool") and len(nights(tmp_path / "beam"))
    assert other.hash == pool.hash and set(other.prepared) == set(pool.prepared)
    assert other.failed == pool.failed and "bad.edf" in other.failed[0].file
    assert not list((tmp_path / "beam").glob(".partial-*"))
    again = run(three, tmp_path / "beam", runner="beam", beam_flags=flags)
    assert (again.prepared, again.packed) == ((), False)
    (three / "sim-3-0001.xml").unlink()
    assert run(three, tmp_path / "beam", runner="beam").prepared == ("sim-3-0001",)
    assert run(three, tmp_path / "beam").prepared == ()  # and the pool goes on from Beam's


def test_beam_writes_to_a_store(three, tmp_path):
    pytest.importorskip("apache_beam")
    pool = run(three, tmp_path / "pool")
    out = place(f"local://{tmp_path}/far")
    assert run(three, out, runner="beam").hash == pool.hash
    assert nights(tmp_path / "far") == nights(tmp_path / "pool")


def test_a_bundle_that_is_tried_again_does_no_night_twice(three, tmp_path):
    """As a runner does that lost a worker after the nights were done and before it said so."""
    job = next(j for j in survey([three], tmp_path / "c").jobs if j.night == "sim-3-0000")
    job.nights.mkdir(parents=True)
    assert beam.prepare_and_note(job, tmp_path / "notes") == "sim-3-0000"
    made = (job.nights / "sim-3-0000.npz").stat().st_mtime_ns
    beam.prepare_and_note(job, tmp_path / "notes")
    assert (job.nights / "sim-3-0000.npz").stat().st_mtime_ns == made


def test_a_night_whose_worker_said_nothing_is_a_failure(three, tmp_path, monkeypatch):
    pytest.importorskip("apache_beam")
    original = beam.prepare_and_note

    def silent(job, notes):
        return job.night if job.night == "sim-3-0001" else original(job, notes)

    monkeypatch.setattr(beam, "prepare_and_note", silent)
    result = run(three, tmp_path / "c", runner="beam")
    assert {f.finding for f in result.failed if "0001" in f.file} == {
        "the worker preparing it said nothing"
    }
    assert len(result.prepared) == 2


def test_a_pipeline_that_fails_is_one_line(three, tmp_path, monkeypatch):
    pytest.importorskip("apache_beam")

    def broken(job, notes):
        raise RuntimeError("no\nworkers")

    monkeypatch.setattr(beam, "prepare_and_note", broken)
    with pytest.raises(UserError, match="the pipeline failed") as caught:
        run(three, tmp_path / "c", runner="beam")
    assert "\n" not in str(caught.value)


def test_wrong_flags_and_runners_are_one_line(three, tmp_path):
    pytest.importorskip("apache_beam")
    with pytest.raises(UserError, match="--beam-flags: bogus is no flag that Beam knows"):
        run(three, tmp_path / "c", runner="beam", beam_flags="--bogus=3")
    with pytest.raises(CorpusError, match="--runner: is 'spark'; choose from pool, beam"):
        run(three, tmp_path / "c", runner="spark")


def test_without_the_package_it_says_what_to_install(three, tmp_path, monkeypatch):
    real = builtins.__import__

    def absent(name, *arguments, **named):
        if name.split(".")[0] == "apache_beam":
            raise ImportError(name)
        return real(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(UserError, match=r"needs the package apache-beam.*pip install"):
        run(three, tmp_path / "c", runner="beam")
