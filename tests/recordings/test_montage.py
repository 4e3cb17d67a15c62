"""Expressions, label matching, units, positions, and the montages that come with the package."""

import numpy as np
import pytest

from sleeplm_jax.errors import RecordingError
from sleeplm_jax.recordings.channels import microvolt_scale
from sleeplm_jax.recordings.edf import open_recording
from sleeplm_jax.recordings.expression import parse_expression
from sleeplm_jax.recordings.montage import (
    _angle_codes,
    choose_montage,
    known_montages,
    load_montage,
    read_channel,
    resolve,
    subject_of,
)
from tests.recordings.edf_files import c3, signal, tone, write


@pytest.mark.parametrize(
    "text, terms",
    [
        ("C3-M2", {"C3-M2": 1}),
        ("C3 - M2", {"C3": 1, "M2": -1}),
        ("C3 - (A1 + A2)/2", {"C3": 1, "A1": -0.5, "A2": -0.5}),
        ("[EEG Fpz-Cz]", {"EEG Fpz-Cz": 1}),
        ("[EOG(L)] - [A 2]*0.5", {"EOG(L)": 1, "A 2": -0.5}),
        ("1-2", {"1-2": 1}),
        ("(C3 + C4)/2 - (M1 + M2)/2", {"C3": 0.5, "C4": 0.5, "M1": -0.5, "M2": -0.5}),
    ],
)
def test_expressions(text, terms):
    assert dict(parse_expression(text)) == terms


@pytest.mark.parametrize("text", ["", "C3 -", "C3 M2", "(C3 - M2", "C3 - M2)", "C3/0", "*2", "[C3"])
def test_broken_expressions_say_so(text):
    with pytest.raises(ValueError):
        parse_expression(text)


def test_a_difference_is_the_difference_of_the_two_signals(tmp_path):
    a, b, m = tone(2, 40, 60), tone(5, 10, 60), tone(9, 20, 60)
    path = write(
        tmp_path / "a.edf",
        [signal("C3", a), signal("M1", b * 1e-3, unit="mV"), signal("M2", m), c3(60, "EMG")],
    )
    rows = {"name": "x", "channels": {"C3": [{"expr": "C3 - (M1 + M2)/2", "citation": "test"}]}}
    from sleeplm_jax.recordings.montage import _parse

    recording = open_recording(path)
    found = resolve(recording, _parse(rows))["C3"]
    assert found.source == "C3 - (M1 + M2)/2" and found.labels == ("C3", "M1", "M2")
    trace = read_channel(recording, found)
    assert trace.unit == "µV"
    np.testing.assert_allclose(trace.values, a - (b + m) / 2, atol=0.1)


def test_labels_match_whole_but_for_case_spaces_and_underscores(tmp_path):
    path = write(tmp_path / "a.edf", [c3(60, "eeg_C3-a2"), c3(60, "C4-M1 impedance")])
    recording = open_recording(path)
    resolved = resolve(recording, load_montage("generic"))
    assert resolved["C3"].source == "eeg_C3-a2"
    assert resolved["C4"] is None


def test_a_label_that_occurs_twice_is_not_guessed(tmp_path):
    path = write(tmp_path / "a.edf", [c3(60), c3(60)])
    assert resolve(open_recording(path), load_montage("generic"))["C3"] is None


def test_a_referenced_label_is_preferred_to_a_bare_electrode(tmp_path):
    path = write(tmp_path / "a.edf", [c3(60, "C3"), c3(60, "M2"), c3(60, "C3-M2")])
    resolved = resolve(open_recording(path), load_montage("generic"))
    assert resolved["C3"].source == "C3-M2"
    path = write(tmp_path / "b.edf", [c3(60, "C3"), c3(60, "F3")])
    assert resolve(open_recording(path), load_montage("generic"))["C3"] is None


@pytest.mark.parametrize(
    "unit, factor",
    [("V", 1e6), ("mV", 1e3), ("uV", 1), ("µV", 1), ("\u03bcV", 1), ("nV", 1e-3), ("UV", 1),
     ("microvolts", 1), ("Volt", 1e6), ("millivolt", 1e3), ("%", None), ("", None), ("Ohm", None)],
)  # fmt: skip
def test_units_become_microvolt(unit, factor):
    assert microvolt_scale(unit) == factor


def test_an_eeg_label_in_per_cent_is_not_taken_for_a_voltage(tmp_path):
    path = write(tmp_path / "a.edf", [c3(60, unit="%"), c3(60, "EMG")])
    assert resolve(open_recording(path), load_montage("generic"))["C3"] is None


def test_position_angles_become_quarters():
    degrees = [0, 44, 46, 90, 134, 136, 180, -180, -90, -46, 270, 360]
    assert _angle_codes(np.array(degrees)).tolist() == [2, 2, 0, 0, 0, 3, 3, 3, 1, 1, 1, 2]


def test_every_montage_loads_and_every_row_is_cited():
    assert set(known_montages()) >= {"generic", "simulated", "nox", "sleep-edf", "ucddb", "shhs"}
    for name in known_montages():
        montage = load_montage(name)
        assert montage.name == name
        assert all(row.citation for rows in montage.channels.values() for row in rows)


def test_shhs_central_leads_follow_the_nsrr_page(tmp_path):
    # NSRR montage page: EEG (sec) is C3-A2 and EEG is C4-A1; published code has it reversed.
    names = ["SaO2", "EEG(sec)", "EEG", "EOG(L)", "EOG(R)", "THOR RES", "ABDO RES", "NEW AIR"]
    position = signal("POSITION", np.repeat([0.0, 1, 2, 3], 15), 1, unit="", bound=4)
    path = write(tmp_path / "shhs1-200001.edf", [c3(60, name) for name in names] + [position])
    recording = open_recording(path)
    montage = choose_montage(recording)
    assert montage.name == "shhs"
    resolved = resolve(recording, montage)
    assert (resolved["C3"].source, resolved["C4"].source) == ("EEG(sec)", "EEG")
    codes = read_channel(recording, resolved["POS"]).values
    assert codes[::15].tolist() == [0, 1, 2, 3]


def test_a_named_cohort_chooses_its_montage(tmp_path):
    recording = open_recording(write(tmp_path / "a.edf", [c3(60)]))
    assert choose_montage(recording).name == "generic"
    assert choose_montage(recording, "SHHS2").name == "shhs"
    assert choose_montage(recording, "our own hospital").name == "generic"


def test_a_users_montage_file_and_its_mistakes(tmp_path):
    good = tmp_path / "mine.yaml"
    good.write_text("name: mine\nchannels:\n  C3: [{expr: EEG9, citation: unverified}]\n")
    recording = open_recording(write(tmp_path / "a.edf", [c3(60, "EEG9")]))
    assert resolve(recording, load_montage(good))["C3"].source == "EEG9"
    for text in (
        "name: x\nchannels: {C9: []}",
        "name: x\nchannels: {C3: [{expr: 'C3 -', citation: a}]}",
        "name: x\nchannels: {C3: [{expr: C3}]}",
        "name: x\nchannels: {C3: [{expr: C3, citation: a, unitt: uV}]}",
        "name: x\nchannels: {POS: [{expr: Pos, citation: a}]}",
        "- not a table",
        "!!python/object/apply:os.getcwd []",
        "a: [",
    ):
        bad = tmp_path / "bad.yaml"
        bad.write_text(text)
        with pytest.raises(RecordingError, match="not a montage"):
            load_montage(bad)
    with pytest.raises(RecordingError, match="no such montage"):
        load_montage("nowhere")


@pytest.mark.parametrize(
    "name, cohort, subject",
    [
        ("SC4001E0-PSG.edf", "sleep-edf", "SC400"),
        ("SC4002E0-PSG.edf", "sleep-edf", "SC400"),
        ("ST7011J0-PSG.edf", "sleep-edf", "ST701"),
        ("shhs1-200001.edf", "shhs", "shhs-200001"),
        ("shhs2-200001.edf", "shhs", "shhs-200001"),
        ("ucddb018_eeg.edf", "ucddb", "ucddb018"),
        ("sub-7_ses-1_task-Sleep_eeg.edf", None, "sub-7"),
        ("night 12.edf", None, "night 12"),
    ],
)
def test_subjects_from_file_names(name, cohort, subject):
    assert subject_of(name, cohort) == subject


def test_nox_position_is_upright_where_the_elevation_says_so(tmp_path):
    labels = ("C3-M2", "C4-M1")
    angle = signal("PosAngle", np.repeat([0.0, -90, 170], 20), 1, unit="deg", bound=180)
    elevation = signal("Elevation", np.repeat([0.0, 0.1, 0.95], 20), 1, unit="g", bound=2)
    path = write(tmp_path / "a.edf", [*(c3(60, label) for label in labels), angle, elevation])
    recording = open_recording(path)
    montage = choose_montage(recording)
    assert montage.name == "nox"
    codes = read_channel(recording, resolve(recording, montage)["POS"]).values
    assert codes.tolist() == [2] * 20 + [1] * 20 + [4] * 20
