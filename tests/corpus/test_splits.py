import random

import pytest

from sleeplm_jax.corpus.splits import read_splits, split_subjects
from sleeplm_jax.errors import CorpusError


def counts(chosen):
    return [list(chosen.values()).count(split) for split in ("train", "val", "test")]


@pytest.mark.parametrize(
    ("subjects", "wanted"),
    [(1, [1, 0, 0]), (2, [1, 0, 1]), (3, [1, 1, 1]), (5, [3, 1, 1]), (100, [80, 10, 10])],
)
def test_sizes(subjects, wanted):
    assert counts(split_subjects([f"s{i}" for i in range(subjects)])) == wanted


def test_the_order_of_subjects_does_not_matter_and_the_seed_does():
    subjects = [f"s{i}" for i in range(50)]
    shuffled = random.Random(0).sample(subjects, 50)
    assert split_subjects(subjects) == split_subjects(shuffled)
    assert split_subjects(subjects, seed=1) != split_subjects(subjects, seed=2)


def test_a_split_without_a_share_stays_empty():
    assert counts(split_subjects(list("abcdef"), (1.0, 0.0, 0.0))) == [6, 0, 0]
    assert counts(split_subjects(list("abc"), (0.0, 0.0, 1.0))) == [0, 0, 3]


def test_placed_subjects_stay_where_they_are_put():
    subjects = [f"s{i}" for i in range(10)]
    chosen = split_subjects(subjects, fixed={"s3": "test", "s4": "train"})
    assert (chosen["s3"], chosen["s4"]) == ("test", "train")
    assert counts(chosen) == [8, 1, 1]
    assert set(chosen) == set(subjects)


def test_split_files(tmp_path):
    as_json, as_csv = tmp_path / "a.json", tmp_path / "a.csv"
    as_json.write_text('{"s1": "test", "s2": "val"}')
    as_csv.write_text("\ufeffsubject,split\ns1, test\ns2,val\n", encoding="utf-8")
    assert read_splits(as_json) == read_splits(as_csv) == {"s1": "test", "s2": "val"}
    for text, finding in [
        ("subject,split\ns1,dev\n", "'s1' is put in 'dev'"),
        ("subject,split\ns1,val\ns1,test\n", "in 'val' and in 'test'"),
        ("name\ns1\n", "cannot be read"),
    ]:
        as_csv.write_text(text)
        with pytest.raises(CorpusError, match=finding):
            read_splits(as_csv)
    for text in ("[1, 2]", "{", "3"):
        as_json.write_text(text)
        with pytest.raises(CorpusError, match="cannot be read"):
            read_splits(as_json)
    with pytest.raises(CorpusError, match="cannot be read"):
        read_splits(tmp_path / "absent.csv")
