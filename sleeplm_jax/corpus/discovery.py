"""Which recordings a corpus is made of, and whether any of them changed since it was built."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from sleeplm_jax.corpus.files import TEMPORARY, file_sha256
from sleeplm_jax.corpus.nightfile import NIGHT_FORMAT
from sleeplm_jax.errors import CorpusError

SUFFIXES = (".edf", ".bdf")


@dataclass(frozen=True)
class Found:
    """A recording file; `night` is the id under which a corpus keeps it.

    `night` is the file's stem, with the parent folders' names before it where several files
    share the stem (`p01/PSG.edf`, `p02/PSG.edf`); `folder` then holds those names, else None.
    """

    path: Path
    night: str
    folder: str | None


def find_recordings(given: list[Path], leave_out: Path | None = None) -> list[Found]:
    """The recordings among files and below folders, in the order of their names.

    Taken are *.edf and *.bdf in either case; annotation-only files (hypnograms) and hidden files
    are not, unless given by name. Folders below `leave_out` (the corpus itself) are skipped.
    Raises CorpusError for a path that does not exist, or when nothing is found.
    """
    paths: dict[Path, None] = {}
    for entry in map(Path, given):
        if entry.is_dir():
            paths.update(dict.fromkeys(_below(entry, leave_out)))
        elif entry.exists():
            paths[entry] = None
        else:
            raise CorpusError(entry, "no such file or folder", "correct --recordings")
    unique = {path.resolve(): path for path in reversed(paths)}  # the first name given wins
    if not unique:
        raise CorpusError(
            ", ".join(str(g) for g in given) or "--recordings", "holds no *.edf or *.bdf recording",
            "give folders with recordings, or the files themselves",
        )
    return sorted(_named(sorted(unique.values())), key=lambda found: found.night)


def _below(folder: Path, leave_out: Path | None) -> list[Path]:
    skipped = leave_out.resolve() if leave_out else None
    paths, visited = [], set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        here = Path(parent).resolve()
        if here in visited or here == skipped:
            folders.clear()
            continue
        visited.add(here)
        folders.sort()
        for name in sorted(files):
            path = Path(parent) / name
            hidden = name.startswith(".")
            if path.suffix.lower() in SUFFIXES and not hidden and not is_annotation_only(path):
                paths.append(path)
    return paths


def is_annotation_only(path: Path) -> bool:
    """Whether an EDF/BDF file holds annotations and no signal, as hypnogram files do.

    So does one that is named a hypnogram: some writers put a dummy signal into it.
    False for a file whose header cannot be read: opening it will say what is wrong with it.
    """
    if path.stem.casefold().endswith("hypnogram"):
        return True
    try:
        with open(path, "rb") as file:
            header = file.read(256)
            signals = int(header[252:256])
            labels = file.read(16 * max(0, signals))
    except (OSError, ValueError):
        return False
    names = [labels[16 * i : 16 * i + 16].strip() for i in range(signals)]
    return bool(names) and all(n in (b"EDF Annotations", b"BDF Annotations") for n in names)


def _named(paths: list[Path]) -> list[Found]:
    whole = {path: tuple(map(_plain, path.resolve().with_suffix("").parts[1:])) for path in paths}
    used = dict.fromkeys(whole.values(), 1)
    while True:  # take in parents' names until every name is its own
        counts = Counter(parts[-used[parts] :] for parts in used)
        shared = [p for p in used if counts[p[-used[p] :]] > 1 and used[p] < len(p)]
        if not shared:
            break
        for parts in shared:
            used[parts] += 1
    twins = Counter(whole.values())  # x.edf beside x.bdf: only the suffix tells them apart
    found = []
    for path, parts in whole.items():
        names = parts[-used[parts] :]
        suffix = path.suffix if twins[parts] > 1 else ""
        found.append(Found(path, "-".join(names) + suffix, "-".join(names[:-1]) or None))
    # "a b.edf" and "a_b.edf", or "p1/PSG.edf" and "p1-PSG.edf", would be one night's file.
    shared = Counter(f.night.casefold() for f in found)
    return [
        f if shared[f.night.casefold()] == 1
        else replace(f, night=f"{f.night}.{_digest(f.path, used[whole[f.path]])}")
        for f in found
    ]


def _digest(path: Path, parts: int) -> str:
    """Six hex digits of the last `parts` of a path as they are spelt."""
    spelt = "/".join(path.resolve().parts[-parts:])
    return hashlib.sha256(os.fsencode(spelt)).hexdigest()[:6]


def _plain(text: str) -> str:
    return "".join(c if c.isalnum() or c in "._-" else "_" for c in text)


def file_state(path: Path | None) -> list[int] | None:
    """Size and modification time (ns): enough to notice that a file was touched."""
    if path is None:
        return None
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]


@cache
def code_version() -> str:
    """Hash of the code and tables that turn a recording into a night file.

    Covers recordings/ (montages too, not the simulator) and physiology/: any change there has the
    nights prepared again. Wording (captions/) is rendered in the loader and does not count.
    """
    package = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256(f"night format {NIGHT_FORMAT}\n".encode())
    for room in ("recordings", "physiology"):
        for path in sorted((package / room).rglob("*")):
            inside = path.relative_to(package)
            if path.suffix in (".py", ".yaml", ".json") and "simulator" not in inside.parts:
                digest.update(f"{inside.as_posix()} {file_sha256(path)}\n".encode())
    return digest.hexdigest()


def night_file(nights: Path, night: str) -> Path:
    """Where a corpus keeps a night, given its folder of nights."""
    return nights / f"{night}.npz"


def remove_leftovers(folder: Path) -> None:
    """Deletes what interrupted writers left in `folder`."""
    import shutil

    for path in folder.glob(f"{TEMPORARY}*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
