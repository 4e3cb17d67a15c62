"""Writing files so that an interruption leaves the old one whole, and hashing them."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import secrets
from pathlib import Path

TEMPORARY = ".partial-"  # marks what an interrupted writer may leave behind


def write_atomically(path: Path, data: bytes) -> None:
    """Puts `data` at `path` in one step: readers see the old file or the new one, never a part."""
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


def write_json(path: Path, value: object) -> None:
    """`value` as readable JSON with a stable order of keys, atomically."""
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False)
    write_atomically(path, _bytes(text + "\n"))


def write_csv(path: Path, header: tuple[str, ...], rows: list[tuple]) -> None:
    """A CSV file with a header line, atomically."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_atomically(path, _bytes(buffer.getvalue()))


def _bytes(text: str) -> bytes:
    # A file name need not be UTF-8: its odd bytes become \udcXX, which JSON reads back.
    return text.encode("utf-8", "backslashreplace")


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_sha256(value: object) -> str:
    """Hex SHA-256 of a JSON-able value, independent of the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(_bytes(text)).hexdigest()
