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
from collections.abc import Iterator
from pathlib import Path

from sleeplm_jax.errors import UserError
from sleeplm_jax.places import Place, RemotePath

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
