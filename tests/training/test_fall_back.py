"""Going on from what is left of a run: damaged checkpoints, another corpus, another batch."""

import dataclasses
import json
import os
import shutil
import signal
import time

import pytest

from sleeplm_jax.checkpoints import Checkpoints
from sleeplm_jax.corpus.manifest import Corpus
from sleeplm_jax.corpus.tokenizer import Tokenizer
from sleeplm_jax.errors import CheckpointError, ConfigError, Interrupted
from sleeplm_jax.training import beginning
from sleeplm_jax.training.loop import train
from tests.fixtures_run import tiny_config
from tests.training.test_loop import rows, silent


@pytest.fixture
def copied(trained_run, tmp_path):
    """A copy of the run that may be damaged; its checkpoints are of steps 8 and 12."""
    return shutil.copytree(trained_run, tmp_path / "tiny")


def cut(checkpoint):
    data = max((checkpoint / "progress").rglob("*"), key=lambda p: p.stat().st_size)
    data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])


def test_the_run_goes_on_from_the_checkpoint_before_to_the_same_losses(
    copied, trained_run, corpus_folder, tmp_path
):
    """The newest is cut short and one half-written: the rest equals the undisturbed run."""
    cut(copied / "checkpoints" / "12")
    shutil.copytree(copied / "checkpoints" / "8",
                    copied / "checkpoints" / "16.orbax-checkpoint-tmp")
    said = []
    train(tiny_config(corpus_folder, tmp_path), said.append)
    assert said[0] == "checkpoint 16 was not finished when the run ended: passed over"
    assert said[1].startswith("checkpoint 12 cannot be read (ValueError: ")
    assert said[1].endswith(f"passed over for 8, moved to {copied / 'damaged' / '12'}")
    assert "at step 8 of 12" in said[2]
    assert rows(copied) == rows(trained_run) and rows(copied, "val") == rows(trained_run, "val")
    with Checkpoints(copied / "checkpoints") as saved:
        assert saved.latest == 12
        saved.about(12)


@pytest.mark.slow
def test_a_stop_right_after_an_evaluation_keeps_its_checkpoint(corpus_folder, tmp_path):
    """While that is still being written: it is not saved again as a temporary one."""
    def say(line):
        if "held-out loss" in line:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)

    with pytest.raises(Interrupted):
        train(tiny_config(corpus_folder, tmp_path), say)
    saved = Checkpoints(tmp_path / "tiny" / "checkpoints")
    assert saved.latest == 6
    about = saved.about(6)
    assert about["val_loss"] == about["best"] == rows(tmp_path / "tiny", "val")[0]["loss"]
    assert about["temporary"] is False


def test_the_metadata_of_a_checkpoint_says_what_it_belongs_to(trained_run, corpus_folder):
    about = Checkpoints(trained_run / "checkpoints").about(12)
    corpus = Corpus.open(corpus_folder)
    assert about["next_index"] == 12 * 8 and about["seed"] == 0
    assert about["corpus"] == corpus.hash and about["tokenizer"] == corpus.tokenizer().hash
    assert about["config"]["data"]["batch_size"] == 8
    there = about["topology"]
    assert there["processes"] == there["devices"] == there["mesh"]["data"] == 1
    assert about["best"] == min(row["loss"] for row in rows(trained_run, "val"))


def test_another_batch_size_is_refused_with_a_way_out(copied, corpus_folder, tmp_path):
    """Its steps would be others: of the schedule, of the moments, of what a loss is over."""
    config = tiny_config(corpus_folder, tmp_path)
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, batch_size=16))
    with pytest.raises(ConfigError, match="data.batch_size 8 -> 16.*--start-from"):
        train(config, silent)
    # Also when the folder's config.json was changed by hand to hide it.
    path = copied / "config.json"
    path.write_text(path.read_text().replace('"batch_size": 8', '"batch_size": 16'))
    with pytest.raises(CheckpointError, match="step 12 is at sample 96 of seed 0, .* at 192"):
        train(config, silent)


def test_another_corpus_is_refused_unless_asked_for(copied, corpus_folder, tmp_path, monkeypatch):
    """Then it is said, and run.json keeps who was trained on before."""
    monkeypatch.setattr(Corpus, "hash", property(lambda self: "0" * 64))
    monkeypatch.setattr(Corpus, "subjects", lambda self, split: [f"new/{split}"])
    monkeypatch.setattr(Corpus, "tokenizer", lambda self: Tokenizer.load(self.path))
    config = tiny_config(corpus_folder, tmp_path)
    with pytest.raises(CheckpointError, match="another corpus .*now 000000000000.*--allow-other"):
        train(config, silent)
    before = json.loads((copied / "run.json").read_text())["corpus"]
    said = []
    train(dataclasses.replace(config, allow_other_data=True), said.append)
    assert any(line.startswith("WARNING: going on with another corpus than until step 12")
               for line in said)
    now = json.loads((copied / "run.json").read_text())["corpus"]
    assert now["hash"] == "0" * 64 and now["before"] == [before["hash"]]
    assert now["subjects"]["train"] == [*before["subjects"]["train"], "new/train"]
    assert set(now["signals"]["train"]) >= set(before["signals"]["train"])


def test_another_tokenizer_of_the_same_size_is_refused_by_its_hash(trained_run, corpus_folder):
    about = Checkpoints(trained_run / "checkpoints").about(12)
    hashes = {"corpus": about["corpus"], "tokenizer": "f" * 64}
    config = tiny_config(corpus_folder, trained_run.parent)
    with pytest.raises(CheckpointError, match="another tokenizer .*ffffffffffff"):
        beginning.accept(about, hashes, config, trained_run)
    beginning.accept(about, hashes, dataclasses.replace(config, allow_other_data=True), trained_run)
    assert Tokenizer.load(trained_run).hash == about["tokenizer"]
