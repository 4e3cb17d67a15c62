"""What results' rows may be, and what is said of those that may not."""

import json
import math

import pytest

from sleeplm_jax.scaling.collect import StudyError, collect, table, table_of
from sleeplm_jax.scaling.fit import fit_study
from sleeplm_jax.scaling.resample import enough
from sleeplm_jax.scaling.simulated import TrueLaw, study

FOUR = {f"n{i}": 1e5 * 4.0**i for i in range(4)}
HOURS = [10.0, 40.0, 160.0, 640.0]


@pytest.fixture
def rows():
    return study(TrueLaw(), FOUR, HOURS)


def written(folder, rows, name="results.jsonl"):
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize("change, why", [
    ({"N": None}, "N is no number"), ({"N": "many"}, "N is no number"),
    ({"N": True}, "N is no number"), ({"D_hours": 0}, "D_hours is 0, not above 0"),
    ({"flops": math.nan}, "flops is no number"), ({"flops": -1.0}, "flops is -1, not above 0"),
    ({"status": "failed"}, "status is failed"), ({"losses": None}, "no losses"),
    ({"cell": None}, "no cell"), ({"size": 3}, "no size"),
    ({"unique_hours": 5.0, "passes": 1.0}, "passes is 1, but D_hours / unique_hours is 2"),
])
def test_rows_that_say_too_little_are_excluded_by_name(tmp_path, rows, change, why):
    rows[0] |= change
    found = collect([written(tmp_path, rows)])
    assert len(found.runs) == len(rows) - 1
    [one] = found.excluded
    assert one["why"] == why and one["where"] == "results.jsonl:1"
    assert one["cell"] == (None if "cell" in change else rows[0]["cell"])


def test_a_missing_field_is_named(tmp_path, rows):
    del rows[4]["unique_hours"]
    assert collect([written(tmp_path, rows)]).excluded[0]["why"] == "no unique_hours"


@pytest.mark.parametrize("value, why", [
    (math.nan, "is no number"), (math.inf, "is no number"), (None, "is no number"),
    (0.0, "is 0, not > 0"), (-0.5, "is -0.5, not > 0"),
])
def test_a_loss_without_logarithm_is_excluded_from_that_loss_only(tmp_path, rows, value, why):
    for row in rows:
        row["losses"]["other"] = 2 * row["losses"]["simulated"]
    rows[2]["losses"]["other"] = value
    found = collect([written(tmp_path, rows)])
    assert not found.excluded
    data, excluded = table_of(found.runs, "other")
    assert len(data.runs) == len(rows) - 1 and excluded[0]["why"] == f"other {why}"
    assert len(table_of(found.runs, "simulated")[0].runs) == len(rows)


def test_the_same_row_twice_counts_once(tmp_path, rows):
    renamed = rows[5] | {"cell": "under another name"}
    found = collect([written(tmp_path, [*rows, rows[3], renamed])])
    assert len(found.runs) == len(rows)
    assert [one["why"] for one in found.excluded] == [
        "the same run as results.jsonl:4", "the same run as results.jsonl:6"
    ]


def test_studies_are_read_together(tmp_path, rows):
    first, second = tmp_path / "one", tmp_path / "two"
    first.mkdir(), second.mkdir()
    written(first, rows[:10])
    found = collect([str(first), written(second, rows[10:], "more.jsonl")])
    assert len(found.runs) == len(rows) and [f["rows"] for f in found.files] == [10, 14]


@pytest.mark.parametrize("spoil, said", [
    (lambda rows: rows.append(rows[0] | {"losses": {"simulated": 9.0}}), "another result"),
    (lambda rows: rows[1].update(corpus="another"), "rows differ in corpus"),
    (lambda rows: rows[1].update(held_out="another"), "rows differ in held_out"),
    (lambda rows: rows[1].pop("held_out"), "not said"),
    (lambda rows: rows[1].update(measure="anew"), "rows differ in measure"),
    (lambda rows: rows[1].update(N=3.0), "has N"),
    (lambda rows: [row.update(status="failed") for row in rows], "no finished run"),
    (lambda rows: rows.clear(), "no finished run"),
])
def test_rows_that_do_not_belong_together_are_refused_in_a_line(tmp_path, rows, spoil, said):
    spoil(rows)
    with pytest.raises(StudyError, match=said) as caught:
        collect([written(tmp_path, rows)])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("line", ["{", "[1]", '"text"', "[" * 100_000])
def test_lines_that_are_no_rows_are_named(tmp_path, rows, line):
    path = written(tmp_path, rows[:2])
    with open(path, "a") as file:
        file.write(line + "\n")
    with pytest.raises(StudyError, match="results.jsonl:3: is no row"):
        collect([path])


def test_absent_results_are_said(tmp_path):
    with pytest.raises(StudyError, match="is not there"):
        collect([str(tmp_path)])
    with pytest.raises(StudyError, match="given no results"):
        collect([])


def test_unsaid_corpora_are_a_warning(tmp_path, rows):
    for row in rows:
        del row["corpus"]
    assert "its corpus" in collect([written(tmp_path, rows)]).warnings[0]


@pytest.mark.parametrize("kept, said", [
    (lambda row: row["N"] == 1e5, "1 model size,"),
    (lambda row: row["N"] < 1e6, "2 model sizes,"),
    (lambda row: row["D_hours"] == 10.0, "1 amount of data,"),
    (lambda row: row["D_hours"] in (10.0, 40.0, 160.0) and row["N"] != 6.4e6
     and (row["N"], row["D_hours"]) not in ((1e5, 40.0), (4e5, 10.0), (1.6e6, 40.0)), "6 cells,"),
])
def test_too_few_runs_are_refused_in_a_line(tmp_path, rows, kept, said):
    with pytest.raises(StudyError, match=said) as caught:
        fit_study([written(tmp_path, [row for row in rows if kept(row)])], bootstraps=100)
    assert "\n" not in str(caught.value)


def test_a_loss_that_few_runs_have_is_not_fitted_and_says_why(tmp_path, rows):
    rows[0]["losses"]["rare"] = 1.0
    losses = fit_study([written(tmp_path, rows)], bootstraps=100)["losses"]
    assert "model size" in losses["rare"]["why"] and "parametric" in losses["simulated"]
    with pytest.raises(StudyError, match="no loss can be fitted"):
        fit_study([written(tmp_path, rows)], losses=["rare"], bootstraps=100)


def test_seeds_of_a_cell_are_one_point(tmp_path, rows):
    data = table(collect([written(tmp_path, rows)]).runs, [1.0] * len(rows))
    assert data.point.max() + 1 == 16 and len(data.runs) == 24
    assert enough(data, 5) is None and enough(data, 15)
