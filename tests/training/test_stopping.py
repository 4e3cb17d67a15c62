"""Signals: which of them stop, which end at once, and that nothing is lost by when they come."""

import contextlib
import json
import os
import signal
import threading
import time

import pytest

from sleeplm_jax.errors import Interrupted
from sleeplm_jax.training import held_out, stopping
from sleeplm_jax.training.loop import train
from sleeplm_jax.training.stopping import StopRequest
from tests.fixtures_run import tiny_config
from tests.multiprocess.launching import rows


def told(stop):
    deadline = time.monotonic() + 10
    while not (number := stop.asked()) and time.monotonic() < deadline:
        time.sleep(0.001)
    return number


@pytest.fixture
def heard():
    """SIGHUP as a terminal sends it: under nohup, where it is ignored, it would stay so."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(("sent", "number"), [
    (signal.SIGTERM, 15), (signal.SIGUSR1, 15), (signal.SIGINT, 2), (signal.SIGHUP, 1),
])
def test_a_signal_is_a_request_and_repeating_it_changes_nothing(sent, number, capfd, heard):
    before = signal.getsignal(sent)
    with StopRequest() as stop:
        assert stop.asked() == 0
        os.kill(os.getpid(), sent)
        assert told(stop) == number
        os.kill(os.getpid(), signal.SIGTERM)  # a scheduler's, after its warning
        time.sleep(0.05)
        assert stop.asked() == number
    assert signal.getsignal(sent) is before
    assert f"{sent.name}: stopping after this step, then saving" in capfd.readouterr().err
    assert not [t for t in threading.enumerate() if t.name in ("signals", "asked")]


def test_a_second_ctrl_c_is_an_exception_and_a_third_ends_the_process(monkeypatch, capfd):
    left = []
    monkeypatch.setattr(stopping.os, "_exit", left.append)
    with StopRequest() as stop:
        assert stop.asked() == 0
        os.kill(os.getpid(), signal.SIGINT)
        assert told(stop) == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        # Where the main thread is in C and never takes the exception up.
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)
    assert left == [130] and "ending without saving" in capfd.readouterr().err


def test_before_the_first_step_there_is_nothing_to_wait_for(monkeypatch):
    left = []
    monkeypatch.setattr(stopping.os, "_exit", left.append)
    with StopRequest(), pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)
    with StopRequest():
        os.kill(os.getpid(), signal.SIGTERM)
        deadline = time.monotonic() + 10
        while not left and time.monotonic() < deadline:
            time.sleep(0.001)
    assert left == [143]


def test_what_was_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup
    try:
        with StopRequest() as stop:
            assert stop.asked() == 0
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.05)
            assert stop.asked() == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_in_another_thread_there_are_no_signals_and_no_failure():
    seen = []

    def run():
        with StopRequest() as stop:
            seen.append(stop.asked())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [0]


@pytest.mark.slow
def test_stopped_in_the_middle_of_an_evaluation_it_is_made_at_the_next_start(
    trained_run, corpus_folder, tmp_path, monkeypatch
):
    """At the last one, after the last step: the run ends up as if never stopped, bit for bit."""
    config, folder = tiny_config(corpus_folder, tmp_path), tmp_path / "tiny"
    batches, calls = held_out.HeldOut._batches, []

    def interrupted(self, *arguments):
        calls.append(1)
        for number, batch in enumerate(batches(self, *arguments)):
            # For compiling, at step 6, at step 12.
            if len(calls) == 3 and number == 1:
                os.kill(os.getpid(), signal.SIGTERM)
                until_agreed()
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(held_out.HeldOut, "_batches", interrupted)
        with pytest.raises(Interrupted) as stopped:
            train(config, lambda line: None)
    assert stopped.value.status == 143
    assert about_of(folder)["owed"] is True
    assert [row["step"] for row in rows(folder, "val")] == [6]
    train(config, lambda line: None)
    assert rows(folder) == rows(trained_run)
    assert rows(folder, "val") == rows(trained_run, "val")
    now, then = about_of(folder), about_of(trained_run)
    assert now["val_loss"] == then["val_loss"] and not now.get("owed")
    assert now["fingerprints"] == then["fingerprints"]


def until_agreed():
    """The thread that hears what is asked ends when it is settled after which poll to stop."""
    deadline = time.monotonic() + 30
    while any(thread.name == "asked" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def about_of(folder):
    return json.loads((folder / "checkpoints" / "12" / "about" / "data.json").read_text())
