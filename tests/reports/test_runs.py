"""`sleeplm runs`: how each run stands, whatever its files hold, and how some differ."""

import dataclasses
import json
import os
import subprocess
import sys
import time

import pytest
from PIL import Image

from sleeplm_jax.cli import main
from sleeplm_jax.config import RunConfig
from sleeplm_jax.config.files import save_config
from sleeplm_jax.errors import CheckpointError, ConfigError
from sleeplm_jax.reports.curves import smooth
from sleeplm_jax.reports.runs import compare, differences, find_runs, read_config, read_run
from sleeplm_jax.training.status import RunStatus


def made(folder, state="running", ago=5.0, rows=(), config=None, **status):
    folder.mkdir(parents=True)
    save_config(config or RunConfig(name=folder.name, steps=100), folder / "config.json")
    if state:
        RunStatus(folder, steps=100, parameters=29_400_000).set(state, **status)
        told = json.loads((folder / "status.json").read_text())
        (folder / "status.json").write_text(json.dumps(told | {"time": time.time() - ago}))
    if rows:
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def rows_of(losses):
    found = []
    for number, loss in enumerate(losses, 1):
        found.append({"step": 10 * number, "split": "train", "loss": loss, "grad_norm": None})
        found.append({"step": 10 * number, "split": "val", "loss": loss + 0.5})
    return found


def test_every_state_has_its_row(tmp_path, capsys):
    made(tmp_path / "going", "running", step=40, loss=2.5, val_loss=3.0, best=2.9, seconds_left=90)
    made(tmp_path / "killed", "running", ago=7200, step=40, loss=2.5)
    made(tmp_path / "new", "running", ago=900, step=0)
    # Steps of an hour: its lock is renewed all the while.
    slow = made(tmp_path / "slow", "running", ago=3600, step=40, loss=2.5)
    (slow / "lock.json").write_text("{}")
    gone = made(tmp_path / "gone", "running", ago=3600, step=40, loss=2.5)
    (gone / "lock.json").write_text("{}")
    os.utime(gone / "lock.json", (time.time() - 3600,) * 2)
    made(tmp_path / "asked", "stopped", step=50)
    made(tmp_path / "over", "done", step=100)
    made(tmp_path / "broke", "failed", step=7, why="step 7: loss is nan; lower it")
    made(tmp_path / "older", "", rows=rows_of([3, 2]))
    (made(tmp_path / "taken", "") / "checkpoints" / "0").mkdir(parents=True)
    (tmp_path / ".compiled").mkdir()
    (tmp_path / "not_a_run").mkdir()
    found = {run.folder.name: run for run in find_runs(tmp_path)}
    assert {name: run.state for name, run in found.items()} == {
        "going": "running", "killed": "lost", "new": "starting",
        "slow": "running", "gone": "lost", "asked": "stopped", "over": "done",
        "broke": "failed", "older": "stopped", "taken": "imported",
    }
    going = found["going"]
    assert (going.step, going.steps, going.loss, going.held_out, going.best) == (
        40, 100, 2.5, 3.0, 2.9
    )
    assert going.left_s == 90 and going.parameters == 29_400_000 and 4 < going.age_s < 60
    assert found["asked"].left_s is None and found["older"].loss == 2
    assert main(["runs", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "broke: step 7: loss is nan; lower it" in said and "29.4 M" in said and "2 m" in said
    assert "2.0 h ago" in said and "40/100" in said


@pytest.mark.parametrize(
    ("name", "content", "finding"),
    [("config.json", "{", "config.json cannot be read"),
     ("config.json", "[1]", "holds no config"), ("config.json", None, "config.json is missing"),
     ("status.json", "{\"state\": \"runn", "status.json cannot be read"),
     ("status.json", "[]", "status.json cannot be read"),
     ("status.json", "{\"state\": \"dancing\"}", "status.json cannot be read"),
     ("config.json", b"\xff\xfe\x00", "config.json cannot be read")],
)
def test_a_broken_run_is_a_row_that_says_so(tmp_path, name, content, finding, capsys):
    folder = made(tmp_path / "x", "running", step=1)
    made(tmp_path / "y", "done", step=100)
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    first, second = find_runs(tmp_path)
    assert first.state == "broken" and finding in first.why and second.state == "done"
    assert main(["runs", str(tmp_path)]) == 0
    assert "broken" in capsys.readouterr().out


@pytest.mark.parametrize("time_of", ["yesterday", None, [1], True, 1e400])
def test_a_status_with_odd_values_is_still_a_row(tmp_path, time_of):
    folder = made(tmp_path / "x", "running", step=1)
    told = {"state": "running", "time": time_of, "step": "many", "loss": {}, "every_s": "?"}
    (folder / "status.json").write_text(json.dumps(told))
    run = read_run(folder)
    assert run.step is None and run.loss is None and run.state in ("lost", "running", "starting")


def test_folders_that_are_none(tmp_path, capsys):
    with pytest.raises(CheckpointError, match="no such folder"):
        find_runs(tmp_path / "absent")
    assert main(["runs", str(tmp_path / "absent")]) == 2
    assert main(["runs", str(tmp_path)]) == 0
    assert "no runs in" in capsys.readouterr().out


def test_one_run_may_be_named(tmp_path):
    made(tmp_path / "a", "done", step=100)
    assert [run.folder.name for run in find_runs(tmp_path / "a")] == ["a"]


def test_listing_needs_no_jax(tmp_path):
    made(tmp_path / "a", "done", step=100)
    code = (
        "import sys\nfrom sleeplm_jax.cli import main\n"
        f"main(['runs', {str(tmp_path)!r}])\n"
        "print('HEAVY', sorted({'jax', 'flax', 'orbax', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "HEAVY []", done.stderr


def test_configs_differ_in_what_differs_and_in_what_one_lacks(tmp_path):
    first = RunConfig(name="a", steps=100)
    second = dataclasses.replace(
        first, name="b", out="elsewhere", data=dataclasses.replace(first.data, batch_size=128)
    )
    folders = [made(tmp_path / c.name, "done", config=c) for c in (first, second)]
    configs = [read_config(folder) for folder in folders]
    del configs[1]["wandb"]  # as one of an earlier version
    configs[0]["novelty"] = 1
    assert differences(configs) == [
        ("data.batch_size", ["64", "128"]), ("novelty", ["1", "(absent)"]),
        ("wandb", ['""', "(absent)"]),
    ]


def test_compare_draws_a_page_while_runs_go_on(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    a = made(tmp_path / "one" / "run", "running", step=30, rows=rows_of([3.0, 2.0, 1.25]))
    b = made(tmp_path / "two" / "run", "done", step=20, rows=rows_of([4.0, 3.5]),
             config=RunConfig(name="run", steps=20))
    with (a / "metrics.jsonl").open("a") as file:
        file.write('{"step": 40, "split": "tra')  # a row that is being written just now
    out = tmp_path / "page.html"
    arguments = ["runs", "compare", str(a), str(b), "--out", str(out), "--by", "hours"]
    assert main(arguments) == 0
    said, page = capsys.readouterr().out, out.read_text()
    assert "one/run" in said and "two/run" in said and "steps" in said and "100" in said
    assert "1.7500 at step 30" in page and "hours of sleep seen" in page
    assert "http" not in page.replace("http-equiv", "") and "<script" not in page
    with Image.open(out.with_suffix(".png")) as picture:
        picture.load()
        assert picture.width > 500 and picture.format == "PNG"


def test_compare_wants_runs_with_metrics(tmp_path, capsys):
    a = made(tmp_path / "a", "running")
    with pytest.raises(CheckpointError, match="no metrics to draw"):
        compare([a], tmp_path / "page.html")
    (a / "config.json").write_text("{}")
    (a / "metrics.jsonl").write_text(json.dumps(rows_of([1.0])[0]) + "\n")
    with pytest.raises(ConfigError, match="has no data.batch_size"):
        compare([a], tmp_path / "page.html")
    assert main(["runs", "compare", str(a), "--out", str(tmp_path / "page.pdf")]) == 2
    assert "names no HTML file" in capsys.readouterr().err
    assert not list(tmp_path.glob("page*"))


def test_hours_and_samples_stretch_a_run_by_its_batch(tmp_path):
    from sleeplm_jax.reports.runs import _per_step

    config = {"data.batch_size": 64, "model.spec.seconds": 30}
    assert _per_step(tmp_path, config) == {
        "steps": 1.0, "samples": 64.0, "hours": pytest.approx(64 * 30 / 3600)
    }


def test_a_running_mean_leaves_out_what_is_no_number():
    values = [1.0] * 100 + [float("nan")] + [1.0] * 100
    assert smooth(values)[100] == 1.0 and len(smooth(values)) == 201
    assert smooth([1.0, 3.0]).tolist() == [1.0, 3.0]
