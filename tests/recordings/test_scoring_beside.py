"""The scoring file of a recording is found by every archive's way of naming it."""

import pytest

from sleeplm_jax.errors import RecordingError
from sleeplm_jax.recordings.scoring import find_scoring

NOX = "a,b,c\n15/01/2016 23:58:00,15/01/2016 23:58:30,N2\n"


def made(folder, recording, *others):
    for name in (recording, *others):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder / recording


@pytest.mark.parametrize(
    "recording, scoring, others",
    [
        ("n.edf", "n.xml", ()),
        ("n.edf", "n-profusion.xml", ("n-nsrr.xml",)),  # the same night twice: one is preferred
        ("n.edf", "n-nsrr.xml", ("m-profusion.xml",)),
        ("SC4001E0-PSG.edf", "SC4001EC-Hypnogram.edf", ("SC4002EC-Hypnogram.edf",)),
        ("01-02-0001 PSG.edf", "01-02-0001 Base.edf", ("01-02-0002 Base.edf",)),
        ("01-01-0001 PSG.edf", "01-01-0001 Annotations.edf", ("01-01-0002 Annotations.edf",)),
        ("sub-1_task-Sleep_acq-psg_eeg.edf", "sub-1_task-Sleep_acq-psg_events.tsv",
         ("sub-1_task-Sleep_acq-headband_events.tsv", "sub-1_task-Sleep_acq-psg_eeg.json")),
        ("n.edf", "n.annot", ("n.eannot",)),
        ("SN001.edf", "SN001_sleepscoring.txt", ("SN001_sleepscoring.edf",)),
        ("ucddb002.rec", "ucddb002_stage.txt", ("ucddb002_respevt.txt", "ucddb002_lifecard.edf")),
        ("slp01a.edf", "slp01a.st", ("slp01a.ecg", "slp01a.hea")),
        ("tr03-0005.edf", "tr03-0005.arousal", ("tr03-0005.hea", "tr03-0005-arousal.mat")),
        ("wsc-visit1-1-nsrr.edf", "wsc-visit1-1-nsrr.stg.txt", ("wsc-visit1-1-nsrr.log.txt",)),
        ("1.rec", "1_1.txt", ("1_2.txt", "1_1.xlsx")),  # ISRUC's two scorers
        ("tp01/psg.edf", "tp01/hypnogram.ids", ("tp01/psg.h5",)),
        ("shhs/polysomnography/edfs/shhs1/shhs1-1.edf",
         "shhs/polysomnography/annotations-events-profusion/shhs1/shhs1-1-profusion.xml",
         ("shhs/polysomnography/annotations-events-nsrr/shhs1/shhs1-1-nsrr.xml",)),
        ("mesa/polysomnography/edfs/m-1.edf",
         "mesa/polysomnography/annotations-events-nsrr/m-1-nsrr.xml", ()),
        ("ds/sub-01/eeg/sub-01_task-rest_run-1_eeg.edf", "ds/sourcedata/sub-01-sleep-stage.tsv",
         ("ds/sourcedata/sub-02-sleep-stage.tsv",)),
    ],
)  # fmt: skip
def test_every_archive_has_its_names(tmp_path, recording, scoring, others):
    path = made(tmp_path, recording, scoring, *others)
    assert find_scoring(path) == tmp_path / scoring
    (tmp_path / scoring).unlink()
    assert find_scoring(path) != tmp_path / scoring


def test_two_scorings_are_an_error_that_names_both(tmp_path):
    path = made(tmp_path, "n.edf", "n.annot", "n_stage.txt", "n_1.txt", "n_2.txt")
    with pytest.raises(RecordingError, match=r"several .*annot, n_stage\.txt, n_1\.txt;") as error:
        find_scoring(path)
    # what can be done with any command: `prepare` takes no name of a scoring file
    assert "move the others" in str(error.value) and "--scoring" not in str(error.value)


def test_a_table_of_the_recordings_name_must_look_like_a_scoring(tmp_path):
    path = made(tmp_path, "n.edf", "n.csv", "n.txt")
    assert find_scoring(path) is None
    (tmp_path / "n.csv").write_text("time,value\n0,1\n")
    (tmp_path / "n.txt").write_text("0\n1\n2\n")  # one number per line may be anything
    assert find_scoring(path) is None
    (tmp_path / "n.csv").write_text(NOX)
    assert find_scoring(path) == tmp_path / "n.csv"
