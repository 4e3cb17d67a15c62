"""Writing, copying and removing, on a disk and in object stores alike."""

import json
import os
import time
import uuid
from pathlib import Path

import pytest

from sleeplm_jax import files, places
from sleeplm_jax.errors import UserError
from sleeplm_jax.places import RemotePath, place


@pytest.fixture(params=["disk", "memory", "local"])
def folder(request, tmp_path):
    """A folder on this disk, in memory, and on this disk through fsspec."""
    return {
        "disk": tmp_path,
        "memory": place(f"memory://bucket/{uuid.uuid4().hex}"),
        "local": place(f"local://{tmp_path}"),
    }[request.param]


def test_what_is_written_is_read_listed_hashed_and_removed(folder):
    path = folder / "a" / "b.json"
    assert not path.exists() and places.file_states(folder / "a") == {}
    files.write_json(path, {"x": [1, "ä"]})
    assert json.loads(path.read_text(encoding="utf-8")) == {"x": [1, "ä"]}
    assert path.is_file() and (folder / "a").is_dir() and not path.is_dir()
    assert (path.name, path.stem, path.suffix) == ("b.json", "b", ".json")
    assert path.parent == folder / "a"
    files.write_atomically(folder / "a" / "c.npz", b"12345")
    assert sorted(p.name for p in (folder / "a").iterdir()) == ["b.json", "c.npz"]
    assert [p.name for p in (folder / "a").glob("*.npz")] == ["c.npz"]
    states = places.file_states(folder / "a")
    assert states["c.npz"][0] == places.file_size(folder / "a" / "c.npz") == 5
    assert states["c.npz"] == places.file_state(folder / "a" / "c.npz")
    assert files.file_sha256(folder / "a" / "c.npz") == (
        "5994471abb01112afcc18159f6cc74b4f511b99806da59b3caf5a9c173cacfc5"
    )  # sha256sum of 12345
    with (folder / "a" / "c.npz").open("rb") as file:
        assert file.read(2) == b"12"
    wanted = [path, folder / "a" / "absent", folder / "a" / "c.npz"]
    assert [(p.name, len(c)) for p, c in places.read_many(wanted)][1] == ("c.npz", 5)
    path.unlink()
    path.unlink(missing_ok=True)
    with pytest.raises(FileNotFoundError):
        path.unlink()
    files.remove_folder(folder / "a")
    assert not (folder / "a" / "c.npz").exists()
    files.remove_folder(folder / "a")


def test_an_absent_file_is_a_file_not_found_with_its_name(folder):
    for act in (lambda p: p.read_bytes(), lambda p: p.read_text(), places.file_state,
                files.file_sha256):  # fmt: skip
        with pytest.raises(FileNotFoundError) as caught:
            act(folder / "absent.json")
        assert Path(caught.value.filename).name == "absent.json"


def test_copies_between_places(folder, tmp_path):
    source = tmp_path / "source.bin"
    source.write_bytes(os.urandom(3 << 20))
    if isinstance(folder, RemotePath):
        files.copy_file(source, folder / "far" / "x.bin")
        files.copy_file(folder / "far" / "x.bin", tmp_path / "back.bin")
        assert (tmp_path / "back.bin").read_bytes() == source.read_bytes()
    with pytest.raises(FileNotFoundError):
        files.copy_file(folder / "absent", tmp_path / "never")
    assert not (tmp_path / "never").exists()
    assert not list(tmp_path.glob(f"{files.TEMPORARY}*"))


def test_leftovers_of_writers_are_removed(folder):
    files.write_atomically(folder / f"{files.TEMPORARY}12-x", b"")
    files.write_atomically(folder / f"{files.TEMPORARY}beam" / "y.json", b"")
    files.write_atomically(folder / "kept", b"")
    files.remove_leftovers(folder)
    assert [p.name for p in folder.iterdir()] == ["kept"]


def test_an_interrupted_write_leaves_the_old_file_whole(tmp_path, monkeypatch):
    path = tmp_path / "x"
    files.write_atomically(path, b"old")

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", interrupted)
        with pytest.raises(KeyboardInterrupt):
            files.write_atomically(path, b"new")
    assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["x"]


def test_rows_grow_and_a_resumed_run_keeps_those_before_it(folder):
    path = folder / "run" / "metrics.jsonl"
    assert files.read_rows(path) == []
    first = files.RowFile(path)
    for step in (1, 2, 3):
        first.append({"step": step, "loss": 0.1 + step})
    first.flush()
    assert [row["step"] for row in files.read_rows(path)] == [1, 2, 3]
    before = path.read_bytes().splitlines(keepends=True)
    first.append({"step": 4})  # and the process is killed in the middle of a row
    first.flush()
    files.write_atomically(path, path.read_bytes()[:-4])
    assert [row["step"] for row in files.read_rows(path)] == [1, 2, 3]
    second = files.RowFile(path, keep=lambda row: row["step"] <= 2)
    second.append({"step": 3, "again": True})
    second.close()
    first.close() if isinstance(path, Path) else first._end.set()
    assert path.read_bytes().splitlines(keepends=True)[:2] == before[:2]  # byte for byte
    assert files.read_rows(path)[2:] == [{"step": 3, "again": True}]


def test_rows_of_a_store_go_there_by_themselves():
    path = place(f"memory://bucket/{uuid.uuid4().hex}/rows.jsonl")
    rows = files.RowFile(path, seconds=0.02)
    rows.append({"step": 1})
    deadline = time.monotonic() + 10
    while not files.read_rows(path) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert files.read_rows(path) == [{"step": 1}]
    slow = files.RowFile(path, seconds=1000)
    slow.append({"step": 2})
    assert files.read_rows(path) == [{"step": 1}]  # what a kill would lose
    slow.close()
    assert files.read_rows(path) == [{"step": 1}, {"step": 2}]
    rows._end.set()


def test_rows_wait_for_a_store_that_is_away(monkeypatch):
    path = place(f"memory://bucket/{uuid.uuid4().hex}/rows.jsonl")
    monkeypatch.setattr(places, "PAUSES", (0, 0))
    original, calls = RemotePath.write_bytes, []

    def refuse(self, data):
        calls.append(self)
        if len(calls) % 3:
            raise UserError(self, "cannot be reached", "wait")
        original(self, data)

    monkeypatch.setattr(RemotePath, "write_bytes", refuse)
    rows = files.RowFile(path, seconds=1000)
    rows.append({"step": 1})
    rows.flush()
    assert files.read_rows(path) == [{"step": 1}] and len(calls) == 3
    monkeypatch.setattr(places, "PAUSES", (0,))
    rows.append({"step": 2})
    with pytest.raises(UserError):  # away for longer
        rows.flush()
    rows.flush()  # what was refused is not forgotten
    assert files.read_rows(path) == [{"step": 1}, {"step": 2}]
    rows.close()


def test_what_a_library_writes_is_copied_when_it_changed(folder):
    copy = files.FolderCopy(folder / "board", seconds=0)
    (copy.path / "sub").mkdir(parents=True)
    (copy.path / "sub" / "events").write_bytes(b"one")
    copy.send()
    if copy._sender is not None:
        copy._sender.join()
    assert (folder / "board" / "sub" / "events").read_bytes() == b"one"
    (copy.path / "sub" / "events").write_bytes(b"one, two")
    copy.close()
    assert (folder / "board" / "sub" / "events").read_bytes() == b"one, two"
    assert isinstance(folder, Path) or not copy.path.exists()


def test_a_folder_is_made_and_proves_that_it_can_be_written(folder, monkeypatch):
    files.make_folder(folder / "new")
    assert list((folder / "new").iterdir()) == []

    def refuse(path, data):
        raise UserError(path, "cannot be reached (Forbidden)", "give credentials")

    monkeypatch.setattr(files, "write_atomically", refuse)
    with pytest.raises(UserError) as caught:
        files.make_folder(folder / "new")
    assert caught.value.where == str(folder / "new")  # not the file it tried with


def test_a_folder_that_cannot_be_made_here_is_no_matter_of_buckets(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError) as caught:
        files.make_folder(tmp_path / "file" / "runs")
    assert "bucket" not in str(caught.value)
