"""Montages of the open archives, each pinned to what its documentation or its own files say.

The label lists below are written out from the sources named beside them, not from the tables.
"""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest

from sleeplm_jax.config import CANONICAL_CHANNELS, STAGES
from sleeplm_jax.recordings.channels import CHANNELS, MICROVOLT
from sleeplm_jax.recordings.events import event_kind
from sleeplm_jax.recordings.montage import Montage, load_montage, packaged_montages
from sleeplm_jax.recordings.montage_match import choose_montage, resolve, same_label
from sleeplm_jax.recordings.montage_read import read_channel
from sleeplm_jax.recordings.montage_report import report_recordings
from sleeplm_jax.recordings.montage_subjects import person_of
from sleeplm_jax.recordings.opening import open_recording
from sleeplm_jax.recordings.recording import Recording, SignalInfo
from sleeplm_jax.recordings.scoring import ALSO_CALLED, FORMATS, read_scoring
from tests.recordings.edf_files import c3, signal, write

COHORTS = (
    "sleep-edf", "ucddb", "isruc", "dcsm", "mass", "mass-rk", "hmc", "cap", "dod", "boas",
    "physionet2018", "slpdb",
)  # fmt: skip

# cohort: (file name, labels, what each canonical channel is; a channel not named is absent)
FILES = {
    # header of SC4001E0-PSG.edf (edfio's short_psg.edf)
    "sleep-edf": (
        "SC4001E0-PSG.edf",
        "EEG Fpz-Cz|EEG Pz-Oz|EOG horizontal|Resp oro-nasal|EMG submental|Temp rectal|Event marker",
        {"C3": "EEG Fpz-Cz", "EOG-L": "EOG horizontal", "AF": "Resp oro-nasal",
         "EMG": "EMG submental"},
    ),
    # the 14 labels of a .rec file (mtec-TUB/pillow, class UCDDB)
    "ucddb": (
        "ucddb002.rec",
        "C3A2|C4A1|ECG|Lefteye|RightEye|EMG|SpO2|Sound|Flow|Sum|ribcage|abdo|BodyPos|Pulse",
        {"C3": "C3A2", "C4": "C4A1", "ECG": "ECG", "EOG-L": "Lefteye", "EOG-R": "RightEye",
         "EMG": "EMG", "SpO2": "SpO2", "SNORE": "Sound", "AF": "Flow", "THX": "ribcage",
         "ABD": "abdo", "HR": "Pulse"},
    ),
    # the three montages of most ISRUC recordings (public label list)
    "isruc": (
        "1.rec",
        "E1-M2|E2-M1|F3-M2|C3-M2|O1-M2|F4-M1|C4-M1|O2-M1|X1|X2|X3|X4|X5|X6|DC4|X7|X8|SpO2|DC8|DC7",
        {"EOG-L": "E1-M2", "EOG-R": "E2-M1", "F3": "F3-M2", "C3": "C3-M2", "O1": "O1-M2",
         "F4": "F4-M1", "C4": "C4-M1", "O2": "O2-M1", "EMG": "X1", "ECG": "X2", "SNORE": "X5",
         "AF": "X6", "SpO2": "SpO2"},
    ),
    "isruc, numbered": (
        "9.rec",
        "E1-M2|E2-M1|F3-M2|C3-M2|O1-M2|F4-M1|C4-M1|O2-M1|24|25|26|27|28|29|DC01|30|31|SpO2|DC02",
        {"EOG-L": "E1-M2", "EOG-R": "E2-M1", "F3": "F3-M2", "C3": "C3-M2", "O1": "O1-M2",
         "F4": "F4-M1", "C4": "C4-M1", "O2": "O2-M1", "EMG": "24", "ECG": "25", "SNORE": "28",
         "AF": "29", "SpO2": "SpO2"},
    ),
    "isruc, ears": (
        "3.rec",
        "LOC-A2|ROC-A1|F3-A2|C3-A2|O1-A2|F4-A1|C4-A1|O2-A1|X1|X2|X3|X4|X5|X6|DC3|X7|X8|SaO2|DC8",
        {"EOG-L": "LOC-A2", "EOG-R": "ROC-A1", "F3": "F3-A2", "C3": "C3-A2", "O1": "O1-A2",
         "F4": "F4-A1", "C4": "C4-A1", "O2": "O2-A1", "EMG": "X1", "ECG": "X2", "SNORE": "X5",
         "AF": "X6", "SpO2": "SaO2"},
    ),
    "isruc, bare leads": (
        "40.rec",
        "ROC|A1|LOC|A2|C4|O2|C3|O1|F4|F3|X1|X2|X3|X4|X5|X6|X7|X8|DC8|DC3|SaO2",
        {"EOG-L": "LOC - A2", "EOG-R": "ROC - A1", "F3": "F3 - A2", "C3": "C3 - A2",
         "O1": "O1 - A2", "F4": "F4 - A1", "C4": "C4 - A1", "O2": "O2 - A1", "EMG": "X1",
         "ECG": "X2", "SNORE": "X5",
         "AF": "X6", "SpO2": "SaO2"},
    ),
    # mtec-TUB/pillow, class DCSM; both eyes against M2
    "dcsm": (
        "psg.edf",
        "E1-M2|E2-M2|F3-M2|F4-M1|C3-M2|C4-M1|O1-M2|O2-M1|LAT|RAT|SNORE|NASAL|THORAX|ABDOMEN|SPO2"
        "|CHIN|ECG-II",
        {"EOG-L": "E1-M2", "EOG-R": "E2-M2", "F3": "F3-M2", "F4": "F4-M1", "C3": "C3-M2",
         "C4": "C4-M1", "O1": "O1-M2", "O2": "O2-M1", "LEG-L": "LAT", "LEG-R": "RAT",
         "SNORE": "SNORE", "AF": "NASAL", "THX": "THORAX", "ABD": "ABDOMEN", "SpO2": "SPO2",
         "EMG": "CHIN", "ECG": "ECG-II"},
    ),
    # README of neergaard/msed: 23 SS1 files, 18 of them -CLE
    "mass": (
        "01-01-0001 PSG.edf",
        "EOG Left Horiz|EOG Right Horiz|EMG Chin1|EMG Chin2|EMG Chin3|EEG F3-CLE|EEG F4-CLE"
        "|EEG C3-CLE|EEG C4-CLE|EEG O1-CLE|EEG O2-CLE|ECG ECGI|EMG Ant Tibial L|EMG Ant Tibial R"
        "|Resp Thermistor|Resp Cannula|Resp Belt Thor|Resp Belt Abdo|EEG F7-CLE|EEG F8-CLE"
        "|EEG T3-CLE|EEG T4-CLE|EEG T5-CLE|EEG T6-CLE|EEG P3-CLE|EEG P4-CLE|EEG Fz-CLE|EEG Cz-CLE"
        "|EEG Pz-CLE|EEG A2-CLE|SaO2 SaO2",
        {"EOG-L": "EOG Left Horiz", "EOG-R": "EOG Right Horiz", "F3": "EEG F3-CLE",
         "F4": "EEG F4-CLE", "C3": "EEG C3-CLE", "C4": "EEG C4-CLE", "O1": "EEG O1-CLE",
         "O2": "EEG O2-CLE", "ECG": "ECG ECGI", "LEG-L": "EMG Ant Tibial L",
         "LEG-R": "EMG Ant Tibial R", "AF": "Resp Cannula", "THX": "Resp Belt Thor",
         "ABD": "Resp Belt Abdo", "EMG": "[EMG Chin1] - [EMG Chin2]", "SpO2": "SaO2 SaO2"},
    ),
    # perslev/U-Time mass-c3.md
    "mass, SS3": (
        "01-03-0001 PSG.edf",
        "EOG Left Horiz|EOG Right Horiz|EEG Fp1-LER|EEG Fp2-LER|EEG F7-LER|EEG F8-LER|EEG F3-LER"
        "|EEG F4-LER|EEG T3-LER|EEG T4-LER|EEG C3-LER|EEG C4-LER|EEG T5-LER|EEG T6-LER|EEG P3-LER"
        "|EEG P4-LER|EEG O1-LER|EEG O2-LER|EEG Fz-LER|EEG Cz-LER|EEG Pz-LER|EEG Oz-LER|EEG A2-LER"
        "|EMG Chin1|EMG Chin2|EMG Chin3|ECG ECGI",
        {"EOG-L": "EOG Left Horiz", "EOG-R": "EOG Right Horiz", "F3": "EEG F3-LER",
         "F4": "EEG F4-LER", "C3": "EEG C3-LER", "C4": "EEG C4-LER", "O1": "EEG O1-LER",
         "O2": "EEG O2-LER", "ECG": "ECG ECGI", "EMG": "[EMG Chin1] - [EMG Chin2]"},
    ),
    # SS4_Channels of a public loader
    "mass-rk": (
        "01-04-0001 PSG.edf",
        "EEG C3-CLE|EEG C4-CLE|EEG O1-CLE|EEG O2-CLE|EOG Upper Vertic|EOG Lower Vertic"
        "|EOG Left Horiz|EOG Right Horiz|EMG Chin|ECG ECGI|ECG ECGII|ECG ECGIII|Resp Nasal"
        "|EEG A2-CLE|SaO2 SaO2",
        {"EOG-L": "EOG Left Horiz", "EOG-R": "EOG Right Horiz", "C3": "EEG C3-CLE",
         "C4": "EEG C4-CLE", "O1": "EEG O1-CLE", "O2": "EEG O2-CLE", "EMG": "EMG Chin",
         "ECG": "ECG ECGI", "AF": "Resp Nasal", "SpO2": "SaO2 SaO2"},
    ),
    # mtec-TUB/pillow, class HMC; Deng-GuiFeng/LPSGM HMC.py; both eyes against M2, one frontal lead
    "hmc": (
        "SN001.edf",
        "EEG F4-M1|EEG C4-M1|EEG O2-M1|EEG C3-M2|EMG chin|EOG E1-M2|EOG E2-M2|ECG",
        {"F4": "EEG F4-M1", "C4": "EEG C4-M1", "O2": "EEG O2-M1", "C3": "EEG C3-M2",
         "EMG": "EMG chin", "EOG-L": "EOG E1-M2", "EOG-R": "EOG E2-M2", "ECG": "ECG"},
    ),
    # labels that occur together in the most of 108 files (mtec-TUB/pillow, class CAP, and a public
    # list of channel sets)
    "cap": (
        "n1.edf",
        "Fp2-F4|F4-C4|C4-P4|P4-O2|F8-T4|T4-T6|FP1-F3|F3-C3|C3-P3|P3-O1|F7-T3|T3-T5|C4-A1|ROC-LOC"
        "|EMG1-EMG2|ECG1-ECG2|DX1-DX2|SX1-SX2|SAO2|HR|PLETH|STAT|MIC|TORACE|ADDOME|Position",
        {"C4": "C4-A1", "F4": "F4-C4 + C4-A1", "O2": "C4-A1 - C4-P4 - P4-O2", "EOG-L": "ROC-LOC",
         "EMG": "EMG1-EMG2", "ECG": "ECG1-ECG2", "LEG-R": "DX1-DX2", "LEG-L": "SX1-SX2",
         "SpO2": "SAO2", "HR": "HR", "SNORE": "MIC", "THX": "TORACE", "ABD": "ADDOME"},
    ),
    # dreem-learning-open: description.json of each, and convert_data_to_edf.py's labels
    "dod": (
        "844f68ba-265e-53e6-bf47-6c85d1804a7b.edf",
        "C3_M2|F3_F4|F3_M2|F3_O1|F4_M1|F4_O2|FP1_F3|FP1_M2|FP1_O1|FP2_F4|FP2_M1|FP2_O2|EMG|ECG"
        "|EOG1|EOG2",
        {"C3": "C3_M2", "F3": "F3_M2", "F4": "F4_M1", "O1": "F3_M2 - F3_O1",
         "O2": "F4_M1 - F4_O2", "EMG": "EMG", "ECG": "ECG", "EOG-L": "EOG1", "EOG-R": "EOG2"},
    ),
    "dod, O": (
        "psg.edf",
        "C3_M2|C4_M1|F3_F4|F3_M2|F4_O2|F3_O1|O1_M2|O2_M1|EMG|ECG|EOG1|EOG2",
        {"C3": "C3_M2", "C4": "C4_M1", "F3": "F3_M2", "F4": "O2_M1 + F4_O2", "O1": "O1_M2",
         "O2": "O2_M1", "EMG": "EMG", "ECG": "ECG", "EOG-L": "EOG1", "EOG-R": "EOG2"},
    ),
    # channels.tsv of sub-115
    "boas": (
        "sub-115_task-Sleep_acq-psg_eeg.edf",
        "PSG_F3|PSG_F4|PSG_C3|PSG_C4|PSG_O1|PSG_O2|PSG_EOGL|PSG_EOGR|PSG_THER|PSG_CAN|PSG_THOR"
        "|PSG_ABD|PSG_EMG|PSG_PULSE|PSG_BEAT|PSG_SPO2",
        {"F3": "PSG_F3", "F4": "PSG_F4", "C3": "PSG_C3", "C4": "PSG_C4", "O1": "PSG_O1",
         "O2": "PSG_O2", "EOG-L": "PSG_EOGL", "EOG-R": "PSG_EOGR", "AF": "PSG_CAN",
         "THX": "PSG_THOR", "ABD": "PSG_ABD", "EMG": "PSG_EMG", "HR": "PSG_BEAT",
         "SpO2": "PSG_SPO2"},
    ),
    # tr03-0005.hea: one eye
    "physionet2018": (
        "tr03-0005.edf",
        "F3-M2|F4-M1|C3-M2|C4-M1|O1-M2|O2-M1|E1-M2|Chin1-Chin2|ABD|CHEST|AIRFLOW|SaO2|ECG",
        {"F3": "F3-M2", "F4": "F4-M1", "C3": "C3-M2", "C4": "C4-M1", "O1": "O1-M2",
         "O2": "O2-M1", "EOG-L": "E1-M2", "EMG": "Chin1-Chin2", "ABD": "ABD", "THX": "CHEST",
         "AF": "AIRFLOW", "SpO2": "SaO2", "ECG": "ECG"},
    ),
    # slp41.hea
    "slpdb": (
        "slp41.edf",
        "ECG|BP|EEG (C4-A1)|Resp (nasal)|Resp (abdominal)|EOG (right)|EMG",
        {"ECG": "ECG", "C4": "EEG (C4-A1)", "AF": "Resp (nasal)", "ABD": "Resp (abdominal)",
         "EOG-R": "EOG (right)", "EMG": "EMG"},
    ),
}  # fmt: skip


def cohort_of(name: str) -> str:
    return name.split(",")[0]


def labels_of(name: str) -> list[str]:
    return FILES[name][1].split("|")


def montage_by_labels(labels, file: str, cohort: str | None = None) -> Montage:
    """The montage chosen for a file of that name with those labels; its samples do not matter."""
    infos = tuple(SignalInfo(label, "uV", 100.0, -1.0, 1.0, 3000, "", "") for label in labels)
    return choose_montage(Recording(Path(file), infos, 30.0, None, (), None), cohort)


def edf(folder, file: str, labels, seconds=30):
    return open_recording(write(folder / file, [c3(seconds, label) for label in labels]))


@pytest.mark.parametrize("name", FILES)
def test_labels_mean_what_the_archive_says(tmp_path, name):
    file, _, wanted = FILES[name]
    recording = edf(tmp_path, file, labels_of(name))
    montage = choose_montage(recording)
    assert montage.name == cohort_of(name)
    found = {
        channel: resolution.source
        for channel, resolution in resolve(recording, montage).items()
        if resolution is not None
    }
    assert found == wanted


@pytest.mark.parametrize("name", FILES)
def test_no_other_montage_claims_a_cohorts_file(name):
    file, present = FILES[name][0], set(map(same_label, labels_of(name)))
    claims = {
        montage.name
        for montage in packaged_montages()
        for labels, pattern, _ in montage.matches
        if set(map(same_label, labels)) <= present
        and montage_by_labels(labels_of(name), file).name == montage.name
    }
    assert claims == {cohort_of(name)}
    # And its own rules fit the files of no other cohort.
    own = load_montage(cohort_of(name))
    for other in FILES:
        if cohort_of(other) != own.name:
            assert montage_by_labels(labels_of(other), FILES[other][0]).name != own.name


@pytest.mark.parametrize("name", FILES)
def test_every_label_of_a_cohort_is_accounted_for(name):
    montage = load_montage(cohort_of(name))
    known = {same_label(label) for label, _ in montage.others}
    for rows in montage.channels.values():
        known |= {same_label(label) for row in rows for label, _ in row.terms}
    assert [label for label in labels_of(name) if same_label(label) not in known] == []


# Labels of some nights only, from the sources that the tables name (CAP's are partly Italian: sx,
# sinistra, is left and dx, destra, right).
RARE = {
    "cap": {
        "ECG": ("ECG1|ECG2", "ECG", "ekg"),
        "ABD": ("ADDDOME", "Abdo", "abdomen"),
        "THX": ("Torace", "toracico", "thorax"),
        "AF": ("cannula", "Canula", "TERMISTORE", "Flow", "Flusso"),
        "EOG-L": ("LOC|A2", "LOC-A1", "EOG-L", "EOG sin", "LOC-ROC"),
        "EOG-R": ("ROC|A1", "ROC-A2", "EOG-R", "EOG dx"),
        "C3": ("C3-A2", "C3A2", "C3|A2"),
        "C4": ("C4A1", "C4|A1"),
        "F3": ("F3A2", "F3|A2"),
        "F4": ("F4A1", "F4|A1"),
        "O1": ("O1A2", "O1|A2"),
        "O2": ("O2-A1", "O2A1", "O2|A1"),
        "EMG": ("CHIN1|CHIN2", "EMG1|EMG2", "EMG-EMG", "EMG"),
        "SpO2": ("SpO2",),
        "SNORE": ("Sound",),
        "LEG-L": ("SX1|SX2", "Tib sx", "TIB Sx", "tib sin"),
        "LEG-R": ("DX1|DX2", "Dx1-DX2", "TIB Dx", "tib dx"),
    },
    "ucddb": {"SNORE": ("Soud",), "LEG-L": ("Left leg",), "LEG-R": ("Right leg",)},
    "slpdb": {
        "ABD": ("Resp (abdomen)",), "THX": ("Resp (chest)",), "EOG-R": ("EOG",),
        "O2": ("EEG (O2-A1)",), "SpO2": ("SO2",),
    },
    "isruc": {"AF": ("DC3",)},
    "boas": {"AF": ("PSG_THER",), "EOG-L": ("PSG_EOG",)},
    "mass": {"ECG": ("ECG I",), "AF": ("Resp Thermistor",)},
    "mass-rk": {
        "ECG": ("ECG I",), "C3": ("EEG C3-LER",), "C4": ("EEG C4-LER",), "F3": ("EEG F3-LER",),
        "F4": ("EEG F4-LER",), "O1": ("EEG O1-LER",), "O2": ("EEG O2-LER",),
        "EMG": ("EMG Chin1|EMG Chin2",),
    },
}  # fmt: skip


@pytest.mark.parametrize(
    "cohort, channel, labels",
    [(c, ch, text) for c, rows in RARE.items() for ch, texts in rows.items() for text in texts],
)
def test_labels_of_some_nights(tmp_path, cohort, channel, labels):
    labels = labels.split("|")
    found = resolve(edf(tmp_path, "a.edf", labels, 1), load_montage(cohort))
    assert {name: set(one.labels) for name, one in found.items() if one} == {channel: set(labels)}


@pytest.mark.parametrize(
    "cohort, transducers",
    [
        ("sleep-edf", {"AF": "thermal"}),
        ("ucddb", {"AF": "thermal", "ABD": "strain_gauge", "THX": "strain_gauge",
                   "SNORE": "microphone", "SpO2": "oximeter"}),
        ("dcsm", {"AF": "nasal_pressure"}),
        ("mass", {"AF": "nasal_pressure"}),
        ("cap", {"SNORE": "microphone"}),
        ("boas", {"AF": "nasal_pressure", "HR": "oximeter"}),
        ("slpdb", {"AF": "thermal", "ABD": "rip"}),
        # Nothing read says what these flows were measured with.
        ("isruc", {"AF": None}),
        ("physionet2018", {"AF": None}),
        ("mass-rk", {"AF": None}),
    ],
)  # fmt: skip
def test_transducers(tmp_path, cohort, transducers):
    recording = edf(tmp_path, FILES[cohort][0], labels_of(cohort), 1)
    found = resolve(recording, load_montage(cohort))
    assert {channel: found[channel].transducer for channel in transducers} == transducers


@pytest.mark.parametrize(
    "cohort, label, transducer",
    [("cap", "cannula", "nasal_pressure"), ("cap", "Canula", "nasal_pressure"),
     ("cap", "TERMISTORE", "thermal"), ("mass", "Resp Thermistor", "thermal"),
     ("boas", "PSG_THER", "thermal")],
)  # fmt: skip
def test_transducers_of_second_choices(tmp_path, cohort, label, transducer):
    found = resolve(edf(tmp_path, "a.edf", [label], 1), load_montage(cohort))
    assert found["AF"].transducer == transducer


@pytest.mark.parametrize(
    "cohort, label",
    [("isruc", "SaO2"), ("dcsm", "SPO2"), ("mass", "SaO2 SaO2"), ("mass-rk", "SaO2 SaO2"),
     ("cap", "SAO2"), ("boas", "PSG_SPO2"), ("physionet2018", "SaO2"), ("slpdb", "SO2")],
)  # fmt: skip
def test_saturation_is_an_oximeters(tmp_path, cohort, label):
    found = resolve(edf(tmp_path, "a.edf", [label], 1), load_montage(cohort))
    assert found["SpO2"].transducer == "oximeter"


@pytest.mark.parametrize(
    "labels",
    ["X3|X4", "26|27", "X7|X8", "30|31", "X7-X8", "DC8"],
)
def test_isruc_inputs_whose_place_is_not_settled_are_not_read(tmp_path, labels):
    found = resolve(edf(tmp_path, "a.edf", labels.split("|"), 1), load_montage("isruc"))
    assert not any(found.values())


@pytest.mark.parametrize("cohort", COHORTS)
def test_tables_name_their_sources(cohort):
    montage = load_montage(cohort)
    assert montage.sources and montage.dialect.citation != "unverified"
    rows = {label for rows in montage.channels.values() for row in rows for label, _ in row.terms}
    others = {same_label(label) for label, _ in montage.others}
    # A label is a channel's or none's, never both; only Sleep-EDF's, CAP's and MASS' further leads
    # are in `others`, so a slip there would hide a channel.
    assert others.isdisjoint(map(same_label, rows))


@pytest.mark.parametrize(
    "file, labels",
    [
        # A clinic's own recordings carry the labels of HMC and of the 2018 challenge.
        ("patient 12.edf", FILES["hmc"][1].replace("EEG ", "").replace("EOG ", "")),
        ("patient 12.edf", FILES["physionet2018"][1]),
        ("patient 12.edf", FILES["slpdb"][1]),
        ("SN1.edf", "EEG F4-M1|EEG C4-M1|EEG O2-M1|EMG chin|EOG E1-M2|EOG E2-M2|ECG"),  # PSG-IPA
        ("ucddb002_lifecard.edf", "chan 1|chan 2|chan 3"),  # Holter ECG beside the .rec
        ("sub-1_task-Sleep_acq-headband_eeg.edf", "HB_1|HB_2|HB_PULSE"),
        ("a.edf", FILES["mass, SS3"][1]),  # SS3 or SS5: only the name tells
    ],
)
def test_what_is_not_told_by_the_labels_is_not_guessed(file, labels):
    assert montage_by_labels(labels.split("|"), file).name == "generic"


# ---- scoring: what the file alone does not tell --------------------------------------------------


@pytest.mark.parametrize(
    "cohort, form, rules, epoch_s, flag",
    [
        ("sleep-edf", "edf+", "R&K", 30, "staged_on_fpz_cz_and_pz_oz"),
        ("ucddb", "ucddb", "R&K", 30, None),
        ("isruc", "isruc", "AASM", 30, "two_scorers"),
        ("dcsm", "dcsm", "AASM", 30, None),
        ("mass", "edf+", "AASM", 30, None),
        ("mass-rk", "edf+", "R&K", 20, None),
        ("hmc", "hmc", "AASM 2.4", 30, None),
        ("cap", "cap", "R&K", 30, None),
        ("dod", "dod", "AASM", 30, "five_scorers"),
        ("boas", "bids", "AASM 2.2", 30, "recording_is_not_person"),
        ("physionet2018", "physionet2018", "AASM", 30, "arousal_regions_are_padded_targets"),
        ("slpdb", "wfdb", "R&K", 30, "events_have_an_epoch_only"),
    ],
)
def test_how_each_cohort_was_scored(cohort, form, rules, epoch_s, flag):
    dialect = load_montage(cohort).dialect
    assert (dialect.format, dialect.rules, dialect.epoch_s) == (form, rules, epoch_s)
    assert ALSO_CALLED.get(form, form) in FORMATS
    assert flag is None or flag in dialect.flags


@pytest.mark.parametrize(
    "cohort, stages",
    [
        # 1 is REM here; reading it as NSRR's code halves the kappa of a good stager.
        ("ucddb", {"0": "W", "1": "R", "2": "N1", "3": "N2", "4": "N3", "5": "N3",
                   "6": "unscored", "7": "unscored", "8": "unscored"}),
        ("isruc", {"0": "W", "1": "N1", "2": "N2", "3": "N3", "5": "R"}),
        ("boas", {"0": "W", "1": "N1", "2": "N2", "3": "N3", "4": "R", "8": "unscored"}),
        ("dod", {"-1": "unscored", "0": "W", "1": "N1", "2": "N2", "3": "N3", "4": "R"}),
    ],
)  # fmt: skip
def test_digits_are_read_by_the_cohorts_own_map(cohort, stages):
    assert stages.items() <= dict(load_montage(cohort).dialect.stages).items()


def test_ucddb_codes_give_the_documented_counts_of_a_real_night(psg):
    # ucddb_eeg/README.md: W 328, N1 58, N2 280, N3 137, R 19 of the recording's 822 epochs.
    path = psg / "ucddb_eeg" / "stages" / "ucddb018_stage.txt"
    stages = read_scoring(path, 822 * 30.0, dialect=load_montage("ucddb").dialect).stages
    assert [int((stages == stage).sum()) for stage in range(5)] == [328, 58, 280, 137, 19]
    codes = path.read_text().split()[:822]
    own = dict(load_montage("ucddb").dialect.stages)
    assert [STAGES[stage] for stage in stages] == [own[code] for code in codes]


def test_ucddb_periodic_breathing_is_no_apnoea():
    # Counting it, or what the scorer calls possible, spoils the AHI that the archive gives.
    events = load_montage("ucddb").dialect.events
    assert event_kind("PB", events) == "cheyne_stokes" and event_kind("POSSIBLE", events) == "other"


@pytest.mark.parametrize(
    "cohort, file",
    [
        ("sleep-edf", "sleepedf_hypnograms/edf/SC4001EC-Hypnogram.edf"),
        ("ucddb", "ucddb_eeg/stages/ucddb002_stage.txt"),
        ("boas", "openneuro_ds005555_boas/sub-115/eeg/sub-115_task-Sleep_acq-psg_events.tsv"),
        ("slpdb", "slpdb_annotations/slp41.st"),
        ("physionet2018", "physionet2018_arousals/tr03-0005.arousal"),
        ("dod", "dreem_dod_scorers/scorers/dodh/scorer_1/"
                "844f68ba-265e-53e6-bf47-6c85d1804a7b.json"),
    ],
)  # fmt: skip
def test_a_real_scoring_states_its_cohorts_rules(psg, cohort, file):
    dialect = load_montage(cohort).dialect
    scoring = read_scoring(psg / file, None, dialect=dialect)
    assert (scoring.stages >= 0).any()
    assert scoring.provenance.rules == dialect.rules
    assert scoring.provenance.cohort_flags == dialect.flags


# ---- what differs by cohort ----------------------------------------------------------------------


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
