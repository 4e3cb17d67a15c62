"""What fetching must not do: write elsewhere, fill a disk, go on in silence."""

import os
import time
from collections import namedtuple

import pytest

from sleeplm_jax.cli import main
from sleeplm_jax.errors import UserError
from sleeplm_jax.recordings import fetch as fetching
from sleeplm_jax.recordings.fetch import NOTICE, STAGING, plan
from sleeplm_jax.recordings.fetch_archives import inside
from tests.fixtures_archives import below, hmc, quick, write_physionet

pytestmark = pytest.mark.usefixtures("no_proxy")

EVIL = ["../evil.txt", "/etc/evil.txt", "recordings/../../evil.txt", "C:evil.txt",
        "a\\..\\evil.txt", "recordings//evil.txt", "./evil.txt/.", "evil\x07.txt"]  # fmt: skip


@pytest.mark.parametrize("name", EVIL)
def test_a_listing_cannot_name_a_place_outside(name, server, tmp_path):
    hmc(server.folder, (1,))
    with open(server.folder / "SHA256SUMS.txt", "a") as sums:
        sums.write(f"{'0' * 64} {name}\n")
    before = below(tmp_path)
    with pytest.raises(UserError, match="no plain path") as error:
        quick("hmc", tmp_path / "deep/out", server.url)
    assert str(error.value).isprintable()
    assert below(tmp_path) == before


def test_records_without_a_published_sum_are_said_and_left_out(server, tmp_path):
    write_physionet(server.folder, hmc(server.folder, (1,)), "../../evil\nrecordings/SN077\n")
    result, said = quick("hmc", tmp_path / "out", server.url)
    assert not result.failed and any("names 2 records without" in line for line in said)
    assert not [path for path, _ in server.gets() if "evil" in path or "SN077" in path]


def test_a_link_in_the_folder_is_not_followed_out_of_it(tmp_path):
    hmc(tmp_path / "hmc", (1,))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    os.symlink(tmp_path / "elsewhere", tmp_path / "out/recordings")
    with pytest.raises(UserError, match="link that leads elsewhere"):
        quick("hmc", tmp_path / "out", str(tmp_path / "hmc"))
    assert not list((tmp_path / "elsewhere").iterdir())
    assert inside(tmp_path / "out", "plain/name.edf", "x").name == "name.edf"


def test_a_linked_file_is_replaced_and_what_it_led_to_is_left_alone(tmp_path):
    files = hmc(tmp_path / "hmc", (1,))
    (tmp_path / "mine.md").write_text("mine")
    (tmp_path / "out").mkdir()
    for name in ("README.md", NOTICE):
        os.symlink(tmp_path / "mine.md", tmp_path / "out" / name)
    assert not quick("hmc", tmp_path / "out", str(tmp_path / "hmc"))[0].failed
    assert (tmp_path / "mine.md").read_text() == "mine"
    assert (tmp_path / "out/README.md").read_bytes() == files["README.md"]


def test_no_room_is_said_before_anything_is_brought(server, tmp_path, monkeypatch):
    hmc(server.folder)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda _: usage(1 << 40, 0, 65 << 20))
    with pytest.raises(UserError, match=r"68.2 MB free and .* are to come") as error:
        big = {"README.md": b"x", "recordings/SN001.edf": bytes(5 << 20)}
        write_physionet(server.folder, big)
        quick("hmc", tmp_path / "out", server.url)
    assert "\n" not in str(error.value)
    assert not server.gets(".edf")


def test_two_at_once_in_one_folder_are_refused(tmp_path):
    hmc(tmp_path / "hmc", (1,))
    out = tmp_path / "out"
    with fetching._alone(out / STAGING):
        with pytest.raises(UserError, match="another `sleeplm fetch` is at work"):
            quick("hmc", out, str(tmp_path / "hmc"))
    assert not quick("hmc", out, str(tmp_path / "hmc"))[0].failed


@pytest.mark.parametrize("mirror", ["http://127.0.0.1:9", "http://archive.invalid/hmc"])
@pytest.mark.parametrize("name", ["hmc", "boas", "dod-h", "sleep-edf"])
def test_offline_is_one_line_naming_the_host(name, mirror, tmp_path, capfd):
    began = time.monotonic()
    status = main(["fetch", name, "--out", str(tmp_path / "out"), "--mirror", mirror])
    shown = capfd.readouterr().err
    assert status == 2 and shown.count("\n") == 1
    assert mirror.split("/")[2] in shown and "could not be reached" in shown
    assert "--mirror" in shown and time.monotonic() - began < 20
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["fetch"], "no archive named"),
        (["fetch", "nope", "--dry-run"], "choose from sleep-edf"),
        (["fetch", "hmc"], "--out: is missing"),
        (["fetch", "hmc", "--dry-run", "--mirror", "ftp://x/y"], "no address and no folder"),
        (["fetch", "hmc", "--dry-run", "--mirror", "/no/such/folder"], "no address and no folder"),
    ],
)
def test_mistakes_are_one_line(arguments, said, capsys):
    assert main(arguments) == 2
    shown = capsys.readouterr().err
    assert said in shown and shown.count("\n") == 1


@pytest.mark.parametrize("damage", ["sums", "empty", "html", "records", "no records"])
def test_a_folder_that_is_no_database(damage, tmp_path):
    hmc(tmp_path / "hmc", (1,))
    if damage == "sums":
        (tmp_path / "hmc/SHA256SUMS.txt").unlink()
    elif damage == "records":
        (tmp_path / "hmc/RECORDS").write_text("of another version\n")
    elif damage == "no records":
        (tmp_path / "hmc/RECORDS").unlink()
    else:
        text = "" if damage == "empty" else "<html>Service moved</html>"
        (tmp_path / "hmc/SHA256SUMS.txt").write_text(text)
    with pytest.raises(UserError) as error:
        plan("hmc", None, str(tmp_path / "hmc"))
    assert "\n" not in str(error.value)
