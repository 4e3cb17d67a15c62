"""Whose recording is whose where the file's name alone does not tell."""

import csv
import shutil

import pytest

from sleeplm_jax.errors import RecordingError
from sleeplm_jax.recordings.montage import load_montage
from sleeplm_jax.recordings.montage_subjects import person_of
from sleeplm_jax.recordings.prepare import prepare_night
from tests.recordings.edf_files import c3, write

TABLE = (
    "participant_id\tage\tsex\tbmi\tpid\nsub-1\t27\tF\t19.8\t89\nsub-2\t27\tF\tn/a\t89\n"
    "sub-3\t61\tM\t31\t90\n"
)


def bids(folder, table=TABLE):
    (folder / "participants.tsv").write_text(table)
    paths = []
    for number in (1, 2, 3):
        path = folder / f"sub-{number}" / "eeg" / f"sub-{number}_task-Sleep_acq-psg_eeg.edf"
        path.parent.mkdir(parents=True)
        paths.append(path)
    return paths


def test_recordings_of_one_person_are_one_subject_by_the_table(tmp_path):
    first, second, third = (person_of(p, "boas") for p in bids(tmp_path))
    assert first.subject == second.subject == "pid-89" and third.subject == "pid-90"
    assert (first.age, first.sex, first.bmi) == (27, "female", 19.8)
    assert second.bmi is None and third.sex == "male"


def test_without_the_column_only_age_and_sex_are_taken(tmp_path):
    people = [person_of(p) for p in bids(tmp_path)]
    assert [p.subject for p in people] == ["sub-1", "sub-2", "sub-3"] and people[2].age == 61


def test_a_table_that_lacks_the_cohorts_column_is_refused(tmp_path):
    path = bids(tmp_path, TABLE.replace("pid", "hospital"))[0]
    with pytest.raises(RecordingError, match="no column 'pid'"):
        person_of(path, "boas")


def test_the_real_table_holds_fewer_people_than_recordings(psg, tmp_path):
    table = psg / "openneuro_ds005555_boas" / "participants.tsv"
    rows = list(csv.DictReader(table.read_text(encoding="utf-8-sig").splitlines(), delimiter="\t"))
    found = {person_of(table.parent / r["participant_id"] / "eeg" /
                       f"{r['participant_id']}_task-Sleep_acq-psg_eeg.edf", "boas").subject
             for r in rows}  # fmt: skip
    assert found == {f"pid-{r['pid']}" for r in rows} and len(found) < len(rows) == 128


@pytest.mark.parametrize(
    "path, subject",
    [("data/subgroupII/3/1.rec", "subgroupII-3"), ("data/subgroupII/3/2.rec", "subgroupII-3"),
     ("data/subgroupI/3/3.rec", "subgroupI-3"), ("isruc/3/3.rec", "3")],
)
def test_isrucs_folders_name_the_person(path, subject):
    assert person_of(path, "isruc").subject == subject
    assert person_of(path, montage=load_montage("isruc")).placed


def test_age_and_sex_reach_the_night_and_nothing_else_of_the_table(tmp_path):
    table = TABLE.replace("pid", "surname").replace("89", "Miller")
    path = bids(tmp_path, table)[0]
    shutil.move(write(tmp_path / "x.edf", [c3(60)]), path)
    night = prepare_night(path, scoring=None)
    assert (night.provenance.age, night.provenance.sex) == (27, "female")
    assert "Miller" not in repr(night)
