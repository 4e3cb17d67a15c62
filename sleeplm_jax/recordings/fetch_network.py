"""Asking a server, or a folder in its place: with patience, and in one line where it fails."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit
from urllib.request import url2pathname

from sleeplm_jax.errors import UserError

ATTEMPTS = 5  # without a byte gained between them
LONGEST_PAUSE = 60.0  # seconds, whatever a server asks for
TIMEOUT = (20, 60)  # seconds to connect, and between two blocks
BLOCK = 1 << 18
LISTING_LIMIT = 64 << 20  # bytes: the longest listing known here has 1 MB
BUSY = {408, 425, 429, 500, 502, 503, 504}


class HostError(UserError):
    """A host does not answer, or is busy: nothing more is to be had from it now."""


class FileError(UserError):
    """One file cannot be had, or is not what was published; others may be."""


class Dropped(Exception):
    """A request that may go better when made again. `pause` is what the server asked for, in s."""

    def __init__(self, finding: str, pause: float = 0.0, busy: bool = False):
        super().__init__(finding)
        self.finding, self.pause, self.busy = finding, pause, busy


@dataclass
class Answer:
    """Blocks of bytes from `offset` on of something of `total` bytes (None: not said)."""

    offset: int
    total: int | None
    blocks: Iterator[bytes]


def address(base: str, name: str) -> str:
    """`base/name`, quoted."""
    return f"{base.rstrip('/')}/{quote(name)}"


def mirror_address(mirror: str) -> str:
    """A mirror as an address: http(s) or a folder, which may be written as a path.

    Raises UserError for anything else.
    """
    scheme = urlsplit(mirror).scheme.lower()
    if scheme in ("http", "https") and urlsplit(mirror).hostname:
        return mirror.rstrip("/")
    folder = local_path(mirror) if scheme == "file" else Path(mirror)
    if not folder.is_dir():
        raise UserError(
            f"--mirror {mirror}", "is no address and no folder", "give http(s)://... or a folder"
        )
    return folder.resolve().as_uri().rstrip("/")


def is_local(url: str) -> bool:
    return url.startswith("file:")


def local_path(url: str) -> Path:
    return Path(url2pathname(unquote(urlsplit(url).path)))


class Network:
    """Connections to the hosts of an archive. `pause` s before a second try, doubled for each."""

    def __init__(self, pause: float = 1.0):
        self.pause = pause
        self._reached: set[str] = set()
        self._own = threading.local()

    @property
    def session(self) -> Any:
        if not hasattr(self._own, "session"):
            import requests

            from sleeplm_jax import __version__

            self._own.session = requests.Session()
            self._own.session.headers["User-Agent"] = f"sleeplm-jax/{__version__}"
            self._own.session.headers["Accept-Encoding"] = "identity"  # sizes are of the file
        return self._own.session

    def patiently(self, url: str, work: Callable[[], Any], gained: Callable[[], int]) -> Any:
        """`work()`, again after a Dropped; ATTEMPTS in a row in which `gained()` did not grow.

        Raises HostError or FileError then.
        """
        failures, before = 0, gained()
        while True:
            try:
                return work()
            except Dropped as dropped:
                now = gained()
                failures = 1 if now > before else failures + 1
                before = max(before, now)
                if failures >= ATTEMPTS:
                    kind = HostError if dropped.busy else FileError
                    raise kind(
                        url, f"{dropped.finding}, {failures} times in a row",
                        "try again later: the same command goes on from here",
                    ) from dropped
                wait = max(self.pause * 2 ** (failures - 1), dropped.pause)
                time.sleep(min(wait, LONGEST_PAUSE))

    def content(self, url: str) -> bytes:
        """A listing, at most LISTING_LIMIT bytes. Raises FileError, HostError."""

        def read() -> bytes:
            with self.stream(url) as answer:
                content = bytearray()
                for block in answer.blocks:
                    content += block
                    if len(content) > LISTING_LIMIT:
                        raise FileError(
                            url, f"is no listing: over {LISTING_LIMIT >> 20} MB",
                            "check the address",
                        )
                if answer.total is not None and len(content) < answer.total:
                    raise Dropped("the connection was closed early")
                return bytes(content)

        return self.patiently(url, read, lambda: 0)

    def text(self, url: str) -> str:
        """`content`, as text."""
        return self.content(url).decode("utf-8", "replace")

    def size(self, url: str) -> int | None:
        """Bytes of a file, None where the server does not say. Raises HostError."""
        if is_local(url):
            path = local_path(url)
            return path.stat().st_size if path.is_file() else None

        def ask() -> int | None:
            with self._translated(url):
                answer = self.session.head(url, timeout=TIMEOUT, allow_redirects=True)
            self._reached.add(urlsplit(url).netloc)
            if answer.status_code in BUSY:
                raise Dropped(f"the server is busy ({answer.status_code})", _asked(answer), True)
            length = answer.headers.get("Content-Length", "")
            return int(length) if answer.ok and length.isdigit() else None

        return self.patiently(url, ask, lambda: 0)

    @contextmanager
    def stream(self, url: str, start: int = 0, stop: int | None = None) -> Iterator[Answer]:
        """The bytes of `url` from `start` to before `stop`, as far as the server heeds that.

        Raises Dropped where trying again may help, FileError and HostError where not.
        """
        if is_local(url):
            with self._local(url, start, stop) as answer:
                yield answer
            return
        headers = {}
        if start or stop is not None:
            headers["Range"] = f"bytes={start}-{'' if stop is None else stop - 1}"
        with self._translated(url):
            response = self.session.get(url, headers=headers, stream=True, timeout=TIMEOUT)
        with response:
            self._reached.add(urlsplit(url).netloc)
            yield self._understood(url, start, response)

    def _understood(self, url: str, start: int, response: Any) -> Answer:
        status, headers = response.status_code, response.headers
        span = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", headers.get("Content-Range", ""))
        total = int(span[2]) if span and span[2].isdigit() else None
        if status in BUSY:
            raise Dropped(f"the server is busy ({status})", _asked(response), True)
        if status == 416:  # nothing from there on: we have it all, or what we have is not of it
            return Answer(start if total == start else 0, total, iter(()))
        if status == 206 and span and span[1]:
            return Answer(int(span[1]), total, self._blocks(url, response))
        if status == 200:
            length = headers.get("Content-Length", "")
            known = length.isdigit() and headers.get("Content-Encoding", "identity") == "identity"
            return Answer(0, int(length) if known else None, self._blocks(url, response))
        if status in (401, 403):
            finding = f"the server refuses it ({status})"
        elif status in (404, 410):
            finding = f"not found on the server ({status})"
        else:
            finding = f"the server answers {status}"
        raise FileError(
            url, finding, "check the archive's page (sleeplm fetch --list) or --mirror"
        )

    def _blocks(self, url: str, response: Any) -> Iterator[bytes]:
        # read1 gives what has come; a full block would be lost whole when the connection breaks.
        read = getattr(response.raw, "read1", response.raw.read)
        with self._translated(url, begun=True):
            while block := read(BLOCK):
                yield block

    @contextmanager
    def _local(self, url: str, start: int, stop: int | None) -> Iterator[Answer]:
        try:
            file = open(local_path(url), "rb")
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise FileError(local_path(url), "not found in the mirror", "check --mirror") from None
        with file:
            total = file.seek(0, 2)
            file.seek(start)
            left = (total if stop is None else min(stop, total)) - start

            def blocks() -> Iterator[bytes]:
                remaining = left
                while remaining > 0 and (block := file.read(min(BLOCK, remaining))):
                    remaining -= len(block)
                    yield block

            yield Answer(start, total, blocks())

    @contextmanager
    def _translated(self, url: str, begun: bool = False) -> Iterator[None]:
        """requests' exceptions as ours."""
        import requests
        import urllib3

        expected = (requests.RequestException, urllib3.exceptions.HTTPError)
        if begun:  # a socket's own error; before that an OSError is the disk's
            expected += (OSError,)
        try:
            yield
        except expected as error:
            raise self.translate(url, error, begun) from error

    def translate(self, url: str, error: Exception, begun: bool = False) -> Exception:
        """What an exception of requests means, in the middle of an answer once `begun`.

        Dropped, HostError or FileError.
        """
        import requests

        host = urlsplit(url).netloc
        if isinstance(error, requests.HTTPError) and error.response is not None:
            status = error.response.status_code
            if status in BUSY:
                return Dropped(f"the server is busy ({status})", _asked(error.response), True)
            return FileError(
                url, f"the server answers {status}",
                "check the archive's page (sleeplm fetch --list) or --mirror",
            )
        unreached = isinstance(error, requests.ConnectionError | requests.Timeout)
        if unreached and not begun and host not in self._reached:
            return HostError(
                host, f"could not be reached ({_why(error)})",
                "check the network and proxy settings, or give --mirror with a copy you can reach",
            )
        if unreached or isinstance(error, requests.exceptions.ChunkedEncodingError) or begun:
            return Dropped(f"the connection broke ({_why(error)})", busy=not begun)
        return FileError(url, f"cannot be asked for ({_why(error)})", "check the address")


def _why(error: Exception) -> str:
    """In two or three words what the many layers of requests say at length."""
    import requests

    said = str(error)
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate is not accepted"
    if isinstance(error, requests.exceptions.ProxyError):
        return "the proxy refuses"
    for sign, words in (
        ("NameResolution", "its name is not known"), ("Name or service", "its name is not known"),
        ("getaddrinfo", "its name is not known"), ("refused", "connection refused"),
        ("unreachable", "network unreachable"), ("imed out", "no answer in time"),
        ("reset", "reset"), ("IncompleteRead", "closed early"), ("disconnected", "closed early"),
    ):  # fmt: skip
        if sign in said:
            return words
    return type(error).__name__


def _asked(response: Any) -> float:
    asked = response.headers.get("Retry-After", "")
    return float(asked) if asked.isdigit() else 0.0
