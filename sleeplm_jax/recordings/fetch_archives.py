"""The archives that `fetch` knows (archives.yaml), their files, and which of them are wanted."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files as resources
from pathlib import Path, PurePosixPath

from sleeplm_jax.errors import UserError


@dataclass(frozen=True)
class Archive:
    """A row of archives.yaml; its header says what each field means."""

    name: str
    title: str
    version: str
    kind: str  # mne, physionet, s3 or zip: how its files are listed and brought
    base: str
    page: str
    holds: str
    size: str
    licence: str
    licence_page: str
    checksums: str
    subjects: str
    citation: tuple[str, ...]
    read: tuple[str, ...]
    unverified: tuple[str, ...]
    subject: str = ""
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    prefix: str = ""
    zip: str = ""
    study: str = ""


@dataclass(frozen=True)
class Member:
    """Where a file lies inside a zip: `size` bytes from `start`, compressed unless `stored`."""

    start: int
    size: int
    stored: bool


@dataclass(frozen=True)
class RemoteFile:
    """A file of an archive.

    `path` is relative, as the archive writes it; `size` in bytes of the file itself; `checksum` as
    "sha256:<hex>" (md5, sha1, crc32 too); both None where the archive does not say.
    `subject` and `number` name the person, None for what belongs to everyone.
    """

    path: str
    url: str
    size: int | None = None
    checksum: str | None = None
    member: Member | None = None
    subject: str | None = None
    number: int | None = None

    @property
    def transfer(self) -> int | None:
        """Bytes that bringing it costs."""
        return self.member.size if self.member else self.size


@dataclass(frozen=True)
class Listing:
    """What an archive says it holds, and what there is to say about that."""

    files: tuple[RemoteFile, ...]
    notes: tuple[str, ...] = field(default=())


@cache
def archives() -> dict[str, Archive]:
    """The archives by name, in the order of the table."""
    import yaml

    text = resources("sleeplm_jax.recordings").joinpath("archives.yaml").read_text("utf-8")
    rows = yaml.safe_load(text)
    lists = ("citation", "read", "unverified", "only", "skip")
    return {
        name: Archive(name=name, **{k: tuple(v) if k in lists else v for k, v in row.items()})
        for name, row in rows.items()
    }


def archive_called(name: str) -> Archive:
    """The archive of that name. Raises UserError with those there are."""
    try:
        return archives()[name]
    except KeyError:
        raise UserError(
            f"fetch {name}", "is no archive known here",
            f"choose from {', '.join(archives())} (see `sleeplm fetch --list`)",
        ) from None


def inside(folder: Path, name: str, listing: str) -> Path:
    """`folder/name` for a name out of a listing, which is not to be trusted.

    Raises UserError unless it is a plain relative path that stays below `folder`, also through
    the links that lie there.
    """
    parts = name.split("/")
    odd = name.startswith("/") or not set(parts).isdisjoint({"", ".", ".."})
    if odd or not name.isprintable() or re.search(r'[\\:<>|"?*]', name):
        raise UserError(
            listing, f"names {ascii(name)}, which is no plain path below a folder",
            "nothing is written for such a listing; check the address or --mirror",
        )
    path = folder / PurePosixPath(name)
    if not path.parent.resolve().is_relative_to(folder.resolve()):
        raise UserError(path, "lies behind a link that leads elsewhere", "give another --out")
    return path


def choose(
    archive: Archive, listed: tuple[RemoteFile, ...], subjects: str | None, everything: bool
) -> list[RemoteFile]:
    """The files to bring, those of one subject after those of another, shared ones first.

    `subjects` is a list as "0-9,SN012": names of subjects, their numbers, ranges of numbers (both
    ends included, gaps allowed). Raises UserError for what is not there.
    """
    taken = [
        file for file in listed
        if (not archive.only or _any(archive.only, file.path))
        and (everything or not _any(archive.skip, file.path))
    ]
    named = sorted({file.subject for file in taken if file.subject})
    if not named:
        raise UserError(
            archive.base, "lists no file of a subject",
            "check --mirror; the archive may have changed its layout",
        )
    place = {name: index for index, name in enumerate(named)}
    taken = [
        replace(file, number=place[file.subject])
        if file.subject and file.number is None else file for file in taken
    ]
    if subjects is not None:
        wanted = _wanted(archive, {f.subject: f.number for f in taken if f.subject}, subjects)
        taken = [file for file in taken if file.subject is None or file.subject in wanted]
    return sorted(taken, key=lambda f: (f.subject is not None, f.number or 0, f.path))


def subject_of(archive: Archive, path: str) -> tuple[str | None, int | None]:
    """Whose file it is by its path: (name, number), (None, None) for what is shared."""
    match = re.search(archive.subject, path) if archive.subject else None
    if match is None:
        return None, None
    number = match.groupdict().get("number")
    return match["name"], None if number is None else int(number)


def _any(patterns: tuple[str, ...], path: str) -> bool:
    return any(re.search(pattern, path) for pattern in patterns)


def _wanted(archive: Archive, numbers: dict[str, int], text: str) -> set[str]:
    names = {name.lower(): name for name in numbers}
    wanted: set[str] = set()
    for token in re.split(r"[,\s]+", text.strip()):
        span = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", token)
        if token.lower() in names:
            found = {names[token.lower()]}
        elif span:
            first, last = int(span[1]), int(span[2] or span[1])
            found = {name for name, number in numbers.items() if first <= number <= last}
        else:
            found = set()
        if not found:
            ordered = sorted(numbers, key=lambda name: (numbers[name], name))
            raise UserError(
                "--subjects", f"{token!r} is no subject of {archive.name}",
                f"give {archive.subjects}; there are {len(ordered)}, {ordered[0]} to {ordered[-1]}",
            )
        wanted |= found
    return wanted
