"""A study's plan: steps from FLOPs that a compiler agrees with, batch, rate, cost, what is left."""

import dataclasses
import functools
import math

import jax
import pytest

from sleeplm_jax.cli import main
from sleeplm_jax.config import EncoderConfig, ModelConfig, ObjectiveConfig, TextConfig
from sleeplm_jax.config.files import load_config, load_experiment, save_config
from sleeplm_jax.errors import ConfigError
from sleeplm_jax.models.build import bind, create, graph_of
from sleeplm_jax.models.summary import abstract_batch
from sleeplm_jax.scaling.plan import Data, count, hash_of, make_plan, measured_speed, stated_data
from sleeplm_jax.scaling.study import Grid, PowerRule, Size, Speed, changed, load_study
from tests.scaling.studies import TINY, a_study, study_file

DATA = Data(1024, {0.0: 2.0, 0.5: 0.5}, known=False)


@functools.cache
def tiny():
    return load_experiment(TINY)


def planned(**changes):
    changes = {"grids": (Grid(budgets=(4e9, 8e9)),), "hours": 2.0, "min_steps": 1} | changes
    return make_plan(a_study(**changes), tiny(), DATA)


def with_tokens(patch_samples):
    """Encoder of depth 2, so that a loop's body would count once for twice."""
    return dataclasses.replace(
        tiny(), objective=ObjectiveConfig(reconstruction=0),
        model=ModelConfig(
            encoder=EncoderConfig(width=64, depth=2, heads=2, patch_samples=patch_samples,
                                  caption_tokens=8),
            text=TextConfig(width=64, depth=1, decoder_depth=1, heads=2),
            embed_dim=32, vocab_size=1024, attention="reference",
        ),
    )


def compiled_flops(config, monkeypatch, batch=2) -> float:
    """What XLA's cost analysis says of a gradient, layers unrolled (of a loop it counts the body
    once, however often it runs)."""
    monkeypatch.setattr(jax.lax, "scan", functools.partial(jax.lax.scan, unroll=True))
    graph = graph_of(config)

    def loss(parameters, batch):
        model = bind(graph, parameters)
        out = model(batch)
        scores = model.logits(out["caption_hidden"])
        return scores.sum() ** 2 + sum((out[f"{which}_embedding"] ** 3).sum()
                                       for which in ("signal", "text"))

    shapes = jax.eval_shape(lambda: create(config)[1])
    compiled = jax.jit(jax.grad(loss)).lower(shapes, abstract_batch(config, batch)).compile()
    monkeypatch.undo()
    return compiled.cost_analysis()["flops"] / batch


def test_flops_of_a_sample_are_those_of_an_unrolled_compile(monkeypatch):
    """Of 400 patches, so that attention's products count. XLA also counts what is no matrix product
    (norms, softmax, gelu): it said 1.05 times as much."""
    config = with_tokens(48)
    sized = count(config, 1024)
    assert 0.92 < sized.sample_flops / compiled_flops(config, monkeypatch) <= 1
    # 6 N D, D in tokens of both kinds, is far off: most parameters meet few of the tokens.
    for patch_samples in (48, 480):
        config = with_tokens(patch_samples)
        tokens = 10 * 1920 // patch_samples + config.data.text_length
        sized = count(config, 1024)
        assert 6 * sized.n * tokens > 1.25 * sized.sample_flops


def test_n_leaves_out_what_is_looked_up():
    config = with_tokens(480)
    sized = count(config, 1024)
    w, v, length = 64, 1024, 48
    rows, times, kinds = 10, 4, 6
    # Token and position tables (one more for the summary token), prefixes, rows and times; logits.
    looked_up = v * w + (length + 1) * w + kinds * w + rows * w + times * w + v * w
    assert sized.n_all - sized.n == looked_up


def test_whole_steps_spend_the_budget():
    plan = planned(sizes=(Size("narrow", {"model.encoder.width": 16}), Size("wide", {})))
    assert len(plan.cells) == 4
    for cell in plan.cells:
        a_step = cell.flops / cell.steps
        assert abs(cell.flops - cell.budget) <= a_step / 2 * 1.0001
        assert cell.samples == cell.steps * cell.batch_size == round(cell.hours * 120)
        assert cell.passes == pytest.approx(cell.hours / 2.0)
        assert cell.config.steps == cell.steps and cell.config.data.batch_size == cell.batch_size
    wide = [cell for cell in plan.cells if cell.size == "wide"]
    assert wide[1].samples == pytest.approx(2 * wide[0].samples, abs=8)


def test_batch_and_rate_follow_their_rules():
    grids = (Grid(budgets=(4e9, 256e9)),)
    plan = planned(grids=grids, batch_size=PowerRule(8, exponent=0.3271, at=4e9),
                   learning_rate=PowerRule(2e-3, exponent=-0.125, at=4e9), warmup_share=0.1)
    small, large = plan.cells
    assert (small.batch_size, large.batch_size) == (8, 32)  # 64 ** 0.3271 is 3.9
    assert large.learning_rate == pytest.approx(2e-3 * 64**-0.125, rel=1e-2)
    assert large.config.optimizer.warmup_steps == round(large.steps / 10)


def test_cells_that_teach_nothing_are_left_out_and_told():
    sizes = (Size("narrow", {"model.encoder.width": 16}), Size("wide", {}))
    grids = (Grid(budgets=(4e9, 64e9)),)
    cells = {cell.name: cell for cell in planned(sizes=sizes, grids=grids).cells}
    few, many = cells["wide-4e09-all-s0"].steps + 1, cells["wide-6.4e10-all-s0"].passes
    plan = planned(sizes=sizes, grids=grids, min_steps=few, max_passes=many)
    told = dict(plan.left_out)
    assert set(told) == {"wide-4e09-all-s0", "narrow-6.4e10-all-s0"}
    assert f"min_steps {few}" in told["wide-4e09-all-s0"]
    assert f"max_passes {many:g}" in told["narrow-6.4e10-all-s0"]
    assert {cell.name for cell in plan.cells} == set(cells) - set(told)
    with pytest.raises(ConfigError, match="leaves no cell to train"):
        planned(min_steps=10**6)


def test_grids_join_without_twins_first_seeds_first():
    grids = (Grid(budgets=(4e9, 8e9)), Grid(budgets=(4e9,), seeds=(0, 1)))
    assert [cell.name for cell in planned(grids=grids).cells] == [
        "one-4e09-all-s0", "one-8e09-all-s0", "one-4e09-all-s1"]


def test_a_cell_is_the_same_wherever_it_runs():
    study = a_study(grids=(Grid(budgets=(4e9,), seeds=(0, 1)),), min_steps=1)
    here = make_plan(study, tiny(), DATA)
    there = make_plan(study, tiny(), DATA, corpus="elsewhere", out="far/runs")
    assert [c.config_hash for c in here.cells] == [c.config_hash for c in there.cells]
    assert here.cells[0].config_hash != here.cells[1].config_hash
    assert there.cells[0].config.folder == "far/runs/one-4e09-all-s0"
    other = make_plan(dataclasses.replace(study, learning_rate=PowerRule(2e-3)), tiny(), DATA)
    assert other.cells[0].config_hash != here.cells[0].config_hash


def test_a_whole_number_of_hours_is_the_same_cell_after_the_command_line_and_the_disk(tmp_path):
    config = changed(tiny(), {"data.unique_hours": 4, "model.encoder.mlp_ratio": 2}, "x")
    said = changed(tiny(), {"data.unique_hours": 4.0, "model.encoder.mlp_ratio": 2.0}, "x")
    save_config(said, tmp_path / "config.json")
    assert hash_of(config) == hash_of(load_config(tmp_path / "config.json"))
    assert hash_of(config) != hash_of(changed(config, {"data.unique_hours": 5}, "x"))


def test_time_is_reckoned_from_what_is_stated_then_from_what_was_measured():
    speed = Speed(flops_per_s=1e9, sample_s=1e-3, cell_s=10.0)
    plan = planned(speed=speed)
    cell = plan.cells[0]
    assert cell.seconds == pytest.approx(10 + cell.samples * 1e-3 + cell.flops / 1e9)
    rows = [{"samples": 1000, "flops": 1e9, "cost": {"seconds": 12.0 * k, "attempts": 1}}
            for k in (2, 3, 4)]
    assert measured_speed(plan.study, rows[:2]) is None
    assert measured_speed(plan.study, [row | {"cost": {}} for row in rows]) is None
    measured = measured_speed(plan.study, rows)
    assert (measured.flops_per_s, measured.cell_s) == (pytest.approx(1e9 / 3), pytest.approx(30))
    again = make_plan(plan.study, tiny(), DATA, measured)
    assert again.seconds == pytest.approx(3 * plan.seconds)


def test_memory_holds_the_state_and_what_autodiff_keeps():
    sized = count(tiny(), 1024)
    assert sized.state_bytes == 16 * sized.n_all  # parameters, gradients, Adam's two moments
    more = count(dataclasses.replace(tiny(), micro_batches=2), 1024)
    assert more.sample_bytes < sized.sample_bytes


def test_hours_must_be_known_from_somewhere():
    assert stated_data(a_study(hours=3.0)).hours == {0.0: 3.0}
    with pytest.raises(ConfigError, match="states no hours"):
        stated_data(a_study(hours=0.0))


def test_the_command_prints_the_cost_and_runs_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = study_file(tmp_path)
    before = set(tmp_path.rglob("*"))
    assert main(["scaling", "plan", str(file), "--rate", "2e9"]) == 0
    told = capsys.readouterr().out
    study, base = load_study(file)
    plan = make_plan(study, base, stated_data(study),
                     Speed(2e9, study.speed.sample_s, study.speed.cell_s))
    assert "4 cells" in told and f"{plan.flops:.3g} FLOPs" in told
    assert "no corpus yet" in told and "stated by --rate" in told
    assert math.isclose(sum(c.seconds for c in plan.cells), plan.seconds)
    assert {p for p in tmp_path.rglob("*") if "__pycache__" not in str(p)} == before
    assert main(["scaling", "plan", str(file), "--corpus", "nowhere"]) == 2
    assert "no corpus" in capsys.readouterr().err
