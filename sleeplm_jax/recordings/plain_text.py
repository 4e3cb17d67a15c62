"""Text files from strangers: bounded, in whatever encoding they came, as lines or cells."""

from __future__ import annotations

import codecs
import csv
import math
from pathlib import Path

from sleeplm_jax.errors import RecordingError

MAX_BYTES = 32 << 20  # a night's scoring takes kilobytes; the largest real one here 0.3 MB
MAX_LINES = 300_000
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def encoding_of(raw: bytes) -> str | None:
    """The encoding of a text's first bytes: UTF-8, UTF-16 or Latin-1; None where it is no text."""
    for bom, name in _BOMS:
        if raw.startswith(bom):
            return name
    sample = raw[:4096]
    if b"\0" in sample:
        # UTF-16 without a mark: every second byte of Latin letters is zero.
        for name, zeros in (("utf-16-le", sample[1::2]), ("utf-16-be", sample[0::2])):
            if len(sample) > 3 and zeros.count(0) >= 0.9 * len(zeros):
                return name
        return None
    if any(byte < 9 or 13 < byte < 32 for byte in sample):
        return None
    try:
        codecs.getincrementaldecoder("utf-8")().decode(raw)
        return "utf-8"
    except UnicodeDecodeError:
        return "latin-1"


def read_text(path: Path) -> str:
    """The whole text of `path`. Raises RecordingError for what is too large or no text."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise RecordingError(path, f"cannot be opened ({reason})", "check the path") from None
    if len(raw) > MAX_BYTES:
        raise RecordingError(
            path, f"a text of more than {MAX_BYTES >> 20} MiB", "give one night's scoring"
        )
    encoding = encoding_of(raw)
    try:
        if encoding is None:
            raise UnicodeError
        text = raw.decode(encoding)
    except UnicodeError:
        raise RecordingError(
            path, "is no text in UTF-8, UTF-16 or Latin-1", "export the scoring again"
        ) from None
    if text.count("\n") + text.count("\r") > 2 * MAX_LINES:
        raise RecordingError(path, f"more than {MAX_LINES} lines", "give one night's scoring")
    return text


def rows(path: Path, text: str, delimiter: str) -> list[list[str]]:
    """Cells, stripped, of every line that is not empty.

    Raises RecordingError for a text that is no table.
    """
    try:
        found = [
            [cell.strip() for cell in row]
            for row in csv.reader(text.splitlines(), delimiter=delimiter)
            if any(cell.strip() for cell in row)
        ]
    except csv.Error:
        found = None
    if not found:
        raise RecordingError(path, "holds no table", "export the scoring again")
    if len(found) > MAX_LINES:
        raise RecordingError(path, f"more than {MAX_LINES} lines", "give one night's scoring")
    return found


def columns(path: Path, header: list[str], *wanted: str) -> list[int]:
    """Where the wanted columns are, without case. Raises RecordingError naming those there are."""
    names = [name.casefold() for name in header]
    if not {name.casefold() for name in wanted} <= set(names):
        raise RecordingError(
            path, f"has the columns {', '.join(header)[:120]}", f"{', '.join(wanted)} are needed"
        )
    return [names.index(name.casefold()) for name in wanted]


def number(text: str | None) -> float | None:
    """A finite number, with a decimal point or comma; None for anything else."""
    try:
        value = float((text or "").strip().replace(",", ".")[:40])
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def seconds(path: Path, line: int, text: str | None) -> float:
    """A time in seconds from a cell. Raises RecordingError naming the line."""
    value = number(text)
    if value is None:
        raise RecordingError(
            path, f"line {line}: {str(text)[:20]!r} is no time in seconds", "correct that line"
        )
    return value


def length(path: Path, line: int, value: float) -> float:
    """A duration that is not negative. Raises RecordingError naming the line."""
    if value < 0:
        raise RecordingError(path, f"line {line}: a duration of {value:g} s", "correct that line")
    return value
