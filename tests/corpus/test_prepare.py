import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from sleeplm_jax.config import SignalSpec
from sleeplm_jax.corpus import packing, pool
from sleeplm_jax.corpus.discovery import Found
from sleeplm_jax.corpus.jobs import NightJob
from sleeplm_jax.corpus.manifest import Corpus
from sleeplm_jax.corpus.nightfile import read_night
from sleeplm_jax.corpus.pool import run_nights
from sleeplm_jax.corpus.prepare import prepare_corpus
from sleeplm_jax.corpus.subjects import Named, read_subjects
from sleeplm_jax.errors import CorpusError
from sleeplm_jax.recordings.trim import Trim
from tests.recordings.edf_files import c3, write

ROOT = Path(__file__).parents[2]
NIGHTS = ("sim-3-0000", "sim-3-0001", "sim-3-0002")


@pytest.fixture
def three(simulated_folder, tmp_path):
    """Three nights of one's own to spoil."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    for night in NIGHTS:
        for path in simulated_folder.glob(f"{night}.*"):
            shutil.copy(path, folder)
    return folder


def run(folder, out, **kwargs):
    return prepare_corpus([folder], out, **{"workers": 1, "progress": False, **kwargs})


def test_a_corpus_holds_every_epoch_of_every_night(corpus, simulated_folder):
    truth = {}
    for path in simulated_folder.glob("*.truth.json"):
        truth[path.name.split(".")[0]] = json.loads(path.read_text())["stages"]
    assert {n["recording"]: n["stages"] for n in corpus.nights()} == {
        name: {stage: n for stage, n in stages.items() if n} for name, stages in truth.items()
    }
    assert sum(corpus.samples(split) for split in corpus.splits) == 5 * 60
    assert corpus.simulated and corpus.manifest["simulated_nights"] == 5


def test_no_subject_is_in_two_splits(corpus):
    split_of = {}
    for night in corpus.nights():
        assert split_of.setdefault(night["subject"], night["split"]) == night["split"]
    assert sorted(split_of.values()) == ["test", "train", "train", "train", "val"]
    for split in corpus.splits:
        source = corpus.source(split)
        subjects = {source[i]["subject"] for i in range(len(source))}
        assert subjects == {s for s, where in split_of.items() if where == split}


def test_the_hash_does_not_depend_on_workers_or_place(three, tmp_path):
    alone = run(three, tmp_path / "a")
    moved = tmp_path / "elsewhere"
    three.rename(moved)
    together = run(moved, tmp_path / "b", workers=2)
    assert alone.hash == together.hash
    files = {p.name: p.read_bytes() for p in (tmp_path / "a").rglob("*") if p.suffix == ".npz"}
    for path in (tmp_path / "b").rglob("*.npz"):
        assert path.read_bytes() == files.pop(path.name)
    assert not files
    manifests = [(tmp_path / n / "corpus.json").read_text() for n in "ab"]
    assert manifests[0] == manifests[1]
    assert "recordings" not in manifests[0] and str(tmp_path) not in manifests[0]


def test_only_what_changed_is_prepared_again(three, tmp_path):
    out = tmp_path / "corpus"
    first = run(three, out)
    assert first.prepared == NIGHTS and first.packed
    again = run(three, out)
    assert (again.prepared, again.unchanged, again.packed) == ((), NIGHTS, False)
    os.utime(three / "sim-3-0001.edf")  # touched, the same bytes
    assert run(three, out).prepared == ()
    scoring = three / "sim-3-0001.xml"
    scoring.write_text(scoring.read_text().replace("<SleepStage>2<", "<SleepStage>3<"))
    changed = run(three, out)
    assert (changed.prepared, changed.packed) == (("sim-3-0001",), True)
    assert changed.hash != first.hash
    assert "N2" not in {k for n in changed.corpus.nights() if n["recording"] == "sim-3-0001"
                        for k in n["stages"]}  # fmt: skip
    (out / "nights" / "sim-3-0002.npz").write_bytes(b"damaged")
    assert run(three, out).prepared == ("sim-3-0002",)


def test_another_seed_splits_anew_without_preparing(three, tmp_path):
    out = tmp_path / "corpus"
    hashes = {run(three, out, seed=0).hash}
    for seed in range(1, 6):
        result = run(three, out, seed=seed)
        assert result.prepared == ()
        hashes.add(result.hash)
        assert len(list(out.glob("shards-*"))) == 1
    assert len(hashes) > 1


def test_a_bad_file_is_reported_and_the_others_survive(three, tmp_path, capsys):
    bad = three / "bad.edf"
    bad.write_bytes((three / "sim-3-0000.edf").read_bytes()[:5000])
    out = tmp_path / "corpus"
    result = run(three, out, workers=2, progress=True)
    assert result.prepared == NIGHTS and len(result.failed) == 1
    with open(out / "failures.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == [str(bad)]
    assert rows[0]["finding"] and rows[0]["remedy"]
    assert "bad.edf" in capsys.readouterr().err
    bad.unlink()
    assert not run(three, out).failed
    assert not (out / "failures.csv").exists()


def test_a_night_that_turned_bad_or_was_withdrawn_leaves_the_corpus(three, tmp_path):
    out = tmp_path / "corpus"
    run(three, out)
    (three / "sim-3-0000.edf").write_bytes(b"0       ")
    (three / "sim-3-0002.edf").unlink()
    result = run(three, out)
    assert [n["recording"] for n in result.corpus.nights()] == ["sim-3-0001"]
    kept = sorted(p.name for p in (out / "nights").iterdir())
    assert kept == ["sim-3-0001.json", "sim-3-0001.npz"]


def test_a_fault_of_ours_is_named_as_one_and_costs_one_night(three, tmp_path, monkeypatch):
    from sleeplm_jax.physiology import measure

    def broken(night, original=measure.measure_night):
        if night.recording == "sim-3-0001":
            raise ZeroDivisionError("no\nbeats")
        return original(night)

    monkeypatch.setattr(measure, "measure_night", broken)
    result = run(three, tmp_path / "corpus")
    finding = result.failed[0].finding
    assert re.fullmatch(
        r"internal error: ZeroDivisionError at tests\.corpus\.test_prepare:\d+, "
        r"called at sleeplm_jax\.corpus\.pool:\d+", finding,
    )  # where it arose, not its text: that may quote what a header says of the patient
    assert "beats" not in (tmp_path / "corpus" / "failures.csv").read_text()
    assert len(result.prepared) == 2


class Deadly(NightJob):
    """A job whose process dies, as one does that runs out of memory."""

    def state(self):
        if self.night == "sim-3-0001":
            os._exit(9)
        return super().state()


@pytest.mark.slow
def test_a_dying_worker_costs_one_night(three, tmp_path):
    jobs = [
        (Deadly(three / f"{n}.edf", n, None, None, None, SignalSpec(), Trim(), {}, tmp_path), None)
        for n in NIGHTS
    ]
    outcomes = {o.night: o for o in run_nights(jobs, 2)}
    assert set(outcomes) == set(NIGHTS)
    assert "died" in outcomes["sim-3-0001"].finding
    assert outcomes["sim-3-0000"].prepared and outcomes["sim-3-0002"].prepared


def test_what_lies_in_a_folder_that_cannot_be_listed_today_is_said_and_kept(
    three, tmp_path, monkeypatch, capsys
):
    deep = three / "visit2"
    deep.mkdir()
    for path in three.glob("sim-3-0002.*"):
        path.rename(deep / path.name)
    out = tmp_path / "corpus"
    assert len(run(three, out).prepared) == 3
    real = os.scandir

    def scandir(path="."):
        if path in (deep, str(deep)):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", scandir)
        result = run(three, out, progress=True)
    assert [f.file for f in result.failed] == [str(deep)]
    assert "visit2: folder cannot be listed (Permission denied)" in capsys.readouterr().err
    assert "cannot be listed" in (out / "failures.csv").read_text()
    assert len(result.corpus.nights()) == 2
    assert run(three, out).prepared == ()  # its night file was not tidied away


def test_nothing_prepared_is_an_error(tmp_path):
    bad = tmp_path / "in" / "bad.edf"
    bad.parent.mkdir()
    bad.write_bytes(b"")
    with pytest.raises(CorpusError, match="none of 1 recordings could be prepared"):
        run(bad.parent, tmp_path / "out")
    assert (tmp_path / "out" / "failures.csv").exists()
    assert not (tmp_path / "out" / "corpus.json").exists()


@pytest.mark.parametrize("when", ["while packing", "before the manifest"])
def test_an_interruption_leaves_the_old_corpus_whole(three, tmp_path, monkeypatch, when):
    out = tmp_path / "corpus"
    before = run(three, out, seed=0)
    shards = {p.name: p.read_bytes() for p in (out / before.corpus.manifest["shards"]["folder"]
                                               ).iterdir()}  # fmt: skip

    def interrupted(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if when == "while packing":
            patch.setattr("sleeplm_jax.corpus.builder._examples", interrupted)
        else:
            patch.setattr(packing, "write_json", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(three, out, splits=(0.0, 0.0, 1.0))
    left = Corpus.open(out, verify=True)
    assert left.hash == before.hash
    folder = out / left.manifest["shards"]["folder"]
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == shards
    finished = run(three, out, splits=(0.0, 0.0, 1.0))
    assert finished.packed and finished.prepared == () and finished.corpus.splits == ("test",)
    wanted = {"nights", "corpus.json", finished.corpus.manifest["shards"]["folder"]}
    assert {p.name for p in out.iterdir()} == wanted


def test_interrupting_the_nights_keeps_those_that_are_done(three, tmp_path, monkeypatch):
    done = []

    def interrupted(job, row, original=pool._prepare):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(job.night)
        return original(job, row)

    out = tmp_path / "corpus"
    with monkeypatch.context() as patch:
        patch.setattr(pool, "_prepare", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(three, out)
    assert not (out / "corpus.json").exists()
    result = run(three, out)
    assert len(result.prepared) == 1 and len(result.unchanged) == 2


MAIN = """
import sys
from pathlib import Path
if __name__ == "__main__":
    from sleeplm_jax.corpus.prepare import prepare_corpus
    prepare_corpus([Path(sys.argv[1])], Path(sys.argv[2]), workers=2, progress=False)
"""


def test_ctrl_c_ends_the_workers_and_leaves_nothing_half_written(simulated_folder, tmp_path):
    (tmp_path / "main.py").write_text(MAIN)
    out = tmp_path / "corpus"
    process = subprocess.Popen(
        [sys.executable, tmp_path / "main.py", simulated_folder, out],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    until = time.monotonic() + 100
    while not list(out.glob("nights/sim*.npz")) and time.monotonic() < until:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the whole group
    process.communicate(timeout=20)  # returns when no worker holds the pipe any more
    nights = list(out.glob("nights/sim*.npz"))
    assert nights
    for path in nights:
        read_night(path)
    result = prepare_corpus([simulated_folder], out, workers=1, progress=False)
    assert len(result.prepared) + len(result.unchanged) == 5
    assert not list(out.rglob(".partial-*"))


def test_names_in_headers_reach_no_file_of_the_corpus(three, tmp_path):
    path = three / "sim-3-0000.edf"
    data = bytearray(path.read_bytes())
    data[8:88] = b"P-4711 F 02-MAY-1951 Mustermann_Erika".ljust(80)
    data[88:168] = b"Startdate 01-JAN-2020 A-0815 Dr_Quincy SCOPE".ljust(80)
    path.write_bytes(data)
    out = tmp_path / "corpus"
    assert "sim-3-0000" in run(three, out).prepared
    for file in out.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            for word in (b"Mustermann", b"P-4711", b"MAY-1951", b"Quincy", b"A-0815"):
                assert word not in content, (file, word)
    source = Corpus.open(out).source("train")  # shards are compressed: read them too
    texts = json.dumps([{k: v for k, v in source[0].items() if not isinstance(v, np.ndarray)}])
    assert "Mustermann" not in texts and "4711" not in texts


def test_a_splits_file_places_subjects(three, tmp_path):
    file = tmp_path / "splits.csv"
    file.write_text("subject,split\nsim-3-0000,test\nsimulated/sim-3-0001,val\n")
    corpus = run(three, tmp_path / "corpus", splits_file=file).corpus
    assert {n["subject"]: n["split"] for n in corpus.nights()} == {
        "sim-3-0000": "test", "sim-3-0001": "val", "sim-3-0002": "train"
    }  # fmt: skip
    file.write_text("subject,split\nsim-3-000,test\n")
    with pytest.raises(CorpusError, match="no recording belongs to: sim-3-000;"):
        run(three, tmp_path / "corpus", splits_file=file)


def named(tmp_path, text):
    file = tmp_path / "people.csv"
    file.write_text(text)
    return file


def test_nights_of_a_person_named_in_a_file_share_a_split_and_nothing_is_measured_again(
    three, tmp_path
):
    out = tmp_path / "corpus"
    before = run(three, out)
    people = named(tmp_path, "recording,subject\nsim-3-0000,anna\nsim-3-0002,anna\n")
    result = run(three, out, subjects_file=people)
    assert result.prepared == () and result.packed and result.hash != before.hash
    rows = {n["recording"]: n for n in result.corpus.nights()}
    assert {name: row["subject"] for name, row in rows.items()} == {
        "sim-3-0000": "anna", "sim-3-0001": "sim-3-0001", "sim-3-0002": "anna"
    }  # fmt: skip
    assert rows["sim-3-0000"]["split"] == rows["sim-3-0002"]["split"]
    assert read_night(out / "nights" / "sim-3-0002.npz").subject == "anna"
    source = result.corpus.source(rows["sim-3-0000"]["split"])
    assert "anna" in {source[i]["subject"] for i in range(len(source))}
    again = run(three, out, subjects_file=people)
    assert (again.prepared, again.packed) == ((), False)
    fresh = run(three, tmp_path / "fresh", subjects_file=people)
    assert fresh.hash == result.hash
    without = run(three, out)
    assert without.prepared == () and without.hash == before.hash


@pytest.mark.parametrize(
    "text, finding",
    [
        ("recording,subject\nsim-3-0009,a\n", "row 2 names 'sim-3-0009', which is none of the 3"),
        ("recording,subject\nsim-3-0000,a\nsim-3-0000,a\n", "row 3 names 'sim-3-0000' again"),
        ("recording,person\nsim-3-0000,a\n", "has no column subject"),
        ("", "has no column recording and no column subject"),
        ("recording,subject\nsim-3-0000\n", "row 2 lacks a recording or a subject"),
    ],
)
def test_a_file_of_subjects_that_cannot_be_meant_is_refused(three, tmp_path, text, finding):
    with pytest.raises(CorpusError, match=finding) as caught:
        run(three, tmp_path / "corpus", subjects_file=named(tmp_path, text))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "corpus" / "corpus.json").exists()


def test_a_stem_of_several_recordings_must_be_told_apart(tmp_path):
    found = [Found(Path(p) / "PSG.edf", f"{p}-PSG", p) for p in ("p1", "p2")]
    with pytest.raises(CorpusError, match="'PSG' is the name of 2 recordings; .*p1-PSG, p2-PSG"):
        read_subjects(named(tmp_path, "recording,subject\nPSG,a\n"), found)
    assert read_subjects(named(tmp_path, "subject,recording\na,p2-PSG\n"), found) == {
        "p2-PSG": Named("a")
    }


def test_the_end_says_what_the_corpus_holds(three, tmp_path, capsys):
    (three / "bad.edf").write_bytes(b"")
    (three / "sim-3-0001.xml").unlink()
    out = tmp_path / "corpus"
    result = run(three, out, progress=True)
    said = capsys.readouterr().err
    counts = result.corpus.manifest["splits"]
    assert "3 nights (3 simulated), 180 epochs" in said
    for split in ("train", "val", "test"):
        assert f"  {split}: 1 subject, {counts[split]['samples']} epochs" in said
    stages = sum(counts[split]["stages"]["N2"] for split in counts)
    assert f" N2 {stages}, " in said and "unscored 60" in said
    assert "1 night without scoring\n" in said and str(out / "failures.csv") in said
    assert f"corpus: {out}" in said and "--subjects" not in said  # one simulated person a night
    run(three, out)
    assert capsys.readouterr().err == ""


def test_file_names_that_tell_no_person_are_remarked_on(tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("monday", "tuesday", "sub-01_eeg"):
        write(folder / f"{name}.edf", [c3(60)])
    run(folder, tmp_path / "corpus", progress=True)
    remark = "2 recordings count as one person each (no rule tells who is who)"
    assert remark in capsys.readouterr().err
    people = named(tmp_path, "recording,subject\nmonday,a\ntuesday,a\n")
    run(folder, tmp_path / "corpus", progress=True, subjects_file=people)
    assert "count as one person" not in capsys.readouterr().err
