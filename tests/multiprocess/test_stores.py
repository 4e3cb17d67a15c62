"""Several processes and an object store: each sends what is its own, one reads it all back."""

import io
import os
import socket
import subprocess
import sys
import uuid
import zipfile

import pytest

from sleeplm_jax.places import place

MODULE = "tests.multiprocess.saving_to_a_store"


def started(tmp_path, rank, processes, *more):
    return subprocess.Popen(
        [sys.executable, "-m", MODULE, str(rank), str(processes), *map(str, more)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=os.environ | {"SLEEPLM_CACHE": str(tmp_path)},
    )


@pytest.mark.slow
def test_every_chunk_is_sent_once_and_read_on_another_topology(store_servers, tmp_path):
    address = f"s3://bucket/{uuid.uuid4().hex}/checkpoints"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    both = [started(tmp_path, rank, 2, "save", address, port) for rank in (0, 1)]
    for process in both:
        said, _ = process.communicate(timeout=200)
        assert process.returncode == 0, said
    chunks = [
        name for archive in (place(address) / "3").iterdir()
        for name in zipfile.ZipFile(io.BytesIO(archive.read_bytes())).namelist()
        if name.count("/") > 1 and name.split("/")[2] == "c"
    ]
    # halves 2, copied 1, quarters 4; x 2, count 1, y 2: some of both processes, none of them twice
    assert len(chunks) == len(set(chunks)) == 12
    reader = started(tmp_path, 0, 1, "read", address, 0)
    said, _ = reader.communicate(timeout=200)
    assert reader.returncode == 0 and said.splitlines()[-1] == "the same", said
    assert not list(tmp_path.glob("checkpoints-*"))
