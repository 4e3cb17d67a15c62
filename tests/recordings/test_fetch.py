"""Fetching archives, against a local server and folders in the archives' own layouts."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from collections import namedtuple
from contextlib import contextmanager

import numpy as np
import pytest

from sleeplm_jax.cli import main
from sleeplm_jax.errors import UserError
from sleeplm_jax.recordings import fetch as fetching
from sleeplm_jax.recordings.fetch import NOTICE, STAGING, fetch, plan
from sleeplm_jax.recordings.fetch_archives import archives, inside, subject_of
from sleeplm_jax.recordings.fetch_network import ATTEMPTS, HostError, Network
from tests.recordings.archive_server import ArchiveServer


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")


@pytest.fixture
def server(tmp_path):
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


# --- the table ---


def test_every_archive_of_the_issue_is_listed_with_licence_citation_and_doubts(capsys):
    assert main(["fetch", "--list"]) == 0
    shown = capsys.readouterr().out
    for name in ("sleep-edf", "hmc", "ucddb", "slpdb", "physionet2018", "boas", "dod-h", "dod-o"):
        row = archives()[name]
        assert re.search(rf"^{name}: ", shown, re.M)
        assert row.licence in shown and row.citation and row.read
        assert row.base.startswith("https://")
        for pattern in (row.subject, *row.only, *row.skip):
            re.compile(pattern)


@pytest.mark.parametrize(
    "name, path, subject, number",
    [
        ("hmc", "recordings/SN014_sleepscoring.txt", "SN014", 14),
        ("ucddb", "ucddb002_respevt.txt", "ucddb002", 2),
        ("ucddb", "ucddb028.rec", "ucddb028", 28),
        ("ucddb", "SubjectDetails.xls", None, None),
        ("slpdb", "slp01a.st", "slp01a", 1),
        ("slpdb", "slp67x.dat", "slp67x", 67),
        ("physionet2018", "training/tr03-0005/tr03-0005-arousal.mat", "tr03-0005", None),
        ("physionet2018", "training/tr03-0005/tr03-0005.hea", "tr03-0005", None),
        ("boas", "sub-12/eeg/sub-12_task-Sleep_acq-psg_eeg.edf", "sub-12", 12),
        ("boas", "participants.tsv", None, None),
        ("dod-h", "dodh/095d6e40-5f19-55b6-a0ec-6e0ad3793da0.h5",
         "095d6e40-5f19-55b6-a0ec-6e0ad3793da0", None),
    ],
)  # fmt: skip
def test_whose_file_it_is(name, path, subject, number):
    assert subject_of(archives()[name], path) == (subject, number)


def test_real_file_names_all_belong_to_a_subject(psg):
    """Names as the archives have them: 18 slpdb records, 80 DOD nights."""
    slpdb = [p.name for p in (psg / "slpdb_annotations").glob("slp*.*")]
    assert len({subject_of(archives()["slpdb"], name)[0] for name in slpdb} - {None}) == 18
    for archive, cohort, nights in (("dod-h", "dodh", 25), ("dod-o", "dodo", 55)):
        folder = psg / "dreem_dod_scorers" / "scorers" / cohort / "scorer_1"
        names = [f"{cohort}/{p.stem}.h5" for p in folder.glob("*.json")]
        assert len({subject_of(archives()[archive], n)[0] for n in names} - {None}) == nights


# --- PhysioNet ---


def test_nights_come_with_their_scoring_and_what_is_shared(server, tmp_path):
    files = hmc(server.folder)
    out = tmp_path / "out"
    result, said = quick("hmc", out, server.url, subjects="1-2")
    wanted = {n for n in files if "SN004" not in n}
    assert set(result.brought) == wanted and not result.failed
    assert below(out) == wanted | {NOTICE}  # and no leftovers
    assert all((out / name).read_bytes() == files[name] for name in wanted)
    notice = (out / NOTICE).read_text()
    assert "CC BY 4.0" in notice and "10.13026/t79q-fr32" in notice
    assert any("CC BY 4.0" in line for line in said[:1])  # said before anything is brought


def test_a_second_call_asks_for_nothing_that_is_complete(server, tmp_path):
    hmc(server.folder)
    quick("hmc", tmp_path / "out", server.url, subjects="1")
    server.asked.clear()
    result, _ = quick("hmc", tmp_path / "out", server.url, subjects="1-2")
    assert len(result.kept) == 4 and len(result.brought) == 3
    assert not server.gets("SN001") and not server.gets("README")
    assert (tmp_path / "out" / NOTICE).read_text().count("Licence:") == 1


def test_a_file_damaged_since_is_brought_again(server, tmp_path):
    files = hmc(server.folder)
    out = tmp_path / "out"
    quick("hmc", out, server.url, subjects="1")
    damaged = bytearray(files["recordings/SN001.edf"])
    damaged[1000] ^= 1  # the same size
    (out / "recordings/SN001.edf").write_bytes(damaged)
    result, _ = quick("hmc", out, server.url, subjects="1")
    assert result.brought == ["recordings/SN001.edf"]
    assert (out / "recordings/SN001.edf").read_bytes() == files["recordings/SN001.edf"]


@pytest.mark.parametrize("mirror", ["folder", "file address"])
def test_a_folder_is_a_mirror(mirror, tmp_path):
    files = hmc(tmp_path / "copy of hmc")
    base = tmp_path / "copy of hmc"
    result, _ = quick("hmc", tmp_path / "out", str(base) if mirror == "folder" else base.as_uri())
    assert set(result.brought) == set(files)


def test_a_dry_run_tells_files_and_bytes_and_downloads_listings_only(server, tmp_path, capsys):
    files = hmc(server.folder)
    assert main(["fetch", "hmc", "--dry-run", "--subjects", "4", "--mirror", server.url]) == 0
    shown = capsys.readouterr().out
    expected = {n: len(d) for n, d in files.items() if "SN004" in n or "README" in n}
    assert f"{len(expected)} files of 1 subjects, {sum(expected.values()):,} bytes" in shown
    assert {path for path, _ in server.gets()} == {"RECORDS", "SHA256SUMS.txt"}


def test_what_no_night_is_made_from_is_left_out_unless_asked_for(tmp_path):
    names = ("ucddb002.rec", "ucddb002_stage.txt", "ucddb002_respevt.txt", "ucddb002_lifecard.edf",
             "SubjectDetails.xls")  # fmt: skip
    write_physionet(tmp_path / "ucddb", {name: content(1, 500) for name in names})
    usual, _ = quick("ucddb", tmp_path / "a", str(tmp_path / "ucddb"))
    whole, _ = quick("ucddb", tmp_path / "b", str(tmp_path / "ucddb"), everything=True)
    assert set(whole.brought) - set(usual.brought) == {"ucddb002_lifecard.edf"}
    assert set(usual.brought) == set(names) - {"ucddb002_lifecard.edf"}


def test_real_slpdb_files_arrive_as_they_are(psg, server, tmp_path):
    source = psg / "slpdb_annotations"
    files = {p.name: p.read_bytes() for p in source.glob("slp*.*")}
    write_physionet(server.folder, files)
    result, _ = quick("slpdb", tmp_path / "out", server.url, subjects="1,slp67x")
    people = {name.split(".")[0] for name in result.brought}
    assert people == {"slp01a", "slp01b", "slp67x"}  # both nights of subject 1
    assert len(result.brought) == 9
    assert all((tmp_path / "out" / n).read_bytes() == files[n] for n in result.brought)


# --- which subjects ---


@pytest.mark.parametrize(
    "text, nights",
    [("1", {1}), ("0-3", {1, 2}), ("sn004", {4}), ("1,SN004", {1, 4}), ("1-2 4", {1, 2, 4})],
)
def test_subjects_by_number_range_and_name(text, nights, tmp_path):
    hmc(tmp_path / "hmc")
    planned = plan("hmc", text, str(tmp_path / "hmc"))
    assert {file.number for file in planned.files if file.subject} == nights


@pytest.mark.parametrize("text", ["3", "5-9", "SN003", "everyone", "", "1,,x", "-1"])
def test_a_subject_that_is_not_there_is_said_with_those_that_are(text, tmp_path):
    hmc(tmp_path / "hmc")
    with pytest.raises(UserError, match=r"--subjects.*SN001 to SN004") as error:
        plan("hmc", text, str(tmp_path / "hmc"))
    assert "\n" not in str(error.value)


def test_without_numbers_subjects_count_from_zero_in_the_order_of_names(tmp_path):
    folder = tmp_path / "c"
    files = {
        f"training/{name}/{name}{end}": content(1, 200)
        for name in ("tr04-0001", "tr03-0005", "tr03-0029")
        for end in (".hea", ".mat", ".arousal", "-arousal.mat")
    } | {"test/te03-0001/te03-0001.mat": b"x"}
    write_physionet(folder, files)
    planned = plan("physionet2018", "0-1", str(folder))
    assert {file.subject for file in planned.files} == {"tr03-0005", "tr03-0029"}
    assert len(planned.files) == 8
    assert all("te03" not in f.path for f in plan("physionet2018", None, str(folder)).files)


# --- interruptions and bad servers ---


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


# --- what must not happen ---

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


# --- OpenNeuro ---


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

UUIDS = [f"{n:08x}-5f19-55b6-a0ec-6e0ad3793da0" for n in (9, 3, 7)]


def dod(folder, compression=zipfile.ZIP_DEFLATED):
    """DOD-H's zip, as written by Python's zipfile; half of each file compresses."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {f"dodh/{u}.h5": content(i, 150_000) + bytes(150_000) for i, u in enumerate(UUIDS)}
    with zipfile.ZipFile(folder / "dodh.zip", "w", compression) as packed:
        packed.writestr("dodh/", b"")
        for name, data in files.items():
            packed.writestr(name, data)
    return files


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


# --- Sleep-EDF, through MNE ---


@pytest.fixture
def sleep_edf(server, monkeypatch, tmp_path):
    """MNE's own fetcher over a table of its form: subjects 0 (two nights), 13 (one) and 2."""
    from mne.datasets.sleep_physionet import age

    files, rows = {}, ["subject,night,record type,age,sex,lights off,sha,fname"]
    for subject, night, stem in ((0, 1, "SC4001E"), (0, 2, "SC4002E"), (2, 1, "SC4021E"),
                                 (13, 1, "SC4131E")):  # fmt: skip
        for kind, end in (("PSG", "0-PSG.edf"), ("Hypnogram", "C-Hypnogram.edf")):
            data = content(subject * 10 + night, 30_000 if kind == "PSG" else 900)
            files[stem + end] = data
            sha = hashlib.sha1(data).hexdigest()
            rows.append(f"{subject},{night},{kind},33,female,00:38:00,{sha},{stem}{end}")
    table = tmp_path / "age_records.csv"
    table.write_text("\n".join(rows) + "\n")
    monkeypatch.setattr(age, "AGE_SLEEP_RECORDS", str(table))
    for name, data in files.items():
        (server.folder / name).write_bytes(data)
    return files


def test_mne_brings_subjects_and_they_lie_flat(sleep_edf, server, tmp_path):
    out = tmp_path / "out"
    result, said = quick("sleep-edf", out, server.url, subjects="0,13")
    wanted = {name for name in sleep_edf if name[:5] in ("SC400", "SC413")}
    assert set(result.brought) == wanted and below(out) == wanted | {NOTICE}
    assert all((out / name).read_bytes() == sleep_edf[name] for name in wanted)
    assert "ODC-By" in (out / NOTICE).read_text()
    server.asked.clear()
    (out / "SC4001EC-Hypnogram.edf").unlink()
    result, _ = quick("sleep-edf", out, server.url, subjects="0-20")
    assert {path for path, _ in server.gets()} == {
        "SC4001EC-Hypnogram.edf", "SC4021E0-PSG.edf", "SC4021EC-Hypnogram.edf"
    }  # what is complete is not asked for again
    assert len(result.kept) == 5 and below(out) == set(sleep_edf) | {NOTICE}


def test_a_folder_in_sleep_edfs_layout_is_a_mirror(sleep_edf, server, tmp_path):
    result, _ = quick("sleep-edf", tmp_path / "out", str(server.folder))
    assert set(result.brought) == set(sleep_edf)


def test_what_mne_cannot_bring_is_one_line_and_the_rest_goes_on(sleep_edf, server, tmp_path):
    (server.folder / "SC4001E0-PSG.edf").write_bytes(b"another content")
    (server.folder / "SC4021EC-Hypnogram.edf").unlink()
    result, said = quick("sleep-edf", tmp_path / "out", server.url)
    assert set(result.brought) == {n for n in sleep_edf if n.startswith("SC413")}
    lines = [line for line in said if line.startswith("failed:")]
    assert len(lines) == 2 and not any("\n" in line for line in lines)
    assert "SHA1" in lines[0] and "SC400" in lines[0] and "404" in lines[1]
    assert not [n for n in below(tmp_path / "out") if "SC4001E0" in n]
    (server.folder / "SC4001E0-PSG.edf").write_bytes(sleep_edf["SC4001E0-PSG.edf"])
    server.asked.clear()
    result, _ = quick("sleep-edf", tmp_path / "out", server.url, subjects="0")
    assert not result.failed and not server.gets("SC4021E0")


def test_a_busy_server_is_asked_again_through_mne(sleep_edf, server, tmp_path):
    server.status["SC4001E0-PSG.edf"] = [503]
    with pytest.raises(HostError, match="busy"):
        quick("sleep-edf", tmp_path / "out", server.url, subjects="0")
    assert len(server.gets("SC4001E0-PSG.edf")) == ATTEMPTS


def test_the_table_of_mne_has_the_study_as_documented(psg):
    """153 recordings of 78 people, 22 placebo nights (MNE's page); sums of 20 real hypnograms."""
    from sleeplm_jax.recordings.fetch_listings import listing

    found = {
        name: listing(archives()[name], "https://x", Network()).files
        for name in ("sleep-edf", "sleep-edf-telemetry")
    }
    cassette = found["sleep-edf"]
    assert len(cassette) == 2 * 153 and len({file.number for file in cassette}) == 78
    assert {file.number for file in cassette} == set(range(83)) - {39, 68, 69, 78, 79}
    assert all(file.subject == f"SC4{file.number:02d}" for file in cassette)
    assert len(found["sleep-edf-telemetry"]) == 2 * 22
    sums = {file.path: file.checksum for file in cassette}
    real = sorted((psg / "sleepedf_hypnograms" / "edf").glob("SC4*-Hypnogram.edf"))
    assert real
    for path in real:
        assert sums[path.name] == f"sha1:{hashlib.sha1(path.read_bytes()).hexdigest()}"


def test_notices_of_two_archives_stand_side_by_side(tmp_path):
    hmc(tmp_path / "hmc", (1,))
    write_physionet(tmp_path / "slpdb", {"slp01a.hea": b"x", "slp01a.st": b"y"})
    quick("hmc", tmp_path / "out", str(tmp_path / "hmc"))
    quick("slpdb", tmp_path / "out", str(tmp_path / "slpdb"))
    quick("hmc", tmp_path / "out", str(tmp_path / "hmc"))
    text = (tmp_path / "out" / NOTICE).read_text()
    assert text.count("Licence:") == 2 and "Haaglanden" in text and "MIT-BIH" in text


def test_fetching_does_not_weigh_on_help():
    code = (
        "import sys\nfrom sleeplm_jax.cli import main\n"
        "try: main(['fetch', '--help'])\nexcept SystemExit: pass\n"
        "print(sorted({'mne', 'requests', 'pooch', 'numpy'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert json.loads(out.splitlines()[-1].replace("'", '"')) == []


# --- from the fetched folder onwards ---


def laid_out(psg, folder):
    """Each archive's folder with real small files under its names: archive -> (files, nights)."""
    short = (psg / "edfio_sleepedf_short" / "short_psg.edf").read_bytes()
    hypnogram = (psg / "edfio_sleepedf_short" / "SC4001EC-Hypnogram.edf").read_bytes()
    table = b"Date, Time, Recording onset, Recording ends, Duration, Annotation, Linked channel\n"
    stages = (psg / "ucddb_eeg" / "stages" / "ucddb018_stage.txt").read_bytes()
    slpdb = psg / "slpdb_annotations"
    boas = psg / "openneuro_ds005555_boas" / "sub-1" / "eeg" / "sub-1_task-Sleep_acq-psg_events.tsv"
    stem = "sub-1/eeg/sub-1_task-Sleep_acq-psg"
    trials = {f"training/tr03-0005/tr03-0005{end}": b"x" for end in (".mat", "-arousal.mat")}
    for end in (".hea", ".arousal"):
        data = (psg / "physionet2018_arousals" / f"tr03-0005{end}").read_bytes()
        trials[f"training/tr03-0005/tr03-0005{end}"] = data
    archives_there = {
        "hmc": {
            "recordings/SN001.edf": short, "recordings/SN001_sleepscoring.edf": hypnogram,
            "recordings/SN001_sleepscoring.txt": table,
        },
        "ucddb": {"ucddb018.rec": short, "ucddb018_stage.txt": stages,
                  "ucddb018_respevt.txt": b"", "ucddb018_lifecard.edf": short},
        "slpdb": {p.name: p.read_bytes() for p in slpdb.glob("slp0[12]*.*")},
        "physionet2018": trials,
    }  # fmt: skip
    for name, files in archives_there.items():
        write_physionet(folder / name, files)
    for name, data in {f"{stem}_eeg.edf": short, f"{stem}_events.tsv": boas.read_bytes()}.items():
        path = folder / "boas/ds005555" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return {"hmc": 1, "ucddb": 1, "slpdb": 4, "physionet2018": 1, "boas": 1}


def test_what_was_fetched_is_found_with_its_scoring(psg, tmp_path):
    """As many recordings as nights were fetched, each with a scoring file: nothing to rename."""
    from sleeplm_jax.corpus.discovery import find_recordings
    from sleeplm_jax.recordings.scoring_beside import find_scoring

    for name, nights in laid_out(psg, tmp_path / "mirror").items():
        out = tmp_path / "out" / name
        assert not quick(name, out, str(tmp_path / "mirror" / name))[0].failed
        found = find_recordings([out])
        assert len(found) == nights, name
        assert all(find_scoring(recording.path) for recording in found), name


def test_parts_of_an_interrupted_fetch_are_no_recordings(psg, tmp_path):
    from sleeplm_jax.corpus.discovery import find_recordings

    short = psg / "edfio_sleepedf_short" / "short_psg.edf"
    out = tmp_path / "out"
    for name in (f"{STAGING}/recordings/SN002.edf.partial", "recordings/SN001.edf",
                 f"{STAGING}/physionet-sleep-data/SC4001E0-PSG.edf"):  # fmt: skip
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(short.read_bytes())
    assert [found.path.name for found in find_recordings([out])] == ["SN001.edf"]
