"""The ledger of the ablations and its table: rows made once whatever happens, figures by hand."""

import argparse
import importlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sleeplm_jax.errors import UserError

ABLATIONS = Path(__file__).parents[1] / "experiments" / "ablations"


@pytest.fixture(scope="module", autouse=True)
def scripts():
    """The scripts import one another by their folder."""
    sys.path.insert(0, str(ABLATIONS))
    yield
    sys.path.remove(str(ABLATIONS))


def script(name):
    return importlib.import_module(name)


def row(variant="base", seed=0, code="c", **metrics):
    key = {"variant": variant, "seed": seed, "recipe": variant, "code": code, "corpus": "k",
           "tokenizer": "t"}
    cost = {"cpu_s": 100.0, "wall_s": 60.0, "load_at_start": 1.0, "peak_mib": 900, "resumed": False}
    test = {"subjects": 8, "epochs": 1000, "simulated": True}
    return key | {"metrics": metrics, "cost": cost, "test": test,
                  "versions": {"jax": "0", "python": "3", "commit": "x"}}


# ---- The ledger

def test_a_row_is_kept_once(tmp_path):
    ledger = script("ledger").Ledger(tmp_path / "l.jsonl")
    assert ledger.rows() == [] and ledger.add(row(seed=0, a=1.0))
    assert not ledger.add(row(seed=0, a=2.0)) and ledger.add(row(seed=1))
    assert [r["seed"] for r in ledger.rows()] == [0, 1]
    assert ledger.rows()[0]["metrics"] == {"a": 1.0}


def test_other_code_is_another_row_unless_it_is_shown_to_give_the_same(tmp_path):
    ledger = script("ledger").Ledger(tmp_path / "l.jsonl")
    codes = lambda: script("ledger").equal_codes(ledger.rows(), "new")  # noqa: E731
    ledger.add(row(code="old", a=1.0, b=None))
    ledger.add(row("sigmoid", code="old", a=7.0))
    assert codes() == {"new"} and not ledger.holds(row("sigmoid", code="new"), codes())
    ledger.add(row(code="new", a=1.0 + 1e-9, b=None))
    assert codes() == {"new", "old"} and ledger.holds(row("sigmoid", code="new"), codes())
    ledger.add(row("dual_axis", code="old", a=3.0))
    ledger.add(row("dual_axis", code="new", a=3.1))  # one run that differs is enough
    assert codes() == {"new"} and not ledger.holds(row("sigmoid", code="new"), codes())


def test_a_line_that_is_no_row_is_named(tmp_path):
    ledger = script("ledger").Ledger(tmp_path / "l.jsonl")
    ledger.add(row())
    with ledger.path.open("a") as file:
        file.write('{"variant": "base"}\n')
    with pytest.raises(UserError, match="l.jsonl:2: is no row"):
        ledger.add(row(seed=1))


ADDS = """
import sys, json
sys.path.insert(0, {scripts!r})
from ledger import Ledger
ledger, rows = Ledger({path!r}), json.load(open(sys.argv[1]))
print("ready", flush=True)
for one in rows:
    ledger.add(one)
"""


def adder(path, rows):
    code = ADDS.format(scripts=str(ABLATIONS), path=str(path))
    offered = path.with_name(f"rows-{rows[0]['seed']}-{len(rows)}.json")
    offered.write_text(json.dumps(rows))
    return subprocess.Popen([sys.executable, "-c", code, str(offered)], stdout=subprocess.PIPE,
                            text=True)


def test_processes_that_add_at_once_lose_and_double_nothing(tmp_path):
    path = tmp_path / "l.jsonl"
    # Every row is offered by two of the three processes.
    offers = [[row(seed=(s + 4 * k) % 12) for s in range(8)] for k in range(3)]
    for process in [adder(path, rows) for rows in offers]:
        assert process.wait(60) == 0
    assert sorted(r["seed"] for r in script("ledger").Ledger(path).rows()) == list(range(12))


def test_a_kill_at_any_moment_leaves_whole_rows_and_no_lock(tmp_path):
    path = tmp_path / "l.jsonl"
    process = adder(path, [row(seed=s, long="x" * 20_000) for s in range(2000)])
    process.stdout.readline()
    time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait(30)
    ledger = script("ledger").Ledger(path)
    seeds = [r["seed"] for r in ledger.rows()]
    assert seeds == list(range(len(seeds))) and len(seeds) < 2000
    assert ledger.add(row(seed=5000)) and len(ledger.rows()) == len(seeds) + 1


HOLDS = """
import sys, json, time
sys.path.insert(0, {scripts!r})
from ledger import Ledger
with Ledger({path!r}).claim(json.loads(sys.argv[1])) as mine:
    print(mine, flush=True)
    time.sleep(60)
"""


def test_a_run_is_claimed_by_one_process_and_free_when_that_is_killed(tmp_path):
    path, ledger = tmp_path / "l.jsonl", script("ledger").Ledger(tmp_path / "l.jsonl")
    code = HOLDS.format(scripts=str(ABLATIONS), path=str(path))
    holder = subprocess.Popen([sys.executable, "-c", code, json.dumps(row())],
                              stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "True\n"
    with ledger.claim(row()) as mine, ledger.claim(row(seed=1)) as other:
        assert not mine and other
    holder.kill()
    holder.wait(30)
    with ledger.claim(row()) as mine:
        assert mine


def test_the_hash_of_code_is_of_what_it_does(tmp_path):
    code_hash = script("ledger").code_hash
    versions = {
        "a": 'def f(x):\n    """Adds."""\n    return x + 1\n',
        "same": "# a comment\n\ndef f(x):\n    return (x\n            + 1)\n",
        "other": "def f(x):\n    return x + 2\n",
    }
    found = {}
    for name, text in versions.items():
        (tmp_path / name / "part").mkdir(parents=True)
        (tmp_path / name / "part" / "m.py").write_text(text)
        found[name] = code_hash(tmp_path / name, ["part"])
    assert found["a"] == found["same"] != found["other"]
    (tmp_path / "a" / "part" / "words.yaml").write_text("a: 1\n")
    assert code_hash(tmp_path / "a", ["part"]) != found["a"]
    with pytest.raises(FileNotFoundError):
        code_hash(tmp_path, ["absent"])


def test_the_code_of_a_row_is_all_that_training_and_measuring_import():
    one = script("one")
    found = script("ledger").imported(one.ROOT, "sleeplm_jax", one.STARTS)
    for name in ("training/step.py", "training/gradients.py", "training/optimizer.py",
                 "corpus/loader.py", "corpus/order.py", "models/recoca.py", "objectives/total.py",
                 "captions/render.py", "evaluation/staging.py", "config/__init__.py"):
        assert f"sleeplm_jax/{name}" in found
    assert not any("/cli/" in name or "/reports/" in name for name in found)


# ---- Variants and the runner

def test_every_variant_fits_together_and_is_a_recipe_of_its_own():
    one, recipe = script("one"), script("recipe")
    configs = {name: one.configured(name, 3, Path("c"), Path("r")) for name in recipe.sweep()}
    assert configs["base"].seed == 3 and configs["base"].data.corpus == "c"
    hashes = {name: one.recipe_hash(config) for name, config in configs.items()}
    assert len(set(hashes.values())) == len(hashes)
    assert one.recipe_hash(one.configured("base", 4, Path("d"), Path("s"))) == hashes["base"]


@pytest.fixture
def runner(tmp_path, monkeypatch, corpus_folder):
    """run.py on the tests' corpus, with a run that takes no time; (call, rows made, ledger)."""
    run, one, ledger = script("run"), script("one"), script("ledger")
    from sleeplm_jax.corpus.manifest import Corpus

    opened, made = Corpus.open(corpus_folder), []

    def make_row(variant, seed, args, corpus):
        made.append((variant, seed))
        if len(made) == 3:
            raise KeyboardInterrupt
        key = one.key_for(variant, seed, opened)
        ledger.Ledger(args.ledger).add(row() | key)
        return 0

    monkeypatch.setattr(run, "make_corpus", lambda *_: corpus_folder)
    monkeypatch.setattr(run, "make_row", make_row)
    args = argparse.Namespace(
        work=tmp_path, ledger=tmp_path / "l.jsonl", seeds=[0, 1], only=["base", "sigmoid"],
        minutes=None, list=False,
    )
    return lambda **changes: run.run(argparse.Namespace(**vars(args) | changes)), made, args.ledger


def test_a_runner_goes_on_where_it_was_stopped_and_makes_no_row_twice(runner, capsys):
    call, made, path = runner
    with pytest.raises(KeyboardInterrupt):
        call()
    assert made == [("base", 0), ("sigmoid", 0), ("base", 1)]
    assert len(script("ledger").Ledger(path).rows()) == 2
    assert call(list=True) == 0 and "missing: base, seed 1" in capsys.readouterr().out
    assert call() == 0
    assert made[3:] == [("base", 1), ("sigmoid", 1)]
    assert call() == 0 and len(made) == 5
    assert call(minutes=-1.0, seeds=[7]) == 0 and len(made) == 5


def test_rows_of_older_code_stand_once_the_base_is_shown_to_be_the_same(runner, corpus_folder):
    from sleeplm_jax.corpus.manifest import Corpus

    call, made, path = runner
    opened, ledger = Corpus.open(corpus_folder), script("ledger").Ledger(path)
    for variant in ("base", "sigmoid"):
        key = script("one").key_for(variant, 0, opened)
        ledger.add(row() | key | {"code": "older"})
    assert call(seeds=[0]) == 0  # as the base's figures are the older code's, sigmoid stands
    assert made == [("base", 0)] and call(seeds=[0]) == 0 and len(made) == 1


def test_a_run_is_measured_in_the_bases_words(trained_run, corpus, monkeypatch):
    """And by its last step, whatever it was taught."""
    from sleeplm_jax.evaluation import suite

    seen = {}

    def evaluate(model, corpus, split, out, **options):
        seen.update(data=model.config.data, step=model.step, split=split)
        return {}

    monkeypatch.setattr(suite, "evaluate", evaluate)
    script("figures").measure(trained_run, corpus)
    assert seen["split"] == "test" and seen["step"] == 12
    assert not seen["data"].ungrounded and seen["data"].level == "all"


# ---- Figures

def test_figures_are_taken_from_an_evaluation():
    grade = {"n": 20, "said": 10, "invented": 0.5, "mae": 2.0}
    other = {"features": {name: {"mae": mae} for name, mae in zip("abc", (4.0, 2.0, 20.0))}}
    result = {
        "prompted_staging": {"in_template": {"kappa": 0.6}, "held_out": {"kappa": 0.4}},
        "linear_head": {"kappa": 0.7},
        "retrieval": {"all_kinds": {"text_to_signal": {"R@1": 0.1, "R@10": 0.5},
                                    "signal_to_text": {"R@1": 0.2, "R@10": 0.7}}},
        "captions": {"total": {"loss": 1.0, "other_signal": {"loss": 1.25}}, "kinds": {
            "brain": {"generated": {"features": dict.fromkeys("abc", grade) | {
                "rare": {"n": 0, "said": 10, "invented": 1.0}}, "other_epoch": other}},
            "heart": {"n": 0}}},
    }
    assert script("figures").metrics_of(result) == pytest.approx({
        "prompted_kappa": 0.6, "held_out_kappa": 0.4, "linear_kappa": 0.7, "retrieval_1": 0.15,
        "retrieval_10": 0.6, "caption_nll": 1.0, "signal_gain": 0.25,
        "number_error": 0.5,  # median of 2/4, 2/2, 2/20
        "invented": 25 / 40,
    })
    assert set(script("figures").metrics_of({}).values()) == {None}


def test_paired_differences_are_those_computed_by_hand():
    paired = script("report").paired
    found = paired({0: 0.5, 1: 0.6, 2: 0.7, 9: 5.0}, {0: 0.4, 1: 0.55, 2: 0.6, 8: 7.0})
    # 0.1, 0.05, 0.1: mean 0.25/3; deviations 1/60, -1/30, 1/60, so the variance is 1/1200.
    assert found.seeds == 3 and found.mean == pytest.approx(0.25 / 3)
    assert found.spread == pytest.approx(math.sqrt(1 / 1200))
    # Student's t, two degrees of freedom: 4.302653 (any table).
    assert found.half == pytest.approx(4.302653 * math.sqrt(1 / 3600), rel=1e-6)
    assert found.verdict(True) == "helped" and found.verdict(False) == "hurt"
    assert paired({0: 1.0}, {0: 0.5}).verdict(True) == "few seeds"
    assert paired({0: 1.0, 1: 0.0, 2: 1.0}, {0: 0.0, 1: 1.0, 2: 0.0}).verdict(True) == "open"
    assert paired({0: 1.0}, {1: 1.0}) is None


def test_rows_of_other_code_and_other_recipes_are_not_paired():
    report = script("report")
    rows = [row(seed=0, code="old", a=1.0), row(seed=1, a=2.0), row(seed=2, a=3.0)]
    assert [r["seed"] for r in report.group(rows)] == [1, 2]
    proved = [row(seed=1, code="old", a=2.0), *rows]
    found = [(r["seed"], r["code"]) for r in report.group(proved)]
    assert found == [(1, "c"), (0, "old"), (2, "c")]
    changed = row(seed=0, a=9.0) | {"recipe": "later"}
    assert report.figures([*rows, changed], "a") == {"base": {0: 9.0}}


def test_the_table_stands_between_its_marks_and_says_what_is_sure(tmp_path):
    report, page = script("report"), tmp_path / "page.md"
    page.write_text(f"before\n{report.BEGIN}\nstale\n{report.END}\nafter\n")
    rows = [row(v, s, prompted_kappa=k + 0.01 * s, caption_nll=1.0)
            for v, k in (("base", 0.5), ("sigmoid", 0.3)) for s in range(3)]
    rows += [row("dual_axis", 0, prompted_kappa=0.9, caption_nll=0.5)]
    ledger = tmp_path / "l.jsonl"
    ledger.write_text("".join(json.dumps(r) + "\n" for r in rows))
    done = subprocess.run(
        [sys.executable, str(ABLATIONS / "report.py"), "--ledger", str(ledger), "--page",
         str(page)], capture_output=True, text=True, env=os.environ,
    )
    assert done.returncode == 0, done.stderr
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "stale" not in text
    assert "| prompted staging, kappa | 0.510 | 0.010 | 3 |" in text
    # The same difference with every seed: no spread, so it is sure; one seed is never sure.
    assert "| sigmoid | 3 | **-0.20 ± 0.00** |" in text and "| dual_axis | 1 | +0.40 |" in text
    assert "Worse than the base" in text and "- sigmoid: prompted staging, kappa -0.20" in text
    assert "8 simulated people never trained on" in text
    page.write_text("no marks")
    with pytest.raises(ValueError, match="lacks"):
        report.write("x", page)
