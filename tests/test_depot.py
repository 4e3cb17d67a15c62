"""Checkpoints at a store: whole or not there, what was sent or refused."""

import json
import os

import pytest

from sleeplm_jax import places
from sleeplm_jax.depot import Depot, scratch_folder
from sleeplm_jax.errors import UserError
from sleeplm_jax.files import write_atomically
from sleeplm_jax.places import place


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SLEEPLM_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def checkpoints(address):
    return place(address) / "checkpoints"


def written(depot, step):
    """A step as Orbax leaves it in a process' folder: what all write, and chunks of its own."""
    here = depot.folder / str(step)
    for name, content in {
        "_CHECKPOINT_METADATA": b"{}", "about/data.json": json.dumps({"step": step}).encode(),
        "parameters/_METADATA": b"tree", "parameters/a/zarr.json": b"shape",
        f"parameters/a/c/{depot.process}/0": bytes([depot.process]) * 1000,
        f"parameters/array_metadatas/process_{depot.process}": b"chunks",
        f"progress/b/c/{depot.process}": bytes([step, depot.process]),
    }.items():
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_bytes(content)


def sent(checkpoints, step=3, **named):
    """A depot after it has sent a step."""
    depot = Depot(checkpoints, writing=True, **named)
    written(depot, step)
    depot.send(step)
    return depot


def steps(depot):
    return sorted(int(path.name) for path in depot.folder.iterdir())


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes()
            for path in folder.rglob("*") if path.is_file()}


def test_what_was_sent_comes_back(checkpoints):
    whole = Depot(checkpoints, writing=True)
    written(whole, 3)
    there = contents(whole.folder / "3")
    whole.send(3)
    assert set(contents(whole.folder / "3")) == {"_CHECKPOINT_METADATA", "about/data.json"}
    reader = Depot(checkpoints)
    assert set(contents(reader.folder / "3")) == {"_CHECKPOINT_METADATA", "about/data.json"}
    assert reader.bring(3, ["parameters"]) == ""
    assert not (reader.folder / "3" / "progress").exists()
    assert reader.bring(3, ["parameters", "progress"]) == ""
    assert contents(reader.folder / "3") == there
    scratch = reader.folder
    reader.close(), whole.close()
    assert not scratch.exists() and not whole.folder.exists()


def test_the_parts_of_all_processes_make_one_checkpoint(checkpoints):
    first = sent(checkpoints, process=0, processes=2)
    assert steps(Depot(checkpoints)) == []  # the other's part is not there yet
    second = sent(checkpoints, process=1, processes=2)
    assert second.folder != first.folder
    reader = Depot(checkpoints)
    assert steps(reader) == [3] and reader.bring(3, ["parameters", "progress"]) == ""
    found = contents(reader.folder / "3")
    assert found["parameters/a/c/0/0"] == bytes([0]) * 1000
    assert found["parameters/a/c/1/0"] == bytes([1]) * 1000
    assert {"progress/b/c/0", "progress/b/c/1", "parameters/_METADATA"} <= set(found)
    assert first.bring(3, ["progress"]) == ""  # a writer, too, gets the other's part
    assert (first.folder / "3/progress/b/c/1").read_bytes() == bytes([3, 1])


def test_what_was_cut_short_is_no_checkpoint_and_is_cleared(checkpoints, monkeypatch):
    sent(checkpoints, 3)
    with monkeypatch.context() as patch:
        patch.setattr("sleeplm_jax.depot.write_json", cut)
        with pytest.raises(KeyboardInterrupt):
            sent(checkpoints, 6)
    assert (checkpoints / "6").is_dir()
    assert steps(Depot(checkpoints)) == [3] and (checkpoints / "6").is_dir()  # readers delete none
    Depot(checkpoints, writing=True, process=1, processes=2)
    assert (checkpoints / "6").is_dir()  # nor does another process than the first
    again = Depot(checkpoints, writing=True)
    assert again.unfinished == [6] and steps(again) == [3]
    assert not (checkpoints / "6").exists() and (checkpoints / "3").is_dir()


def cut(*_):
    raise KeyboardInterrupt


def test_a_step_sent_again_is_not_whole_before_its_end(checkpoints, monkeypatch):
    depot = sent(checkpoints, 3)
    written(depot, 3)
    with monkeypatch.context() as patch:
        patch.setattr("sleeplm_jax.depot.write_json", cut)
        with pytest.raises(KeyboardInterrupt):
            depot.send(3)
    assert steps(Depot(checkpoints)) == []


def test_a_step_sent_by_fewer_processes_takes_the_place_of_the_other(checkpoints):
    sent(checkpoints, process=0, processes=2), sent(checkpoints, process=1, processes=2)
    depot = Depot(checkpoints, writing=True)
    written(depot, 3)
    (depot.folder / "3" / "about" / "data.json").write_text("later")
    depot.send(3)
    reader = Depot(checkpoints)
    assert (reader.folder / "3" / "about" / "data.json").read_text() == "later"
    assert [p.name for p in (checkpoints / "receipts").iterdir()] == ["3.0-of-1.json"]


def test_what_a_step_belongs_to_is_said_anew_and_it_is_whole_throughout(checkpoints, monkeypatch):
    sent(checkpoints, process=0, processes=2), sent(checkpoints, process=1, processes=2)
    depot = Depot(checkpoints, writing=True)  # of another number of processes
    about = depot.folder / "3" / "about" / "data.json"
    about.write_text("anew")
    with monkeypatch.context() as patch:
        patch.setattr("sleeplm_jax.depot.write_json", cut)
        with pytest.raises(KeyboardInterrupt):
            depot.amend(3)
    for said in ('{"step": 3}', "anew"):
        reader = Depot(checkpoints)
        assert (reader.folder / "3" / "about" / "data.json").read_text() == said
        assert reader.bring(3, ["parameters", "progress"]) == ""
        assert (reader.folder / "3/parameters/a/c/1/0").is_file()
        depot.amend(3)
    abouts = [p.name for p in (checkpoints / "3").iterdir() if p.name.startswith("about")]
    assert len(abouts) <= 2  # what was cut short is unused, and goes with the step


def test_what_is_not_kept_here_goes_there(checkpoints):
    depot = sent(checkpoints, 3)
    for step in (6, 9):
        written(depot, step)
        depot.send(step)
    depot.tidy([3, 9])
    assert steps(Depot(checkpoints)) == [3, 9] and not (checkpoints / "6").exists()
    receipts = sorted(path.name for path in (checkpoints / "receipts").iterdir())
    assert receipts == ["3.0-of-1.json", "9.0-of-1.json"]


def test_damage_is_told_and_set_aside(checkpoints):
    sent(checkpoints, 3)
    depot = sent(checkpoints, 6)
    archive = checkpoints / "6" / "parameters.0-of-1.zip"
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 1
    write_atomically(archive, bytes(data))
    assert "is not what was sent (parameters" in Depot(checkpoints).bring(6, ["parameters"])
    assert Depot(checkpoints).bring(6, ["progress"]) == ""
    archive.unlink()
    assert "has lost files of its parameters" in Depot(checkpoints).bring(6, ["parameters"])
    aside = checkpoints.parent / "damaged" / "6"
    depot.set_aside(6, aside)
    assert not (checkpoints / "6").exists() and (aside / "progress.0-of-1.zip").is_file()
    assert steps(Depot(checkpoints)) == [3] == steps(depot)


def test_a_store_that_is_away_for_a_while_is_asked_again(checkpoints, monkeypatch):
    monkeypatch.setattr(places, "PAUSES", (0, 0))
    original, calls = places.RemotePath.send, []

    def refuse(self, sources):
        calls.append(self)
        if len(calls) < 3:
            raise UserError(self, "cannot be reached", "wait")
        original(self, sources)

    monkeypatch.setattr(places.RemotePath, "send", refuse)
    sent(checkpoints)
    assert len(calls) == 3 and steps(Depot(checkpoints)) == [3]
    monkeypatch.setattr(places.RemotePath, "send", lambda *_: refuse_always())
    with pytest.raises(UserError, match="cannot be reached"):
        sent(checkpoints, 6)
    assert steps(Depot(checkpoints)) == [3]


def refuse_always():
    raise UserError("gs://", "cannot be reached", "wait")


def test_a_scratch_folder_is_its_process_own_and_leftovers_go(tmp_path):
    left = tmp_path / "checkpoints-left"
    (left / "12").mkdir(parents=True)
    held = scratch_folder(tmp_path)
    mine = held.__enter__()
    for path in (left, mine):
        os.utime(path, (0, 0))  # old enough to be one that a kill left
    with scratch_folder(tmp_path) as other:
        assert mine.is_dir() and other != mine and not left.exists()
    held.__exit__(None, None, None)
    assert list(tmp_path.iterdir()) == []


def test_work_in_the_background_tells_its_error(checkpoints):
    class Saving:
        def result(self):
            raise OSError("no space")

    depot = Depot(checkpoints, writing=True)
    with pytest.raises(OSError, match="no space"):
        depot.follow(3, {}, Saving(), lambda: []).result()
    assert steps(Depot(checkpoints)) == []
