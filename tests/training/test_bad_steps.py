"""What becomes of steps whose update the device left out."""

import dataclasses
import json

import numpy as np
import pytest

from sleeplm_jax.config import DataConfig, RunConfig
from sleeplm_jax.errors import UserError
from sleeplm_jax.training.bad_steps import FILE, IN_A_ROW, BadSteps
from tests.fixtures_run import tiny_config

CONFIG = RunConfig(data=DataConfig(batch_size=4))
GOOD = {"bad": np.bool_(False), "loss": 1.0, "grad_norm": 1.0}
NAN = {"bad": np.bool_(True), "loss": np.float32("nan"), "grad_norm": np.float32("inf")}
SPIKE = {"bad": np.bool_(True), "loss": 9.0, "grad_norm": 5.0, "loss_mean": 2.0}


def rows(folder):
    return [json.loads(line) for line in (folder / FILE).read_text().splitlines()]


def looked(folder, metrics, start=0, config=CONFIG, lead=True):
    said = []

    def made(step, size):
        return {"index": 100 + size * step + np.arange(size, dtype=np.int32)}

    with BadSteps(config, folder, start, made, said.append, lead=lead) as bad:
        for step, values in enumerate(metrics, start + 1):
            bad.look(step, values)
            if bad.refused:
                break
        bad.look()
    return bad, said


def test_each_is_written_with_its_samples_and_training_goes_on(tmp_path):
    config = dataclasses.replace(CONFIG, spike_factor=3.0)
    bad, said = looked(tmp_path, [GOOD, NAN, GOOD, SPIKE], config=config)
    assert bad.refused is None and len(said) == 2
    assert rows(tmp_path) == [
        {"step": 2, "reason": "loss is nan", "loss": None, "grad_norm": None,
         "indices": [104, 105, 106, 107]},
        {"step": 4, "reason": "loss 9 is over 3 times its running mean 2", "loss": 9.0,
         "grad_norm": 5.0, "indices": [112, 113, 114, 115]},
    ]
    # A run that goes on from step 3 sees step 4 again.
    looked(tmp_path, [SPIKE], start=3, config=config)
    assert [row["step"] for row in rows(tmp_path)] == [2, 4]


def test_nothing_is_written_where_all_is_well_or_another_process_leads(tmp_path):
    looked(tmp_path, [GOOD, GOOD])
    looked(tmp_path, [NAN, GOOD], lead=False)
    assert not (tmp_path / FILE).exists()


def test_a_policy_of_stopping_ends_it_a_step_late(tmp_path):
    config = dataclasses.replace(CONFIG, bad_step="stop")
    for lead in (True, False):  # all processes alike
        bad, _ = looked(tmp_path, [GOOD, NAN, GOOD, GOOD], config=config, lead=lead)
        assert str(bad.refused).startswith("step 2: loss is nan (its update was left out")
        assert "bad_batches.jsonl" in str(bad.refused) and "\n" not in str(bad.refused)


@pytest.mark.parametrize(("values", "remedy"), [(NAN, "learning-rate"), (SPIKE, "spike-factor")])
def test_many_in_a_row_end_it_whatever_the_policy(tmp_path, values, remedy):
    bad, _ = looked(tmp_path, [values] * (IN_A_ROW - 1) + [GOOD] + [values] * (IN_A_ROW - 1))
    assert bad.refused is None
    bad, _ = looked(tmp_path, [GOOD, *[values] * (IN_A_ROW + 5)])
    assert str(bad.refused).startswith(f"steps 2 to {IN_A_ROW + 1}: each update was left out")
    assert remedy in str(bad.refused)


@pytest.mark.parametrize("policy", ["stop", pytest.param("skip", marks=pytest.mark.slow)])
def test_a_training_meets_a_batch_that_is_no_number(corpus_folder, tmp_path, monkeypatch, policy):
    """The whole loop: the batch of step 3 is spoilt."""
    from sleeplm_jax.checkpoints import Checkpoints
    from sleeplm_jax.corpus.loader import Loader
    from sleeplm_jax.training.loop import train

    iterate, third = Loader.iterate, []

    def spoilt(self, start_step, *rest):
        for step, batch in enumerate(iterate(self, start_step, *rest), start_step):
            if step == 2:
                third.append(batch["index"].tolist())
                batch = batch | {"signal": np.full_like(batch["signal"], np.nan)}
            yield batch

    monkeypatch.setattr(Loader, "iterate", spoilt)
    config = tiny_config(corpus_folder, tmp_path, steps=6, bad_step=policy)
    said = []
    if policy == "stop":
        with pytest.raises(UserError, match="^step 3: loss is nan"):
            train(config, say=said.append)
        with Checkpoints(tmp_path / "tiny" / "checkpoints") as saved:
            assert saved.latest == 4  # noticed a step late
        train(dataclasses.replace(config, bad_step="skip"), say=said.append)
    else:
        train(config, say=said.append)
    (row,) = rows(tmp_path / "tiny")
    assert row["step"] == 3 and row["loss"] is None and row["indices"] == third[0]
    metrics = [json.loads(line) for line in
               (tmp_path / "tiny" / "metrics.jsonl").read_text().splitlines()]
    skipped = {m["step"]: m["skipped"] for m in metrics if m["split"] == "train"}
    assert skipped == {1: 0, 2: 0, 3: 1, 4: 1, 5: 1, 6: 1}
    assert any("its update is left out" in line for line in said)
