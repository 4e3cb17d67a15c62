"""Training on two corpora at once, batches made by a process."""

import dataclasses
import json

import pytest

from sleeplm_jax.checkpoints import Checkpoints
from sleeplm_jax.corpus.mixture import Mixture
from sleeplm_jax.errors import CheckpointError
from sleeplm_jax.training.loop import train
from tests.corpus.test_mixture import another
from tests.fixtures_run import tiny_config


@pytest.fixture(scope="module")
def other(corpus_folder, simulated_folder, tmp_path_factory):
    """Three of the five nights, nobody held out of one corpus and trained on in the other."""
    return another(corpus_folder, simulated_folder, tmp_path_factory.mktemp("mixed"))


def test_a_run_on_a_mixture_tells_each_corpus_apart(corpus_folder, other, tmp_path):
    config = tiny_config(corpus_folder, tmp_path, steps=6)
    data = dataclasses.replace(
        config.data, mixture=(f"{corpus_folder}=1", f"{other}=3"), tokenizer=str(corpus_folder),
        processes=1, prefetch=2,
    )
    config = dataclasses.replace(config, data=data)
    said = []
    folder = train(config, said.append)
    mixture = Mixture.open(data.mixture)
    assert any(line.strip() == f"mixture: {mixture.passes(48)}" for line in said)

    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    last = [row for row in rows if row["split"] == "val"][-1]
    parts = [last[f"loss/{name}"] for name in mixture.names]
    assert last["loss"] == pytest.approx((parts[0] + 3 * parts[1]) / 4, rel=1e-6)
    assert parts[0] != parts[1]

    with Checkpoints(folder / "checkpoints") as saved:
        about = saved.about(saved.latest)
    assert about["corpora"] == [corpus.hash for corpus in mixture.corpora]
    assert about["corpus"] == mixture.hash == json.loads(
        (folder / "run.json").read_text())["corpus"]["hash"]

    weights = dataclasses.replace(data, mixture=(f"{corpus_folder}=1", f"{other}=2"))
    with pytest.raises(CheckpointError, match="another corpus"):
        train(dataclasses.replace(config, data=weights), said.append)
