"""What differs by archive: leads, units, stand-ins, subjects; on real files where they are."""

import csv
import json
import re

import numpy as np
import pytest

from sleeplm_jax.config import CANONICAL_CHANNELS
from sleeplm_jax.recordings.channels import CHANNELS, MICROVOLT
from sleeplm_jax.recordings.montage import load_montage
from sleeplm_jax.recordings.montage_match import choose_montage, resolve, same_label
from sleeplm_jax.recordings.montage_read import read_channel
from sleeplm_jax.recordings.montage_report import report_recordings
from sleeplm_jax.recordings.montage_subjects import person_of
from sleeplm_jax.recordings.opening import open_recording
from tests.recordings.edf_files import c3, signal, write
from tests.recordings.open_labels import (
    COHORTS,
    FILES,
    cohort_of,
    edf,
    labels_of,
    montage_by_labels,
)


def test_sleep_edf_has_no_c3_and_its_cassette_emg_is_an_envelope(tmp_path, psg):
    recording = open_recording(psg / "edfio_sleepedf_short" / "short_psg.edf")
    montage = choose_montage(recording)
    assert montage.name == "sleep-edf"
    found = resolve(recording, montage)
    assert found["C3"].stand_in and found["EOG-L"].stand_in and found["EMG"].stand_in
    assert found["EMG"].rate == 1 and found["AF"].transducer == "thermal"
    assert all(found[name] is None for name in ("C4", "EOG-R", "F3", "F4", "O1", "O2", "ECG"))
    telemetry = ["EEG Fpz-Cz", "EEG Pz-Oz", "EOG horizontal", "EMG submental", "Marker"]
    found = resolve(edf(tmp_path, "ST7011J0-PSG.edf", telemetry), montage)
    assert not found["EMG"].stand_in and found["EMG"].rate == 100 and found["AF"] is None


def test_a_piece_of_ucddb_is_a_stand_in_of_unknown_amplitude(psg):
    recording = open_recording(psg / "ucddb_eeg" / "ucddb018_eeg.edf")
    montage = choose_montage(recording)
    assert montage.name == "ucddb"
    found = resolve(recording, montage)
    # Its source says neither C3-A2 nor C4-A1, and one unit of it is about 150 µV.
    assert found["C3"].stand_in and found["C3"].amplitude_unknown and found["C3"].scale == 150
    assert {channel for channel, one in found.items() if one} == {"C3"}


def test_dreem_and_cap_chains_give_the_leads_against_a_mastoid(tmp_path):
    rng = np.random.default_rng([7, 2])
    names = "F3 F4 C3 C4 P3 P4 O1 O2 M1 M2 FP2".split()
    at = dict(zip(names, rng.normal(0, 30, (len(names), 3000)), strict=True))

    def file(name, pairs, joined, more=()):
        leads = [signal(pair, at[a] - at[b]) for pair in pairs for a, b in [pair.split(joined)]]
        return open_recording(write(tmp_path / name, leads + [c3(30, label) for label in more]))

    scorer = ["EOG1", "EOG2", "EMG", "ECG"]
    healthy = file("h.edf", ["C3_M2", "F3_M2", "F3_F4", "F3_O1", "F4_M1", "F4_O2"], "_", scorer)
    apnoeic = file("o.edf", ["C3_M2", "F3_M2", "F3_F4", "F3_O1", "F4_O2", "O2_M1"], "_", scorer)
    cap = file("n3.edf", ["F4-C4", "C4-P4", "P4-O2"], "-", [])
    for recording, cohort, wanted in (
        (healthy, "dod", {"O1": ("O1", "M2"), "O2": ("O2", "M1")}),
        (apnoeic, "dod", {"F4": ("F4", "M1"), "O1": ("O1", "M2"), "O2": ("O2", "M1")}),
    ):
        montage = choose_montage(recording)
        assert montage.name == cohort
        found = resolve(recording, montage)
        for channel, (a, b) in wanted.items():
            trace = read_channel(recording, found[channel])
            np.testing.assert_allclose(trace.values, at[a] - at[b], atol=0.05)  # 16-bit steps
    assert resolve(cap, load_montage("cap"))["O2"] is None  # no lead against an ear to start from
    chains = "F4-C4 C4-P4 P4-O2 C4-A1 F3-C3 C3-P3 P3-O1 C3-A2".split()
    at |= {"A1": at["M1"], "A2": at["M2"]}
    recording = file("n4.edf", chains, "-")
    found = resolve(recording, load_montage("cap"))
    for channel, reference in (("F4", "M1"), ("O2", "M1"), ("F3", "M2"), ("O1", "M2")):
        trace = read_channel(recording, found[channel])
        np.testing.assert_allclose(trace.values, at[channel] - at[reference], atol=0.05)


def test_caps_eog_is_turned_so_that_the_left_eye_is_the_plus(tmp_path):
    eye = np.linspace(-100, 100, 3000)
    for label, sign in (("ROC-LOC", -1), ("LOC-ROC", 1)):
        path = write(tmp_path / f"{label}.edf", [signal(label, eye)])
        recording = open_recording(path)
        found = resolve(recording, load_montage("cap"))["EOG-L"]
        assert found.stand_in and found.polarity == sign
        values = read_channel(recording, found).values
        np.testing.assert_allclose(values, sign * eye, atol=0.05)


def test_units_of_the_2018_challenge(psg, tmp_path):
    lines = (psg / "physionet2018_arousals" / "tr03-0005.hea").read_text().splitlines()[1:]
    fields = [line.split() for line in lines if line]
    units = {field[-1]: field[2].split("/")[1] for field in fields}
    path = write(tmp_path / "tr03-0005.edf", [c3(30, n, unit=u) for n, u in units.items()])
    recording = open_recording(path)
    montage = choose_montage(recording)
    assert montage.name == "physionet2018"
    found = resolve(recording, montage)
    assert units["ECG"] == "mV" and found["ECG"].scale == 1000 and found["C3"].scale == 1
    assert {r.source for r in found.values() if r} == set(units)
    assert found["EOG-R"] is None


@pytest.mark.parametrize(
    "name, millivolt",
    [("dod", ()), ("dod, O", ()), ("physionet2018", ("ECG",)), ("slpdb", ("ECG",))],
)
def test_units_where_the_file_leaves_them_blank(tmp_path, name, millivolt):
    # Dreem's converter: uV. tr03-0005.hea: uV, ECG in mV. WFDB: mV where a header gives no unit,
    # as slpdb's do for the ECG alone.
    file, _, wanted = FILES[name]
    leads = [c3(30, label, unit="") for label in labels_of(name)]
    recording = open_recording(write(tmp_path / file, leads))
    found = resolve(recording, load_montage(cohort_of(name)))
    voltages = {c for c in wanted if CHANNELS[c].unit == MICROVOLT}
    for channel in voltages if cohort_of(name) != "slpdb" else {"ECG"}:
        assert found[channel].scale == (1000 if channel in millivolt else 1)
    if cohort_of(name) == "slpdb":
        assert all(found[channel] is None for channel in voltages - {"ECG"})


# ---- real channel lists --------------------------------------------------------------------------


def test_isruc_label_lists(psg):
    known = json.loads((psg / "channel_names" / "cohort_channel_names.json").read_text())["ISRUC"]
    montage = load_montage("isruc")
    labels = {same_label(label) for label, _ in montage.others}
    for rows in montage.channels.values():
        labels |= {same_label(label) for row in rows for label, _ in row.terms}
    assert [name for name in known["names"] if same_label(name) not in labels] == []
    seen = sum(found["n"] for found in known["top_montages"]
               if montage_by_labels(found["channels"], "1.rec").name == "isruc")  # fmt: skip
    assert seen == sum(found["n"] for found in known["top_montages"])


def test_tables_that_rest_on_other_peoples_code_alone_are_not_called_verified():
    assert {name for name in COHORTS if not load_montage(name).verified} == {
        "isruc", "cap", "dcsm", "mass", "mass-rk"
    }  # fmt: skip


@pytest.mark.parametrize("name", ["isruc", "isruc, numbered"])
def test_isrucs_belts_and_legs_are_not_told_apart(tmp_path, name):
    recording = edf(tmp_path, "1.rec", labels_of(name), 1)
    montage = load_montage("isruc")
    found = resolve(recording, montage)
    assert not any(found[channel] for channel in ("ABD", "THX", "LEG-L", "LEG-R", "POS"))
    # Known, and said what they are, rather than unknown labels.
    ((report,), _) = report_recordings([recording.path], montage=montage)
    inputs = {"X3", "X4", "X7", "X8"} if name == "isruc" else {"26", "27", "30", "31"}
    assert all("not settled" in report.others[label] for label in inputs) and not report.unknown


def test_boas_channel_tables(psg, tmp_path):
    tables = sorted((psg / "openneuro_ds005555_boas").glob("sub-*/eeg/*psg_channels.tsv"))
    assert len(tables) == 20
    seen = set()
    for table in tables:
        with open(table, newline="") as file:
            names = tuple(row["name"] for row in csv.DictReader(file, delimiter="\t"))
        file = table.name.replace("channels.tsv", "eeg.edf")
        assert montage_by_labels(names, file).name == "boas"
        if names in seen:
            continue
        seen.add(names)
        recording = edf(tmp_path, file, names)
        found = resolve(recording, load_montage("boas"))
        one_eog = "PSG_EOG" in names
        assert found["EOG-L"].stand_in == one_eog and (found["EOG-R"] is None) == one_eog
        flow = found["AF"].transducer if found["AF"] else None
        assert flow == ("nasal_pressure" if "PSG_CAN" in names
                        else "thermal" if "PSG_THER" in names else None)  # fmt: skip
        for channel in ("F3", "F4", "C3", "C4", "O1", "O2"):
            assert found[channel].source == f"PSG_{channel}" and not found[channel].stand_in
        assert (found["SpO2"] is not None) == ("PSG_SPO2" in names)
        assert found["ECG"] is None
    assert len(seen) == 5


def test_boas_codes_are_all_known_and_its_subjects_are_nights(psg):
    folder = psg / "openneuro_ds005555_boas"
    known = {code for code, _ in load_montage("boas").dialect.stages}
    codes = set()
    for table in folder.glob("sub-*/eeg/*psg_events.tsv"):
        with open(table, newline="") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                codes |= {row["stage_hum"], row["stage_ai"]}
    assert codes and codes <= known
    with open(folder / "participants.tsv", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    people = {row["pid"] for row in rows}
    assert (len(rows), len(people)) == (128, 100)  # what the flag recording_is_not_person says


def slpdb_headers(psg) -> dict[str, dict[str, str]]:
    headers = {}
    for path in sorted((psg / "slpdb_annotations").glob("*.hea")):
        lines = [line for line in path.read_text().splitlines()[1:] if line.startswith("slp")]
        rows = [re.match(r"\S+ \d+ (\S+)(?: -?\d+){5} (.+)", line) for line in lines]
        headers[path.stem] = {row[2]: row[1].split("/")[1] if "/" in row[1] else "" for row in rows}
    return headers


def test_slpdb_headers_are_recognised_and_every_label_known(psg, tmp_path):
    headers = slpdb_headers(psg)
    assert len(headers) == 18
    montage = load_montage("slpdb")
    known = {same_label(label) for label, _ in montage.others}
    for rows in montage.channels.values():
        known |= {same_label(label) for row in rows for label, _ in row.terms}
    for record, units in headers.items():
        assert montage_by_labels(units, f"{record}.edf").name == "slpdb"
        assert [label for label in units if same_label(label) not in known] == []
    for record, wanted in {
        "slp01a": {"ECG", "C4"},  # Resp (sum) is neither belt
        "slp02a": {"ECG", "O2", "AF"},
        "slp03": {"ECG", "C3", "AF"},
        "slp32": {"ECG", "C4", "AF", "THX", "EOG-R", "EMG"},
        "slp37": {"ECG", "C4", "AF", "ABD", "EOG-R", "EMG"},
        "slp66": {"ECG", "C3", "AF", "ABD", "SpO2"},
        "slp67x": {"ECG", "C3", "AF", "THX", "SpO2"},
    }.items():
        units = headers[record]
        path = write(tmp_path / f"{record}.edf", [c3(30, n, unit=u) for n, u in units.items()])
        recording = open_recording(path)
        found = resolve(recording, choose_montage(recording))
        assert {name for name, one in found.items() if one} == wanted, record
        # C3-O1 is no C3 against a mastoid; an ECG without unit is in mV, WFDB's default.
        assert found["C3"] is None or found["C3"].stand_in
        assert found["ECG"].scale == 1000
        assert found["EOG-R"] is None or found["EOG-R"].stand_in == (record == "slp32")


def test_a_real_slpdb_minute(psg):
    recording = open_recording(psg / "slpdb_multimodal" / "slp41_60s.edf")
    montage = choose_montage(recording)
    assert montage.name == "slpdb"
    found = resolve(recording, montage)
    assert found["C4"].source == "EEG (C4-A1)" and found["C3"] is None
    assert found["AF"].transducer == "thermal" and found["ABD"].transducer == "rip"
    assert found["EOG-R"].source == "EOG (right)" and found["EOG-L"] is None
    eeg = read_channel(recording, found["C4"]).values
    assert 1 < eeg.std() < 500  # mV became µV


# ---- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, cohort, subject",
    [
        ("ucddb002 copy.rec", "ucddb", "ucddb002"),
        ("01-03-0027 PSG.edf", "mass", "01-03-0027"),
        ("01-05-0027 PSG.edf", "mass-rk", "01-05-0027"),
        ("SN001_psg.edf", "hmc", "SN001"),
        ("nfle12 copy.edf", "cap", "nfle12"),
        ("n12 copy.edf", "cap", "n12"),
        ("slp01a.edf", "slpdb", "slp01"),
        ("slp01b.edf", "slpdb", "slp01"),
        ("slp67x.edf", "slpdb", "slp67"),
        ("tr03-0005_200Hz.edf", "physionet2018", "tr03-0005"),
        ("844f68ba-265e-53e6-bf47-6c85d1804a7b_psg.edf", "dod",
         "844f68ba-265e-53e6-bf47-6c85d1804a7b"),
        ("sub-115_task-Sleep_acq-psg_eeg.edf", "boas", "sub-115"),
        ("tpdbf4cda5_e571_4f0e_be9a_1a48306b1247_psg.edf", "dcsm",
         "tpdbf4cda5_e571_4f0e_be9a_1a48306b1247"),
    ],
)  # fmt: skip
def test_subjects(name, cohort, subject):
    assert person_of(name, cohort).subject == subject


def test_slpdb_has_sixteen_men(psg):
    records = [path.stem for path in (psg / "slpdb_annotations").glob("*.hea")]
    assert len(records) == 18 and len({person_of(r, "slpdb").subject for r in records}) == 16


def test_mass_subsets_are_told_by_their_names():
    labels = labels_of("mass, SS3")
    rules = {
        subset: montage_by_labels(labels, f"01-0{subset}-0001 PSG.edf").dialect.rules
        for subset in (1, 2, 3, 4, 5)
    }
    assert rules == {1: "AASM", 2: "R&K", 3: "AASM", 4: "R&K", 5: "R&K"}
    for subset, cohort in ((1, "mass"), (5, "mass-rk")):
        file = f"01-0{subset}-0001 PSG.edf"
        assert montage_by_labels(labels, file, "MASS").name == cohort
    assert montage_by_labels(labels, "night.edf", "MASS-SS5").name == "mass-rk"


def test_no_channel_is_claimed_that_is_none_of_ours():
    for cohort in COHORTS:
        assert set(load_montage(cohort).channels) <= set(CANONICAL_CHANNELS)
