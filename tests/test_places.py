"""Addresses, and what is said where a store cannot be reached."""

import subprocess
import sys
from pathlib import Path

import pytest

from sleeplm_jax import files
from sleeplm_jax.errors import UserError
from sleeplm_jax.places import RemotePath, place, transferred


def test_addresses_survive_being_made_a_path():
    pytest.importorskip("fsspec")
    for text in ("memory://bucket/x/y", "local:///tmp/x"):
        assert place(Path(text)) == place(text)
        assert str(place(text)) == text and str(place(text) / "z") == f"{text}/z"
        assert place(place(text)) == place(text)
    assert place("file:///tmp/x") == place(Path("file:///tmp/x")) == Path("/tmp/x")
    for text in ("plain/folder", "C:/data", "with:colon"):
        assert place(text) == Path(text)


def test_a_protocol_without_its_package_is_one_line(monkeypatch):
    from fsspec.registry import _registry

    for protocol in ("gs", "s3"):  # as if none had been used yet
        monkeypatch.delitem(_registry, protocol, raising=False)
    for package in ("gcsfs", "s3fs"):
        monkeypatch.setitem(sys.modules, package, None)
    for address, package in (("gs://b/c", "gcsfs"), ("s3://b/c", "s3fs")):
        with pytest.raises(UserError, match=f"needs the package {package}.*pip install {package}"):
            place(address)
    with pytest.raises(UserError, match="no protocol that fsspec knows"):
        place("nonsense://b/c")


@pytest.mark.parametrize(("error", "remedy"), [
    (type("NoCredentialsError", (Exception,), {})("Unable to locate"), "AWS_ACCESS_KEY_ID"),
    (PermissionError("Forbidden"), "AWS_ACCESS_KEY_ID"),
    (type("EndpointConnectionError", (Exception,), {})("Could not connect"), "network"),
    (TimeoutError(), "network"),
    (RuntimeError("odd"), "check the address"),
])
def test_a_remedy_fits_what_a_store_said(error, remedy):
    assert remedy in RemotePath("s3", "b/c")._remedy(error)


def test_what_a_store_says_is_one_line_with_the_address(monkeypatch):
    from fsspec.implementations.memory import MemoryFileSystem

    class Refused(Exception):
        """As the stores' own exceptions are: no OSError."""

    def refuse(*_, **__):
        raise Refused("403\nAnonymous caller does not have storage.objects.get access")

    monkeypatch.setattr(MemoryFileSystem, "cat_file", refuse)
    monkeypatch.setattr(MemoryFileSystem, "pipe_file", refuse)
    path = place("memory://private/x.json")
    for act in (path.read_bytes, lambda: files.write_json(path, {})):
        with pytest.raises(UserError, match="^memory://private/x.json: cannot be rea") as caught:
            act()
        assert "\n" not in str(caught.value) and "credentials" in str(caught.value)


def test_sending_and_fetching_count_as_progress(address, tmp_path):
    """What the watchdog asks while a large checkpoint leaves for a store."""
    pytest.importorskip("fsspec")
    (tmp_path / "a").write_bytes(bytes(1_000_000))
    before = transferred()
    place(address).send({"a": tmp_path / "a"})
    sent = transferred()
    place(address).bring({"a": tmp_path / "b"})
    assert sent > before and transferred() > sent
    assert (tmp_path / "b").stat().st_size == 1_000_000


def test_importing_it_loads_no_fsspec():
    code = "import sys, sleeplm_jax.places\nprint('fsspec' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert said.strip() == "False"
