"""Simulated nights on disk: the same bytes, whole files, headers that others read."""

from __future__ import annotations

import json
import os

import defusedxml.ElementTree
import edfio
import numpy as np
import pytest

from sleeplm_jax.config import CANONICAL_CHANNELS, STAGES
from sleeplm_jax.errors import ConfigError
from sleeplm_jax.recordings.inspection import inspect_recording
from sleeplm_jax.recordings.scoring import read_scoring
from sleeplm_jax.recordings.simulator import cohort, simulate_cohort, simulate_night
from tests.fixtures_simulator import (
    HOURS,
    SEED,
    digests,
    nights,
    stages_of,
    truth_of,
)

LABELS = {  # label: unit
    "ECG": "uV",
    "ABD": "",
    "THX": "",
    "AF": "",
    "E1-M2": "uV",
    "E2-M1": "uV",
    "C3-M2": "uV",
    "C4-M1": "uV",
    "Chin": "uV",
    "LEG-L": "uV",
    "LEG-R": "uV",
    "Snore": "",
    "Position": "",
    "HR": "bpm",
    "SpO2": "%",
}


def test_same_bytes_whatever_the_number_of_workers(clean_cohort, tmp_path):
    simulate_cohort(tmp_path, 2, HOURS, SEED, workers=2, progress=False, artefacts=False)
    whole = digests(clean_cohort)
    for name, digest in digests(tmp_path).items():
        assert name == "cohort.json" or digest == whole[name]
    alone = tmp_path / "alone"
    simulate_night(alone, 2, HOURS, SEED, artefacts=False)
    name = f"sim-{SEED}-0002.edf"
    assert digests(alone)[name] == digests(clean_cohort)[name]


def test_seed_and_index_make_other_nights(clean_cohort, tmp_path):
    simulate_night(tmp_path, 0, HOURS, SEED + 1, artefacts=False)
    found = digests(clean_cohort)
    ours = [found[f"sim-{SEED}-{index:04d}.edf"] for index in range(2)]
    assert len({*ours, digests(tmp_path)[f"sim-{SEED + 1}-0000.edf"]}) == 3


def test_whole_nights_are_kept_and_broken_or_other_ones_made_again(tmp_path):
    path = simulate_night(tmp_path, 0, 0.5, 1)
    before, made = digests(tmp_path), os.stat(path).st_mtime_ns
    assert simulate_night(tmp_path, 0, 0.5, 1) == path
    assert os.stat(path).st_mtime_ns == made

    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    simulate_night(tmp_path, 0, 0.5, 1)
    assert digests(tmp_path) == before

    simulate_night(tmp_path, 0, 0.6, 1)
    assert digests(tmp_path)["sim-1-0000.edf"] != before["sim-1-0000.edf"]


def test_nights_of_other_code_are_made_again(tmp_path, monkeypatch):
    path = simulate_night(tmp_path, 0, 0.5, 1)
    made = os.stat(path).st_mtime_ns
    monkeypatch.setattr(cohort, "code_version", lambda: "another")
    simulate_night(tmp_path, 0, 0.5, 1)
    assert os.stat(path).st_mtime_ns != made


def test_an_interrupted_night_is_not_taken_for_whole(tmp_path, monkeypatch):
    write = cohort.write_atomically

    def stop_at_xml(path, content):
        if path.suffix == ".xml":
            raise KeyboardInterrupt
        write(path, content)

    monkeypatch.setattr(cohort, "write_atomically", stop_at_xml)
    with pytest.raises(KeyboardInterrupt):
        simulate_night(tmp_path, 0, 0.5, 1)
    assert not (tmp_path / "sim-1-0000.truth.json").exists()
    monkeypatch.setattr(cohort, "write_atomically", write)
    simulate_night(tmp_path, 0, 0.5, 1)
    assert {p.name for p in tmp_path.iterdir()} == {
        "sim-1-0000.edf",
        "sim-1-0000.xml",
        "sim-1-0000.truth.json",
    }


def test_edf_header(clean_cohort):
    for path in nights(clean_cohort):
        edf = edfio.read_edf(path)
        assert edf.reserved == "EDF+C" and edf.duration == HOURS * 3600
        assert {s.label: s.physical_dimension for s in edf.signals} == LABELS
        assert "simulated" in edf.local_recording_identification
        assert edf.patient.name == "simulated" and edf.patient.sex == "X"
        for s in edf.signals:
            assert s.data.min() >= s.physical_min and s.data.max() <= s.physical_max
            assert s.data.std() > 0 or s.label in {"Position", "SpO2"}
        for label in ("Position", "HR", "SpO2"):
            values = edf.get_signal(label).data
            assert np.allclose(values, np.round(values), atol=1e-9)
        assert set(np.unique(np.round(edf.get_signal("Position").data))) <= {0, 1, 2, 3, 4}


def test_mne_reads_the_same_microvolts(clean_cohort):
    import mne

    path = nights(clean_cohort)[0]
    raw = mne.io.read_raw_edf(path, include=["C3-M2"], verbose="error")
    edf = edfio.read_edf(path).get_signal("C3-M2")
    assert raw.info["sfreq"] == edf.sampling_frequency
    np.testing.assert_allclose(raw.get_data(units="uV")[0], edf.data, atol=0.01)


def test_scoring_xml_by_hand_and_by_our_reader(clean_cohort):
    for path in nights(clean_cohort):
        root = defusedxml.ElementTree.parse(path.with_suffix(".xml")).getroot()
        assert root.tag == "CMPStudyConfig" and root.findtext("EpochLength") == "30"
        codes = [stage.text for stage in root.find("SleepStages")]
        assert len(codes) == HOURS * 120 and set(codes) <= {"0", "1", "2", "3", "5"}
        scoring = read_scoring(path.with_suffix(".xml"), HOURS * 3600)
        assert [{"0": 0, "1": 1, "2": 2, "3": 3, "5": 4}[code] for code in codes] == list(
            scoring.stages
        )
        kinds = {event.kind for event in scoring.events}
        assert "arousal" in kinds and "other" not in kinds
        assert len(scoring.events) == len(root.find("ScoredEvents"))


def test_cohort_says_simulated(clean_cohort):
    found = json.loads((clean_cohort / "cohort.json").read_text())
    assert found["simulated"] is True and found["cohort"] == "simulated"
    assert [row["recording"] for row in found["nights"]] == [p.stem for p in nights(clean_cohort)]
    for path in nights(clean_cohort):
        truth = truth_of(path)
        assert truth["simulated"] is True
        counts = np.bincount(stages_of(path), minlength=5)
        assert truth["stages"] == dict(zip(STAGES, counts.tolist()))


@pytest.mark.parametrize("hours", [0.1, 20.0, float("nan")])
def test_impossible_hours(tmp_path, hours):
    with pytest.raises(ConfigError, match="hours"):
        simulate_night(tmp_path, 0, hours, 0)


def test_impossible_numbers(tmp_path):
    with pytest.raises(ConfigError, match="nights: 1000000000 nights"):
        simulate_cohort(tmp_path, 10**9)
    with pytest.raises(ConfigError, match="nights"):
        simulate_cohort(tmp_path, 0)
    with pytest.raises(ConfigError, match="workers"):
        simulate_cohort(tmp_path, 1, workers=0)
    with pytest.raises(ConfigError, match="seed"):
        simulate_night(tmp_path, 0, 1.0, -1)


def test_unknown_people_are_named_with_the_known_ones(tmp_path):
    with pytest.raises(ConfigError, match="'narcoleptic' is no kind of sleeper.*apnoea-severe"):
        simulate_cohort(tmp_path, 1, people="healthy,narcoleptic")


def test_people_asked_for_are_the_people_simulated(tmp_path):
    kinds = ("older", "apnoea-moderate")
    for index in range(3):
        path = simulate_night(tmp_path, index, 0.5, SEED, people=", ".join(kinds))
        assert truth_of(path)["individual"]["kind"] in kinds
        assert truth_of(path)["parameters"]["people"] == list(kinds)


def test_every_channel_is_recognised(clean_cohort):
    found = inspect_recording(nights(clean_cohort)[0])
    resolved = {name for name, source in found["channels"].items() if source}
    assert resolved == set(CANONICAL_CHANNELS) - {"F3", "F4", "O1", "O2"}
