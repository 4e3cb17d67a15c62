"""Fetching while connections drop, servers misbehave and processes are killed."""

import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import numpy as np
import pytest

from sleeplm_jax.cli import main
from sleeplm_jax.errors import UserError
from sleeplm_jax.recordings import fetch as fetching
from sleeplm_jax.recordings.fetch import NOTICE, STAGING, plan
from sleeplm_jax.recordings.fetch_network import ATTEMPTS, HostError, Network
from tests.fixtures_archives import below, boas, content, hmc, quick, write_physionet


@pytest.mark.parametrize("cuts", [[100_000], [50_000, 50_000, 50_000], [10] * 12])
def test_a_dropped_connection_is_gone_on_with_from_where_it_broke(server, tmp_path, cuts):
    """12 drops are more than the attempts allowed: each that gains bytes starts the count anew."""
    files = hmc(server.folder, (1,))
    server.drop["recordings/SN001.edf"] = list(cuts)
    result, _ = quick("hmc", tmp_path / "out", server.url)
    assert not result.failed
    assert (tmp_path / "out/recordings/SN001.edf").read_bytes() == files["recordings/SN001.edf"]
    ranges = [asked for _, asked in server.gets("SN001.edf")]
    ends = np.cumsum(cuts)
    assert ranges == [None, *(f"bytes={end}-" for end in ends)]


def test_an_end_that_comes_early_is_seen_without_a_length(server, tmp_path):
    """Such an answer ends with the connection, whole or not: only the listing's size tells."""
    files = boas(server.folder / "b", (1,))
    name = "sub-1/eeg/sub-1_task-Sleep_acq-psg_eeg.edf"
    server.lengths = False
    server.drop[f"b/ds005555/{name}"] = [1500]
    result, _ = quick("boas", tmp_path / "out", f"{server.url}/b")
    assert not result.failed and (tmp_path / "out" / name).read_bytes() == files[name]
    assert [r for _, r in server.gets(name)] == [None, "bytes=1500-"]


def test_a_server_that_always_breaks_off_is_given_up_and_what_came_stays(server, tmp_path):
    files = hmc(server.folder, (1,))
    server.drop["recordings/SN001.edf"] = [70_000] + [0] * 20
    result, said = quick("hmc", tmp_path / "out", server.url)
    assert result.failed == ["recordings/SN001.edf"] and len(result.brought) == 3
    assert len(server.gets("SN001.edf")) <= 1 + ATTEMPTS
    assert sum("broke" in line or "closed" in line for line in said) == 1
    partial = tmp_path / "out" / STAGING / "recordings/SN001.edf.partial"
    assert partial.read_bytes() == files["recordings/SN001.edf"][:70_000]
    server.drop.clear()
    assert quick("hmc", tmp_path / "out", server.url)[0].brought == ["recordings/SN001.edf"]
    assert server.gets("SN001.edf")[-1][1] == "bytes=70000-"
    assert not (tmp_path / "out" / STAGING).exists()


def test_a_server_that_ignores_range_costs_bytes_but_nothing_else(server, tmp_path):
    files = hmc(server.folder, (1,))
    server.ranges = False
    server.drop["recordings/SN001.edf"] = [120_000]
    result, _ = quick("hmc", tmp_path / "out", server.url)
    assert not result.failed and len(server.gets("SN001.edf")) == 2
    assert (tmp_path / "out/recordings/SN001.edf").read_bytes() == files["recordings/SN001.edf"]


def test_a_part_of_an_older_version_does_not_spoil_the_file(server, tmp_path):
    files = hmc(server.folder, (1,))
    partial = tmp_path / "out" / STAGING / "recordings/SN001.edf.partial"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"older" * 1000)
    result, _ = quick("hmc", tmp_path / "out", server.url)
    assert not result.failed
    assert [r for _, r in server.gets("SN001.edf")] == ["bytes=5000-", None]
    assert (tmp_path / "out/recordings/SN001.edf").read_bytes() == files["recordings/SN001.edf"]


@pytest.mark.parametrize("held", [200_000, 200_001, 999_999])
def test_a_part_as_long_as_the_file_or_longer(server, tmp_path, held):
    """Killed while the sum was taken: nothing is asked for again; longer: begun anew."""
    files = hmc(server.folder, (1,))
    partial = tmp_path / "out" / STAGING / "recordings/SN001.edf.partial"
    partial.parent.mkdir(parents=True)
    data = files["recordings/SN001.edf"]
    partial.write_bytes((data * 6)[:held])
    result, _ = quick("hmc", tmp_path / "out", server.url)
    assert not result.failed and (tmp_path / "out/recordings/SN001.edf").read_bytes() == data
    assert len(server.gets("SN001.edf")) == (0 if held == len(data) else 1)


def test_a_wrong_checksum_is_removed_and_said_and_the_rest_goes_on(server, tmp_path):
    hmc(server.folder, (1, 2))
    damaged = bytearray((server.folder / "recordings/SN001.edf").read_bytes())
    damaged[7] ^= 255
    (server.folder / "recordings/SN001.edf").write_bytes(damaged)
    result, said = quick("hmc", tmp_path / "out", server.url)
    assert result.failed == ["recordings/SN001.edf"] and len(result.brought) == 6
    lines = [line for line in said if line.startswith("failed:")]
    assert len(lines) == 1 and "SN001.edf" in lines[0] and "SHA256" in lines[0]
    assert "\n" not in lines[0] and "removed" in lines[0]
    assert "recordings/SN001.edf" not in below(tmp_path / "out")
    assert not [p for p in below(tmp_path / "out") if "SN001.edf" in p]  # nor a part of it
    assert len(server.gets("SN001.edf")) == 1


def test_a_missing_file_fails_alone(server, tmp_path, capfd):
    hmc(server.folder, (1, 2))
    (server.folder / "recordings/SN001_sleepscoring.txt").unlink()
    arguments = ["fetch", "hmc", "--out", str(tmp_path / "out"), "--mirror", server.url]
    assert main(arguments) == 1
    shown = capfd.readouterr()
    assert "SN001_sleepscoring.txt: not found on the server (404)" in shown.out
    assert "Traceback" not in shown.out + shown.err
    assert len(below(tmp_path / "out") & set(below(server.folder))) == 6


def test_a_busy_server_is_asked_again_and_then_left_alone(server, tmp_path):
    hmc(server.folder, (1,))
    server.status["recordings/SN001.edf"] = [503, 429, 503]
    with pytest.raises(HostError, match=r"busy \(503\), 5 times.*goes on from here"):
        quick("hmc", tmp_path / "out", server.url)
    assert len(server.gets("SN001.edf")) == ATTEMPTS
    del server.status["recordings/SN001.edf"]
    assert not quick("hmc", tmp_path / "out", server.url)[0].failed


def test_a_file_of_another_length_than_announced(server, tmp_path):
    (server.folder / "b/ds005555/sub-1/eeg").mkdir(parents=True)
    name = "sub-1/eeg/sub-1_task-Sleep_acq-psg_eeg.edf"
    (server.folder / "b/ds005555" / name).write_bytes(content(1, 5000))
    planned = plan("boas", None, f"{server.url}/b")
    assert planned.size == 5000
    (server.folder / "b/ds005555" / name).write_bytes(content(1, 6000))
    key = f"ds005555/{name}"
    server.listing_text = (
        "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>"
        f"{key}</Key><Size>5000</Size><ETag>x-2</ETag></Contents></ListBucketResult>"
    )
    result, said = quick("boas", tmp_path / "out", f"{server.url}/b")
    assert result.failed == [name] and any("6,000 bytes where 5,000" in line for line in said)


def test_a_server_that_falls_silent_is_not_waited_for(server, tmp_path, monkeypatch):
    from sleeplm_jax.recordings import fetch_network

    hmc(server.folder, (1,))
    quick("hmc", tmp_path / "out", server.url, subjects="1")
    (tmp_path / "out/recordings/SN001.edf").unlink()
    monkeypatch.setattr(fetch_network, "TIMEOUT", (0.2, 0.2))
    answered = server.say

    def hang(request, status, body, headers=None, path=None):
        if path and path.endswith("SN001.edf") and request.command == "GET":
            time.sleep(0.5)
        answered(request, status, body, headers, path)

    server.say = hang
    with pytest.raises(HostError, match=r"no answer in time\), 5 times in a row"):
        quick("hmc", tmp_path / "out", server.url)
    assert len(server.gets("SN001.edf")) == 1 + ATTEMPTS


def test_an_endless_listing_is_not_read_to_its_end(server, monkeypatch):
    from sleeplm_jax.recordings import fetch_network

    hmc(server.folder, (1,))
    monkeypatch.setattr(fetch_network, "LISTING_LIMIT", 100)
    with pytest.raises(UserError, match="is no listing"):
        plan("hmc", None, server.url, network=Network(0))


@pytest.mark.parametrize("status, said", [(403, "refuses"), (410, "not found"), (418, "418")])
def test_other_refusals_are_one_line_and_not_repeated(status, said, server, tmp_path):
    hmc(server.folder, (1,))
    server.status["recordings/SN001.edf"] = [status]
    result, lines = quick("hmc", tmp_path / "out", server.url)
    assert result.failed == ["recordings/SN001.edf"] and len(server.gets("SN001.edf")) == 1
    assert sum(said in line and "SN001.edf" in line for line in lines) == 1


def test_the_bar_ends_at_the_whole_whatever_was_interrupted(server, tmp_path, monkeypatch):
    """Bytes held from before count, bytes dropped again do not: the sum is the files' size."""
    files = hmc(server.folder, (1,))
    partial = tmp_path / "out" / STAGING / "recordings/SN001.edf.partial"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"older" * 1000)  # of another version: begun anew
    server.drop["recordings/SN001_sleepscoring.edf"] = [500]
    moved = []
    usual = fetching._progress

    @contextmanager
    def counted(total, say, bar):
        assert total == sum(map(len, files.values()))
        with usual(total, say, True) as (advance, line):  # it draws without a terminal too
            yield lambda count: (moved.append(count), advance(count)), line

    monkeypatch.setattr(fetching, "_progress", counted)
    result, _ = quick("hmc", tmp_path / "out", server.url)
    assert not result.failed and sum(moved) == sum(map(len, files.values()))


def test_killed_at_any_moment_it_goes_on_with_what_it_had(server, tmp_path):
    """SIGKILL in the second night: the first is kept, the second goes on where it stopped."""
    files = hmc(server.folder, (1,))
    files["recordings/SN002.edf"] = content(2, 8 << 20)
    write_physionet(server.folder, files)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "sleeplm_jax.cli", "fetch", "hmc", "--out", str(out),
               "--mirror", server.url]  # fmt: skip
    server.slow = 0.02
    partial = out / STAGING / "recordings/SN002.edf.partial"
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 30
    while not (partial.exists() and partial.stat().st_size > 1 << 20):
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    held = partial.stat().st_size
    assert 1 << 20 < held < 8 << 20
    assert (out / "recordings/SN001.edf").read_bytes() == files["recordings/SN001.edf"]
    assert not (out / "recordings/SN002.edf").exists()
    server.slow = 0.0
    server.asked.clear()
    finished = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert finished.returncode == 0, finished.stderr
    assert server.gets(".edf") == [("recordings/SN002.edf", f"bytes={held}-")]
    assert all((out / name).read_bytes() == data for name, data in files.items())
    assert below(out) == set(files) | {NOTICE}
