"""Training as a user meets it: it learns, records, refuses, and goes on where it was killed."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from sleeplm_jax.config.files import load_config
from sleeplm_jax.errors import CheckpointError, ConfigError, CorpusError
from sleeplm_jax.training.clock import RATES
from sleeplm_jax.training.loop import train
from tests.fixtures_run import tiny_config

TINY = Path(__file__).parent / "tiny.py"


def rows(folder, split="train"):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    return [
        {k: v for k, v in row.items() if k not in RATES} for row in found if row["split"] == split
    ]


def silent(line):
    pass


def test_the_folder_of_a_run_holds_what_later_work_needs(trained_run, corpus):
    about = json.loads((trained_run / "run.json").read_text())
    assert about["corpus"]["hash"] == corpus.hash and about["corpus"]["simulated"] is True
    assert about["tokenizer"]["hash"] == corpus.tokenizer().hash
    assert about["corpus"]["subjects"]["test"] == corpus.subjects("test")
    assert load_config(trained_run / "config.json").steps == 12
    assert [row["step"] for row in rows(trained_run)] == list(range(1, 13))
    assert [row["step"] for row in rows(trained_run, "val")] == [6, 12]
    assert {"loss", "contrastive", "caption", "reconstruction", "grad_norm", "learning_rate",
            "temperature"} <= set(rows(trained_run)[0])


def test_it_learns(corpus_folder, tmp_path):
    config = tiny_config(corpus_folder, tmp_path, steps=110, eval_every=110, checkpoint_every=110)
    found = rows(train(config, silent))
    caption = [row["caption"] for row in found]
    # From guessing among a thousand tokens (ln 1000 = 6.9) to the templates' first words.
    assert np.mean(caption[-5:]) < 0.75 * np.mean(caption[:5])


@pytest.fixture
def own_run(trained_run, tmp_path):
    """A copy to train on: a lock in the shared one would be seen by other tests."""
    return shutil.copytree(trained_run, tmp_path / trained_run.name)


def test_a_run_that_is_done_stays_as_it_is(own_run, corpus_folder):
    before = (own_run / "metrics.jsonl").read_bytes()
    said = []
    train(tiny_config(corpus_folder, own_run.parent), said.append)
    assert "already trained" in said[-1]
    assert (own_run / "metrics.jsonl").read_bytes() == before


def start(corpus_folder, out, *more):
    return subprocess.Popen(
        [sys.executable, "-m", "sleeplm_jax.cli", "train", str(TINY), "--out", str(out),
         "--data.corpus", str(corpus_folder), *more],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )


def wait_for_step(folder, step, process):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        if (folder / "metrics.jsonl").exists() and any(r["step"] >= step for r in rows(folder)):
            return
        time.sleep(0.02)
    raise AssertionError(f"never reached step {step}: {process.communicate()[0][-2000:]}")


def test_killed_in_the_middle_of_a_save_it_resumes_to_the_same_losses(
    trained_run, corpus_folder, tmp_path
):
    """SIGKILL with half a checkpoint on the disk: the one before is used, and the rest equals the
    uninterrupted run bit for bit."""
    folder = tmp_path / "tiny"
    process = start(corpus_folder, tmp_path, "--checkpoint-every", "1")
    try:
        wait_for_step(folder, 3, process)
        half = stopped_while_saving(folder / "checkpoints", process)
    finally:
        process.kill()
        process.wait()
    assert max(row["step"] for row in rows(folder)) < 12, "it ended before it could be killed"
    again = start(corpus_folder, tmp_path)
    output = again.communicate(timeout=300)[0]
    assert again.returncode == 0 and "resuming" in output, output[-2000:]
    assert not half.exists()
    assert rows(folder) == rows(trained_run)
    assert rows(folder, "val") == rows(trained_run, "val")


def stopped_while_saving(checkpoints, process):
    """Half a checkpoint, with the process stopped (SIGSTOP) so that it stays half."""
    while process.poll() is None:
        # A finished one is renamed; its name then ends without the mark.
        for half in checkpoints.glob("*.orbax-checkpoint-tmp*"):
            process.send_signal(signal.SIGSTOP)
            time.sleep(0.02)
            if half.exists():
                return half
            process.send_signal(signal.SIGCONT)
    raise AssertionError("it ended before a save was seen")


@pytest.mark.slow
def test_asked_to_stop_it_saves_and_says_how_to_go_on(corpus_folder, tmp_path):
    process = start(corpus_folder, tmp_path, "--steps", "5000", "--checkpoint-every", "5000",
                    "--eval-every", "5000")
    folder = tmp_path / "tiny"
    wait_for_step(folder, 3, process)
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 128 + signal.SIGTERM, output[-2000:]
    assert "goes on from here" in output and "Traceback" not in output
    last = max(row["step"] for row in rows(folder))
    assert (folder / "checkpoints" / str(last)).is_dir()


def test_another_config_in_the_same_folder_is_refused(own_run, corpus_folder):
    config = tiny_config(corpus_folder, own_run.parent, seed=5)
    with pytest.raises(ConfigError, match=r"seed 0 -> 5"):
        train(config, silent)


def test_what_does_not_change_the_result_may_change(own_run, corpus_folder):
    config = tiny_config(corpus_folder, own_run.parent, log_every=3)
    data = dataclasses.replace(config.data, workers=1)
    train(dataclasses.replace(config, data=data), silent)


def test_another_tokenizer_is_refused(trained_run, corpus_folder, tmp_path):
    from sleeplm_jax.corpus.manifest import Corpus
    from sleeplm_jax.corpus.tokenizer import train_tokenizer

    other = shutil.copytree(corpus_folder, tmp_path / "corpus")
    shutil.copytree(trained_run, tmp_path / "tiny")
    train_tokenizer(Corpus.open(other), vocab_size=900)
    with pytest.raises((CheckpointError, ConfigError), match="tokenizer|vocab_size"):
        train(tiny_config(other, tmp_path), silent)


def test_a_corpus_of_another_shape_is_refused(corpus_folder, tmp_path):
    config = tiny_config(corpus_folder, tmp_path)
    model = dataclasses.replace(
        config.model, spec=dataclasses.replace(config.model.spec, rate=32)
    )
    with pytest.raises(CorpusError, match="64 Hz"):
        train(dataclasses.replace(config, model=model), silent)


def test_a_damaged_checkpoint_is_one_line(trained_run, tmp_path, corpus_folder):
    shutil.copytree(trained_run, tmp_path / "tiny")
    newest = tmp_path / "tiny" / "checkpoints" / "12"
    for path in newest.rglob("*"):
        if path.is_file() and path.stat().st_size > 2000:
            path.write_bytes(path.read_bytes()[:100])
    config = tiny_config(corpus_folder, tmp_path)
    from sleeplm_jax.inference.run import Model

    with pytest.raises(CheckpointError, match="delete this step's folder") as caught:
        Model.load(config.folder, step=12)
    assert "\n" not in str(caught.value)


def test_reading_a_run_does_not_disturb_a_save_under_way(tmp_path):
    """A reader must not clear the folder that a running training is writing into."""
    import jax.numpy as jnp

    from sleeplm_jax.checkpoints import Checkpoints

    state = {"parameters": {"w": jnp.ones(30_000_000)}, "step": jnp.zeros((), jnp.int32)}
    with Checkpoints(tmp_path / "c", writing=True) as writer:
        for step in (1, 2, 3):
            writer.save(step, state, {})
            with Checkpoints(tmp_path / "c") as reader:
                assert step not in reader.steps, "the save was over before it could be disturbed"
            writer.wait()
        assert writer.latest == 3


@pytest.mark.parametrize(
    ("change", "finding"),
    [({"data": {"batch_size": 100_000}}, "more than the"),
     ({"model": {"vocab_size": 5}}, "less than the tokenizer")],
)
def test_what_the_corpus_cannot_bear_is_refused_before_anything_is_made(
    corpus_folder, tmp_path, change, finding
):
    config = tiny_config(corpus_folder, tmp_path)
    ((part, values),) = change.items()
    changed = dataclasses.replace(getattr(config, part), **values)
    with pytest.raises(ConfigError, match=finding):
        train(dataclasses.replace(config, **{part: changed}), silent)
    assert not (tmp_path / "tiny").exists()
