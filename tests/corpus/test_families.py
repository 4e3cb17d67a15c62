"""Families and visits stay together, strata are shared out, and files of splits are checked."""

import random
from collections import Counter

import pytest

from sleeplm_jax.corpus.prepare import prepare_corpus
from sleeplm_jax.corpus.splits import assign, family_of_people, split_subjects
from sleeplm_jax.errors import CorpusError

SHARES = (0.8, 0.1, 0.1)


def row(number, cohort="c", subject=None, family=None, **more):
    return {"cohort": cohort, "subject": subject or f"s{number}", "night": f"{cohort}-n{number}",
            "family": family, "stages": {}} | more  # fmt: skip


def placed(rows, shares=SHARES, seed=0, fixed=(), stratify=()):
    found = assign(rows, dict(fixed), shares, seed, "splits.csv", False, stratify)
    return {r["night"]: r["split"] for r in found}


@pytest.mark.parametrize("seed", range(5))
def test_families_are_never_torn_apart_and_the_shares_hold(seed):
    rng = random.Random(seed)
    subjects = [f"s{i}" for i in range(200)]
    families = {s: f"F{rng.randrange(60)}" for s in subjects if rng.random() < 0.7}
    chosen = split_subjects(subjects, SHARES, seed, families=families)
    assert chosen == split_subjects(rng.sample(subjects, 200), SHARES, seed, families=families)
    for family in set(families.values()):
        assert len({chosen[s] for s in subjects if families.get(s) == family}) == 1
    counts = Counter(chosen.values())
    assert counts["val"] == counts["test"] == 20 and counts["train"] == 160


def test_families_too_large_for_a_split_still_leave_one_in_each():
    subjects = [f"s{i}" for i in range(12)]
    families = {s: f"F{i // 4}" for i, s in enumerate(subjects)}  # three families of four
    chosen = split_subjects(subjects, SHARES, families=families)
    assert Counter(chosen.values()) == {"train": 4, "val": 4, "test": 4}
    assert set(split_subjects(subjects, families=dict.fromkeys(subjects, "F")).values()) == {
        "train"
    }


def test_a_family_follows_its_member_of_the_file_and_a_torn_one_is_refused():
    rows = [row(i, family="F" if i in (3, 7) else None) for i in range(10)]
    found = placed(rows, fixed={"s3": "test"})
    assert found["c-n3"] == found["c-n7"] == "test"
    with pytest.raises(CorpusError, match="puts c/s3 in test and c/s7 of the same family") as error:
        placed(rows, fixed={"s3": "test", "s7": "train"})
    assert "splits.csv" in str(error.value) and "\n" not in str(error.value)


def test_repeat_visits_under_two_cohorts_names_are_one_person():
    rows = [row(i, cohort=f"shhs{1 + i % 2}", subject=f"shhs-{i // 2}") for i in range(40)]
    found = placed(rows)
    for i in range(0, 40, 2):
        assert found[f"shhs1-n{i}"] == found[f"shhs2-n{i + 1}"]
    others = [row(i, cohort=f"a{'b' * (i % 2)}", subject=f"s{i // 2}") for i in range(40)]
    assert family_of_people(others) == {}  # other studies' names mean other people


def test_families_that_share_a_person_are_one():
    rows = [row(1, family="F"), row(2, family="G"), row(3, family="F"), row(4)]
    rows.append(row(5, subject="s1", family="G"))  # another night of s1, another family's name
    found = family_of_people(rows)
    assert len({found["c/s1"], found["c/s2"], found["c/s3"]}) == 1 and "c/s4" not in found


def test_every_cohort_has_its_share_in_every_split():
    sizes = {"big": 100, "small": 10, "tiny": 3}
    rows = [row(i, cohort=cohort) for cohort, n in sizes.items() for i in range(n)]
    found = placed(rows, stratify=("cohort",))
    for cohort, n in sizes.items():
        counts = Counter(split for night, split in found.items() if night.startswith(f"{cohort}-"))
        assert counts["test"] == counts["val"] == max(1, n // 10)
    assert found == placed(rows[::-1], stratify=("cohort",))
    assert found != placed(rows, seed=1, stratify=("cohort",))


def test_strata_within_a_cohort_are_held_out_as_they_occur():
    rows = [row(i, sex=("female", "male")[i < 75], age=20 + 20 * (i % 3)) for i in range(150)]
    by = {r["night"]: (r["sex"], r["age"]) for r in rows}
    found = placed(rows, stratify=("cohort", "sex", "age"))
    test = Counter(by[night] for night, split in found.items() if split == "test")
    assert sum(test.values()) == 15 and set(test.values()) <= {2, 3}  # 25 each: 2.5 wanted
    unknown = [row(i) for i in range(20)]
    assert Counter(placed(unknown, stratify=("sex",)).values())["test"] == 2
    with pytest.raises(CorpusError, match="weight is nothing to stratify by; choose from cohort"):
        placed(unknown, stratify=("weight",))


def test_a_file_of_subjects_may_name_families(simulated_folder, tmp_path):
    people = tmp_path / "people.csv"
    people.write_text(
        "recording,subject,family\n" + "".join(
            f"sim-3-000{i},p{i},{'smith' if i in (0, 1, 2) else ''}\n" for i in range(5)
        )
    )
    out = tmp_path / "corpus"
    first = prepare_corpus([simulated_folder], out, workers=1, progress=False)
    again = prepare_corpus(
        [simulated_folder], out, workers=1, progress=False, subjects_file=people
    )
    assert again.prepared == () and again.packed
    rows = {r["subject"]: r for r in again.corpus.nights()}
    assert len({rows[f"p{i}"]["split"] for i in range(3)}) == 1
    assert [rows[f"p{i}"]["family"] for i in range(5)] == ["smith"] * 3 + [None] * 2
    torn = tmp_path / "splits.csv"
    torn.write_text("subject,split\np0,train\np1,test\n")
    with pytest.raises(CorpusError, match="of the same family"):
        prepare_corpus([simulated_folder], out, workers=1, progress=False, subjects_file=people,
                       splits_file=torn)  # fmt: skip
    back = prepare_corpus([simulated_folder], out, workers=1, progress=False)
    assert back.hash == first.hash and back.prepared == ()
