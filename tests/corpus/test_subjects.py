"""What a CSV of subjects says of a night besides whose it is: age, sex, BMI, number, flags."""

import json
import shutil
from collections import Counter

import pytest

from sleeplm_jax.corpus.discovery import Found
from sleeplm_jax.corpus.nightfile import read_night
from sleeplm_jax.corpus.prepare import prepare_corpus
from sleeplm_jax.corpus.subjects import Named, read_subjects
from sleeplm_jax.errors import CorpusError

NIGHTS = ("sim-3-0000", "sim-3-0001", "sim-3-0002")
STATED = ("age", "sex", "bmi", "night_number", "cohort_flags")


@pytest.fixture
def three(simulated_folder, tmp_path):
    folder = tmp_path / "recordings"
    folder.mkdir()
    for night in NIGHTS:
        for path in simulated_folder.glob(f"{night}.*"):
            shutil.copy(path, folder)
    return folder


def run(folder, out, **kwargs):
    return prepare_corpus([folder], out, workers=1, progress=False, **kwargs)


def people(tmp_path, *rows, columns="recording,subject,age,sex,bmi,night,flags"):
    file = tmp_path / "people.csv"
    file.write_text("\n".join((columns, *rows)) + "\n")
    return file


def stated(result, night):
    """Of the manifest, the night file and the quality record: they must agree."""
    folder = result.corpus.path / "nights"
    row = next(n for n in result.corpus.nights() if n["recording"] == night)
    note = json.loads((folder / f"{night}.json").read_text())
    found = {key: row[key] for key in STATED}
    for provenance in (read_night(folder / f"{night}.npz").provenance,
                       note["quality"]["provenance"]):  # fmt: skip
        assert {key: provenance[key] for key in STATED} == found
    return tuple(found.values())


def test_age_sex_bmi_and_number_reach_the_corpus_and_nothing_is_measured_again(three, tmp_path):
    out = tmp_path / "corpus"
    before = run(three, out)
    assert stated(before, NIGHTS[0]) == (None, None, None, None, [])
    file = people(tmp_path, "sim-3-0000,anna,61.5,F,27.1,2,", "sim-3-0001,bo,,Male,,,")
    result = run(three, out, subjects_file=file)
    assert result.prepared == () and result.hash != before.hash
    assert stated(result, NIGHTS[0]) == (61.5, "female", 27.1, 2, [])
    assert stated(result, NIGHTS[1]) == (None, "male", None, None, [])
    assert stated(result, NIGHTS[2]) == (None, None, None, None, [])
    assert run(three, tmp_path / "fresh", subjects_file=file).hash == result.hash
    without = run(three, out)
    assert without.prepared == () and without.hash == before.hash
    assert stated(without, NIGHTS[0]) == (None, None, None, None, [])


def test_a_flag_changes_what_is_measured_so_that_night_is_prepared_again(three, tmp_path):
    out = tmp_path / "corpus"
    before = run(three, out)
    file = people(tmp_path, "sim-3-0001,bo,,,,,sleep_wake_scoring_only; loud_room")
    result = run(three, out, subjects_file=file)
    assert result.prepared == ("sim-3-0001",)
    flags = ["loud_room", "sleep_wake_scoring_only"]
    assert stated(result, "sim-3-0001")[-1] == flags

    def measured(night):
        note = json.loads((out / "nights" / f"{night}.json").read_text())
        return "sleep_wake_only" in json.dumps(note["quality"]["statistics"])

    assert measured("sim-3-0001") and not measured("sim-3-0000")
    assert run(three, out, subjects_file=file).prepared == ()
    without = run(three, out)
    assert without.prepared == ("sim-3-0001",) and without.hash == before.hash
    assert not measured("sim-3-0001")


def test_splits_are_stratified_by_what_the_file_says(simulated_folder, tmp_path):
    # Five simulated nights, of whose persons no header tells anything.
    names = sorted(p.stem for p in simulated_folder.glob("*.edf"))
    rows = [f"{name},p{i},{(25, 65)[i < 2]},{'FM'[i < 2]},,," for i, name in enumerate(names)]
    settings = {"splits": (0.5, 0.0, 0.5), "subjects_file": people(tmp_path, *rows), "seed": 3}

    def placed(stratify):
        result = run(simulated_folder, tmp_path / "corpus", stratify=stratify, **settings)
        return Counter((n["sex"], n["split"]) for n in result.corpus.nights())

    # This seed puts both men into one split; strata give each split one, and a woman or two.
    assert placed(())["male", "train"] == 2
    for stratify in (("sex",), ("age",)):
        found = placed(stratify)
        assert found["male", "train"] == found["male", "test"] == 1
        assert {found["female", "train"], found["female", "test"]} == {1, 2}


@pytest.mark.parametrize(
    "row, finding",
    [
        ("121,F,27,1,", "row 2: age is '121'"), ("-1,F,27,1,", "row 2: age is '-1'"),
        ("nan,F,27,1,", "row 2: age is 'nan'"), ("old,F,27,1,", "row 2: age is 'old'"),
        ("61,W,27,1,", "row 2: sex is 'W'"), ("61,F,4,1,", "row 2: bmi is '4'"),
        ("61,F,121,1,", "row 2: bmi is '121'"), ("61,F,27,0,", "row 2: night is '0'"),
        ("61,F,27,1.5,", "row 2: night is 1.5"), ("61,F,27,1,Sleep/Wake", "a flag is 'Sleep/Wake'"),
    ],
)  # fmt: skip
def test_values_that_cannot_be_are_refused_in_one_line(tmp_path, row, finding):
    found = [Found(tmp_path / "a.edf", "a", None)]
    with pytest.raises(CorpusError, match=finding) as caught:
        read_subjects(people(tmp_path, f"a,anna,{row}"), found)
    assert "\n" not in str(caught.value)


def test_columns_come_in_any_order_and_may_be_left_out(tmp_path):
    found = [Found(tmp_path / "a.edf", "a", None)]
    file = people(tmp_path, "x_y;b;b,male,a,anna", columns="flags,sex,recording,subject")
    assert read_subjects(file, found) == {"a": Named("anna", sex="male", flags=("b", "x_y"))}
