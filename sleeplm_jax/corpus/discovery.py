"""Which recordings a corpus is made of, and whether any of them changed since it was built."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from sleeplm_jax.corpus.nightfile import NIGHT_FORMAT
from sleeplm_jax.errors import CorpusError
from sleeplm_jax.files import file_sha256
from sleeplm_jax.places import Place
from sleeplm_jax.recordings.opening import SUFFIXES

# The same night once more where an EDF of that name lies beside it (DCSM's psg.h5).
SECOND_CHOICE = (".hea", ".h5")


@dataclass(frozen=True)
class Found:
    """A recording file; `night` is the id under which a corpus keeps it.

    `night` is the file's stem, with the parent folders' names before it where several files
    share the stem (`p01/PSG.edf`, `p02/PSG.edf`); `folder` then holds those names, else None.
    """

    path: Path
    night: str
    folder: str | None


def find_recordings(
    given: list[Path], leave_out: Place | None = None, unreadable: list[OSError] | None = None
) -> list[Found]:
    """The recordings among files and below folders, in the order of their names.

    Taken are files of opening.SUFFIXES in either case; annotation-only files (hypnograms), hidden
    files and an .h5 or .hea beside an EDF of its name are not, unless given by name. Folders below
    `leave_out` (the corpus itself) are skipped; those that cannot be listed go to `unreadable`.
    Raises CorpusError for a path that does not exist, when nothing is found, and without
    `unreadable` for a folder that cannot be listed.
    """
    paths: dict[Path, None] = {}
    problems: list[OSError] = []
    for entry in map(Path, given):
        if entry.is_dir():
            paths.update(dict.fromkeys(_below(entry, leave_out, problems)))
        elif entry.exists():
            paths[entry] = None
        else:
            raise CorpusError(entry, "no such file or folder", "correct --recordings")
    if unreadable is not None:
        unreadable += problems
    elif problems:
        raise unlisted(problems[0])
    unique = {path.resolve(): path for path in reversed(paths)}  # the first name given wins
    if not unique:
        if problems:
            raise unlisted(problems[0])
        raise CorpusError(
            ", ".join(str(g) for g in given) or "--recordings",
            f"holds no recording ({', '.join('*' + suffix for suffix in SUFFIXES)})",
            "give folders with recordings, or the files themselves",
        )
    return sorted(_named(sorted(unique.values())), key=lambda found: found.night)


def unlisted(error: OSError) -> CorpusError:
    """What is said of a folder that cannot be listed."""
    return CorpusError(
        os.fsdecode(error.filename or "?"), f"folder cannot be listed ({error.strerror})",
        "check its permissions, or leave it out",
    )


def _below(folder: Path, leave_out: Place | None, problems: list[OSError]) -> list[Path]:
    skipped = leave_out.resolve() if isinstance(leave_out, Path) else None
    paths, visited = [], set()
    # os.walk passes over what it cannot list unless it is told where to say so.
    for parent, folders, files in os.walk(folder, onerror=problems.append, followlinks=True):
        here = Path(parent).resolve()
        if here in visited or here == skipped:
            folders.clear()
            continue
        visited.add(here)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        shown = [Path(parent) / name for name in sorted(files) if not name.startswith(".")]
        here = [path for path in shown if path.suffix.lower() in SUFFIXES]
        first = {path.stem for path in here if path.suffix.lower() not in SECOND_CHOICE}
        paths += [
            path for path in here
            if not (path.suffix.lower() in SECOND_CHOICE and path.stem in first)
            and not is_annotation_only(path)
        ]
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


@cache
def code_version() -> str:
    """Hash of the code and tables that turn a recording into a night file.

    Covers recordings/ (not the simulator), physiology/ and what writes a night and its row: any
    change there has the nights prepared again. Wording (captions/) is rendered in the loader and
    does not count. Montages count for the nights that they read: see recordings/montage_hash.py.
    """
    package = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256(f"night format {NIGHT_FORMAT}\n".encode())
    paths = [package / "corpus" / f"{name}.py" for name in ("nightfile", "pool", "fingerprints")]
    for room in ("recordings", "physiology"):
        paths += sorted((package / room).rglob("*"))
    left_out = {"simulator", "montages"}
    for path in paths:
        inside = path.relative_to(package)
        if path.suffix in (".py", ".yaml", ".json") and not left_out & set(inside.parts):
            digest.update(f"{inside.as_posix()} {file_sha256(path)}\n".encode())
    return digest.hexdigest()
