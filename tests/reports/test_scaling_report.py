"""A study's report is made of its rows and its fit alone, and says what is not identified."""

import json
import math
from pathlib import Path

import pytest

from sleeplm_jax.cli import main
from sleeplm_jax.errors import UserError
from sleeplm_jax.places import place
from sleeplm_jax.reports.scaling import draw, read_fit, read_results, report, told
from sleeplm_jax.scaling.plan import make_plan, stated_data
from sleeplm_jax.scaling.simulated import TrueLaw, study
from sleeplm_jax.scaling.study import load_study

ROOT = Path(__file__).parents[2]
LEDGER = ROOT / "docs" / "scaling_study"

SIZES = {"a": 1e5, "b": 3e5, "c": 1e6, "d": 3e6}
LAW = TrueLaw(R=6.0, kappa=4e4)
PNG = b"\x89PNG"


def rows():
    """Simulated: four budgets, and at one of them three data scales; as `run` writes them."""
    whole = study(LAW, SIZES, budgets=[2.5e11, 5e11, 1e12, 2e12], seeded=4)
    less = study(LAW, SIZES, budgets=[5e11], unique=[6.0, 20.0], seeded=0, seed=1)
    for number, row in enumerate(whole + less):
        row["cell"] = f"{number}-{row['cell']}"
        row["budget"] = float(f"{row['flops']:.3g}")
        row["losses"] = {"caption": row["losses"]["simulated"],
                         "zero_shot_error": 0.3 + 0.2 * math.sin(number)}  # no law at all
        row |= {"N_all": row["N"] * 2, "steps": 100, "batch_size": 32, "code": "abc",
                "figures": {"simulated": True}, "devices": ["cpu"],
                "cost": {"cpu_s": 60.0, "seconds": 40.0, "measure_cpu_s": 6.0, "attempts": 1,
                         "load_at_start": 1.5}}
    return whole + less


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("study")
    (out / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows()))
    assert main(["scaling", "fit", str(out), "--bootstraps", "100"]) == 0
    return out


def test_the_report_is_a_page_and_its_pictures(folder, tmp_path):
    assert main(["scaling", "report", str(folder), "--out", str(tmp_path)]) == 0
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"report.html", "isoflop.png", "compute.png", "optimum.png", "data.png"}
    for path in tmp_path.glob("*.png"):
        assert path.read_bytes()[:4] == PNG
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 4
    assert "simulated nights" in page and "not identified" in page
    found = rows()
    for row in found:
        assert row["cell"] in page
    assert f"{len(found) * 66 / 60:.1f} min" not in page  # training and measuring are told apart
    assert f"{len(found):.1f} min of CPU time training" in page


def test_values_are_told_with_their_intervals_or_not_at_all(folder):
    fit = read_fit(folder)
    page = (report(folder, folder)[0]).read_text()
    for constant in ("a", "b"):
        value = fit["losses"]["caption"]["parametric"][constant]
        assert told(value).replace("'", "&#39;") in page
    assert told({"value": 0.5, "low": 0.4, "high": 0.6, "identified": True, "why": None}) == (
        "0.5 [0.4, 0.6]")
    assert told({"value": 0.5, "low": 0, "high": 3, "identified": False, "why": "too wide"}) == (
        "not identified (too wide)")


def test_a_study_is_drawn_before_it_is_fitted(folder, tmp_path):
    (tmp_path / "results.jsonl").write_bytes((folder / "results.jsonl").read_bytes())
    written = report(tmp_path, tmp_path)
    assert "not fitted" in written[0].read_text()
    assert {path.name for path in written[1:]} == {"isoflop.png", "compute.png", "data.png"}


def test_the_same_rows_give_the_same_bytes(folder):
    (found, _), fit = read_results(folder), read_fit(folder)
    assert draw(found, fit) == draw(found, fit)


def test_a_fit_of_other_results_is_refused(folder, tmp_path):
    text = (folder / "results.jsonl").read_text()
    (tmp_path / "results.jsonl").write_text(text.partition("\n")[2])
    (tmp_path / "fit.json").write_bytes((folder / "fit.json").read_bytes())
    with pytest.raises(UserError, match="fitted to other results"):
        report(tmp_path, tmp_path)
    (tmp_path / "fit.json").write_text("{}")
    with pytest.raises(UserError, match="cannot be read"):
        report(tmp_path, tmp_path)
    (tmp_path / "results.jsonl").write_text("")
    with pytest.raises(UserError, match="no finished run"):
        report(tmp_path, tmp_path)


def test_rows_that_the_fit_leaves_out_are_neither_drawn_nor_billed(folder, tmp_path):
    good = rows()
    bad = [json.loads(json.dumps(good[0])) for _ in range(4)]
    for number, (row, change) in enumerate(zip(
        bad, ({}, {"flops": 0}, {"N": "3"}, {"status": "failed"}), strict=True,
    )):
        row |= {"cell": good[0]["cell"] if number == 0 else f"bad {number}"} | change
    for row in (*good, *bad):
        del row["passes"]  # anybody's rows: it follows from the hours
    good[1]["losses"]["caption"] = math.nan
    text = "".join(json.dumps(row) + "\n" for row in (*good, *bad))
    (tmp_path / "results.jsonl").write_text(text)
    assert main(["scaling", "fit", str(tmp_path), "--bootstraps", "100"]) == 0
    page = report(tmp_path, tmp_path)[0].read_text()
    assert f"{len(good):.1f} min of CPU time training" in page
    assert "the same run as" in page and "N is no number" in page
    (tmp_path / "results.jsonl").write_text(text + '{"cell"')
    with pytest.raises(UserError, match="is no row of results"):
        report(tmp_path, tmp_path)


def test_budgets_choose_among_recommendations(folder, tmp_path):
    budgets = [one["flops"] for one in read_fit(folder)["losses"]["caption"]["recommended"]]
    page = report(folder, tmp_path, [budgets[0]])[0].read_text()
    table = page.partition("Recommended size and data")[2].partition("</table>")[0]
    assert f">{budgets[0]:.3g}<" in table and f">{budgets[1]:.3g}<" not in table


@pytest.mark.slow
def test_the_studys_ledger_is_of_the_study_and_its_fit_of_the_ledger():
    study, base = load_study(ROOT / "experiments" / "scaling_study.py")
    plan = make_plan(study, base, stated_data(study))
    found, excluded = read_results(place(LEDGER))
    assert {row["cell"] for row in found} == {cell.name for cell in plan.cells} and not excluded
    planned = {cell.name: cell for cell in plan.cells}
    for row in found:
        cell = planned[row["cell"]]
        assert (row["N"], row["steps"], row["seed"]) == (cell.n, cell.steps, cell.seed)
    fit = read_fit(place(LEDGER))  # refuses one of other results
    said = (ROOT / "docs" / "scaling.md").read_text()
    nearest = fit["losses"]["caption"]["recommended"][0]
    assert f"{nearest['N']['value'] / 1e3:.0f} k parameters" in said
    assert f"{nearest['D_hours']['value']:.0f} h" in said
