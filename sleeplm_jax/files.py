"""Files written whole or not at all, copied, removed, hashed; here and in object stores.

Where they are is a `Place` (places.py). An object store puts whole objects and renames nothing:
what makes several files valid together is the last one written (a manifest), never a move.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from sleeplm_jax.errors import UserError
from sleeplm_jax.places import Place, RemotePath, persistently

TEMPORARY = ".partial-"  # marks what an interrupted writer may leave behind


def write_atomically(path: Place, data: bytes) -> None:
    """Puts `data` at `path` in one step: readers see the old file or the new one, never a part."""
    if isinstance(path, RemotePath):
        path.write_bytes(data)  # a store shows an object when it is whole
        return
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{TEMPORARY}{secrets.token_hex(4)}-{path.name}")
    try:
        with open(partial, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: Place, value: object) -> None:
    """`value` as readable JSON with a stable order of keys, atomically."""
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False)
    write_atomically(path, _bytes(text + "\n"))


def write_csv(path: Place, header: tuple[str, ...], rows: list[tuple]) -> None:
    """A CSV file with a header line, atomically."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_atomically(path, _bytes(buffer.getvalue()))


@contextlib.contextmanager
def only_writer(folder: Place) -> Iterator[None]:
    """Holds a folder of this machine for one process; gone with the process, however it ends.

    Raises UserError where another holds it. A store, and a file system without locks, hold nothing.
    """
    if isinstance(folder, RemotePath):
        yield
        return
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                folder, "is being written by another process", "wait for it, or end it"
            ) from None
        except OSError:  # some network file systems
            pass
        yield
    finally:
        os.close(handle)


def copy_file(source: Place, target: Place) -> None:
    """Copies a file between places, a block at a time; a local target appears when it is whole."""
    if isinstance(target, RemotePath):
        target.take(source)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{TEMPORARY}{secrets.token_hex(4)}-{target.name}")
    try:
        with source.open("rb") as reader, open(partial, "wb") as writer:
            shutil.copyfileobj(reader, writer, 1 << 20)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def remove_folder(folder: Place) -> None:
    """Deletes a folder and what is in it; nothing where there is none."""
    if isinstance(folder, RemotePath):
        folder.remove()
    else:
        shutil.rmtree(folder, ignore_errors=True)


def remove_leftovers(folder: Place) -> None:
    """Deletes what interrupted writers left in `folder`."""
    for path in list(folder.glob(f"{TEMPORARY}*")):
        if path.is_dir():
            remove_folder(path)
        else:
            path.unlink(missing_ok=True)


def make_folder(folder: Place) -> None:
    """Makes a folder and writes a file into it, which is taken away again: before any work, since
    a store tells only then that there is no such bucket, or that it may not be written.

    Raises UserError, or OSError for a folder of this machine.
    """
    probe = folder / f"{TEMPORARY}{secrets.token_hex(4)}"
    try:
        write_atomically(probe, b"")
    except FileNotFoundError:
        if not isinstance(folder, RemotePath):
            raise
        raise UserError(
            folder, "cannot be written: there is no such bucket", "make the bucket, or name another"
        ) from None
    except UserError as error:
        raise UserError(folder, error.finding, error.remedy) from error
    probe.unlink(missing_ok=True)


def read_rows(path: Place) -> list[dict]:
    """The rows of a file of JSON lines; none without the file. What a kill cut off is left out."""
    return [row for _, row in _lines(path)]


def _lines(path: Place) -> list[tuple[str, dict]]:
    try:
        text = path.read_bytes().decode("utf-8", "replace")
    except FileNotFoundError:
        return []
    found = []
    for line in text.splitlines():
        with contextlib.suppress(ValueError):
            row = json.loads(line)
            if isinstance(row, dict):
                found.append((line, row))
    return found


class RowFile:
    """A file of JSON lines that grows by rows, for one writer.

    On this machine each row is in the file when `append` returns. A store cannot append: there the
    rows collect, and the file is written whole every `seconds` in the background, by `flush`, and
    by `close`. A kill loses the rows since then.
    """

    def __init__(self, path: Place, keep: Callable[[dict], bool] = lambda row: True,
                 seconds: float = 30.0):
        """`keep` says which of the rows that are there already stay."""
        self.path, self._seconds = path, seconds
        there = _lines(path)
        kept = [line + "\n" for line, row in there if keep(row)]
        self._file, self._rows, self._sent = None, kept, len(kept)
        if not isinstance(path, RemotePath):
            path.parent.mkdir(parents=True, exist_ok=True)
            if len(kept) < len(there) or path.exists():  # a line that was cut off goes, too
                write_atomically(path, "".join(kept).encode())
            self._rows, self._file = [], path.open("a", encoding="utf-8")
            return
        if len(kept) < len(there):
            self._sent = -1
        self._lock, self._writing, self._end = threading.Lock(), threading.Lock(), threading.Event()
        self._sender = threading.Thread(target=self._send_now_and_then, daemon=True)
        self._sender.start()

    def append(self, row: dict) -> None:
        line = json.dumps(row) + "\n"
        if self._file is not None:
            self._file.write(line)
            self._file.flush()
            return
        with self._lock:
            self._rows.append(line)

    def flush(self) -> None:
        """Returns when all rows so far are at the store. Raises UserError when it refuses."""
        if self._file is not None:
            return
        with self._writing:  # one at a time: an older state must not arrive last
            with self._lock:
                rows = list(self._rows)
            if len(rows) != self._sent:
                data = "".join(rows).encode()
                persistently(lambda: write_atomically(self.path, data))
                self._sent = len(rows)

    def _send_now_and_then(self) -> None:
        while not self._end.wait(self._seconds):
            with contextlib.suppress(UserError, OSError):  # told by the next flush that fails
                self.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            return
        self._end.set()
        self._sender.join()
        self.flush()


class FolderCopy:
    """A folder for a library that writes files of this machine only; `folder` gets copies of them.

    `path` is where the library writes: `folder` itself where that is on this machine.
    """

    def __init__(self, folder: Place, seconds: float = 60.0):
        self.folder, self._sent, self._seconds = folder, {}, seconds
        self._last, self._remote = time.monotonic(), isinstance(folder, RemotePath)
        self.path = Path(tempfile.mkdtemp(prefix="sleeplm-")) if self._remote else Path(folder)
        self._sender: threading.Thread | None = None

    def send(self) -> None:
        """Begins to copy the files that changed, in the background, at most every `seconds`."""
        busy = self._sender is not None and self._sender.is_alive()
        if self._remote and not busy and time.monotonic() - self._last >= self._seconds:
            self._last = time.monotonic()
            self._sender = threading.Thread(target=self._send_quietly, daemon=True)
            self._sender.start()

    def _send_quietly(self) -> None:
        with contextlib.suppress(UserError, OSError):  # told by close, if it lasts
            self._send()

    def _send(self) -> None:
        now = {
            path.relative_to(self.path).as_posix(): [path.stat().st_size, path.stat().st_mtime_ns]
            for path in self.path.rglob("*") if path.is_file()
        }
        changed = [name for name, state in now.items() if self._sent.get(name) != state]
        if changed:
            persistently(
                lambda: self.folder.send({name: self.path / name for name in changed})
            )
        self._sent = now

    def close(self) -> None:
        """Copies what is left and removes this machine's files."""
        if self._remote:
            if self._sender is not None:
                self._sender.join()
            self._send()
            shutil.rmtree(self.path, ignore_errors=True)


def _bytes(text: str) -> bytes:
    # A file name need not be UTF-8: its odd bytes become \udcXX, which JSON reads back.
    return text.encode("utf-8", "backslashreplace")


def file_sha256(path: Place) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        if not isinstance(path, RemotePath):
            return hashlib.file_digest(file, "sha256").hexdigest()
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
        return digest.hexdigest()


def content_sha256(value: object) -> str:
    """Hex SHA-256 of a JSON-able value, independent of the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(_bytes(text)).hexdigest()
