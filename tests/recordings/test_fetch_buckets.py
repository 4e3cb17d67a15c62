"""Fetching from OpenNeuro's bucket, page by page, and single nights out of a zip."""

import re
import zipfile

import pytest

from sleeplm_jax.errors import UserError
from sleeplm_jax.recordings.fetch import NOTICE, plan
from tests.fixtures_archives import UUIDS, below, boas, dod, quick


@pytest.mark.parametrize("page", [1000, 5])
def test_a_bucket_is_listed_page_by_page(server, tmp_path, page):
    files = boas(server.folder / "openneuro.org")
    (server.folder / "openneuro.org/ds000001").mkdir()
    (server.folder / "openneuro.org/ds000001/x_eeg.edf").write_bytes(b"another data set")
    server.page = page
    result, _ = quick("boas", tmp_path / "out", f"{server.url}/openneuro.org", subjects="1,sub-10")
    wanted = {n for n in files if "headband" not in n and "sub-2/" not in n}
    assert set(result.brought) == wanted and not result.failed
    assert all((tmp_path / "out" / n).read_bytes() == files[n] for n in wanted)


def test_a_bucket_in_a_folder(tmp_path):
    files = boas(tmp_path / "copy")
    result, _ = quick("boas", tmp_path / "out", str(tmp_path / "copy"), everything=True)
    assert set(result.brought) == set(files)


def test_an_etag_that_is_an_md5_is_checked_and_one_of_pieces_is_said_to_be_none(server, tmp_path):
    boas(server.folder / "b", (1,))
    key = "ds005555/sub-1/eeg/sub-1_task-Sleep_acq-psg_eeg.edf"
    server.etags[key] = "0" * 32
    result, said = quick("boas", tmp_path / "out", f"{server.url}/b")
    assert result.failed == [key.removeprefix("ds005555/")]
    assert any("another MD5" in line for line in said)
    server.etags[key] = "0" * 32 + "-2"
    result, said = quick("boas", tmp_path / "out", f"{server.url}/b")
    assert not result.failed
    assert any("_eeg.edf (no checksum is published)" in line for line in said)


@pytest.mark.parametrize(
    "text",
    [
        "", "<html>", "<ListBucketResult></ListBucketResult>",
        '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]><x>&b;</x>',
        "<ListBucketResult><Contents><Key>ds005555/sub-1/a.edf</Key><Size>many</Size></Contents>"
        "</ListBucketResult>",
        "<ListBucketResult><Contents><Key>ds005555/../sub-1/a.edf</Key><Size>1</Size></Contents>"
        "</ListBucketResult>",
    ],
)  # fmt: skip
def test_an_odd_listing_is_one_line(text, server, tmp_path):
    server.listing_text = text
    with pytest.raises(UserError) as error:
        quick("boas", tmp_path / "out", f"{server.url}/b")
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


# --- nights in a zip ---


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
@pytest.mark.parametrize("local", [False, True])
def test_one_night_of_a_zip_is_brought_without_the_others(server, tmp_path, compression, local):
    files = dod(server.folder, compression)
    out = tmp_path / "out"
    mirror = str(server.folder) if local else server.url
    result, _ = quick("dod-h", out, mirror, subjects="0")
    name = f"dodh/{sorted(UUIDS)[0]}.h5"
    assert result.brought == [name] and (out / name).read_bytes() == files[name]
    spans = [re.findall(r"\d+", asked) for _, asked in server.gets("dodh.zip")]
    served = sum(int(stop) + 1 - int(start) for start, stop in spans)
    assert served < 0.75 * (server.folder / "dodh.zip").stat().st_size
    server.asked.clear()
    assert quick("dod-h", out, mirror)[0].kept == [name]  # and the others come
    assert below(out) == set(files) | {NOTICE}


def test_a_night_of_a_zip_goes_on_where_it_broke(server, tmp_path):
    files = dod(server.folder)
    size = (server.folder / "dodh.zip").stat().st_size
    quick("dod-h", tmp_path / "once", server.url, subjects="0")  # how it is asked for
    before = len(server.gets("dodh.zip"))
    span = [r for _, r in server.gets("dodh.zip")][-1]
    start = int(re.findall(r"\d+", span)[0])
    assert 0 < start < size
    answered = server.say

    def cut_once(request, status, body, headers=None, path=None):
        if len(body) > 100_000 and request.headers.get("Range") == span:
            server.say = answered
            server.drop[path] = [80_000]
        answered(request, status, body, headers, path)

    server.say = cut_once
    result, _ = quick("dod-h", tmp_path / "out", server.url, subjects="0")
    assert not result.failed
    assert server.gets("dodh.zip")[-1][1].startswith(f"bytes={start + 80_000}-")
    assert len(server.gets("dodh.zip")) == 2 * before + 1
    name = f"dodh/{sorted(UUIDS)[0]}.h5"
    assert (tmp_path / "out" / name).read_bytes() == files[name]


def test_a_night_damaged_in_the_zip_is_not_kept(tmp_path):
    folder = tmp_path / "z"
    dod(folder, zipfile.ZIP_STORED)
    data = bytearray((folder / "dodh.zip").read_bytes())
    data[data.index(b"dodh/" + UUIDS[0].encode()) + 5000] ^= 1
    (folder / "dodh.zip").write_bytes(data)
    result, said = quick("dod-h", tmp_path / "out", str(folder))
    assert result.failed == [f"dodh/{UUIDS[0]}.h5"] and len(result.brought) == 2
    assert any("another CRC32" in line for line in said)


def test_a_server_that_gives_no_parts_cannot_serve_a_zip(server, tmp_path):
    dod(server.folder)
    server.ranges = False
    with pytest.raises(UserError, match="no part of a file.*--mirror"):
        quick("dod-h", tmp_path / "out", server.url)


@pytest.mark.parametrize("damage", ["text", "cut", "empty"])
def test_a_zip_that_is_none(damage, tmp_path):
    folder = tmp_path / "z"
    dod(folder)
    whole = (folder / "dodh.zip").read_bytes()
    damaged = {"text": b"<html>moved</html>" * 99, "cut": whole[: len(whole) // 2], "empty": b""}
    (folder / "dodh.zip").write_bytes(damaged[damage])
    with pytest.raises(UserError, match="no zip that can be read") as error:
        plan("dod-h", None, str(folder))
    assert "\n" not in str(error.value)
