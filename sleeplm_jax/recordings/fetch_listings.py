"""What an archive holds, asked of the archive itself: one reader for each way of saying it."""

from __future__ import annotations

import csv
import hashlib
import io
import re
import zipfile
from collections.abc import Callable
from urllib.parse import quote, urlencode

from sleeplm_jax.errors import UserError
from sleeplm_jax.recordings.fetch_archives import (
    Archive,
    Listing,
    Member,
    RemoteFile,
    subject_of,
)
from sleeplm_jax.recordings.fetch_network import (
    FileError,
    Network,
    address,
    is_local,
    local_path,
)

PAGES = 1000  # of 1000 names each: no archive known here has more than 3


def listing(archive: Archive, base: str, network: Network) -> Listing:
    """Every file of an archive at `base`. Raises UserError (FileError, HostError)."""
    return _READERS[archive.kind](archive, base, network)


def _file(archive: Archive, url: str, path: str, **known) -> RemoteFile:
    name, number = subject_of(archive, path)
    return RemoteFile(path, url, subject=name, number=number, **known)


def physionet(archive: Archive, base: str, network: Network) -> Listing:
    """SHA256SUMS.txt names every file with its sum; RECORDS, if any, is checked against it."""
    where = address(base, "SHA256SUMS.txt")
    sums = {}
    for line in network.text(where).splitlines():
        match = re.fullmatch(r"([0-9a-fA-F]{64})\s+\*?(?:\./)?(\S.*?)\s*", line)
        if match:
            sums[match[2]] = f"sha256:{match[1].lower()}"
    if not sums:
        raise UserError(where, "holds no SHA-256 sums", "check --mirror or the archive's page")
    unknown, notes = [], ()
    if "RECORDS" in sums:
        content = network.content(address(base, "RECORDS"))
        if f"sha256:{hashlib.sha256(content).hexdigest()}" != sums["RECORDS"]:
            raise UserError(
                address(base, "RECORDS"), "does not fit the sum in SHA256SUMS.txt",
                "the copy is damaged or of two versions; check --mirror or try again later",
            )
        records = content.decode("utf-8", "replace").split()
        unknown = [r for r in records if not any(path.startswith(r) for path in sums)]
    if unknown:
        notes = (f"RECORDS names {len(unknown)} records without a published sum, left out: "
                 f"{', '.join(map(ascii, unknown[:3]))}",)  # fmt: skip
    files = (_file(archive, address(base, p), p, checksum=c) for p, c in sums.items())
    return Listing(tuple(files), notes)


def s3(archive: Archive, base: str, network: Network) -> Listing:
    """A public bucket's XML listing (list-type=2); of a folder, the files below it."""
    if is_local(base):
        root = local_path(base) / archive.prefix
        found = sorted(p for p in root.rglob("*") if p.is_file())
        return Listing(tuple(
            _file(archive, p.resolve().as_uri(), p.relative_to(root).as_posix(),
                  size=p.stat().st_size)
            for p in found
        ))  # fmt: skip
    files, token = [], None
    for _ in range(PAGES):
        query = {"list-type": "2", "prefix": archive.prefix, "max-keys": "1000"}
        if token:
            query["continuation-token"] = token
        where = f"{base.rstrip('/')}?{urlencode(query)}"
        page, token = _s3_page(where, network.text(where))
        for key, size, etag in page:
            if key.endswith("/") or not key.startswith(archive.prefix):
                continue
            url = f"{base.rstrip('/')}/{quote(key)}"
            # An ETag is the MD5 of what was put in one piece; one with a dash is of pieces.
            checksum = f"md5:{etag}" if re.fullmatch(r"[0-9a-f]{32}", etag) else None
            path = key.removeprefix(archive.prefix)
            files.append(_file(archive, url, path, size=size, checksum=checksum))
        if not token:
            return Listing(tuple(files))
    raise UserError(base, f"lists more than {PAGES * 1000:,} files", "check --mirror")


def _s3_page(where: str, text: str) -> tuple[list[tuple[str, int, str]], str | None]:
    from defusedxml import DefusedXmlException, ElementTree

    def said(element, name: str) -> str:
        return (element.findtext(f"{{*}}{name}") or "").strip()

    try:
        root = ElementTree.fromstring(text)
        page = [
            (said(item, "Key"), int(said(item, "Size")), said(item, "ETag").strip('"').lower())
            for item in root.iterfind("{*}Contents")
        ]
    except (ElementTree.ParseError, DefusedXmlException, ValueError) as error:
        raise UserError(
            where, f"is no bucket listing ({type(error).__name__})", "check --mirror"
        ) from None
    more = said(root, "IsTruncated") == "true"
    return page, (said(root, "NextContinuationToken") or None) if more else None


def zipped(archive: Archive, base: str, network: Network) -> Listing:
    """The directory at a zip's end, of which only that is read; each file can be had alone."""
    url = address(base, archive.zip)
    source = _Remote(network, url)
    try:
        with zipfile.ZipFile(io.BufferedReader(source, 1 << 16)) as archived:
            entries = [e for e in archived.infolist() if not e.is_dir()]
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError) as error:
        raise FileError(
            url, f"is no zip that can be read ({error})", "check --mirror or the archive's page"
        ) from None
    if any(e.flag_bits & 1 or e.compress_type not in (0, 8) for e in entries):
        raise FileError(
            url, "holds files packed in a way not known here",
            "download and unpack it by hand",
        )
    return Listing(tuple(
        # The data's start is not in the directory: `placed` reads it for the files that are wanted.
        _file(archive, url, e.filename, size=e.file_size, checksum=f"crc32:{e.CRC:08x}",
              member=Member(e.header_offset, e.compress_size, e.compress_type == 0))
        for e in entries
    ))  # fmt: skip


def placed(file: RemoteFile, network: Network) -> Member:
    """Where the data of a zip's file begins: behind its local header, read here.

    Raises FileError if there is none.
    """
    member = file.member
    with io.BufferedReader(_Remote(network, file.url), 64) as source:
        source.seek(member.start)
        header = source.read(30)
    if len(header) < 30 or header[:4] != b"PK\x03\x04":
        raise FileError(
            file.url, f"has no {ascii(file.path)} where its directory says",
            "the zip is damaged or changed; check the archive's page",
        )
    names = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    return Member(member.start + 30 + names, member.size, member.stored)


class _Remote(io.RawIOBase):
    """A file at an address, read by Range requests."""

    def __init__(self, network: Network, url: str):
        self.network, self.url, self.at = network, url, 0
        size = network.size(url)
        if size is None:
            with network.stream(url, 0, 1) as answer:  # says what is wrong, or the size
                size = answer.total
        if size is None:
            raise FileError(url, "its size is not said by the server", "try again later")
        self.length = size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.at

    def seek(self, offset: int, whence: int = 0) -> int:
        self.at = offset + (0, self.at, self.length)[whence]
        if self.at < 0:
            raise ValueError("before the beginning")
        return self.at

    def readinto(self, buffer) -> int:
        wanted = min(len(buffer), self.length - self.at)
        if wanted <= 0:
            return 0
        content = self.network.patiently(self.url, lambda: self._part(wanted), lambda: 0)
        buffer[: len(content)] = content
        self.at += len(content)
        return len(content)

    def _part(self, wanted: int) -> bytes:
        with self.network.stream(self.url, self.at, self.at + wanted) as answer:
            if answer.offset != self.at:
                raise FileError(
                    self.url, "the server gives no part of a file",
                    "download it whole from the archive's page and give its folder as --mirror",
                )
            content = bytearray()
            for block in answer.blocks:
                content += block
                if len(content) >= wanted:
                    break
            return bytes(content[:wanted])


def mne(archive: Archive, base: str, network: Network) -> Listing:
    """The recordings that MNE's fetcher knows, with its SHA-1 sums; nothing is asked for."""
    from mne.datasets import sleep_physionet

    tables = {"age": "AGE_SLEEP_RECORDS", "temazepam": "TEMAZEPAM_SLEEP_RECORDS"}
    table = getattr(getattr(sleep_physionet, archive.study), tables[archive.study])
    files = []
    with open(table, newline="", encoding="utf-8") as rows:
        for row in csv.DictReader(rows):
            if archive.study == "age":
                pairs = [(row["fname"], row["sha"])]
            elif row["drug"] == "Placebo":
                kinds = ("PSG", "Hypnogram")
                pairs = [(row[f"fname_{kind}"], row[f"sha_{kind}"]) for kind in kinds]
            else:  # MNE's fetcher brings no temazepam nights
                pairs = []
            files += [
                RemoteFile(
                    name, address(base, name), checksum=f"sha1:{sha}", subject=name[:5],
                    number=int(row["subject"]),
                )
                for name, sha in pairs
            ]
    return Listing(tuple(files))


_READERS: dict[str, Callable[[Archive, str, Network], Listing]] = {
    "physionet": physionet, "s3": s3, "zip": zipped, "mne": mne,
}  # fmt: skip
