"""The real model through the same doors as the fake one: what it returns has the right form."""

import json

import numpy as np
import pytest

from sleeplm_jax.evaluation.suite import evaluate
from sleeplm_jax.inference.run import Model
from sleeplm_jax.physiology.measure import measure_night
from sleeplm_jax.recordings.prepare import prepare_night
from sleeplm_jax.reports.curves import plot_training
from sleeplm_jax.reports.night import describe_night


@pytest.fixture(scope="module")
def model(trained_run):
    return Model.load(trained_run, "latest", batch_size=16)


def test_a_run_is_evaluated_on_people_it_never_saw(model, corpus, tmp_path):
    found = evaluate(model, corpus, "test", tmp_path, progress=False, max_samples=24)
    assert json.loads((tmp_path / "evaluation.json").read_text()) == found
    assert found["run"]["trained_subjects_known"] and found["epochs"] == 24
    assert found["sampled"] == {"seed": 0}
    total = found["captions"]["total"]
    assert total["tokens"] == total["unigram"]["tokens"]
    # twelve steps teach little, but no worse than a uniform guess among all tokens
    assert 0 < total["loss"] < np.log(model.config.model.vocab_size) + 0.5


def test_a_night_is_described_by_a_run(model, trained_run, simulated_folder, tmp_path):
    night = prepare_night(simulated_folder / "sim-3-0004.edf")
    figures = describe_night(model, night, measure_night(night), tmp_path / "report.html")
    assert figures["epochs"] == 60 and figures["agreement"]["The model"]["n"] == 60
    assert sum(figures["minutes"]["model"].values()) == 30
    assert {p.name for p in tmp_path.iterdir()} == {"report.html", "report.png"}
    assert plot_training(trained_run / "metrics.jsonl", tmp_path / "curves.png").exists()
