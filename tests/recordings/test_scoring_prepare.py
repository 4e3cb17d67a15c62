"""From a recording and its scoring, beside each other, to a prepared night."""

import datetime
import json
from pathlib import Path

import numpy as np
import pytest

from sleeplm_jax import captions
from sleeplm_jax.cli import main
from sleeplm_jax.config import UNSCORED
from sleeplm_jax.errors import RecordingError
from sleeplm_jax.physiology.measure import RECORD_KINDS, measure_night
from sleeplm_jax.recordings.events import EVENT_KINDS
from sleeplm_jax.recordings.inspection import inspect_recording
from sleeplm_jax.recordings.montage import load_montage
from sleeplm_jax.recordings.prepare import prepare_night
from tests.recordings.edf_files import c3, hypnogram, write

MONTAGE = """
name: mine
description: a cohort of this test
channels:
  C3: [{expr: "C3-M2", citation: "this test"}]
scoring:
  %s
  citation: this test
"""


def night(tmp_path, scoring, seconds=240, name="n_stage.txt", content="0\n1\n2\n3\n5\n0\n0\n8\n"):
    path = write(tmp_path / "n.edf", [c3(seconds)], start=datetime.time(23, 58))
    (tmp_path / name).write_text(content)
    montage = tmp_path / "mine.yaml"
    montage.write_text(MONTAGE % scoring)
    return prepare_night(path, montage=load_montage(montage))


def test_a_montages_codes_rules_and_flags_reach_the_night(tmp_path):
    found = night(
        tmp_path,
        'stages: {"0": W, "1": N1, "2": N2, "3": N3, "5": R, "8": unscored}\n  rules: AASM 2.6\n'
        "  hypopnea_rule: 30 % for 10 s with 3 %\n  flags: [two_scorers]",
    )
    assert found.stages.tolist() == [0, 1, 2, 3, 4, 0, 0, UNSCORED]
    told = found.provenance
    assert found.rules == told.rules == "AASM 2.6" and told.cohort_flags == ("two_scorers",)
    assert told.hypopnea_rule == "30 % for 10 s with 3 %" and told.start_clock == "23:58:00"


def test_the_same_file_means_another_night_to_another_cohort(tmp_path):
    ucddb = night(tmp_path, "format: ucddb")
    assert ucddb.stages.tolist() == [0, 4, 1, 2, 3, 0, 0, UNSCORED] and ucddb.rules == "R&K"
    with pytest.raises(RecordingError, match="digits mean other stages"):
        night(tmp_path, "rules: AASM")


def test_a_montages_wordings_reach_the_night(tmp_path):
    xml = ("<CMPStudyConfig><EpochLength>30</EpochLength><ScoredEvents><ScoredEvent>"
           "<Name>Unsure</Name><Start>31</Start><Duration>12</Duration></ScoredEvent>"
           "</ScoredEvents><SleepStages><SleepStage>0</SleepStage><SleepStage>2</SleepStage>"
           "</SleepStages></CMPStudyConfig>")  # fmt: skip
    found = night(tmp_path, "events: {Unsure: hypopnea}", 60, "n.xml", xml)
    # The wording itself stays behind: scorers write names and dates into it.
    assert [(e.kind, e.text) for e in found.events] == [("hypopnea", None)]


def test_an_event_without_a_time_is_no_interval_in_a_record(tmp_path):
    """slpdb names the epoch of an event: captions may neither place it nor deny it."""
    import wfdb

    path = write(tmp_path / "n.edf", [c3(120)])
    notes = ["W", "2 H", "2", "2 A"]
    wfdb.wrann("n", "st", np.array([1, 7500, 15000, 22500]), ['"'] * 4, aux_note=notes, fs=250,
               write_dir=str(tmp_path))  # fmt: skip
    found = prepare_night(path)
    assert [(e.kind, e.timed) for e in found.events] == [("hypopnea", False), ("arousal", False)]
    records = measure_night(found)
    assert [r["events"] for r in records] == [[], [], [], []]
    assert [r["scored"] for r in records] == [
        ["arousal", "respiratory"], ["arousal"], ["arousal", "respiratory"], ["respiratory"],
    ]  # fmt: skip


def test_notes_and_positions_leave_a_records_claims_alone(tmp_path):
    hmc = ("Date, Time, Recording onset, Duration, Annotation, Linked channel\n"
           "1, 1, 0, 30, Sleep stage W, \n1, 1, 5, 0, Lights off, \n1, 1, 8, 4, Arousal, \n"
           "1, 1, 30, 30, Sleep stage N2, \n1, 1, 40, 30, Supine, \n1, 1, 45, 9, Snoring, \n")
    found = night(tmp_path, "format: hmc", 60, "n_sleepscoring.txt", hmc)  # fmt: skip
    assert found.provenance.lights_off_s == 5
    assert [e.kind for e in found.events] == ["note", "arousal", "body_position", "snore"]
    first, second = measure_night(found)
    assert [e["kind"] for e in first["events"]] == ["arousal"] and first["scored"] == ["arousal"]
    # Snoring may be part of a breathing event: stated as `other`, and known as no more.
    assert [e["kind"] for e in second["events"]] == ["other"]


def test_every_kind_of_event_is_one_of_a_records_or_left_out():
    form = json.loads((Path(captions.__file__).parent / "record.schema.json").read_text())
    kinds = form["properties"]["events"]["items"]["properties"]["kind"]["enum"]
    assert {RECORD_KINDS.get(kind, kind) for kind in EVENT_KINDS} == {*kinds, None}


def test_inspect_reads_the_scoring_it_is_given(tmp_path, capsys):
    """As prepare would: a file elsewhere goes before one beside the recording."""
    path = write(tmp_path / "n.edf", [c3(90)])
    hypnogram(tmp_path / "n_hypnogram.edf", ["Sleep stage W"] * 3)
    (tmp_path / "elsewhere").mkdir()
    other = hypnogram(tmp_path / "elsewhere" / "x.edf", ["Sleep stage W", "Sleep stage N2"])
    found = inspect_recording(path)
    assert found["scoring"] == "n_hypnogram.edf" and not found["flags"]
    found = inspect_recording(path, scoring=other)
    assert found["scoring"] == "x.edf"
    assert found["flags"] == list(prepare_night(path, scoring=other).flags)
    assert any("scoring_shorter_than_signal" in flag for flag in found["flags"])
    assert main(["inspect", str(path), "--scoring", str(other), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["scoring"] == "x.edf"
    other.write_bytes(b"no scoring\n")
    assert main(["inspect", str(path), "--scoring", str(other)]) == 2
    said = capsys.readouterr().err
    assert "x.edf" in said and said.count("\n") == 1
    assert main(["inspect", str(path), "--scoring", str(tmp_path / "absent")]) == 2
    assert "no such scoring file" in capsys.readouterr().err


def test_a_scoring_beside_a_recording_that_cannot_be_read_is_said_by_inspect(tmp_path):
    path = write(tmp_path / "n.edf", [c3(90)])
    (tmp_path / "n.xml").write_text("<CMPStudyConfig>")
    found = inspect_recording(path)
    assert found["scoring"] == "n.xml"
    (flag,) = [flag for flag in found["flags"] if flag.startswith("scoring: ")]
    with pytest.raises(RecordingError) as caught:
        prepare_night(path)
    assert flag == f"scoring: {caught.value.finding}"
