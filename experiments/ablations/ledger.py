"""A ledger of finished runs: JSON lines, one row for each key, never two.

A key is (variant, seed, recipe, code, corpus, tokenizer), the last four being hashes, so that a
row is taken for done only where doing it again would do the same. The file is replaced as a whole,
under a lock: a kill leaves the old file or the new one. A second lock for each key, held while a
run is made, lets several processes share one ledger; it goes with its process, however that ends.
"""

from __future__ import annotations

import ast
import contextlib
import fcntl
import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from sleeplm_jax.errors import UserError
from sleeplm_jax.files import write_atomically

KEY = ("variant", "seed", "recipe", "code", "corpus", "tokenizer")


def key_of(row: dict) -> tuple:
    return tuple(row[name] for name in KEY)


class Ledger:
    """Rows of the JSONL file at `path`, which need not be there yet."""

    def __init__(self, path: Path):
        self.path = Path(path)
        self._locks = self.path.with_name(f".{self.path.name}.locks")

    def rows(self) -> list[dict]:
        """All rows in the order in which they were added; UserError for a line that is no row."""
        if not self.path.exists():
            return []
        found = []
        for number, line in enumerate(self.path.read_text().splitlines(), 1):
            try:
                row = json.loads(line)
                key_of(row)
            except (ValueError, KeyError, TypeError):
                raise UserError(
                    f"{self.path}:{number}", "is no row of a ledger", "restore or remove that line"
                ) from None
            found.append(row)
        return found

    def holds(self, key: dict, codes: Iterable[str] = ()) -> bool:
        """Whether there is a row of `key`, or one that differs only in having one of `codes`."""
        wanted = {key_of(key | {"code": code}) for code in (key["code"], *codes)}
        return any(key_of(row) in wanted for row in self.rows())

    def add(self, row: dict) -> bool:
        """Puts `row` at the end; False, and nothing happens, where its key is there already."""
        with self._lock("ledger", wait=True):
            rows = self.rows()
            if key_of(row) in map(key_of, rows):
                return False
            lines = [json.dumps(one, sort_keys=True, allow_nan=False) for one in (*rows, row)]
            write_atomically(self.path, ("\n".join(lines) + "\n").encode())
        return True

    @contextlib.contextmanager
    def claim(self, key: dict) -> Iterator[bool]:
        """True for the one process that may make the run of `key`, False for all others."""
        name = hashlib.sha256(json.dumps(key_of(key)).encode()).hexdigest()[:16]
        with self._lock(name, wait=False) as mine:
            yield mine

    @contextlib.contextmanager
    def _lock(self, name: str, wait: bool) -> Iterator[bool]:
        self._locks.mkdir(parents=True, exist_ok=True)
        handle = os.open(self._locks / name, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            os.close(handle)  # and with it the lock


def equal_codes(rows: Iterable[dict], code: str) -> set[str]:
    """`code`, and the other hashes of code that are shown to give the same results: rows that both
    made of the same run are there, and all their figures agree (to 1e-6 of their size).

    A change that touches only runs which were not made again is not seen by this.
    """
    made: dict[tuple, dict[str, dict]] = {}
    for row in rows:
        run = tuple(row[name] for name in KEY if name != "code")
        made.setdefault(run, {})[row["code"]] = row["metrics"]
    same, other = {code}, set()
    for found in made.values():
        if code in found:
            for name, metrics in found.items():
                (same if _agree(metrics, found[code]) else other).add(name)
    return same - other


def _agree(one: dict, two: dict) -> bool:
    if one.keys() != two.keys():
        return False
    pairs = [(one[name], two[name]) for name in one]
    return all(
        a == b or None not in (a, b) and math.isclose(a, b, rel_tol=1e-6) for a, b in pairs
    )


def hash_of(value: object) -> str:
    """16 hexadecimal digits of a JSON-able value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def code_hash(root: Path, parts: Iterable[str]) -> str:
    """16 digits of what the code under `root` does: comments, docstrings and layout do not count.

    Another version of Python may give other digits for the same code.

    parts: files and folders below `root`; of folders all .py and .yaml files.
    """
    digest = hashlib.sha256()
    for part in sorted(parts):
        path = root / part
        files = [path] if path.is_file() else sorted([*path.rglob("*.py"), *path.rglob("*.yaml")])
        if not files:
            raise FileNotFoundError(path)
        for file in files:
            digest.update(file.relative_to(root).as_posix().encode() + b"\0")
            digest.update(_meaning(file) + b"\0")
    return digest.hexdigest()[:16]


def imported(root: Path, package: str, starts: Iterable[str]) -> set[str]:
    """Files of `package` under `root` that the files `starts` import, and so on, with themselves;
    also what is imported only within functions."""
    found: set[str] = set()
    ahead = list(starts)
    while ahead:
        name = ahead.pop()
        if name in found:
            continue
        found.add(name)
        modules = set()
        for node in ast.walk(ast.parse((root / name).read_text())):
            if isinstance(node, ast.Import):
                modules |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                modules |= {node.module, *(f"{node.module}.{a.name}" for a in node.names)}
        for module in modules:
            parts = module.split(".")
            if parts[0] != package:
                continue
            for depth in range(1, len(parts) + 1):
                path = "/".join(parts[:depth])
                ahead += [f for f in (f"{path}.py", f"{path}/__init__.py") if (root / f).is_file()]
    return found


def _meaning(file: Path) -> bytes:
    if file.suffix != ".py":
        return file.read_bytes()
    tree = ast.parse(file.read_text())
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            if ast.get_docstring(node, clean=False) is not None:
                node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree).encode()
