"""Object stores on this machine: real servers of both kinds, reached by HTTP as real ones are.

moto answers as S3 does, gcp-storage-emulator as Google's store; what they hold lies in memory.
"""

from __future__ import annotations

import logging
import os
import uuid

import pytest

BUCKET = "bucket"


@pytest.fixture(scope="session")
def store_servers():
    """Environment that sends `s3://` and `gs://` of this process and its children to the servers,
    which have one bucket each."""
    pytest.importorskip("s3fs"), pytest.importorskip("gcsfs")
    server = pytest.importorskip("moto.server")
    google = pytest.importorskip("gcp_storage_emulator.server")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # each request
    amazon = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    amazon.start()
    host, port = amazon.get_host_and_port()
    emulator = google.create_server("127.0.0.1", 0, in_memory=True, default_bucket=BUCKET)
    emulator.start()
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "tests",
            "AWS_SECRET_ACCESS_KEY": "tests", "AWS_DEFAULT_REGION": "us-east-1",
            "STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{emulator._api._httpd.server_address[1]}",
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",  # asks a service that is not emulated
        }.items():
            patch.setenv(name, value)
        import s3fs

        s3fs.S3FileSystem(skip_instance_cache=True).mkdir(BUCKET)
        yield
    amazon.stop()
    emulator.stop()


@pytest.fixture(params=["memory", "s3", "gs"])
def address(request) -> str:
    """An address at a store of fsspec's memory, of S3's and of Google's kind."""
    if request.param != "memory":
        request.getfixturevalue("store_servers")
    return f"{request.param}://{BUCKET}/{uuid.uuid4().hex}"
