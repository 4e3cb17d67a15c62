"""Running a study: finished cells never again, failed ones told, partial ones resumed.

Trainings are a script's (fake_sleeplm.py), so that every ending can be had at will; a real one is
in test_study_runs.py.
"""

import json
import os
import signal
import sys
import threading
import types
from pathlib import Path

import pytest

from sleeplm_jax.config import RunConfig
from sleeplm_jax.errors import ConfigError
from sleeplm_jax.scaling import execute
from sleeplm_jax.scaling.cells import Folder, open_folder, state_of
from sleeplm_jax.scaling.collect import StudyError
from sleeplm_jax.scaling.execute import (
    job_name,
    launched,
    launcher_words,
    run_study,
    states,
    train_command,
)
from tests.scaling.studies import a_cell, a_plan

FAKE = Path(__file__).parent / "fake_sleeplm.py"
CORPUS = types.SimpleNamespace(hash="c" * 64, path="corpus")


class Bench:
    """A study's folder, the behaviours of its trainings, and what was called."""

    def __init__(self, root: Path, monkeypatch):
        self.root, self.folder = root, Folder(root / "study")
        self.behaviours, self.monkeypatch = {}, monkeypatch
        monkeypatch.setattr(execute, "MODULE", (sys.executable, str(FAKE)))
        monkeypatch.setenv("BEHAVIOUR", str(root / "behaviour.json"))
        monkeypatch.setenv("CALLS", str(root / "calls.jsonl"))
        monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))

    def plan(self, *names):
        out = str(self.folder.path / "runs")
        return a_plan(*(a_cell(name, fields={"name": name, "out": out}) for name in names))

    def run(self, plan, **options):
        (self.root / "behaviour.json").write_text(json.dumps(self.behaviours))
        (self.root / "calls.jsonl").write_text("")
        open_folder(self.folder.path, plan)
        return run_study(plan, self.folder, CORPUS, "h", say=lambda line: None, **options)

    def called(self):
        rows = map(json.loads, (self.root / "calls.jsonl").read_text().splitlines())
        return [("train", row[row.index("--name") + 1]) if row[0] == "train"
                else ("measure", row[3]) for row in rows]


@pytest.fixture
def bench(tmp_path, monkeypatch):
    return Bench(tmp_path, monkeypatch)


def test_finished_cells_are_never_repeated(bench):
    plan = bench.plan("a", "b")
    assert bench.run(plan).done == ["a", "b"]
    assert bench.called() == [("train", "a"), ("measure", "a"), ("train", "b"), ("measure", "b")]
    rows = bench.folder.rows()
    assert [row["cell"] for row in rows] == ["a", "b"] and rows[0]["N"] == 10
    assert json.loads((bench.folder.run("a") / "cell.json").read_text())["D_hours"] == 80 / 120
    assert bench.run(plan).done == ["a", "b"] and bench.called() == []
    assert json.loads((bench.folder.path / "plan.json").read_text())["cells"][0]["cell"] == "a"


def test_failed_cells_are_told_and_the_others_go_on(bench):
    bench.behaviours = {"a": "failed", "b": "broken"}
    plan = bench.plan("a", "b", "c")
    found = bench.run(plan)
    assert found.done == ["c"]
    assert found.failed == {"a": "out of memory",
                            "b": "sleeplm: data.corpus: there is none"}
    again = bench.run(plan)
    assert bench.called() == [] and again.failed == found.failed
    bench.behaviours = {"a": "failed"}
    found = bench.run(plan, retry_failed=True)
    assert found.done == ["b", "c"] and found.failed == {"a": "out of memory"}


def test_a_killed_training_goes_on(bench):
    bench.behaviours = {"a": "killed"}
    plan = bench.plan("a")
    assert list(bench.run(plan).left) == ["a"]
    assert states(plan, bench.folder, CORPUS.hash, "h")["a"].word == "partial"
    assert bench.run(plan).done == ["a"]
    assert bench.called() == [("train", "a"), ("measure", "a")]
    assert [row["status"] for row in bench.folder.attempts("a")] == [137, 0, 0]


def test_a_cell_that_is_killed_again_before_it_came_further_has_failed(bench):
    bench.behaviours = {"a": "hungry"}
    plan = bench.plan("a")
    assert "killed (SIGKILL), 1 x" in bench.run(plan).left["a"]
    assert "killed (SIGKILL), 2 x without a new checkpoint: where" in bench.run(plan).failed["a"]
    bench.run(plan)
    assert bench.called() == []
    # One that came further in between goes on.
    rows = bench.folder.attempts("a")
    rows[-1]["step"] = 40
    path = bench.folder.path / "attempts" / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert state_of(bench.folder, plan.cells[0], "h", CORPUS.hash).word == "partial"


def test_an_interrupted_measurement_is_made_again(bench):
    bench.behaviours = {"a": "interrupted"}
    plan = bench.plan("a")
    with pytest.raises(KeyboardInterrupt):
        bench.run(plan)
    assert bench.run(plan).done == ["a"] and bench.called() == [("measure", "a")]


def test_a_loss_that_is_no_number_fails_its_cell_by_name(bench):
    bench.behaviours = {"a": "diverged"}
    why = bench.run(bench.plan("a")).failed["a"]
    assert "its caption loss was measured as nan" in why and bench.folder.rows() == []


def test_no_result_is_dropped_in_silence(bench):
    bench.run(bench.plan("a"))
    path = bench.folder.path / "results.jsonl"
    path.write_text(path.read_text() + '{"cell": "b", "los\n')
    before = path.read_text()
    for touch in (bench.folder.rows, lambda: bench.folder.add({"cell": "c", "losses": {}})):
        with pytest.raises(StudyError, match="results.jsonl:2: is no row of results"):
            touch()
    assert path.read_text() == before


def test_a_cell_that_cannot_be_measured_is_not_trained_again(bench):
    bench.behaviours = {"a": "unmeasurable"}
    plan = bench.plan("a")
    assert bench.run(plan).failed == {"a": "sleeplm: test split is empty"}
    bench.behaviours = {}
    assert bench.run(plan, retry_failed=True).done == ["a"]
    assert bench.called() == [("measure", "a")]


def test_another_held_out_set_measures_again_without_training(bench):
    plan = bench.plan("a")
    bench.run(plan)
    bench.monkeypatch.setenv("HELD_OUT", "other")
    (bench.root / "calls.jsonl").write_text("")
    found = run_study(plan, bench.folder, CORPUS, "other", say=lambda line: None)
    assert found.done == ["a"] and bench.called() == [("measure", "a")]
    assert len(bench.folder.rows()) == 1


def test_a_claimed_cell_is_left_to_its_process(bench):
    plan = bench.plan("a", "b")
    with bench.folder.claim("a") as mine:
        assert mine
        found = bench.run(plan)
    assert found.done == ["b"] and list(found.under_way) == ["a"]
    assert bench.run(plan).done == ["a", "b"]


def test_rows_of_several_processes_are_all_kept(bench):
    open_folder(bench.folder.path, bench.plan("a"))
    threads = [threading.Thread(target=bench.folder.add, args=({"cell": f"{k}", "losses": {}},))
               for k in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {row["cell"] for row in bench.folder.rows()} == {f"{k}" for k in range(12)}


def test_a_submitted_cell_is_waited_for_then_measured(bench):
    bench.behaviours = {"a": "submitted"}
    plan = bench.plan("a")
    found = bench.run(plan, launcher="{command}")
    assert "Submitted batch job 17" in found.under_way["a"]
    assert "not begun yet" in bench.run(plan, launcher="{command}").under_way["a"]
    assert bench.called() == []
    run = bench.folder.run("a")
    now = bench.folder.attempts("a")[-1]["time"] + 1
    (run / "status.json").write_text(json.dumps({"state": "running", "time": now, "loss": 1.0}))
    assert state_of(bench.folder, plan.cells[0], "h", CORPUS.hash, now).word == "under way"
    lost = state_of(bench.folder, plan.cells[0], "h", CORPUS.hash, now + 1e5)
    assert lost.word == "under way" and "last heard of" in lost.why  # killed, maybe requeued
    # SLURM's script has put a job that saved and stopped back into the queue by itself.
    (run / "status.json").write_text(json.dumps({"state": "stopped", "time": now}))
    assert "its job (Submitted batch job 17) may go on" in bench.run(
        plan, launcher="{command}").under_way["a"]
    assert bench.called() == []
    bench.run(plan, launcher="{command}", resubmit=True)
    assert bench.called() == [("train", "a")]
    now = bench.folder.attempts("a")[-1]["time"] + 1
    (run / "status.json").write_text(json.dumps({"state": "done", "time": now}))
    assert bench.run(plan, launcher="{command}").done == ["a"]
    assert bench.called() == [("measure", "a")]


def test_a_launcher_gets_the_command_where_it_wants_it(bench):
    cell = a_cell("a", fields={"name": "a", "data.ungrounded": True, "tensorboard": False,
                               "model.encoder.mlp_ratio": 2.0})
    command = train_command(cell, "x y.py")
    assert command[2:] == ["train", "x y.py", "--name", "a", "--data.ungrounded",
                           "--no-tensorboard", "--model.encoder.mlp-ratio", "2.0"]
    words = launcher_words("python launch/local.py --logs {logs} -- {command}")
    made = launched(words, command, bench.folder, cell)
    assert made[:2] == ["python", "launch/local.py"] and made[-len(command):] == command
    assert made[3] == str(bench.folder.path / "logs" / "a")
    quoted = launched(launcher_words("ssh host {shell}"), command, bench.folder, cell)
    assert len(quoted) == 3 and "'x y.py'" in quoted[2]
    assert launched([], command, bench.folder, cell) == command
    named = launched(launcher_words("x --name {job} {command}"), command, bench.folder,
                     a_cell("w32-2.5e11-ALL-s0"))
    assert named[2] == "w32-2-5e11-all-s0"
    long = [job_name(f"a-size-of-a-very-long-name-1.25e+22-640h-s{seed}") for seed in (0, 1)]
    assert long[0] != long[1] and max(map(len, long)) <= 40 < len("a-size-of-a-very-long-name-"
                                                                  "1.25e+22-640h-s0")
    assert job_name("7b_1e20") == "c-7b-1e20"
    with pytest.raises(ConfigError, match="does not say where"):
        launcher_words("sbatch job.sh")
    with pytest.raises(ConfigError, match="cannot be read"):
        launcher_words("ssh 'host {command}")


def test_stopping_it_stops_the_training_which_saves(bench):
    bench.behaviours = {"a": "slow"}
    plan = bench.plan("a", "b")
    status = bench.folder.run("a") / "status.json"

    def stop():
        while not status.exists():
            pause.wait(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    pause = threading.Event()
    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        bench.run(plan)
    thread.join()
    assert json.loads(status.read_text())["state"] == "stopped"
    assert bench.called() == [("train", "a")]
    assert state_of(bench.folder, plan.cells[0], "h", CORPUS.hash).word == "partial"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_two_studies_are_not_taken_for_one(bench):
    bench.run(bench.plan("a"))
    other = a_plan(a_cell("a", config=RunConfig(steps=7)))
    with pytest.raises(ConfigError, match="trained by another config"):
        open_folder(bench.folder.path, other)
    with pytest.raises(ConfigError, match="trained on another corpus"):
        state_of(bench.folder, bench.plan("a").cells[0], "h", "d" * 64)
    with pytest.raises(ConfigError, match="has no cell 'z'"):
        bench.run(bench.plan("a"), only=("z",))
    assert bench.run(bench.plan("a", "b"), minutes=0.0).left == {"b": ""}
