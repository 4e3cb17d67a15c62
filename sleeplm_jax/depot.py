"""Checkpoints in an object store: written on this machine, sent whole, brought back when read.

Orbax 0.12 renames a folder to make a checkpoint valid, which no store can, and writes no `s3://`
at all. So each process has a scratch folder for Orbax, which its files leave for the store; a step
exists there when every process that took part has left its receipt, which it writes last:

    <checkpoints>/12/parameters.0-of-2.zip    what Orbax wrote into 12/parameters, uncompressed
    <checkpoints>/receipts/12.0-of-2.json     {"files": {"parameters.0-of-2.zip": [bytes, SHA-256]}}

(Hundreds of small files are slow to send one by one, and each costs.) All of a step's archives
unpacked into one folder are a checkpoint of Orbax. Of a step that is not read only `about` is here:
Orbax lists and chooses among them.
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import shutil
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax

from sleeplm_jax.corpus.manifest import cache_folder
from sleeplm_jax.errors import UserError
from sleeplm_jax.files import file_sha256, only_writer, write_json
from sleeplm_jax.places import Place, RemotePath, persistently, read_many

RECEIPTS, ABOUT, _PACKED = "receipts", "about", ".packed-"
_SCRATCH = "checkpoints-"
_RECEIPT = re.compile(r"(\d+)\.(\d+)-of-(\d+)\.json")


class Depot:
    """The checkpoints at `address`, seen as the folder `folder` of this machine.

    One process alone is `process` 0 of 1. Only a training opens it `writing`: its first process
    then deletes at the store what interrupted saves left (`unfinished` names their steps).
    """

    def __init__(self, address: RemotePath, *, writing: bool = False, process: int = 0,
                 processes: int = 1):
        self.address, self.process, self.processes = address, process, processes
        self._scratch = scratch_folder(cache_folder())
        self.folder = self._scratch.__enter__()
        self._receipts = self._found()
        self.unfinished: list[int] = []
        if writing and process == 0:
            self.unfinished = self._clear()
        for step in self._receipts:
            self.bring(step, (ABOUT,))

    @classmethod
    def of(cls, folder: Place, **named: Any) -> Depot | None:
        """The depot of a folder at a store, None for one of this machine."""
        return cls(folder, **named) if isinstance(folder, RemotePath) else None

    def close(self) -> None:
        """Removes what is here; the store keeps its own."""
        self._scratch.__exit__(None, None, None)

    # ---- What there is

    def _found(self) -> dict[int, dict[str, list]]:
        """Step -> its files, {name: [bytes, SHA-256]}, of every whole checkpoint at the store."""
        there = [path for path in (self.address / RECEIPTS).iterdir()
                 if _RECEIPT.fullmatch(path.name)]
        parts: dict[tuple[int, int], dict[int, dict]] = {}
        for path, content in read_many(there):
            step, part, of = map(int, _RECEIPT.fullmatch(path.name).groups())
            try:
                files = json.loads(content)["files"]
            except (ValueError, KeyError, TypeError):
                continue  # no receipt: the step is not whole
            parts.setdefault((step, of), {})[part] = files
        return {
            step: {name: about for part in found.values() for name, about in part.items()}
            for (step, of), found in sorted(parts.items()) if len(found) == of
        }

    def _clear(self) -> list[int]:
        """Deletes at the store what belongs to no whole checkpoint; its steps."""
        left = set()
        for path in (self.address / RECEIPTS).iterdir():
            match = _RECEIPT.fullmatch(path.name)
            if match and int(match[1]) not in self._receipts:
                path.unlink(missing_ok=True)
                left.add(int(match[1]))
        for path in self.address.iterdir():
            if path.name.isdigit() and int(path.name) not in self._receipts:
                path.remove()
                left.add(int(path.name))
        return sorted(left)

    # ---- From the store

    def bring(self, step: int, items: Iterable[str]) -> str:
        """Puts these items of a step into `folder`; says what is wrong with them, where they are
        not what was sent. Raises UserError when the store cannot be reached.
        """
        if self.processes > 1:  # the others' files of a step that this process has sent
            self._receipts = self._found()
        there, here = self.address / str(step), self.folder / str(step)
        for item in items:
            if (here / item).is_dir():
                continue
            files = {name: about for name, about in self._receipts.get(step, {}).items()
                     if name.partition(".")[0] == item}
            with tempfile.TemporaryDirectory(dir=self.folder, prefix=_PACKED) as packed:
                targets = {name: Path(packed, name) for name in files}
                try:
                    persistently(lambda there=there, targets=targets: there.bring(targets))
                except FileNotFoundError:
                    return f"has lost files of its {item} at the store"
                for name, about in files.items():
                    if not _is(targets[name], about):
                        return f"is not what was sent ({name})"
                for target in targets.values():
                    with zipfile.ZipFile(target) as archive:
                        archive.extractall(here)
        return ""

    # ---- To the store

    def follow(self, step: int, items: Mapping[str, Any], saving: Any,
               kept: Callable[[], Iterable[int]]) -> Sending:
        """Sends a step in the background when `saving` (which has `result()`) is through with it,
        then deletes at the store the steps that are not `kept()` here. `items` are its arrays."""
        others = chunks_of_others(items)
        return Sending(lambda: (saving.result(), self.send(step, others), self.tidy(kept())))

    def send(self, step: int, others: Container[str] = ()) -> None:
        """Sends this process' files of a step but those of `others`; only its `about` stays here.

        Files that all processes write alike are sent by the first one.
        """
        there, here = self.address / str(step), self.folder / str(step)
        part = f"{self.process}-of-{self.processes}"
        receipt = self.address / RECEIPTS / f"{step}.{part}.json"
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=_PACKED) as packed:
            files = {}
            for item in sorted(path.name for path in here.iterdir() if path.is_dir()):
                name = f"{item}.{part}.zip"
                if self._pack(here, item, Path(packed, name), others):
                    files[name] = Path(packed, name)
                if item != ABOUT:
                    shutil.rmtree(here / item)
            states = {name: [path.stat().st_size, file_sha256(path)]
                      for name, path in files.items()}

            def put() -> None:
                receipt.unlink(missing_ok=True)
                if self.process == 0:  # the step may have been sent by another number of processes
                    self._unmark(step, f"-of-{self.processes}.json")
                there.send(files)
                write_json(receipt, {"files": states})

            persistently(put)
        self._receipts[step] = states

    def _pack(self, here: Path, item: str, target: Path, others: Container[str]) -> bool:
        """One item of a step as an archive; with `about` goes what lies beside the items. Whether
        this process has any of it to send."""
        files = [path for path in sorted((here / item).rglob("*")) if path.is_file()]
        if item == ABOUT:
            files += [path for path in sorted(here.iterdir()) if path.is_file()]
        names = {path.relative_to(here).as_posix(): path for path in files}
        names = {name: path for name, path in names.items() if name not in others
                 and (self.process == 0 or _of_one_process(name))}
        if names:
            with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
                for name, path in names.items():
                    archive.write(path, name)
        return bool(names)

    def amend(self, step: int) -> None:
        """Sends a step's `about` as it is here now; whole throughout. The first process does."""
        if self.process:
            return
        there, here = self.address / str(step), self.folder / str(step)
        old = next(name for name in self._receipts[step] if name.startswith(f"{ABOUT}."))
        part = old.split(".")[1]
        receipt = self.address / RECEIPTS / f"{step}.{part}.json"
        new = f"{ABOUT}.{part}.{secrets.token_hex(4)}.zip"
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=_PACKED) as packed:
            archive = Path(packed, new)
            self._pack(here, ABOUT, archive, ())
            state = [archive.stat().st_size, file_sha256(archive)]

            def put() -> None:
                files = json.loads(receipt.read_text())["files"]
                files.pop(old, None)
                there.send({new: archive})
                write_json(receipt, {"files": files | {new: state}})
                (there / old).unlink(missing_ok=True)

            persistently(put)
        self._receipts = self._found()

    def tidy(self, kept: Iterable[int]) -> None:
        """The first process deletes at the store the whole checkpoints that are not `kept`."""
        gone = set(self._receipts) - set(kept)
        for step in gone:
            if self.process == 0:
                persistently(lambda step=step: self._remove(step))
            del self._receipts[step]

    def _remove(self, step: int) -> None:
        self._unmark(step)
        (self.address / str(step)).remove()

    def _unmark(self, step: int, but: str = "none") -> None:
        for path in (self.address / RECEIPTS).iterdir():  # first: half deleted, it is not one
            if path.name.startswith(f"{step}.") and not path.name.endswith(but):
                path.unlink(missing_ok=True)

    def set_aside(self, step: int, target: RemotePath) -> None:
        """Forgets a step, whose files the first process moves to `target`."""
        self._receipts.pop(step, None)
        shutil.rmtree(self.folder / str(step), ignore_errors=True)
        if self.process == 0:
            self._unmark(step)
            (self.address / str(step)).move(target)


@contextlib.contextmanager
def scratch_folder(cache: Path) -> Iterator[Path]:
    """A folder in `cache` while active, held by a lock; those that a kill left are removed."""
    cache.mkdir(parents=True, exist_ok=True)
    for left in cache.glob(f"{_SCRATCH}*"):
        with contextlib.suppress(UserError, OSError):  # another's, or gone
            if time.time() - left.stat().st_mtime > 60:  # a new one is not locked at once
                with only_writer(left):
                    shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=cache))
    try:
        with only_writer(folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Sending:
    """Work in the background; `result()` waits for it and raises what went wrong."""

    def __init__(self, work: Callable[[], Any]):
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(work,), name="checkpoint sending")
        self._thread.start()

    def _run(self, work: Callable[[], Any]) -> None:
        try:
            work()
        except BaseException as error:  # told by result()
            self._error = error

    def result(self, timeout: float | None = None) -> None:
        self._thread.join(timeout)
        if self._thread.is_alive():
            raise TimeoutError
        if self._error is not None:
            raise self._error


def _is(path: Path, about: list) -> bool:
    return path.is_file() and [path.stat().st_size, file_sha256(path)] == list(about)


def chunks_of_others(items: Mapping[str, Any]) -> set[str]:
    """The chunks of items (trees of arrays) that this process holds as copies, and writes all the
    same; the process that has the original sends them. Names as zarr's and Orbax's files have.
    """
    copies, originals = set(), set()
    for item, tree in items.items():
        for path, array in jax.tree_util.tree_leaves_with_path(tree):
            if not isinstance(array, jax.Array):
                continue
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            sizes = array.sharding.shard_shape(array.shape)
            for shard in array.addressable_shards:
                places = [(part.start or 0) // max(size, 1)
                          for part, size in zip(shard.index, sizes, strict=True)]
                chunk = "/".join([item, name, "c", *map(str, places)])
                (copies if shard.replica_id else originals).add(chunk)
    return copies - originals


def _of_one_process(name: str) -> bool:
    """Whether a file of a step (`item/array/c/0/1`, zarr's chunks) is one process' alone."""
    parts = name.split("/")
    return len(parts) > 2 and parts[2] == "c" or parts[1:2] == ["array_metadatas"]
