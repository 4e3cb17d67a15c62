"""`prepare --dry-run`: says what the run then does, and writes nothing."""

import os
import shutil
from dataclasses import replace

import pytest

from sleeplm_jax.cli import main
from sleeplm_jax.config import SignalSpec
from sleeplm_jax.corpus.plan import plan, told
from sleeplm_jax.corpus.prepare import prepare_corpus, survey
from tests.recordings.edf_files import c3, write


@pytest.fixture
def four(simulated_folder, tmp_path):
    folder = tmp_path / "recordings"
    folder.mkdir()
    for number in range(4):
        for path in simulated_folder.glob(f"sim-3-000{number}.*"):
            shutil.copy(path, folder)
    return folder


def everything(folder):
    return {str(p): (p.stat().st_mtime_ns, p.stat().st_size) for p in folder.rglob("*")}


def kinds(found):
    return {night.night: night.kind for night in found.nights}


def test_a_first_run_is_foreseen_without_a_trace(four, tmp_path):
    found = plan(survey([four], tmp_path / "corpus"))
    assert set(kinds(found).values()) == {"new"} and not (tmp_path / "corpus").exists()
    night = found.nights[0]
    assert (night.montage, night.scoring, night.hours) == ("simulated", "sim-3-0000.xml", 0.5)
    assert night.missing == () and found.seconds is None
    result = prepare_corpus([four], tmp_path / "corpus", workers=1, progress=False)
    written = sum(p.stat().st_size for p in (tmp_path / "corpus").rglob("*.npz"))
    assert sum(n.bytes for n in found.nights) == pytest.approx(written, rel=0.1)
    assert set(result.prepared) == set(kinds(found))


def test_what_is_foreseen_is_what_the_run_does(four, tmp_path):
    out = tmp_path / "corpus"
    prepare_corpus([four], out, workers=1, progress=False)
    os.utime(four / "sim-3-0000.edf")  # touched only
    scoring = four / "sim-3-0001.xml"
    scoring.write_text(scoring.read_text().replace("<SleepStage>2<", "<SleepStage>3<"))
    (four / "sim-3-0002.xml").unlink()
    (four / "sim-3-0003.edf").unlink()
    write(four / "fresh.edf", [c3(60)])
    (four / "bad.edf").write_bytes(b"0")
    before = everything(out)
    found = plan(survey([four], out))
    assert everything(out) == before
    reasons = {n.night: (n.kind, n.reason) for n in found.nights}
    assert reasons == {
        "bad": ("new", ""),
        "fresh": ("new", ""),
        "sim-3-0000": ("unchanged", "touched, but of the same content"),
        "sim-3-0001": ("changed", "scoring changed"),
        "sim-3-0002": ("changed", "scoring gone"),
    }
    assert found.removed == ("sim-3-0003",)
    by_name = {n.night: n for n in found.nights}
    assert by_name["bad"].problem and not by_name["fresh"].problem
    assert by_name["fresh"].scoring is None and "ECG" in by_name["fresh"].missing
    assert found.seconds > 0 and "median of 3 nights" in found.basis
    text = "\n".join(told(found))
    for words in ("2 nights new", "2 nights changed", "1 night unchanged", "sim-3-0001: scoring "
                  "changed", "will fail", "1 would leave the corpus", "sim-3-0003",
                  "nothing was written", "no scoring file beside it"):  # fmt: skip
        assert words in text, words
    result = prepare_corpus([four], out, workers=1, progress=False)
    todo = {night for night, kind in kinds(found).items() if kind != "unchanged"}
    assert set(result.prepared) == todo - {"bad"}
    assert [f.file for f in result.failed] == [str(four / "bad.edf")]


def test_another_montage_channels_or_code_are_named_as_the_reason(four, tmp_path, monkeypatch):
    out = tmp_path / "corpus"
    prepare_corpus([four], out, workers=1, progress=False)
    other = SignalSpec(channels=("C3", "C4"))
    for settings, reason in (
        ({"spec": other}, "other channels or rate"),
        ({"montage": "generic"}, "another montage"),
        ({"cohort": "simulated"}, "another cohort"),
    ):
        found = plan(survey([four], out, **settings))
        assert {n.reason for n in found.nights} == {reason}
    seen = survey([four], out)
    jobs = [replace(job, settings=job.settings | {"code": "x"}) for job in seen.jobs]
    found = plan(replace(seen, jobs=jobs))
    assert {n.reason for n in found.nights} == {"the preparing code changed"}
    (out / "nights" / "sim-3-0000.npz").unlink()
    found = plan(survey([four], out))
    assert found.nights[0].reason == "its night file is absent or damaged"


def test_the_command_says_it_and_writes_nothing(four, tmp_path, capsys):
    arguments = ["prepare", "--recordings", str(four), "--out", str(tmp_path / "corpus"),
                 "--dry-run"]  # fmt: skip
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "4 nights new" in said and "nothing was written" in said
    assert not (tmp_path / "corpus").exists()
