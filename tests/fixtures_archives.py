"""Archives in their own layouts, a server of them, and `fetch` without waiting."""

from __future__ import annotations

import hashlib
import zipfile

import numpy as np
import pytest

from sleeplm_jax.recordings.fetch import fetch
from sleeplm_jax.recordings.fetch_network import Network
from tests.recordings.archive_server import ArchiveServer

UUIDS = [f"{n:08x}-5f19-55b6-a0ec-6e0ad3793da0" for n in (9, 3, 7)]  # nights of `dod`


@pytest.fixture
def no_proxy(monkeypatch):
    """This machine is asked directly, whatever the environment names."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")


@pytest.fixture
def server(tmp_path, no_proxy):
    """A local server; its archives lie in `server.folder`."""
    folder = tmp_path / "served"
    folder.mkdir()
    server = ArchiveServer(folder)
    yield server
    server.close()


def content(seed, size=200_000):
    """Bytes that no compression shortens."""
    return np.random.default_rng(seed).bytes(size)


def write_physionet(folder, files, more_records=""):
    """A PhysioNet database's folder: the files, SHA256SUMS.txt by hashlib, RECORDS."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    records = sorted(name for name in files if name.endswith((".edf", ".rec", ".hea")))
    named = "".join(f"{r.removesuffix('.hea')}\n" for r in records)
    (folder / "RECORDS").write_text(named + more_records)
    sums = {**files, "RECORDS": (folder / "RECORDS").read_bytes()}
    (folder / "SHA256SUMS.txt").write_text(
        "".join(f"{hashlib.sha256(data).hexdigest()} {name}\n" for name, data in sums.items())
    )
    return folder


def hmc(folder, nights=(1, 2, 4)):
    """HMC's layout: three files a night, and a text for everyone."""
    files = {"README.md": b"about the database\n"}
    for night in nights:
        files[f"recordings/SN{night:03d}.edf"] = content(night)
        files[f"recordings/SN{night:03d}_sleepscoring.txt"] = f"scores of {night}\n".encode()
        files[f"recordings/SN{night:03d}_sleepscoring.edf"] = content(100 + night, 3000)
    write_physionet(folder, files)
    return files


def quick(name, out, mirror, **options):
    """`fetch` without waiting between attempts; the lines it said."""
    said = []
    result = fetch(name, out, mirror=mirror, network=Network(0.001), say=said.append, **options)
    return result, said


def below(folder):
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def boas(folder, nights=(1, 2, 10)):
    files = {"participants.tsv": b"participant_id\tpid\n", "README": b"about\n"}
    for n in nights:
        for device in ("psg", "headband"):
            stem = f"sub-{n}/eeg/sub-{n}_task-Sleep_acq-{device}"
            files[f"{stem}_eeg.edf"] = content(n, 4000)
            files[f"{stem}_channels.tsv"] = b"name\ttype\n"
            files[f"{stem}_events.tsv"] = b"onset\tduration\n"
    for name, data in files.items():
        path = folder / "ds005555" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return files


def dod(folder, compression=zipfile.ZIP_DEFLATED):
    """DOD-H's zip, as written by Python's zipfile; half of each file compresses."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {f"dodh/{u}.h5": content(i, 150_000) + bytes(150_000) for i, u in enumerate(UUIDS)}
    with zipfile.ZipFile(folder / "dodh.zip", "w", compression) as packed:
        packed.writestr("dodh/", b"")
        for name, data in files.items():
            packed.writestr(name, data)
    return files
