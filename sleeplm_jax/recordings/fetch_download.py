"""One file from an address to its place: continued where it stopped, checked, moved in whole."""

from __future__ import annotations

import os
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sleeplm_jax.recordings.fetch_archives import Member, RemoteFile
from sleeplm_jax.recordings.fetch_network import BLOCK, Dropped, FileError, Network

Advance = Callable[[int], None]  # told of bytes gained; negative where they were dropped again


class Continued:
    """A downloader for pooch that goes on from `partial`, which outlives the process.

    What is complete is linked to pooch's output file and stays in `partial` until the caller
    deletes it, so that being killed while the sum is taken costs nothing either. With a `member`
    of a zip only its bytes are asked for, and what comes out is the file itself.
    """

    def __init__(
        self, network: Network, partial: Path, size: int | None, advance: Advance,
        member: Member | None = None, checksum: str | None = None,
    ):
        self.network, self.partial, self.size = network, partial, size
        self.advance, self.member, self.checksum = advance, member, checksum

    def __call__(
        self, url: str, output_file: str, pooch: Any = None, check_only: bool = False
    ) -> bool | None:
        if check_only:
            return self.network.size(url) is not None
        start = self.member.start if self.member else 0
        size = self.member.size if self.member else self.size
        bring(self.network, url, self.partial, size, self.advance, start, self.member is not None)
        if self.member and not self.member.stored:
            inflate(self.partial, Path(output_file), self.size or 0)
        else:
            _link(self.partial, Path(output_file))
        if self.checksum and self.checksum.startswith("crc32:"):  # not one of pooch's sums
            if _crc32(Path(output_file)) != self.checksum:
                raise ValueError("CRC-32 differs")
        return None


def bring(
    network: Network, url: str, partial: Path, size: int | None, advance: Advance,
    start: int = 0, part: bool = False,
) -> None:
    """Bytes [start, start + size) of `url` in `partial`, after those that are there already.

    `part` says that they are not the whole of what lies at `url`. Raises FileError, HostError.
    """
    partial.parent.mkdir(parents=True, exist_ok=True)

    def have() -> int:
        return partial.stat().st_size if partial.exists() else 0

    def go_on() -> None:
        held = have()
        if size is not None and held > size:
            partial.unlink()
            advance(-held)
            held = 0
        if size is not None and held == size:
            partial.touch()  # of an empty file there is nothing to ask for
            return
        stop = start + size if part and size is not None else None
        with network.stream(url, start + held, stop) as answer:
            whole = size if part or answer.total is None else answer.total
            if size is not None and whole != size:
                raise FileError(
                    url, f"has {whole:,} bytes where {size:,} are announced",
                    "the archive changed or the address is another's; check its page",
                )
            if answer.offset != start + held:
                if part or answer.offset != 0:
                    raise FileError(
                        url, "the server gives no part of a file",
                        "download it whole from the archive's page and give its folder as --mirror",
                    )
                advance(-held)  # Range ignored, or what we held was not of this file
                held = 0
            with open(partial, "ab" if held else "wb") as file:
                for block in answer.blocks:
                    if whole is not None and held + len(block) > whole:
                        raise FileError(
                            url, f"gives more than the {whole:,} bytes announced",
                            "check the address, or a proxy between",
                        )
                    file.write(block)
                    held += len(block)
                    advance(len(block))
        if whole is not None and held < whole:
            raise Dropped("the connection was closed early")

    network.patiently(url, go_on, have)


def inflate(compressed: Path, target: Path, size: int) -> None:
    """Unpacks a deflate stream of `size` bytes once open. Raises ValueError if it is another."""
    engine = zlib.decompressobj(-zlib.MAX_WBITS)
    written = 0
    try:
        with open(compressed, "rb") as source, open(target, "wb") as file:
            while block := source.read(BLOCK):
                while block:
                    out = engine.decompress(block, BLOCK)  # bounded: a bomb is seen in time
                    written += len(out)
                    if written > size:
                        raise ValueError("it is longer than announced")
                    file.write(out)
                    block = engine.unconsumed_tail
            rest = engine.flush()
            file.write(rest)
            written += len(rest)
    except zlib.error as error:
        raise ValueError("it cannot be unpacked") from error
    if written != size:
        raise ValueError("its length differs")


def is_complete(path: Path, file: RemoteFile) -> bool:
    """Whether `path` holds that file: its size and, where one is published, its checksum."""
    if not path.is_file() or (file.size is not None and path.stat().st_size != file.size):
        return False
    if file.checksum is None:
        return True
    kind, _, known = file.checksum.partition(":")
    if kind == "crc32":
        return _crc32(path) == file.checksum
    import pooch

    return pooch.file_hash(str(path), alg=kind) == known


def download(
    network: Network, file: RemoteFile, path: Path, staging: Path, advance: Advance
) -> None:
    """Brings `file` to `path`, which appears only when it is whole and its checksum fits.

    Raises FileError for this file, HostError where no other would do better.
    """
    import pooch

    pooch.get_logger().setLevel("WARNING")  # it would say every file once more
    partial = staging / f"{file.path}.partial"
    continued = partial.exists()
    if continued:
        advance(partial.stat().st_size)
    downloader = Continued(network, partial, file.size, advance, file.member, file.checksum)
    known = None if (file.checksum or "crc32:").startswith("crc32:") else file.checksum
    ready = staging / f"{file.path}.checked"
    ready.unlink(missing_ok=True)
    while True:
        try:
            pooch.retrieve(
                file.url, known, fname=ready.name, path=ready.parent, downloader=downloader
            )
            break
        except ValueError as error:  # pooch's word for a wrong sum; its output is gone already
            held = partial.stat().st_size if partial.exists() else 0
            partial.unlink(missing_ok=True)
            advance(-held)
            if not continued:
                kind = (file.checksum or "size:").partition(":")[0].upper()
                raise FileError(
                    file.url, f"came with another {kind} than the one published; it was removed",
                    "try again later; if it stays so the copy is damaged, ask its keeper",
                ) from error
            continued = False  # what an earlier run left may have been of another version
    path.parent.mkdir(parents=True, exist_ok=True)
    os.replace(ready, path)
    partial.unlink(missing_ok=True)


def _link(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)


def _crc32(path: Path) -> str:
    value = 0
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            value = zlib.crc32(block, value)
    return f"crc32:{value:08x}"
