"""Scoring of the open archives: what the file alone does not tell, and the montage does."""


import pytest

from sleeplm_jax.config import STAGES
from sleeplm_jax.recordings.events import event_kind
from sleeplm_jax.recordings.montage import load_montage
from sleeplm_jax.recordings.scoring import ALSO_CALLED, FORMATS, read_scoring


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
