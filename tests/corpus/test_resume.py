"""Killed at any point, by a signal that nothing can catch: the next run goes on from there."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sleeplm_jax.corpus.manifest import Corpus
from sleeplm_jax.corpus.nightfile import read_night
from sleeplm_jax.corpus.prepare import prepare_corpus
from sleeplm_jax.errors import CorpusError, UserError
from sleeplm_jax.files import TEMPORARY

ROOT = Path(__file__).parents[2]
MAIN = """
import sys
from pathlib import Path
if __name__ == "__main__":
    from sleeplm_jax.corpus.prepare import prepare_corpus
    prepare_corpus([Path(sys.argv[1])], Path(sys.argv[2]), workers=2, progress=False)
"""


@pytest.fixture
def started(tmp_path):
    """Starts a run of two workers in a session of its own; what is left of it ends here."""
    (tmp_path / "main.py").write_text(MAIN)
    running = []

    def start(folder, out):
        running.append(subprocess.Popen(
            [sys.executable, tmp_path / "main.py", folder, out],
            env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        ))  # fmt: skip
        return running[-1]

    yield start
    for process in running:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        process.stderr.close()


def children(pid):
    """Process ids of the spawned workers of `pid`, from /proc."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                if parent == pid and b"spawn_main" in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except (OSError, IndexError):
                continue
    return found


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def until(true, seconds=60):
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.01)
    assert true()


def done(out):
    return sorted(p.stem for p in out.glob("nights/*.json") if not p.name.startswith(TEMPORARY))


@pytest.fixture(scope="module")
def undisturbed(simulated_folder, tmp_path_factory):
    return prepare_corpus(
        [simulated_folder], tmp_path_factory.mktemp("whole") / "c", workers=1, progress=False
    ).hash


def test_killing_the_parent_ends_the_workers_and_loses_only_nights_in_flight(
    simulated_folder, tmp_path, started, undisturbed
):
    out = tmp_path / "corpus"
    run = started(simulated_folder, out)
    until(lambda: len(done(out)) >= 2)
    workers = children(run.pid)
    assert workers
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    until(lambda: not any(map(alive, workers)), 10)  # nobody writes behind the next run's back
    kept = done(out)
    assert len(kept) >= 2 and not (out / "corpus.json").exists()
    for night in kept:
        read_night(out / "nights" / f"{night}.npz")
    again = prepare_corpus([simulated_folder], out, workers=1, progress=False)
    assert set(kept) <= set(again.unchanged) and len(again.prepared) == 5 - len(kept)
    assert again.hash == undisturbed
    assert not list(out.rglob(f"{TEMPORARY}*"))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_killing_everything_at_a_random_moment_leaves_what_can_go_on(
    simulated_folder, tmp_path, started, undisturbed, seed
):
    out = tmp_path / "corpus"
    run = started(simulated_folder, out)
    time.sleep(random.Random(seed).uniform(0.5, 9.0))
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    try:  # either a whole corpus or none
        assert Corpus.open(out, verify=True).hash == undisturbed
    except CorpusError as error:
        assert "holds no corpus" in error.finding
    kept = done(out)
    again = prepare_corpus([simulated_folder], out, workers=1, progress=False)
    assert set(kept) <= set(again.unchanged)
    assert again.hash == undisturbed
    assert {p.name for p in out.iterdir()} == {
        "nights", "corpus.json", again.corpus.manifest["shards"]["folder"]
    }  # fmt: skip


def test_killing_a_worker_costs_the_run_nothing(simulated_folder, tmp_path, started, undisturbed):
    out = tmp_path / "corpus"
    run = started(simulated_folder, out)
    until(lambda: done(out))
    victim = children(run.pid)[0]
    os.kill(victim, signal.SIGKILL)
    run.communicate(timeout=100)
    assert run.returncode == 0
    assert Corpus.open(out).hash == undisturbed  # its night was prepared again, alone
    assert not (out / "failures.csv").exists()


@pytest.mark.parametrize(
    "wait", [0.0, *(pytest.param(w, marks=pytest.mark.slow) for w in (0.1, 0.2, 0.4, 0.8))]
)
def test_ctrl_c_while_workers_start_is_one_traceback_of_the_parent_only(
    simulated_folder, tmp_path, started, wait
):
    out = tmp_path / "corpus"
    run = started(simulated_folder, out)
    until(lambda: (out / "nights").is_dir())  # from here on the pool is started
    time.sleep(wait)
    os.killpg(run.pid, signal.SIGINT)  # as a terminal does: to the whole group
    said = run.communicate(timeout=30)[1]
    assert run.returncode != 0
    assert said.count("Traceback") <= 1 and "spawn_main" not in said, said
    assert "Process Spawn" not in said


def test_a_note_that_was_never_finished_costs_that_night_only(simulated_folder, tmp_path):
    out = tmp_path / "corpus"
    first = prepare_corpus([simulated_folder], out, workers=1, progress=False)
    rows = sorted((out / "nights").glob("*.json"))
    rows[0].unlink()  # killed between the night and its note
    rows[1].write_text(rows[1].read_text()[:100])  # as a copy to elsewhere may be cut
    (out / "nights" / f"{TEMPORARY}ab-x.npz").write_bytes(b"half")
    again = prepare_corpus([simulated_folder], out, workers=1, progress=False)
    assert again.prepared == (rows[0].stem, rows[1].stem) and again.hash == first.hash
    assert not list(out.rglob(f"{TEMPORARY}*"))


def test_what_decides_is_content_not_time(simulated_folder, tmp_path):
    folder = tmp_path / "in"
    shutil.copytree(simulated_folder, folder)
    out = tmp_path / "corpus"
    first = prepare_corpus([folder], out, workers=1, progress=False)
    path = folder / "sim-3-0002.edf"
    state = path.stat()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + 10**9))
    changed = prepare_corpus([folder], out, workers=1, progress=False)
    assert changed.prepared == ("sim-3-0002",)
    data[-1] ^= 1
    path.write_bytes(data)
    back = prepare_corpus([folder], out, workers=1, progress=False)
    assert back.hash == first.hash
    row = json.loads((out / "nights" / "sim-3-0002.json").read_text())
    assert row["seconds"] > 0 and row["bytes"] == (out / "nights" / "sim-3-0002.npz").stat().st_size


@pytest.mark.slow
def test_two_runs_at_once_into_one_corpus_are_refused(simulated_folder, tmp_path, started):
    out = tmp_path / "corpus"
    run = started(simulated_folder, out)
    until(lambda: done(out))
    with pytest.raises(UserError, match="nights: is being written by another process"):
        prepare_corpus([simulated_folder], out, workers=1, progress=False)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    assert prepare_corpus([simulated_folder], out, workers=1, progress=False).hash
