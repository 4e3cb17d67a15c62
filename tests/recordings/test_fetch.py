"""Fetching archives, against a local server and folders in the archives' own layouts."""

import json
import re
import subprocess
import sys

import pytest

from sleeplm_jax.cli import main
from sleeplm_jax.errors import UserError
from sleeplm_jax.recordings.fetch import NOTICE, STAGING, plan
from sleeplm_jax.recordings.fetch_archives import archives, subject_of
from tests.fixtures_archives import below, content, hmc, quick, write_physionet

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
