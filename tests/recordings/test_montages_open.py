"""Montages of the open archives: what their labels mean, pinned to documentation and own files."""


import pytest

from sleeplm_jax.recordings.montage import load_montage, packaged_montages
from sleeplm_jax.recordings.montage_match import choose_montage, resolve, same_label
from tests.recordings.open_labels import (
    COHORTS,
    FILES,
    cohort_of,
    edf,
    labels_of,
    montage_by_labels,
)


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
