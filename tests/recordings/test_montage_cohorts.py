"""What the tables of the NSRR cohorts say, pinned to the pages they come from.

Pages: nsrr/*-documentation (published on sleepdata.org). Files here hold the labels of a cohort's
recordings and a signal of its own for each, so that a wrong row reads another signal.
"""

import csv

import numpy as np
import pytest

from sleeplm_jax.recordings.montage import cohort_montages, load_montage
from sleeplm_jax.recordings.montage_match import choose_montage, resolve, same_label
from sleeplm_jax.recordings.montage_read import read_channel
from sleeplm_jax.recordings.montage_subjects import family_of, person_of
from sleeplm_jax.recordings.opening import open_recording
from sleeplm_jax.recordings.prepare import prepare_night
from tests.recordings.edf_files import signal, tone, write

SECONDS = 60
SHHS = ["SaO2", "H.R.", "EEG(sec)", "ECG", "EMG", "EOG(L)", "EOG(R)", "EEG", "AIRFLOW", "THOR RES",
        "ABDO RES", "POSITION", "LIGHT", "NEW AIR", "OX stat"]  # fmt: skip
MROS1 = ["Position", "Leg L", "Leg R", "C3", "C4", "A1", "A2", "ROC", "LOC", "ECG L", "ECG R",
         "L Chin", "R Chin", "Airflow", "SUM", "Thoracic", "Abdominal", "STAT", "HR", "SaO2",
         "Cannula Flow", "DHR"]  # fmt: skip
MROS2 = ["Position", "LegL", "LegR", "C3", "C4", "M1", "M2", "E2", "E1", "ECGL", "ECGR", "LChin",
         "RChin", "Airflow", "SUM", "Chest", "ABD", "STAT", "HR", "SpO2", "CannulaFlow",
         "DHR"]  # fmt: skip
MESA = ["EKG", "EOG-L", "EOG-R", "EMG", "EEG1", "EEG2", "EEG3", "Pleth", "Flow", "Snore", "Thor",
        "Abdo", "Leg", "Therm", "Pos", "EKG_Off", "EEG3_Off", "OxStatus", "SpO2", "HR",
        "DHR"]  # fmt: skip
CFS = ["C3", "C4", "M1", "M2", "LOC", "ROC", "ECG1", "ECG2", "EMG1", "EMG2", "EMG3", "L Leg",
       "R Leg", "AIRFLOW", "THOR EFFORT", "ABDO EFFORT", "SNORE", "SUM", "POSITION", "OX STATUS",
       "PULSE", "SpO2", "NASAL PRES", "PlethWV"]  # fmt: skip
CCSHS = ["C3", "C4", "A1", "A2", "LOC", "ROC", "ECG1", "ECG2", "EMG1", "EMG2", "EMG3", "LEFT LEG1",
         "LEFT LEG2", "RIGHT LEG1", "RIGHT LEG2", "AIRFLOW", "THOR EFFORT", "ABDO EFFORT",
         "SNORE", "SUM", "POSITION", "PULSE", "SpO2", "NASAL PRES"]  # fmt: skip
SOF = ["Position", "Leg/L", "Leg/R", "C3", "C4", "A1", "A2", "ROC", "LOC", "ECG1", "ECG2", "L Chin",
       "R Chin", "Airflow", "Thoracic", "Abdominal", "STAT", "HR", "SAO2",
       "Cannula Flow"]  # fmt: skip
CHAT = ["E1", "E2", "F3", "F4", "C3", "C4", "T3", "T4", "O1", "O2", "M1", "M2", "Lchin", "Rchin",
        "Cchin", "ECG1", "ECG2", "ECG3", "RLeg1", "RLeg2", "LLeg1", "LLeg2", "Airflow",
        "CannulaFlow", "Chest", "ABD", "SUM", "SpO2", "Position", "Snore"]  # fmt: skip
WSC = ["C3_M2", "F3_M2", "O1_M2", "Cz_M2", "E1", "E2", "cchin_l", "ECG", "lleg_r", "snore", "flow",
       "nas_pres", "thorax", "abdomen", "spo2", "position"]  # fmt: skip
APPLES = ["ECG", "pulse", "snore", "SpO2", "C3_M2", "C4_M1", "O1_M2", "O2_M1", "thermistor",
          "nasal_pres", "abdomen", "thorax", "EMG", "LOC", "ROC", "LEG"]  # fmt: skip
STAGES = ["EEG_F3-A2", "EEG_A1-A2", "EEG_C3-A2", "EEG_C4-A1", "EEG_O1-A2", "EOG_LOC-A2",
          "EOG_ROC-A2", "EMG_Chin", "Leg_1", "ECG_II", "RR", "Snore", "Effort_THO", "Effort_ABD",
          "SpO2", "Pleth", "Body", "PulseRate", "Flow_Patient", "EEG_C3-A22", "ECG_II2",
          "PressCheck"]  # fmt: skip


def night(tmp_path, name, labels):
    """A recording with these labels; signal i is a tone of i + 1 µV."""
    waves = [tone(5, i + 1.0, SECONDS) for i in range(len(labels))]
    waves = [signal(label, wave, bound=100) for label, wave in zip(labels, waves, strict=True)]
    return open_recording(write(tmp_path / f"{name}.edf", waves))


def sources(tmp_path, name, labels):
    recording = night(tmp_path, name, labels)
    montage = choose_montage(recording)
    resolved = resolve(recording, montage)
    return montage.name, {k: r.source for k, r in resolved.items() if r}, resolved, recording


@pytest.mark.parametrize(
    "name, labels, montage, wanted",
    [
        ("shhs1-200001", SHHS, "shhs", {"C3": "EEG(sec)", "C4": "EEG", "AF": "NEW AIR",
         "EOG-L": "EOG(L)", "THX": "THOR RES", "ABD": "ABDO RES", "HR": "H.R."}),
        ("mros-visit1-aa0001", MROS1, "mros1", {"C3": "C3 - A2", "C4": "C4 - A1",
         "EOG-L": "LOC - A2", "EOG-R": "ROC - A1", "EMG": "[L Chin] - [R Chin]",
         "ECG": "[ECG L] - [ECG R]", "AF": "Cannula Flow", "LEG-L": "Leg L"}),
        ("mros-visit2-aa0001", MROS2, "mros2", {"C3": "C3 - M2", "C4": "C4 - M1",
         "EOG-L": "E1 - M2", "EOG-R": "E2 - M1", "THX": "Chest", "ABD": "ABD"}),
        ("mesa-sleep-0001", MESA, "mesa", {"C4": "EEG3", "EOG-L": "EOG-L", "EOG-R": "EOG-R",
         "AF": "Flow", "ECG": "EKG", "POS": "Pos", "SNORE": "Snore", "LEG-L": "Leg"}),
        ("cfs-visit5-800002-famID715", CFS, "cfs", {"C3": "C3 - M2", "C4": "C4 - M1",
         "EOG-L": "LOC - M2", "EMG": "EMG1 - EMG2", "AF": "NASAL PRES", "LEG-R": "R Leg"}),
        ("ccshs-trec-1800001", CCSHS, "ccshs", {"C3": "C3 - A2", "EOG-R": "ROC - A1",
         "LEG-L": "[LEFT LEG1] - [LEFT LEG2]", "HR": "PULSE"}),
        ("sof-visit-8-00004", SOF, "sof", {"C3": "C3 - A2", "LEG-L": "Leg/L", "LEG-R": "Leg/R",
         "SpO2": "SAO2", "AF": "Cannula Flow"}),
        ("chat-baseline-300001", CHAT, "chat", {"C3": "C3 - M2", "F4": "F4 - M1", "O2": "O2 - M1",
         "EMG": "Lchin - Cchin", "EOG-R": "E2 - M1", "LEG-L": "LLeg1 - LLeg2",
         "ECG": "ECG2 - ECG1", "AF": "CannulaFlow"}),
        ("wsc-visit1-10119-nsrr", WSC, "wsc", {"C3": "C3_M2", "F3": "F3_M2", "O1": "O1_M2",
         "EOG-L": "E1", "EMG": "cchin_l", "AF": "nas_pres", "LEG-L": "lleg_r"}),
        ("apples-130001", APPLES, "apples", {"C3": "C3_M2", "C4": "C4_M1", "O1": "O1_M2",
         "O2": "O2_M1", "AF": "nasal_pres", "EOG-L": "LOC", "SNORE": "snore"}),
        ("GSDV00001_1", STAGES, "stages", {"C3": "EEG_C3-A2", "C4": "EEG_C4-A1", "O1": "EEG_O1-A2",
         "EOG-L": "EOG_LOC-A2", "EOG-R": "EOG_ROC-A2", "ECG": "ECG_II", "THX": "Effort_THO",
         "LEG-L": "Leg_1", "HR": "PulseRate"}),
    ],
)  # fmt: skip
def test_a_cohorts_file_chooses_its_table_and_its_rows(tmp_path, name, labels, montage, wanted):
    found, by_channel, _, _ = sources(tmp_path, name, labels)
    assert found == montage
    assert {key: by_channel.get(key) for key in wanted} == wanted


def test_shhs_eeg_is_c4_and_its_second_eeg_c3(tmp_path):
    # Pages 10 and 11: EEG (sec) has the inputs C3, A2 and EEG C4, A1; page 08 calls them EEG2 and
    # EEG. Published code has it reversed.
    for second in ("EEG(sec)", "EEG(SEC)", "EEG sec", "EEG 2", "EEG2"):
        labels = [second if label == "EEG(sec)" else label for label in SHHS]
        _, found, resolved, recording = sources(tmp_path, "shhs1-200001", labels)
        assert (found["C3"], found["C4"]) == (second, "EEG")
        for channel, index in (("C3", 2), ("C4", 7)):
            values = read_channel(recording, resolved[channel]).values
            np.testing.assert_allclose(values, tone(5, index + 1, SECONDS), atol=0.01)
    for row in load_montage("shhs").channels["EOG-L"] + load_montage("shhs").channels["EOG-R"]:
        assert "PG1" in row.note  # SHHS refers the eyes to PG1, MESA to Fpz


def test_nsrr_pages_and_tables_agree(psg):
    """Every EDF label of NSRR's pages for SHHS, MESA and CFS is a row's, or known as no channel."""
    page = {"Left EOG": "EOG-L", "Right EOG": "EOG-R", "Thorax": "THX", "Abdomen": "ABD",
            "SpO2": "SpO2", "Heart Rate": "HR", "Pulse": "HR", "Derived Heart Rate": "HR",
            "EMG": "EMG", "ECG": "ECG", "ECG1": "ECG", "ECG2": "ECG", "Airflow": "AF",
            "Airflow (alternate)": "AF", "Nasal Pressure": "AF", "Thermistor": "AF",
            "Position": "POS", "Snore": "SNORE", "Left Central EEG": "C3",
            "Right Central EEG": "C4", "Center Chin EMG": "EMG", "Left Submentalis EMG": "EMG",
            "Right Submentalis EMG": "EMG", "Left Leg EMG": "LEG-L", "Right Leg EMG": "LEG-R",
            "Linked Left & Right Leg EMG": "LEG-L", "Left Mastoid EEG": "C4",
            "Right Mastoid EEG": "C3"}  # fmt: skip
    linked = {("C3", "A2"): "C3", ("C4", "A1"): "C4", ("C4", "M1"): "C4"}
    rows = list(csv.DictReader((psg / "channel_names" / "nsrr_montages.csv").open()))
    checked = 0
    for row in rows:
        # The slip of page 11, second block: see the note in shhs.yaml.
        slip = row["part"] == "SHHS2v4" and row["channel"] in ("Thorax", "Abdomen")
        if row["edf_label"] == "-" or slip:
            continue
        channel = page.get(row["channel"]) or linked.get((row["input_1"], row["input_2"]))
        label, montage = same_label(row["edf_label"]), load_montage(row["cohort"].rstrip("12"))
        named = {
            key for key, candidates in montage.channels.items() for one in candidates
            if label in {same_label(term) for term, _ in one.terms}
        }  # fmt: skip
        if channel is None:
            assert label in {same_label(name) for name, _ in montage.others}, row
        else:
            assert channel in named, row
        checked += 1
    assert checked == len(rows) - 9 - 2  # rows of REF and Ground; the slip


def test_position_codes_follow_each_cohorts_page(tmp_path):
    codes = np.repeat([0.0, 1, 2, 3, 4], SECONDS // 5)
    right, left, supine, prone, upright, unknown = 0, 1, 2, 3, 4, -1
    for name, label, labels, expected in (
        # SHHS pages 08 and 09: 0 right, 1 left, 2 back, 3 front.
        ("shhs2-200001", "POSITION", SHHS, [right, left, supine, prone, unknown]),
        # MESA montage page, Notes: 0 right, 1 back, 2 left, 3 prone, 4 upright.
        ("mesa-sleep-0001", "Pos", MESA, [right, supine, left, prone, upright]),
    ):
        others = [signal(x, tone(5, 9, SECONDS), bound=100) for x in labels if x != label]
        path = tmp_path / f"{name}.edf"
        write(path, [*others, signal(label, codes, 1, unit="", bound=5)])
        recording = open_recording(path)
        found = resolve(recording, choose_montage(recording))["POS"]
        assert read_channel(recording, found).values[:: SECONDS // 5].tolist() == expected


@pytest.mark.parametrize("cohort", ["mros1", "cfs", "ccshs", "sof", "chat", "wsc", "stages"])
def test_positions_with_undocumented_codes_are_not_read(cohort):
    assert all(row.unusable for row in load_montage(cohort).channels["POS"])


def test_mros_unsure_is_a_hypopnoea_and_chats_a_mixed_apnoea():
    # MrOS, MESA: polysomnography-introduction.md, "Hypopnea event tags"; CHAT's: "Events using the
    # `Unsure` tag are Mixed Apneas".
    for name, kind in (("mros1", "hypopnea"), ("mros2", "hypopnea"), ("mesa", "hypopnea"),
                       ("cfs", "hypopnea"), ("chat", "mixed_apnea")):  # fmt: skip
        assert dict(load_montage(name).dialect.events) == {"unsure": kind}
    assert load_montage("shhs").dialect.events == () and load_montage("shhs").dialect.rules == "R&K"
    assert dict(load_montage("wsc").dialect.stages)["5"] == "R"


def test_mros_eyes_are_left_and_right_though_the_page_swaps_them(tmp_path):
    # equipment-mros1.md says "Left EOG | ROC"; LOC is the left outer canthus, and the page's
    # revisions up to a7c7009 have LOC/A2 and ROC/A1.
    _, found, _, _ = sources(tmp_path, "mros-visit1-aa0001", MROS1)
    assert (found["EOG-L"], found["EOG-R"]) == ("LOC - A2", "ROC - A1")


def test_leg_signals_of_mros_visit_2_are_not_read(tmp_path):
    # polysomnography-introduction.md, Known issues: they "should not be used in analysis".
    _, found, _, _ = sources(tmp_path, "mros-visit2-aa0001", MROS2)
    assert "LEG-L" not in found and "LEG-R" not in found
    assert [m.name for m in cohort_montages("MrOS")] == ["mros1", "mros2"]
    recording = night(tmp_path, "renamed", MROS2)
    assert choose_montage(recording, "mros").name == "mros2"


def test_unreferenced_leads_are_referred_to_the_other_side(tmp_path):
    for name, labels, source in (("mros-visit1-aa1", MROS1, "A2"), ("cfs-visit5-1", CFS, "M2")):
        _, _, resolved, recording = sources(tmp_path, name, labels)
        expected = tone(5, labels.index("C3") + 1, SECONDS) - tone(
            5, labels.index(source) + 1, SECONDS
        )
        got = read_channel(recording, resolved["C3"]).values
        np.testing.assert_allclose(got, expected, atol=0.02)


def test_two_airflows_of_shhs_are_told_apart_by_their_order(tmp_path):
    # Page 08: channel 12 is the Compumedics thermistor, channel 17 the ProTech one, which sites
    # also named AIRFLOW. Readers that number equal labels show them as AIRFLOW-0 and -1.
    for names in (("AIRFLOW", "AIRFLOW"), ("AIRFLOW-0", "AIRFLOW-1")):
        labels = [label for label in SHHS if label not in ("AIRFLOW", "NEW AIR")]
        _, found, resolved, _ = sources(tmp_path, "shhs1-200001", [names[0], *labels, names[1]])
        assert found["AF"] == names[1] and resolved["AF"].terms[0][0] == len(labels) + 1
        assert resolved["AF"].transducer == "thermal"
    # The first serves where the second is dead.
    waves = [signal(x, tone(0.3, 5, SECONDS), bound=100) for x in ("AIRFLOW", "THOR RES", "EEG")]
    dead = signal("AIRFLOW", np.zeros(SECONDS * 100), bound=100)
    path = write(tmp_path / "shhs1-200002.edf", [*waves, dead])
    night = prepare_night(path, cohort="shhs", scoring=None)
    assert night.channels["AF"].terms[0][0] == 0


def test_transducers_of_the_airflow():
    # Features differ by them: nasal pressure is squared flow, a thermistor its presence.
    for name, expected in (("shhs", {"thermal"}), ("mros1", {"nasal_pressure", "thermal"}),
                           ("mesa", {"nasal_pressure", "thermal"}),
                           ("apples", {"nasal_pressure", "thermal"})):  # fmt: skip
        assert {row.transducer for row in load_montage(name).channels["AF"]} == expected


@pytest.mark.parametrize(
    "cohort, nights, subject",
    [
        ("shhs", ["shhs1-200001.edf", "shhs2-200001.edf"], "shhs-200001"),
        ("mros", ["mros-visit1-aa0001.edf", "mros-visit2-aa0001.edf"], "mros-aa0001"),
        ("mros2", ["mros-visit1-aa0001.edf", "mros-visit2-aa0001.edf"], "mros-aa0001"),
        ("mesa", ["mesa-sleep-0001.edf"], "mesa-sleep-0001"),
        ("cfs", ["cfs-visit5-800002-famID715.edf", "cfs-visit5-800002.edf"], "cfs-800002"),
        ("ccshs", ["ccshs-trec-1800001.edf"], "ccshs-trec-1800001"),
        ("sof", ["sof-visit-8-00004.edf"], "sof-00004"),
        ("chat", ["chat-baseline-300001.edf", "chat-followup-300001.edf"], "chat-300001"),
        ("chat", ["chat-baseline-nonrandomized-300004.edf"], "chat-300004"),
        ("wsc", ["wsc-visit1-10119-nsrr.edf", "wsc-visit3-10119-nsrr.edf"], "wsc-10119"),
        ("apples", ["apples-130001.edf"], "apples-130001"),
        ("stages", ["GSSA00013.edf", "GSSA00013_1.edf"], "GSSA00013"),
    ],
)
def test_nights_of_one_person_give_one_subject(cohort, nights, subject):
    # File names as listed in biomedical-signal-processing/sleepyland (nsrr_file_path).
    assert {person_of(name, cohort).subject for name in nights} == {subject}
    another = nights[0].replace("1.", "7.")
    assert person_of(another, cohort).subject != subject or another == nights[0]


def test_the_cleveland_family_study_has_its_families_in_the_names():
    assert family_of("cfs-visit5-800002-famID715.edf", "cfs") == "715"
    assert family_of("cfs-visit5-800010-famID715.edf", "cfs") == "715"
    assert family_of("cfs-visit5-800002.edf", "cfs") is None
    assert family_of("shhs1-200001.edf", "shhs") is None and family_of("a.edf") is None
