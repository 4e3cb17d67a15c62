"""Bringing a public archive, or some subjects of it, into a folder.

Order of work: what the archive says it holds, what of it is wanted, licence notice, what is there
already (checked by its sum, not believed), room on the disk, then file after file. What is not
complete lies in OUT/.partial-fetch and is gone on with by the same command; nothing outside it is
ever half a file.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path

from sleeplm_jax.errors import UserError
from sleeplm_jax.files import write_atomically
from sleeplm_jax.recordings.fetch_archives import (
    Archive,
    RemoteFile,
    archive_called,
    archives,
    choose,
    inside,
)
from sleeplm_jax.recordings.fetch_download import Advance, download, is_complete
from sleeplm_jax.recordings.fetch_listings import listing, placed
from sleeplm_jax.recordings.fetch_network import FileError, Network, is_local, mirror_address

STAGING = ".partial-fetch"
NOTICE = "LICENCE-NOTICE.txt"
ASKING = 8  # requests for sizes at a time
SPARE = 64 << 20  # bytes left free on the disk

Say = Callable[[str], None]


@dataclass
class Fetched:
    """What came of it: paths below the folder."""

    brought: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Plan:
    """What would be brought. `size` in bytes; `unsized` files of it the archive does not size."""

    archive: Archive
    base: str
    files: tuple[RemoteFile, ...]
    notes: tuple[str, ...]

    @property
    def size(self) -> int:
        return sum(file.transfer or 0 for file in self.files)

    @property
    def unsized(self) -> int:
        return sum(file.transfer is None for file in self.files)


def describe_archives() -> Iterator[str]:
    """The lines of `sleeplm fetch --list`."""
    for archive in archives().values():
        yield f"{archive.name}: {archive.title}, {archive.version}"
        yield f"  holds      {archive.holds}"
        yield f"  size       {archive.size}"
        yield f"  licence    {archive.licence} ({archive.licence_page})"
        yield f"  checksums  {archive.checksums}"
        yield f"  subjects   {archive.subjects}"
        yield f"  address    {archive.base}  (page: {archive.page})"
        for text in archive.citation:
            yield f"  cite       {text}"
        for text in archive.unverified or ("nothing",):
            yield f"  unverified {text}"


def plan(
    name: str, subjects: str | None = None, mirror: str | None = None, everything: bool = False,
    network: Network | None = None,
) -> Plan:
    """What there is of archive `name` and is wanted, with sizes; only listings are read.

    `subjects` as in fetch_archives.choose; `mirror` an address or folder in the archive's layout.
    Raises UserError.
    """
    network = network or Network()
    archive = archive_called(name)
    base = mirror_address(mirror) if mirror else archive.base
    listed = listing(archive, base, network)
    where = Path(f"{os.sep}nowhere")
    for file in listed.files:
        inside(where, file.path, base)  # before anything is made of such a listing
    files = choose(archive, listed.files, subjects, everything)
    unsized = [file for file in files if file.size is None]
    with ThreadPoolExecutor(ASKING) as pool:
        sizes = dict(zip(
            (file.path for file in unsized),
            pool.map(lambda file: network.size(file.url), unsized),
        ))  # fmt: skip
    files = [replace(f, size=sizes[f.path]) if f.path in sizes else f for f in files]
    return Plan(archive, base, tuple(files), listed.notes)


def describe_plan(planned: Plan) -> Iterator[str]:
    """The lines of a dry run: every file, then their number and bytes."""
    yield from (f"note: {note}" for note in planned.notes)
    for file in planned.files:
        size = "?" if file.transfer is None else f"{file.transfer:,}"
        yield f"{size:>16}  {file.path}"
    people = len({file.subject for file in planned.files if file.subject})
    unsized = f" and {planned.unsized} files of unknown size" if planned.unsized else ""
    yield (
        f"{planned.archive.name}: {len(planned.files)} files of {people} subjects, "
        f"{planned.size:,} bytes{unsized} from {planned.base}; nothing was downloaded"
    )


def fetch(
    name: str, out: Path, subjects: str | None = None, mirror: str | None = None,
    everything: bool = False, network: Network | None = None, say: Say = print,
    bar: bool = False,
) -> Fetched:
    """Brings archive `name` into folder `out`; see `plan` for the rest. `bar`: draw one on stderr.

    A file that cannot be had is said in a line and listed in `failed`, the rest goes on. Raises
    UserError where nothing more can be had: host out of reach, no room, a listing that names
    paths outside `out`.
    """
    network = network or Network()
    planned = plan(name, subjects, mirror, everything, network)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    staging = out / STAGING
    for note in planned.notes:
        say(f"note: {note}")
    say(notice(planned.archive).rstrip())
    with _alone(staging):
        _write_notice(planned.archive, out)
        result = Fetched()
        paths = {file.path: inside(out, file.path, planned.base) for file in planned.files}
        result.kept = [f.path for f in planned.files if is_complete(paths[f.path], f)]
        missing = [f for f in planned.files if f.path not in set(result.kept)]
        say(
            f"{len(planned.files)} files, {_bytes(planned.size)}; {len(result.kept)} are here "
            f"already, {len(missing)} to bring into {out}"
        )
        _check_room(out, staging, missing)
        through_mne = planned.archive.kind == "mne" and not is_local(planned.base)
        way = _by_mne if through_mne else _one_by_one
        with _progress(sum(f.transfer or 0 for f in missing), say, bar) as (advance, line):
            way(planned, missing, paths, out, staging, network, result, advance, line)
    if not result.failed:
        shutil.rmtree(staging, ignore_errors=True)
    failed = f", {len(result.failed)} failed: the same command tries them again"
    say(
        f"{planned.archive.name}: {len(result.brought)} files brought, {len(result.kept)} were "
        f"here{failed if result.failed else ''}; licence and citation in {out / NOTICE}"
    )
    return result


def _one_by_one(planned, missing, paths, out, staging, network, result, advance, line) -> None:
    for file in missing:
        try:
            if file.member:
                file = replace(file, member=placed(file, network))
            download(network, file, paths[file.path], staging, advance)
        except FileError as error:
            result.failed.append(file.path)
            line(f"failed: {error}")
        else:
            result.brought.append(file.path)
            line(f"{file.path}{'' if file.checksum else ' (no checksum is published)'}")


def _by_mne(planned, missing, paths, out, staging, network, result, advance, line) -> None:
    from sleeplm_jax.recordings.fetch_mne import fetch_subject

    absent = {file.path for file in missing}
    for subject, group in groupby(planned.files, key=lambda file: file.subject):
        files = list(group)
        lacking = [file for file in files if file.path in absent]
        if not lacking:
            continue
        try:
            fetch_subject(
                planned.archive, planned.base, files, out, staging, network, set(result.kept)
            )
        except FileError as error:
            result.failed += [file.path for file in lacking]
            line(f"failed: {error}")
        else:
            result.brought += [file.path for file in lacking]
            advance(sum(file.size or 0 for file in lacking))
            line(f"{subject}: {len(lacking)} files")


def notice(archive: Archive) -> str:
    """What a user of the data must know: licence, how to cite, where from."""
    lines = [
        f"{archive.title}, {archive.version}",
        f"Licence: {archive.licence} ({archive.licence_page}); terms: {archive.page}",
        *(f"Not verified here: {text}" for text in archive.unverified),
        "Cite:", *(f"  {text}" for text in archive.citation),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _write_notice(archive: Archive, out: Path) -> None:
    """In OUT/LICENCE-NOTICE.txt, after those of other archives brought to the same folder."""
    path, text = inside(out, NOTICE, str(out)), notice(archive)
    there = path.read_text("utf-8") if path.is_file() else ""
    if text not in there:
        write_atomically(path, f"{there}\n{text}".lstrip("\n").encode())


@contextmanager
def _alone(staging: Path) -> Iterator[None]:
    """The staging folder for this process only; two would write the same parts."""
    staging.mkdir(parents=True, exist_ok=True)
    with open(staging / "lock", "w") as lock:
        try:
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:  # Windows has another way; there it is left to the user
            pass
        except BlockingIOError:
            raise UserError(
                staging.parent, "another `sleeplm fetch` is at work on it", "wait, or end that one"
            ) from None
        for stray in staging.rglob("tmp*"):  # pooch's, of a process that was killed
            stray.unlink(missing_ok=True)
        yield


def _check_room(out: Path, staging: Path, missing: list[RemoteFile]) -> None:
    """Raises UserError where the disk has no room for what is missing."""
    needed = sum(file.size or 0 for file in missing)
    if any(file.member for file in missing):  # one lies there packed and unpacked for a moment
        needed += max(file.member.size for file in missing if file.member)
    else:
        needed -= sum(p.stat().st_size for p in staging.rglob("*.partial"))
    free = shutil.disk_usage(out).free
    if missing and needed + SPARE > free:
        raise UserError(
            out, f"has {_bytes(free)} free and {_bytes(needed)} are to come",
            "make room, or give fewer --subjects",
        )


@contextmanager
def _progress(total: int, say: Say, bar: bool) -> Iterator[tuple[Advance, Say]]:
    """A line for each file, under a bar if one is wanted."""
    if not bar:
        yield (lambda count: None), say
        return
    import rich.console
    import rich.progress as bars

    with bars.Progress(
        bars.TextColumn("fetching"), bars.BarColumn(), bars.DownloadColumn(),
        bars.TransferSpeedColumn(), bars.TimeRemainingColumn(),
        console=rich.console.Console(stderr=True),
    ) as drawn:
        task = drawn.add_task("", total=total or None)
        yield (
            lambda count: drawn.update(task, advance=count),
            lambda text: drawn.console.print(text, highlight=False, markup=False),
        )


def _bytes(count: int) -> str:
    """1234567 -> 1.2 MB."""
    value = float(max(count, 0))
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
