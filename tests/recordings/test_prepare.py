"""A recording as tensors: shapes, masks, scale, positions, flags; nothing of the patient."""

import dataclasses
import datetime
import json

import edfio
import numpy as np
import pytest
from scipy import signal as sps

from sleeplm_jax.config import SignalSpec
from sleeplm_jax.errors import RecordingError
from sleeplm_jax.recordings.inspection import inspect_recording
from sleeplm_jax.recordings.montage import parse_montage
from sleeplm_jax.recordings.prepare import prepare_night
from tests.recordings.edf_files import c3, hypnogram, signal, tone, write

POSITION = {"right": 0, "left": 1, "supine": 2, "prone": 3}


def montage(**channels):
    rows = {name: [dict(row, citation="test")] for name, row in channels.items()}
    return parse_montage({"name": "test", "channels": rows})


def test_an_absent_channel_is_zeros_and_masked(tmp_path):
    night = prepare_night(write(tmp_path / "n1.edf", [c3(95)]), scoring=None)
    assert night.signals.shape == (3, 10, 1920) and night.signals.dtype == np.float32
    assert (night.recording, night.subject, night.cohort) == ("n1", "n1", "generic")
    c, pos = night.spec.channels.index("C3"), night.spec.channels.index("POS")
    assert night.mask[:, c].all() and night.mask.sum() == 3
    absent = [i for i in range(10) if i not in (c, pos)]
    assert not night.signals[:, absent].any() and (night.signals[:, pos] == -1).all()
    assert not night.scale[absent].any() and night.scale[pos] == 0
    assert night.stages.tolist() == [-1, -1, -1] and "unscored: no scoring file" in night.flags


def test_z_units_times_scale_give_back_microvolt(tmp_path):
    wave = tone(8, 40, 120) + tone(2, 20, 120)
    path = write(tmp_path / "a.edf", [signal("C3-M2", wave * 1e-6, unit="V", bound=1e-3)])
    night = prepare_night(path, scoring=None)
    c = night.spec.channels.index("C3")
    back = night.signals[:, c].reshape(-1) * night.scale[c] + night.offset[c]
    expected = sps.resample(wave, 120 * 64)  # an independent way: whole periods, no edges
    np.testing.assert_allclose(back[640:-640], expected[640:-640], atol=0.6)
    np.testing.assert_allclose(night.traces["C3"].values, wave, atol=0.05)
    assert night.traces["C3"].rate == 100 and night.channels["C3"].scale == 1e6


def test_a_channel_flat_all_night_is_missing_and_flat_epochs_are_masked(tmp_path):
    half = c3(120, "C4-M1").data.copy()
    half[30 * 100 : 60 * 100] = 0
    ecg = signal("ECG", np.zeros(12000))
    path = write(tmp_path / "a.edf", [c3(120), signal("C4-M1", half), ecg])
    night = prepare_night(path, scoring=None)
    ecg, c4 = (night.spec.channels.index(name) for name in ("ECG", "C4"))
    assert not night.mask[:, ecg].any() and night.channels["ECG"] is None
    assert "ECG" not in night.traces
    assert night.mask[:, c4].tolist() == [True, False, True, True]
    assert not night.signals[1, c4].any()
    assert any(flag.startswith("flat: ECG") for flag in night.flags)
    assert any(flag.startswith("flat_epochs: C4") for flag in night.flags)


def test_positions_are_held_codes(tmp_path):
    file_codes = np.repeat([0.0, 1, 2, 3, 7, 7], 15)
    path = write(tmp_path / "a.edf", [c3(90), signal("Pos", file_codes, 1, unit="", bound=8)])
    night = prepare_night(
        path,
        scoring=None,
        montage=montage(C3={"expr": "C3-M2"}, POS={"expr": "Pos", "codes": POSITION}),
    )
    pos = night.spec.channels.index("POS")
    assert set(np.unique(night.signals[:, pos])) == {0, 1, 2, 3, -1}
    assert night.signals[0, pos].tolist() == [0.0] * 960 + [1.0] * 960
    assert night.mask[:, pos].tolist() == [True, True, False]
    assert night.scale[pos] == 1 and night.traces["POS"].rate == 1


def test_wrong_units_are_flagged(tmp_path):
    data = 30 * np.random.default_rng([5, 5]).standard_normal(9000)
    path = write(tmp_path / "a.edf", [signal("C3-M2", data, unit="V")])
    flags = prepare_night(path, scoring=None).flags
    assert any("implausible_amplitude: C3" in flag and "'V'" in flag for flag in flags)
    path = write(tmp_path / "b.edf", [signal("C3-M2", data, unit="uV")])
    assert not any("implausible" in flag for flag in prepare_night(path, scoring=None).flags)


def test_polarity_scale_and_blank_units_come_from_the_montage(tmp_path):
    wave = tone(5, 0.04, 60)
    path = write(tmp_path / "a.edf", [signal("EEG", wave, unit="", bound=1)])
    rows = montage(C3={"expr": "EEG", "unit": "mV", "polarity": -1, "scale": 2})
    night = prepare_night(path, scoring=None, montage=rows)
    np.testing.assert_allclose(night.traces["C3"].values, wave * -2000, atol=0.1)
    with pytest.raises(RecordingError, match="no usable channel"):
        prepare_night(path, scoring=None, montage=montage(C3={"expr": "EEG"}))


def test_other_sample_lengths_and_channels(tmp_path):
    heart_rate = signal("HR", 60 + tone(0.01, 9, 300, 1), 1, bound=99)
    path = write(tmp_path / "a.edf", [c3(300), heart_rate])
    scoring = hypnogram(tmp_path / "h.edf", [f"Sleep stage {s}" for s in "WWWWRRRRRR"])
    spec = SignalSpec(channels=("C3", "HR"), rate=32, seconds=60)
    night = prepare_night(path, scoring=scoring, spec=spec)
    assert night.signals.shape == (5, 2, 1920) and night.mask.all()
    assert night.stages.tolist() == [0, 0, 4, 4, 4]
    held = night.signals[:, 1].reshape(-1, 32)
    assert (held == held[:, :1]).all()  # HR holds its value for each second


def test_no_usable_channel_and_too_short(tmp_path):
    path = write(tmp_path / "a.edf", [c3(90, "Light"), c3(90, "C3 impedance")])
    with pytest.raises(RecordingError, match="no usable channel"):
        prepare_night(path)
    with pytest.raises(RecordingError, match="less than one sample"):
        prepare_night(write(tmp_path / "b.edf", [c3(29)]))
    with pytest.raises(RecordingError, match="not canonical"):
        prepare_night(write(tmp_path / "c.edf", [c3(60)]), spec=SignalSpec(channels=("C3", "Cz")))


def test_scoring_is_found_and_its_flags_are_kept(tmp_path):
    path = write(tmp_path / "a.edf", [c3(90)])
    hypnogram(tmp_path / "a_hypnogram.edf", ["Sleep stage W", "Sleep stage 2"])
    night = prepare_night(path)
    assert night.stages.tolist() == [0, 2, -1] and night.rules == "R&K"
    assert any("scoring_shorter_than_signal" in flag for flag in night.flags)
    assert inspect_recording(path)["scoring"] == "a_hypnogram.edf"


def staged(path, *texts):
    notes = [edfio.EdfAnnotation(i * 30, 30, text) for i, text in enumerate(texts)]
    notes.append(edfio.EdfAnnotation(35, 12, "Obstructive apnea"))
    return write(path, [c3(90)], annotations=notes)


def test_stages_among_a_recordings_own_annotations_score_it(tmp_path):
    path = staged(tmp_path / "a.edf", "Sleep stage W", "Sleep stage N2", "Sleep stage R")
    night = prepare_night(path)
    assert night.stages.tolist() == [0, 2, 4] and night.rules == "AASM"
    assert [(e.kind, e.onset, e.duration) for e in night.events] == [("obstructive_apnea", 35, 12)]
    assert "scoring: from the recording's own annotations" in night.flags
    found = inspect_recording(path)
    assert found["scoring"] == "the recording's own annotations"
    assert "scoring: from the recording's own annotations" in found["flags"]
    assert prepare_night(path, scoring=None).stages.tolist() == [-1, -1, -1]
    hypnogram(tmp_path / "a_hypnogram.edf", ["Sleep stage W"] * 3)  # a file beside it comes first
    assert prepare_night(path).stages.tolist() == [0, 0, 0]


def test_own_annotations_that_are_no_scoring_leave_it_unscored(tmp_path):
    night = prepare_night(staged(tmp_path / "a.edf", "Lights off", "Stage light", "moved"))
    assert night.stages.tolist() == [-1, -1, -1] and night.events == ()
    assert "unscored: no scoring file" in night.flags
    night = prepare_night(staged(tmp_path / "b.edf", "Sleep stage W", "Sleep stage N7"))
    assert night.stages.tolist() == [-1, -1, -1]
    assert any(f.startswith("unscored:") and "'Sleep stage N7'" in f for f in night.flags)


def test_inspect_takes_a_flat_channel_as_missing_as_prepare_does(tmp_path):
    steps = np.repeat([5.0, -5.0, 5.0], 3000)  # flat but for a step between epochs
    flat = [signal("ECG", np.zeros(9000)), signal("C4-M1", steps)]
    path = write(tmp_path / "a.edf", [c3(90), *flat])
    found, night = inspect_recording(path), prepare_night(path, scoring=None)
    for name in ("ECG", "C4"):
        assert found["channels"][name] is None and name in found["missing"]
        assert "never changes" in found["unresolved"][name][0]
        assert night.channels[name] is None
        assert any(f.startswith(f"flat: {name}") for f in found["flags"])
    assert {s["label"]: s["resolves_to"] for s in found["signals"]}["ECG"] == []


def test_artefacts_do_not_move_the_scale_and_are_flagged(tmp_path):
    rng = np.random.default_rng([5, 6])
    values = rng.normal(0, 30, (50, 3000))
    bad = [3, 4, 11, 20, 33, 48]  # 12 %
    values[bad] = 5000 * np.sign(np.sin(np.arange(3000) / 3))
    path = write(tmp_path / "a.edf", [signal("C3-M2", values.reshape(-1))])
    night = prepare_night(path, scoring=None)
    clean = prepare_night(write(tmp_path / "b.edf", [c3(1500)]), scoring=None)
    c = night.spec.channels.index("C3")
    assert night.scale[c] == pytest.approx(clean.scale[c], rel=0.1)
    assert "artefact: C3 in 12 % of epochs" in night.flags
    assert not any("artefact" in flag for flag in clean.flags)


def test_bursts_of_chin_and_heart_are_no_artefacts(tmp_path):
    rng = np.random.default_rng([5, 7])
    chin = rng.normal(0, 1, (60, 3000)) * np.where(np.arange(60) < 20, 30, 2)[:, None]
    path = write(tmp_path / "a.edf", [c3(1800), signal("Chin1-Chin2", chin.reshape(-1))])
    rows = montage(C3={"expr": "C3-M2"}, EMG={"expr": "Chin1-Chin2"})
    assert not any("artefact" in f for f in prepare_night(path, scoring=None, montage=rows).flags)


def test_absurdly_slow_or_long_signals_are_refused_before_memory_is_taken(tmp_path, monkeypatch):
    belt = signal("Abdomen", np.array([1.0, -1.0]), 1 / 900, unit="V", bound=2)
    path = write(tmp_path / "a.edf", [c3(1800), belt], data_record_duration=900)
    night = prepare_night(path, scoring=None, montage=montage(
        C3={"expr": "C3-M2"}, ABD={"expr": "Abdomen"}))  # fmt: skip
    assert night.channels["ABD"] is None and night.channels["C3"] is not None
    monkeypatch.setattr("sleeplm_jax.recordings.channel_choice.MOST_SAMPLES", 100_000)
    for use in (prepare_night, inspect_recording):
        with pytest.raises(RecordingError, match="C3-M2 has 180000 samples .0 h at 100 Hz"):
            use(path)


def test_nothing_of_the_patient_reaches_an_output(tmp_path):
    patient = edfio.Patient(
        code="MRN-4711", sex="F", birthdate=datetime.date(1961, 3, 9), name="Erika_Musterfrau"
    )
    about = edfio.Recording(
        startdate=datetime.date(2019, 5, 17),
        hospital_administration_code="ADM-99",
        investigator_technician_code="Dr_Quincy",
        equipment_code="EQ-77",
    )
    path = write(tmp_path / "a.edf", [c3(60)], patient=patient, recording=about)
    header = path.read_bytes()[:256]
    night = prepare_night(path, scoring=None)
    shown = {f.name: getattr(night, f.name) for f in dataclasses.fields(night)}
    outputs = json.dumps(inspect_recording(path)) + repr(shown)
    for secret in ("MRN-4711", "MAR-1961", "Erika", "Musterfrau", "ADM-99", "Quincy", "EQ-77"):
        assert secret.encode() in header
        assert secret not in outputs
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(RecordingError) as caught:
        prepare_night(path)
    assert "Erika" not in str(caught.value)


def test_inspect_names_every_signal_and_its_use(tmp_path):
    path = write(tmp_path / "a.edf", [c3(60, "C3"), signal("M2", tone(3, 5, 60)), c3(60, "Thumb")])
    found = json.loads(json.dumps(inspect_recording(path)))
    assert found["file"] == "a.edf" and found["start_clock"] == "22:30:00"
    assert found["channels"]["C3"]["source"] == "C3 - M2"
    assert found["channels"]["C3"]["labels"] == ["C3", "M2"]
    assert found["channels"]["C4"] is None and "C4" in found["missing"]
    uses = {s["label"]: s["resolves_to"] for s in found["signals"]}
    assert uses == {"C3": ["C3"], "M2": ["C3"], "Thumb": []}
    assert all(s["min"] < 0 < s["max"] and s["samples"] == 6000 for s in found["signals"])


@pytest.mark.parametrize("unit", ["", "furlong"])
def test_a_signal_of_unknown_unit_is_missing_and_said(tmp_path, unit):
    path = write(tmp_path / "a.edf", [c3(60, unit=unit), c3(60, label="C4-M1")])
    night = prepare_night(path, scoring=None)
    assert night.channels["C3"] is None
    said = [flag for flag in night.flags if flag.startswith("unit_unknown: C3: C3-M2: unit")]
    assert len(said) == 1 and "montage" in said[0]
    assert not any(f.startswith("unit_unknown: C4") for f in night.flags)


def test_scorers_free_text_reaches_no_night(tmp_path):
    path = write(tmp_path / "a.edf", [c3(60), c3(60, label="C4-M1")])
    (tmp_path / "a.xml").write_text(
        "<CMPStudyConfig><EpochLength>30</EpochLength><ScoredEvents>"
        "<ScoredEvent><Name>Arousal (Wobblesworth)</Name><Start>3</Start><Duration>4</Duration>"
        "<Input>C3_M2</Input></ScoredEvent>"
        "<ScoredEvent><Name>Zzyzxova called</Name><Start>9</Start><Duration>4</Duration>"
        "<Input>Zzyzxova</Input></ScoredEvent></ScoredEvents>"
        "<SleepStages><SleepStage>2</SleepStage><SleepStage>2</SleepStage></SleepStages>"
        "</CMPStudyConfig>"
    )
    night = prepare_night(path)
    assert [e.kind for e in night.events][0] == "arousal" and night.events[0].channel == "C3_M2"
    assert len(night.events) == 2 and night.events[1].channel is None
    assert "zzyzxova" not in repr(night.events).lower() and "Wobbles" not in repr(night)


def test_a_bad_reference_gives_way_to_the_next(tmp_path):
    rng = np.random.default_rng(3)
    rate = 100
    wave, noise = 30 * rng.standard_normal((2, 120 * rate))
    bad = 3000 * np.sign(np.sin(2 * np.pi * 2 * np.arange(120 * rate) / rate)) + noise
    leads = {"C3": wave, "M2": bad, "M1": noise / 30}
    path = write(tmp_path / "a.edf", [signal(label, x) for label, x in leads.items()])
    (tmp_path / "m.yaml").write_text(
        "name: m\nchannels:\n  C3:\n    - {expr: C3 - M2, citation: test}\n"
        "    - {expr: C3 - M1, citation: test}\n"
    )
    night = prepare_night(path, scoring=None, montage=tmp_path / "m.yaml")
    assert night.channels["C3"].source == "C3 - M1"
    assert any(f.startswith("fallback: C3 is C3 - M1 (C3 - M2: ") for f in night.flags)
    (tmp_path / "m.yaml").write_text(
        "name: m\nchannels:\n  C3:\n    - {expr: C3 - M2, citation: test}\n"
    )
    night = prepare_night(path, scoring=None, montage=tmp_path / "m.yaml")
    assert night.channels["C3"].source == "C3 - M2"
    assert any(f.startswith("implausible_amplitude: C3 (C3 - M2)") for f in night.flags)
