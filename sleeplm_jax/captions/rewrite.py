"""Captions rewritten by a language model behind an OpenAI-compatible address; off by default.

Sentences leave the machine, and nothing else: no id, file name or number of an epoch. Every answer
is checked (faithful.py); one that loses or invents anything gives way to the template's sentence.
Answers are kept on disk by the hash of what was asked, so that a second run asks nothing.
"""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from sleeplm_jax.captions.faithful import differences
from sleeplm_jax.errors import ConfigError
from sleeplm_jax.files import content_sha256, write_atomically

PROMPT = (
    "You rewrite a short note about 30 seconds of a sleep recording. Keep every number with its "
    "unit, every time, every channel, sleep stage, body position and event exactly as given, and "
    "keep each number with the channel and quantity it belongs to. Keep the digits as they are. "
    "Add nothing: no interpretation, no judgement, no rounding. Name a channel before its numbers. "
    "Answer with the rewritten note alone, in plain sentences."
)
MOST_BYTES = 1 << 20  # of an answer
MOST_CHARACTERS = 4  # an answer longer than this many times the note is none
GIVE_UP_AFTER = 5  # failures in a row before the address is taken for dead
LONGEST_PAUSE = 10.0  # s, whatever Retry-After says


@dataclass(frozen=True)
class Rewritten:
    """One sentence and what became of it; `text` is what to use."""

    original: str
    rewritten: str | None  # the model's answer, None where there is none
    accepted: bool
    why_not: str | None = None

    @property
    def text(self) -> str:
        return self.rewritten if self.accepted and self.rewritten else self.original


class Unreachable(Exception):
    """No usable answer came: says what came instead."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would take the text, and the key, to a host that nobody named."""

    def redirect_request(self, request, file, code, message, headers, url):
        return None


@dataclass
class Rewriter:
    """A model at an address. `url` is that of the service (".../v1"); the key is never stored.

    `timeout_s` bounds a whole request, `retries` how often a failed one is repeated, `workers` how
    many run at once. Raises ConfigError for an address that is none.
    """

    url: str
    model: str
    cache: Path
    key: str | None = None
    timeout_s: float = 30.0
    retries: int = 2
    workers: int = 4
    pause_s: float = 0.5  # before the first repetition; doubles

    def __post_init__(self):
        self.url = self.url.rstrip("/").removesuffix("/chat/completions")
        parts = urllib.parse.urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(
                "--url", f"{self.url!r} is no address", "give one as https://host/v1"
            )
        if parts.username or parts.password:
            raise ConfigError(
                "--url", "holds a password", "put the key in an environment variable (--key-env)"
            )
        if not self.model:
            raise ConfigError("--model", "is empty", "name the model to ask")
        self.host, self.encrypted = parts.hostname, parts.scheme == "https"
        proxies = urllib.request.getproxies()
        here = self.host in ("localhost", "::1") or self.host.startswith("127.")
        self.proxied = not here and parts.scheme in proxies and not (
            urllib.request.proxy_bypass(self.host)
        )
        self._opener = urllib.request.build_opener(
            _NoRedirects(), urllib.request.ProxyHandler(proxies if self.proxied else {})
        )
        self._failed = 0
        self._lock = threading.Lock()
        self.asked = self.found = 0

    def notice(self) -> str:
        """The line to show before anything is sent."""
        bare = "" if self.encrypted else ", unencrypted"
        bare += ", through the proxy that your environment names," if self.proxied else ""
        return f"note: captions are sent to {self.host}{bare} to be rewritten by {self.model}"

    def rewrite_all(
        self, sentences: Sequence[str], progress: Callable[[int], None] = lambda done: None
    ) -> list[Rewritten]:
        """Every sentence rewritten or, where that fails, itself; in order.

        Equal sentences are asked once. Raises ConfigError where the service refuses the request
        itself (a wrong key, an unknown model): no sentence would fare better.
        """
        unique = list(dict.fromkeys(sentences))
        answers: dict[str, Rewritten] = {}
        with ThreadPoolExecutor(max(1, self.workers)) as pool:
            try:
                for one in pool.map(self.rewrite, unique):
                    answers[one.original] = one
                    progress(len(answers))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return [answers[sentence] for sentence in sentences]

    def rewrite(self, sentence: str) -> Rewritten:
        """One sentence."""
        try:
            answer = self._answer(sentence)
        except Unreachable as error:
            return Rewritten(sentence, None, False, str(error))
        wrong = differences(sentence, answer)
        return Rewritten(sentence, answer, not wrong, "; ".join(wrong) or None)

    def _answer(self, sentence: str) -> str:
        body = {
            "model": self.model,
            "messages": [
                {"role": "system", "content": PROMPT}, {"role": "user", "content": sentence},
            ],
            "temperature": 0.7,
        }
        place = content_sha256([self.url, body])
        path = self.cache / place[:2] / f"{place}.json"
        held = _held(path)
        if held is not None:
            with self._lock:
                self.found += 1
            return held
        with self._lock:
            if self._failed >= GIVE_UP_AFTER:
                raise Unreachable(f"not asked: {GIVE_UP_AFTER} requests in a row had failed")
        try:
            answer = _text_of(self._ask(json.dumps(body).encode()), sentence)
        except Unreachable:
            with self._lock:
                self._failed += 1
            raise
        with self._lock:
            self._failed = 0
            self.asked += 1
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps({"answer": answer}).encode())
        return answer

    def _ask(self, body: bytes) -> bytes:
        finding, pause = "", self.pause_s
        for attempt in range(self.retries + 1):
            if attempt:
                time.sleep(min(pause, LONGEST_PAUSE))
            pause = self.pause_s * 2**attempt
            headers = {"Content-Type": "application/json"}
            if self.key:
                headers["Authorization"] = f"Bearer {self.key}"
            request = urllib.request.Request(f"{self.url}/chat/completions", body, headers)
            try:
                return self._read(request)
            except urllib.error.HTTPError as error:
                error.close()
                finding = f"status {error.code}"
                if error.code in (400, 401, 403, 404, 405, 422) or 300 <= error.code < 400:
                    raise ConfigError(
                        self.host, f"refuses the request ({finding})",
                        "check --url, --model and the key of --key-env",
                    ) from None
                after = error.headers.get("Retry-After", "") if error.headers else ""
                pause = float(after) if after.isdecimal() else pause
            except (TimeoutError, OSError, ValueError) as error:
                reason = getattr(error, "reason", error)
                finding = "no answer in time" if _late(reason) else type(reason).__name__
            except Exception as error:  # http.client has its own for a broken answer
                finding = type(error).__name__
        raise Unreachable(f"{finding} ({self.retries + 1} attempts)")

    def _read(self, request: urllib.request.Request) -> bytes:
        """The answer's bytes, within `timeout_s` for all of it: a slow drip is late too."""
        until = time.monotonic() + self.timeout_s
        with self._opener.open(request, timeout=self.timeout_s) as response:
            out = bytearray()
            while piece := response.read1(1 << 16):
                out += piece
                if time.monotonic() > until:
                    raise TimeoutError
                if len(out) > MOST_BYTES:
                    raise ValueError("too long an answer")
            return bytes(out)


def _late(reason: object) -> bool:
    return isinstance(reason, TimeoutError) or "timed out" in str(reason)


def _held(path: Path) -> str | None:
    """The answer of a cache file; a damaged one is none."""
    try:
        answer = json.loads(path.read_bytes())["answer"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return answer if isinstance(answer, str) else None


def _text_of(answer: bytes, sentence: str) -> str:
    """The text of a chat completion, on one line; Unreachable where there is none."""
    try:
        text = json.loads(answer)["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError):
        raise Unreachable("an answer of another form than a chat completion") from None
    if not isinstance(text, str) or not text.strip():
        raise Unreachable("an empty answer")
    text = " ".join(text.split()).strip('"“”')
    if not text.isprintable():
        raise Unreachable("an answer with control characters")
    if len(text) > MOST_CHARACTERS * len(sentence) + 80:
        raise Unreachable("an answer far longer than the note")
    return text


def summary(results: Sequence[Rewritten]) -> list[str]:
    """Lines for a person: how many were accepted, and why the others were not."""
    taken = sum(one.accepted for one in results)
    unheard = sum(one.rewritten is None for one in results)
    lines = [
        f"{taken} of {len(results)} captions rewritten; {len(results) - taken} keep their template "
        f"sentence ({len(results) - taken - unheard} answers failed the check, {unheard} had none)"
    ]
    reasons = Counter(
        one.why_not.split(";")[0] for one in results if not one.accepted and one.why_not
    )
    lines += [f"  {count} x {reason}" for reason, count in reasons.most_common(5)]
    return lines


def rows(results: Sequence[Rewritten], about: Sequence[dict], model: str) -> Iterator[dict]:
    """Lines of the JSONL: what each caption is about, and what became of it."""
    for one, row in zip(results, about, strict=True):
        yield {**row, "original": one.original, "rewritten": one.rewritten,
               "accepted": one.accepted, "why_not": one.why_not, "model": model}
