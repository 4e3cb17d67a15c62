"""What is said, written and kept back of a training: late, now and then, and never ahead."""

import dataclasses
import json

import jax.numpy as jnp
import pytest

from sleeplm_jax.errors import Interrupted, UserError
from sleeplm_jax.training import reporting
from sleeplm_jax.training.reporting import Reporter
from sleeplm_jax.training.status import RunStatus, is_lost, read_status
from tests.models.test_recoca import SMALL

CONFIG = dataclasses.replace(SMALL, steps=40, log_every=1, tensorboard=False)


def metrics(loss=1.0, **more):
    return {name: jnp.float32(x) for name, x in ({"loss": loss, "contrastive": 0.5} | more).items()}


def rows(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_steps_metrics_are_read_when_the_next_one_is_under_way(tmp_path):
    with Reporter(CONFIG, tmp_path, 0, lambda line: None) as seen:
        seen.begin()
        for step in (1, 2, 3):
            with seen.step(step - 1):
                pass
            seen.trained(step, metrics(loss=step))
            seen.read()
            assert [row["loss"] for row in rows(tmp_path)] == list(range(1, step))
        seen.catch_up()
        assert [row["step"] for row in rows(tmp_path)] == [1, 2, 3]


class Flying:
    """A loss whose arrival is noted."""

    def __init__(self, step, landed):
        self.step, self.landed = step, landed

    def block_until_ready(self):
        self.landed.append(self.step)
        return self


def test_at_most_two_steps_are_in_flight_however_seldom_it_logs(tmp_path):
    """The watch of the clock waits in a thread of its own, so it is left out here."""
    config = dataclasses.replace(CONFIG, log_every=10_000)
    with Reporter(config, tmp_path, 0, lambda line: None) as seen:
        seen.clock._watch.look = lambda step, result: None
        landed = []
        for step in range(1, 8):
            seen.trained(step, {"loss": Flying(step, landed)})
            seen.read()
            assert landed == list(range(1, step - 1)), "the host ran ahead, or waited for the step"


def test_plain_lines_are_few_and_rows_are_all(tmp_path, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(reporting.time, "monotonic", lambda: now[0])
    said = []
    with Reporter(CONFIG, tmp_path, 0, said.append) as seen:
        seen.begin()
        for step in range(1, 41):
            now[0] += 1.0
            seen.trained(step, metrics(parameter_norm=3.0, learning_rate=1e-3, skipped=2.0))
            seen.read()
        seen.catch_up()
    told = [line for line in said if line.startswith("step")]
    # The first, one in ten seconds, and the last.
    assert [int(line.split("/")[0].split()[1]) for line in told] == [1, 11, 21, 31, 40]
    assert len(rows(tmp_path)) == 40
    for word in ("loss 1.0000", "contrastive 0.500", "samples/s", "tokens/s", "patches/s",
                 "h of sleep/s", "waiting for data", "ETA", "parameters 3", "rate 0.001",
                 "2 skipped"):
        assert word in told[1], word
    assert sum("no MFU" in line for line in said) == 1


def test_a_screen_gets_lines_to_show_in_place(tmp_path):
    class Screen:
        said, shown = [], []

        def __call__(self, line):
            self.said.append(line)

        def update(self, lines):
            self.shown.append(lines)

    screen = Screen()
    with Reporter(CONFIG, tmp_path, 0, screen) as seen:
        seen.begin()
        seen.trained(20, metrics())
        seen.catch_up()
    assert not any(line.startswith("step") for line in screen.said)
    first, last = screen.shown
    assert "20/40  50.0%" in first[0] and first[0].count("#") == 12 and len(first) == 4
    assert last == []  # what stands there stays


@pytest.mark.parametrize(
    ("error", "state", "why"),
    [(None, "done", None), (Interrupted(15), "stopped", None),
     (UserError("step 3", "loss is nan", "lower it"), "failed", "step 3: loss is nan; lower it"),
     (ZeroDivisionError("by zero\nsecond line"), "failed", "ZeroDivisionError: by zero")],
)
def test_the_status_says_how_it_ended(tmp_path, error, state, why):
    try:
        with Reporter(CONFIG, tmp_path, 0, lambda line: None, parameters=7) as seen:
            seen.begin()
            assert read_status(tmp_path)["state"] == "running"
            seen.trained(3, metrics(loss=float("nan")))
            seen.catch_up()
            seen.evaluated(3, {"loss": 2.0}, best=1.5)
            if error is not None:
                raise error
    except (Interrupted, UserError, ZeroDivisionError):
        pass
    status = read_status(tmp_path)
    assert (status["state"], status.get("why")) == (state, why)
    assert (status["step"], status["steps"], status["parameters"]) == (3, 40, 7)
    assert status["loss"] is None and (status["val_loss"], status["best"]) == (2.0, 1.5)
    json.loads((tmp_path / "status.json").read_text(), parse_constant=pytest.fail)  # no NaN
    assert rows(tmp_path)[0]["loss"] is None


def test_only_the_lead_writes(tmp_path):
    with Reporter(CONFIG, tmp_path, 0, lambda line: None, lead=False) as seen:
        seen.trained(1, metrics())
        seen.catch_up()
    assert not list(tmp_path.iterdir())


def test_a_status_is_written_now_and_then_and_a_new_state_at_once(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("sleeplm_jax.training.status.time.monotonic", lambda: now[0])
    status = RunStatus(tmp_path, steps=9)
    for second in range(25):
        now[0] = float(second)
        status.set("running", step=second)
        assert read_status(tmp_path)["step"] == 10 * (second // 10)
    status.set("stopped")
    assert read_status(tmp_path) | {"time": 0} == {
        "state": "stopped", "step": 24, "steps": 9, "every_s": 0.0, "time": 0,
    }


def test_a_status_that_cannot_be_written_is_no_reason_to_stop(tmp_path):
    (tmp_path / "file").write_text("")
    RunStatus(tmp_path / "file").set("running", step=1)  # a folder that is a file


def test_a_run_is_lost_when_it_is_silent_for_longer_than_it_ever_was():
    status = {"time": 1000.0, "every_s": 20.0, "loss": 3.0}
    assert not is_lost(status, now=1500.0)
    assert is_lost(status, now=1700.0)
    assert not is_lost(status | {"every_s": 400.0}, now=2900.0)  # slow steps
    compiling = {"time": 1000.0, "every_s": 0.0, "step": 0}
    assert not is_lost(compiling, now=4000.0) and is_lost(compiling, now=9000.0)
    assert is_lost({"time": "?"}, now=0.0)
