"""Places: files here and in object stores by one set of methods: found, listed, read.

A place is a `pathlib.Path` on this machine or a `RemotePath` (`gs://`, `s3://`, any protocol of
fsspec); both answer to the same few methods, so that code which reads and writes need not know.
Writing whole files or none is in files.py.
"""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import io
import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from sleeplm_jax.errors import UserError

_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+):/+(.*)", re.DOTALL)  # one letter is a Windows drive
_ROOTED = ("file", "local")  # protocols whose paths begin with a slash
# Which package brings a protocol that fsspec knows and does not hold itself.
_PACKAGES = {"gs": "gcsfs", "gcs": "gcsfs", "s3": "s3fs", "s3a": "s3fs", "abfs": "adlfs",
             "az": "adlfs", "abfss": "adlfs"}  # fmt: skip
_CREDENTIALS = dict.fromkeys(
    ("s3", "s3a"), "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile in ~/.aws, or a role"
) | dict.fromkeys(
    ("gs", "gcs"), "`gcloud auth application-default login`, or GOOGLE_APPLICATION_CREDENTIALS"
)
PAUSES = (1, 5, 20, 60, 180, 300)  # seconds before a store that cannot be reached is asked again
_T = TypeVar("_T")
_transfers = 0


def transferred() -> int:
    """A number that grows while this process sends files to stores or fetches them."""
    return _transfers


def _counting() -> Any:
    """fsspec's callback that counts the bytes of all files of a transfer into `transferred`."""
    from fsspec.callbacks import Callback

    class Counting(Callback):
        def branched(self, path_1, path_2, **kwargs):
            return self

        def relative_update(self, inc=1):
            global _transfers
            _transfers += inc

    return Counting()


class RemotePath:
    """A file or folder at an address `protocol://...`, with those methods of Path that we use.

    Raises FileNotFoundError as a Path does; whatever else a store says becomes a UserError that
    names the address. Listings are never taken from a cache.
    """

    def __init__(self, protocol: str, path: str):
        self.protocol, self.path = protocol, path.rstrip("/")

    def __truediv__(self, name: str) -> RemotePath:
        return RemotePath(self.protocol, f"{self.path}/{name}")

    def __str__(self) -> str:
        return f"{self.protocol}://{self.path}"

    def __repr__(self) -> str:
        return f"RemotePath({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemotePath) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __lt__(self, other: RemotePath) -> bool:
        return str(self) < str(other)

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def stem(self) -> str:
        return Path(self.name).stem

    @property
    def suffix(self) -> str:
        return Path(self.name).suffix

    @property
    def parent(self) -> RemotePath:
        return RemotePath(self.protocol, self.path.rpartition("/")[0])

    @property
    def _store(self) -> Any:
        return _store(self.protocol)

    def _info(self) -> dict | None:
        with self._reached():
            self._store.invalidate_cache()
            try:
                return self._store.info(self.path)
            except FileNotFoundError:
                return None

    def exists(self) -> bool:
        return self._info() is not None

    def is_file(self) -> bool:
        info = self._info()
        return info is not None and info["type"] == "file"

    def is_dir(self) -> bool:
        info = self._info()
        return info is not None and info["type"] == "directory"

    def mkdir(self, parents: bool = True, exist_ok: bool = True) -> None:
        """Nothing: folders of a store are parts of its files' names."""

    def size(self) -> int:
        """Bytes of a file."""
        return self.state()[0]

    def state(self) -> list:
        """Size and what the store says of the version (its entity tag, else a time)."""
        info = self._info()
        if info is None:
            raise self._absent()
        return _version(info)

    def states(self) -> dict[str, list]:
        """Name -> `state` of every file right below; one request."""
        return {_last(i["name"]): _version(i) for i in self._listed() if i["type"] == "file"}

    def _listed(self) -> list[dict]:
        with self._reached():
            self._store.invalidate_cache()
            try:
                return self._store.ls(self.path, detail=True)
            except (FileNotFoundError, NotADirectoryError):
                return []

    def iterdir(self) -> Iterator[RemotePath]:
        """What lies right below, in the order of the names; nothing where nothing does."""
        names = {_last(info["name"]) for info in self._listed()} - {self.name, ""}
        return (self / name for name in sorted(names))

    def glob(self, pattern: str) -> Iterator[RemotePath]:
        """What lies right below and has a name that fits."""
        return (path for path in self.iterdir() if fnmatch.fnmatchcase(path.name, pattern))

    def read_bytes(self) -> bytes:
        with self._reached():
            return self._store.cat_file(self.path)

    def read_text(self, encoding: str = "utf-8") -> str:
        return self.read_bytes().decode(encoding)

    def open(self, mode: str = "rb") -> BinaryIO:
        """The file for reading, a block at a time."""
        with self._reached():
            return self._store.open(self.path, mode)

    def write_bytes(self, data: bytes) -> None:
        with self._reached():
            self._store.pipe_file(self.path, bytes(data))

    def take(self, source: Place) -> None:
        """Becomes a copy of the file `source`."""
        with self._reached():
            self._store.put_file(str(source), self.path)

    def send(self, sources: dict[str, Path]) -> None:
        """Puts files of this machine below this folder, many at a time: name -> file."""
        names = sorted(sources)
        with self._reached():
            if names:
                self._store.put([str(sources[name]) for name in names],
                                [f"{self.path}/{name}" for name in names],
                                callback=_counting())

    def bring(self, targets: dict[str, Path]) -> None:
        """Fetches files from below this folder, many at a time: name -> file of this machine."""
        names = sorted(targets)
        for folder in {target.parent for target in targets.values()}:
            folder.mkdir(parents=True, exist_ok=True)
        with self._reached():
            if names:
                self._store.get([f"{self.path}/{name}" for name in names],
                                [str(targets[name]) for name in names], callback=_counting())

    def move(self, target: RemotePath) -> None:
        """Moves a folder within its store: each file is copied, then deleted."""
        with self._reached():
            self._store.invalidate_cache()
            found = self._store.find(self.path)
            ends = [_bare(name)[len(_bare(self.path)):] for name in found]
            self._store.copy(found, [target.path + end for end in ends])
        self.remove()

    def remove(self) -> None:
        """Deletes a folder and what is in it; nothing where there is none."""
        with self._reached(), contextlib.suppress(FileNotFoundError):
            self._store.rm(self.path, recursive=True)

    def unlink(self, missing_ok: bool = False) -> None:
        with self._reached():
            try:
                self._store.rm_file(self.path)
            except FileNotFoundError:
                if not missing_ok:
                    raise

    def _absent(self) -> FileNotFoundError:
        return FileNotFoundError(errno.ENOENT, "no such file", str(self))

    @contextlib.contextmanager
    def _reached(self) -> Iterator[None]:
        """FileNotFoundError with a name, UserError for all else that a store may raise."""
        try:
            yield
        except FileNotFoundError:
            raise self._absent() from None
        except UserError:
            raise
        except Exception as error:  # each store has exceptions of its own
            said = " ".join(str(error).split())[:160]
            raise UserError(
                self, f"cannot be reached ({type(error).__name__}: {said})",
                self._remedy(error),
            ) from error

    def _remedy(self, error: Exception) -> str:
        kind = f"{type(error).__name__} {error}"
        if re.search("Connect|Endpoint|DNS|Timeout|resolve", kind):
            return "see to the network, or correct the endpoint that your settings name"
        refused = isinstance(error, PermissionError) or re.search(
            "Credential|Token|Refresh|Anonymous|Forbidden|Unauthorized|AccessDenied|40[13]", kind)
        if refused and self.protocol in _CREDENTIALS:
            return f"give credentials that may do this: {_CREDENTIALS[self.protocol]}"
        return "check the address, your credentials and the network"


Place = Path | RemotePath


def place(given: str | os.PathLike | RemotePath) -> Place:
    """The place that a text, a Path or a place names; `file://` is this machine's disk.

    A Path made of an address has lost a slash (`gs:/bucket`) and is understood all the same.
    Raises UserError for a protocol that is unknown or whose package is not installed.
    """
    if isinstance(given, RemotePath):
        return given
    match = _ADDRESS.fullmatch(str(given))
    if match is None:
        return Path(given)
    protocol, rest = match.groups()
    if protocol == "file":
        return Path("/" + rest)
    _store(protocol)
    return RemotePath(protocol, "/" + rest if protocol in _ROOTED else rest)


def _store(protocol: str) -> Any:
    """fsspec's file system of a protocol; it keeps one a process and makes it anew after a fork."""
    import fsspec

    for package in ("gcsfs", "s3fs"):  # what fails comes as an exception, what is tried again not
        logging.getLogger(package).setLevel(logging.CRITICAL)
    try:
        options = {"auto_mkdir": True} if protocol in _ROOTED else {}
        return fsspec.filesystem(protocol, **options)
    except ImportError:
        package = _PACKAGES.get(protocol, f"fsspec's package for {protocol}")
        raise UserError(
            f"{protocol}://", f"needs the package {package}, which is not installed",
            f"pip install {package}",
        ) from None
    except ValueError:
        raise UserError(
            f"{protocol}://", "is no protocol that fsspec knows",
            "give a folder, or an address as gs://bucket/folder or s3://bucket/folder",
        ) from None


def persistently(act: Callable[[], _T]) -> _T:
    """`act()`, again after pauses where a store cannot be reached; its last refusal is raised.

    For work that goes on for days: a store may be away for minutes.
    """
    for pause in PAUSES:
        try:
            return act()
        except UserError:
            time.sleep(pause)
    return act()


def _last(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2]


def _version(info: dict) -> list:
    for key in ("etag", "ETag", "generation", "md5Hash", "mtime", "LastModified", "created"):
        value = info.get(key)
        if isinstance(value, datetime):  # some stores list a time and tell it as a number
            value = value.timestamp()
        if value is not None:
            return [info["size"], str(value)]
    return [info["size"], ""]


def file_size(path: Place) -> int:
    """Bytes of a file."""
    return path.size() if isinstance(path, RemotePath) else path.stat().st_size


def file_state(path: Place | None) -> list | None:
    """Size and modification time (ns; a store's version): enough to see that it was touched."""
    if path is None:
        return None
    if isinstance(path, RemotePath):
        return path.state()
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]


def file_states(folder: Place) -> dict[str, list]:
    """Name -> `file_state` of every file right below a folder; empty without the folder."""
    if isinstance(folder, RemotePath):
        return folder.states()
    if not folder.is_dir():
        return {}
    with os.scandir(folder) as entries:
        return {
            entry.name: [stat.st_size, stat.st_mtime_ns]
            for entry in entries if entry.is_file() for stat in (entry.stat(),)
        }


def read_many(paths: Iterable[Place]) -> Iterator[tuple[Place, bytes]]:
    """(path, content) of those files that can be read; a store is asked for many at a time."""
    paths = list(paths)
    for start in range(0, len(paths), 256):
        part = paths[start : start + 256]
        if part and isinstance(part[0], RemotePath):
            with part[0]._reached():
                got = part[0]._store.cat([p.path for p in part], on_error="return")
            if not isinstance(got, dict):
                got = {part[0].path: got}
            by_end = {_bare(name): content for name, content in got.items()}
            found = ((path, by_end.get(_bare(path.path))) for path in part)
            yield from ((path, content) for path, content in found if isinstance(content, bytes))
            continue
        for path in part:
            with contextlib.suppress(OSError):
                yield path, path.read_bytes()


def _bare(name: str) -> str:
    return name.strip("/")


def readable(path: Place) -> Path | io.BytesIO:
    """What a library that wants a file name or a file can read: a store's file comes whole."""
    return io.BytesIO(path.read_bytes()) if isinstance(path, RemotePath) else path
