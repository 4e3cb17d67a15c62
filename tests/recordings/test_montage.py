"""Expressions, label matching, units, positions, and the montages that come with the package."""

import numpy as np
import pytest

from sleeplm_jax.config import SignalSpec
from sleeplm_jax.errors import RecordingError
from sleeplm_jax.recordings.channels import microvolt_scale
from sleeplm_jax.recordings.expression import parse_expression
from sleeplm_jax.recordings.inspection import inspect_recording
from sleeplm_jax.recordings.montage import known_montages, load_montage, parse_montage
from sleeplm_jax.recordings.montage_match import (
    choose_montage,
    numbered_labels,
    resolve,
    same_label,
    unresolved_reasons,
)
from sleeplm_jax.recordings.montage_read import _angle_codes, read_channel
from sleeplm_jax.recordings.montage_report import named_terms
from sleeplm_jax.recordings.montage_subjects import person_of
from sleeplm_jax.recordings.opening import open_recording
from sleeplm_jax.recordings.prepare import prepare_night
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
    recording = open_recording(path)
    found = resolve(recording, parse_montage(rows))["C3"]
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


def two_c3(tmp_path, second="C3-M2"):
    other = signal(second, tone(3, 20, 60))
    return open_recording(write(tmp_path / "a.edf", [c3(60), other]))


def test_a_label_on_two_signals_that_differ_is_not_guessed(tmp_path):
    recording = two_c3(tmp_path)
    generic = load_montage("generic")
    assert resolve(recording, generic)["C3"] is None
    assert resolve(recording, generic, wanted=["C4", "EMG"])["C3"] is None
    with pytest.raises(RecordingError) as caught:
        resolve(recording, generic, wanted=["C4", "C3"])
    said = "fits 2 signals that differ (signal 1 'C3-M2', signal 2 'C3-M2')"
    assert f"C3 is ambiguous: 'C3-M2' {said}" in str(caught.value)
    assert any("fits 2 signals" in r for r in unresolved_reasons(recording, generic, "C3"))
    with pytest.raises(RecordingError, match="ambiguous"):  # C3 is one of the ten that it wants
        prepare_night(recording.path)
    spec = SignalSpec(channels=("C4",))
    both = write(tmp_path / "b.edf", [c3(60), signal("C3-M2", tone(3, 20, 60)), c3(60, "C4-M1")])
    flags = prepare_night(both, spec=spec).flags  # not wanted: said, and left out
    assert any(flag.startswith("ambiguous: C3: 'C3-M2' fits 2 signals") for flag in flags)
    night = prepare_night(recording.path, montage=occurrence(2))
    np.testing.assert_allclose(night.traces["C3"].values, tone(3, 20, 60), atol=0.01)


def occurrence(number):
    return one_row(expr="C3-M2", occurrence=number)


def one_row(**row):
    rows = {"C3": [row | {"citation": "test"}]}
    return parse_montage({"name": "x", "channels": rows})


def test_copies_of_one_signal_are_one(tmp_path):
    path = write(tmp_path / "a.edf", [c3(60), c3(60, "EEG C3-M2"), c3(60, "c3_m2")])
    assert resolve(open_recording(path), load_montage("generic"))["C3"].labels == ("C3-M2",)


def test_of_several_writings_the_exact_one_is_meant(tmp_path):
    assert resolve(two_c3(tmp_path, "C3:M2"), load_montage("generic"))["C3"].labels == ("C3-M2",)
    # Neither is written as the row is, and they differ.
    path = write(tmp_path / "b.edf", [c3(60, "EEG C3-M2"), signal("C3:M2", tone(3, 20, 60))])
    assert resolve(open_recording(path), load_montage("generic"))["C3"] is None


@pytest.mark.parametrize("number, found", [(1, 0), (2, 1), (3, None)])
def test_a_row_names_the_first_or_the_second_of_signals_named_alike(tmp_path, number, found):
    resolution = resolve(two_c3(tmp_path), occurrence(number))["C3"]
    assert (None if resolution is None else resolution.terms[0][0]) == found


def test_a_readers_running_numbers_are_taken_off():
    # MNE: "Channel names are not unique ... Applying running numbers for duplicates".
    assert numbered_labels(["ECG", "AIRFLOW-0", "AIRFLOW-1"]) == ("ECG", "AIRFLOW", "AIRFLOW")
    for kept in ("EEG 1-0", "X-0 X-2", "X X-0 X-1", "1-2 C3-M2", "T-1 T-2"):
        assert numbered_labels(kept.split()) == tuple(kept.split())


@pytest.mark.parametrize(
    "one, other",
    [("C3_M2", "C3-M2"), ("EEG_C3-A2", "C3-A2"), ("EEG (C4-A1)", "C4-A1"), ("C3:M2", "C3-M2"),
     ("EOG LOC-A2", "LOC-A2"), ("E1M2", "E1-M2"), ("New Air", "NEWAIR"), ("EEG C3", "C3"),
     ("FP1/A2", "Fp1-A2"), ("ECG_L", "ECG L"), ("F3-m2", "f3 - M2")],
)  # fmt: skip
def test_writings_that_mean_one_label(one, other):
    assert same_label(one) == same_label(other)


@pytest.mark.parametrize(
    "one, other",
    [("EEG_C3-A22", "EEG C3-A2"), ("Leg_12", "Leg 1"), ("C3-M2 (Imp)", "C3-M2"), ("EEG", "EEG 2"),
     ("C3-M2", "C3-M1"), ("C3-A2", "C3-M2"), ("EEG1", "EEG"), ("EEG1_Off", "EEG1"), ("SpO2", "O2"),
     ("EOG(L)", "EOG(R)"), ("F1M2", "Fp1-M2"), ("EMG1", "EMG"), ("C3", "C3-M2"), ("X1", "X2"),
     ("Nasal", "Nasal Pressure"), ("E1", "EEG1"), ("AIRFLOW-0", "AIRFLOW"), ("C3-C4", "C4-C3")],
)  # fmt: skip
def test_labels_that_differ_never_meet(one, other):
    assert same_label(one) != same_label(other)


FLAT = signal("M2", np.zeros(60 * 100))


def test_a_dead_reference_gives_way_to_the_next_row(tmp_path):
    wave, m1 = tone(8, 40, 60), tone(3, 10, 60)
    signals = [signal("C3", wave), signal("M1", m1), FLAT, c3(60, "C4-M1")]
    path = write(tmp_path / "a.edf", signals)
    night = prepare_night(path, scoring=None)
    assert night.channels["C3"].source == "C3 - M1"
    np.testing.assert_allclose(night.traces["C3"].values, wave - m1, atol=0.01)
    assert "fallback: C3 is C3 - M1 (C3 - M2: M2 never changes)" in night.flags
    found = inspect_recording(path)
    assert found["channels"]["C3"]["source"] == "C3 - M1"
    assert any(flag.startswith("fallback: C3") for flag in found["flags"])


def test_a_channel_whose_every_row_is_dead_is_missing(tmp_path):
    path = write(tmp_path / "a.edf", [signal("C3", tone(8, 40, 60)), FLAT, c3(60, "C4-M1")])
    night = prepare_night(path, scoring=None)
    assert night.channels["C3"] is None and not night.mask[:, night.spec.channels.index("C3")].any()
    assert "flat: C3 (C3 - M2: M2 never changes), taken as missing" in night.flags
    assert inspect_recording(path)["unresolved"]["C3"] == ["C3 - M2: M2 never changes"]


def test_a_row_that_must_not_be_read_says_why(tmp_path):
    recording = open_recording(write(tmp_path / "a.edf", [c3(60), c3(60, "EMG")]))
    montage = one_row(expr="C3-M2", unusable="the amplifier was at fault")
    assert resolve(recording, montage, wanted=["C3"])["C3"] is None
    reasons = unresolved_reasons(recording, montage, "C3")
    assert reasons == ("C3-M2: the amplifier was at fault",)


def test_a_resolution_carries_transducer_and_polarity(tmp_path):
    wave = tone(0.3, 1, 60)
    path = write(tmp_path / "a.edf", [signal("Nasal Pressure", wave, unit=""), c3(60)])
    found = resolve(open_recording(path), load_montage("generic"))["AF"]
    assert found.transducer == "nasal_pressure" and found.polarity == 1
    turned = one_row(expr="C3-M2", polarity=-1)
    recording = open_recording(path)
    trace = read_channel(recording, resolve(recording, turned)["C3"])
    plain = read_channel(recording, resolve(recording, one_row(expr="C3-M2"))["C3"])
    np.testing.assert_array_equal(trace.values, -plain.values)


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


COHORTS = "apples ccshs cfs chat generic mesa mros1 mros2 nox shhs simulated sof stages wsc"


def test_every_montage_loads_and_says_where_it_comes_from():
    assert set(known_montages()) >= set(COHORTS.split())
    for name in known_montages():
        montage = load_montage(name)
        assert montage.name == name and montage.description
        assert montage.sources or not montage.verified, name
        assert all(row.citation for rows in montage.channels.values() for row in rows)


def test_no_montage_names_a_label_both_ours_and_not_ours():
    for name in known_montages():
        montage = load_montage(name)
        ours = set(named_terms([montage]))
        assert not ours & {same_label(label) for label, _ in montage.others}, name


def test_no_row_is_there_twice():
    for name in known_montages():
        for channel, rows in load_montage(name).channels.items():
            keys = [
                (tuple((same_label(label), w) for label, w in row.terms), row.occurrence,
                 row.min_rate) for row in rows
            ]  # fmt: skip
            assert len(set(keys)) == len(keys), (name, channel)


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
    assert person_of(name, cohort).subject == subject


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


def test_a_key_that_stands_twice_is_no_silent_choice(tmp_path):
    path = tmp_path / "twice.yaml"
    rows = "  C3:\n    - {expr: C3, citation: a}\n"
    path.write_text(f"name: twice\nchannels:\n{rows}{rows}")
    with pytest.raises(RecordingError, match="line 5: 'C3' stands twice"):
        load_montage(path)
