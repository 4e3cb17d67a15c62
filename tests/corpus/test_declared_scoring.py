"""Scoring that only a montage's `scoring` part makes one: bare codes and lists beside a night."""

import json

import pytest

from sleeplm_jax.config import SignalSpec
from sleeplm_jax.corpus.plan import plan, told
from sleeplm_jax.corpus.prepare import prepare_corpus, survey
from sleeplm_jax.recordings.inspection import inspect_recording
from sleeplm_jax.recordings.scoring import find_scoring
from sleeplm_jax.recordings.trim import Trim
from tests.recordings.edf_files import c3, write

SPEC = SignalSpec(channels=("C3",))
MONTAGE = """\
name: ours
description: a laboratory's own
channels:
  C3: [{{expr: C3-M2, citation: ours}}]
{scoring}
"""
CODES = "scoring: {format: codes, citation: ours, stages: {0: W, 1: N1, 2: N2, 3: N3, 9: R}}"


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "recordings"
    folder.mkdir()
    write(folder / "night1.edf", [c3(150)])
    return folder


def montage(tmp_path, scoring):
    path = tmp_path / "ours.yaml"
    path.write_text(MONTAGE.format(scoring=scoring))
    return path


def prepared(folder, **how):
    out = folder.parent / "corpus"
    how = {"spec": SPEC, "trim": Trim("none"), **how}
    foreseen = plan(survey([folder], out, **how))
    result = prepare_corpus([folder], out, workers=1, progress=False, **how)
    assert not result.failed
    (night,) = result.corpus.nights()
    stages = {stage: n for stage, n in night["stages"].items() if n and stage != "unscored"}
    return foreseen, result, stages


def test_bare_codes_are_read_where_the_montage_declares_them(folder, tmp_path):
    ours = montage(tmp_path, CODES)
    codes = folder / "night1.txt"
    codes.write_text("0\n1\n2\n3\n9\n")
    foreseen, result, stages = prepared(folder, montage=ours)
    assert foreseen.nights[0].scoring == "night1.txt"
    assert any("scoring night1.txt" in line for line in told(foreseen))
    assert stages == {"W": 1, "N1": 1, "N2": 1, "N3": 1, "R": 1}
    foreseen, result, _ = prepared(folder, montage=ours)
    assert result.unchanged and foreseen.nights[0].kind == "unchanged"
    assert foreseen.nights[0].scoring == "night1.txt"

    codes.write_text("0\n0\n0\n0\n9\n")
    foreseen, result, stages = prepared(folder, montage=ours)
    assert (foreseen.nights[0].kind, foreseen.nights[0].reason) == ("changed", "scoring changed")
    assert result.prepared and stages == {"W": 4, "R": 1}
    codes.unlink()
    foreseen, result, stages = prepared(folder, montage=ours)
    assert foreseen.nights[0].reason == "scoring gone" and stages == {}


def test_without_a_declaration_bare_codes_are_no_scoring(folder, tmp_path):
    (folder / "night1.txt").write_text("0\n1\n2\n3\n9\n")
    foreseen, _, stages = prepared(folder, montage=montage(tmp_path, ""))
    assert foreseen.nights[0].scoring is None and stages == {}
    foreseen, _, stages = prepared(folder, montage=montage(tmp_path, CODES))
    assert foreseen.nights[0].scoring == "night1.txt" and sum(stages.values()) == 5


def test_a_cohorts_montage_declares_too(folder):
    """No montage named: the run and what it notes of its inputs choose the same one."""
    (folder / "night1.txt").write_text("0\n1\n2\n3\n5\n")
    foreseen, result, stages = prepared(folder, cohort="isruc")
    assert foreseen.nights[0].scoring == "night1.txt"
    assert stages == {"W": 1, "N1": 1, "N2": 1, "N3": 1, "R": 1}
    seen = inspect_recording(folder / "night1.edf", cohort="isruc")
    assert seen["scoring"] == "night1.txt"
    assert find_scoring(folder / "night1.edf") is None


def test_a_list_is_read_where_the_montage_says_dreem(folder, tmp_path):
    (folder / "night1.json").write_text(json.dumps([-1, 0, 2, 4, 4]))
    ours = montage(tmp_path, "scoring: {format: dod, citation: ours}")
    foreseen, _, stages = prepared(folder, montage=ours)
    assert foreseen.nights[0].scoring == "night1.json"
    assert stages == {"W": 1, "N2": 1, "R": 2}
    # BIDS has a .json of another kind beside every recording
    (folder / "night1.json").write_text('{"TaskName": "sleep"}')
    foreseen, _, stages = prepared(folder, montage=ours)
    assert foreseen.nights[0].scoring is None and stages == {}


def test_codes_beside_another_scoring_are_an_error_that_names_both(folder, tmp_path):
    (folder / "night1.txt").write_text("0\n1\n2\n3\n9\n")
    (folder / "night1.xml").write_text("<CMPStudyConfig/>")
    how = {"spec": SPEC, "montage": montage(tmp_path, CODES)}
    (foreseen,) = plan(survey([folder], tmp_path / "c", **how)).nights
    assert "night1.xml, night1.txt" in foreseen.problem
