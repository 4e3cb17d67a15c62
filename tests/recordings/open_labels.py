"""Labels of the open archives' files, and which channel each is.

Written out from the sources named beside them, not from the tables.
"""

from pathlib import Path

from sleeplm_jax.recordings.montage import Montage
from sleeplm_jax.recordings.montage_match import choose_montage
from sleeplm_jax.recordings.opening import open_recording
from sleeplm_jax.recordings.recording import Recording, SignalInfo
from tests.recordings.edf_files import c3, write

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
