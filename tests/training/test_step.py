"""The jitted step: a poisoned batch changes nothing, hidden patches, bounded temperature."""

import dataclasses

import jax
import numpy as np
import pytest

from sleeplm_jax.models.build import create
from sleeplm_jax.parallel.batches import BatchPlacer
from sleeplm_jax.parallel.mesh import make_mesh
from sleeplm_jax.training.optimizer import learning_rate, schedule_numbers
from sleeplm_jax.training.step import Steps
from tests.models.drawn import drawn
from tests.models.test_recoca import RNG, SMALL, batch_of


def test_an_update_that_is_not_a_number_is_left_out():
    mesh = make_mesh(SMALL.mesh, jax.devices()[:1])
    placer = BatchPlacer(mesh, 3)
    keys = {"keys": np.arange(15, dtype=np.int32).reshape(3, 5), "kinds": np.ones((3, 5), bool)}
    good = batch_of() | keys
    bad = good | {"signal": np.full_like(good["signal"], np.nan)}
    with jax.set_mesh(mesh):
        steps = Steps(SMALL, mesh)
        state = steps.init()
        state["parameters"]["logit_scale"] += 9.0
        state, metrics = steps.train(state, placer.place(good))
        np.testing.assert_allclose(metrics["temperature"], 0.01, rtol=1e-5)  # CLIP's bound
        before = jax.device_get(state["parameters"])
        state, metrics = steps.train(state, placer.place(bad))
        jax.tree.map(np.testing.assert_array_equal, before, jax.device_get(state["parameters"]))
        assert int(metrics["skipped"]) == 1 and int(state["step"]) == 2
        state, metrics = steps.train(state, placer.place(good))
        assert np.isfinite(metrics["loss"]) and int(metrics["skipped"]) == 1


def test_runs_that_differ_in_numbers_alone_are_one_program():
    """A sweep over seeds, rates and durations compiles once."""
    rate = dataclasses.replace(SMALL.optimizer, learning_rate=0.5, warmup_steps=3)
    mesh = make_mesh(SMALL.mesh, jax.devices()[:1])
    batch = batch_of() | {"keys": np.arange(15, dtype=np.int32).reshape(3, 5),
                          "kinds": np.ones((3, 5), bool)}
    with jax.set_mesh(mesh):
        one = Steps(SMALL, mesh)
        other = Steps(dataclasses.replace(SMALL, seed=7, steps=12_345, optimizer=rate), mesh)
        texts = [[steps.init.lower().as_text(), steps.train.lower(steps.abstract, batch).as_text()]
                 for steps in (one, other)]
        assert texts[0] == texts[1]


@pytest.mark.slow
def test_a_run_draws_by_its_own_seed():
    mesh = make_mesh(SMALL.mesh, jax.devices()[:1])
    with jax.set_mesh(mesh):
        steps = Steps(dataclasses.replace(SMALL, seed=7), mesh)
        table = steps.init()["parameters"]["text"]["token_embedding"]
    wanted, not_wanted = (create(SMALL, seed)[1]["text"]["token_embedding"] for seed in (7, 0))
    np.testing.assert_allclose(table, wanted, rtol=1e-5, atol=1e-8)
    assert not np.allclose(table, not_wanted)


def test_hidden_patches_change_with_the_key_and_evaluations_repeat_themselves():
    """A masked reconstruction with position classes, forward only."""
    config = dataclasses.replace(
        SMALL,
        objective=dataclasses.replace(
            SMALL.objective, reconstruction_form="masked", position_classes=True, caption=0.0,
            contrastive=0.0,
        ),
    )
    steps = Steps(config, make_mesh(config.mesh, jax.devices()[:1]))
    batch = batch_of() | {"kinds": np.ones((3, 5), bool)}
    batch["signal"][:, 3] = RNG.integers(-1, 5, (3, 128))  # POS
    parameters = steps.init()["parameters"]
    parts = jax.jit(lambda *given: steps.losses.gradients(*given)[0][1])
    train = [parts(parameters, batch, jax.random.key(n)) for n in (1, 1, 2)]
    loss = jax.jit(steps.losses)
    assert set(train[0]) == {"reconstruction", "position"}
    for name in train[0]:
        assert train[0][name] == train[1][name] != train[2][name]
    assert loss(parameters, batch)[0] == loss(parameters, batch)[0]


@pytest.mark.slow
def test_a_spike_is_left_out_and_does_not_raise_the_mean_it_is_measured_by():
    """With a running mean of the parameters on."""
    config = dataclasses.replace(
        SMALL, spike_factor=2.0,
        optimizer=dataclasses.replace(SMALL.optimizer, ema=0.99, learning_rate=1e-2),
        objective=dataclasses.replace(SMALL.objective, contrastive=0, caption=0),
    )
    mesh = make_mesh(config.mesh, jax.devices()[:1])
    placer = BatchPlacer(mesh, 3)
    good = batch_of() | {"kinds": np.ones((3, 5), bool)}
    loud = good | {"signal": good["signal"] * 2}  # a square of it: four times the loss
    schedule = learning_rate(
        config.optimizer, schedule_numbers(config.optimizer, config.steps)
    )
    with jax.set_mesh(mesh):
        steps = Steps(config, mesh)
        state = steps.init()
        seen, mean = [jax.device_get(state["parameters"])], None
        for step, batch in enumerate((good, good, loud, good, good), 1):
            before = jax.device_get(state)
            state, metrics = steps.train(state, placer.place(batch))
            after = jax.device_get(state)
            assert bool(metrics["bad"]) == (step == 3) and int(after["step"]) == step
            if step == 3:
                same = {"parameters", "optimizer", "ema", "loss_mean"}
                for name in same:
                    jax.tree.map(np.testing.assert_array_equal, before[name], after[name])
                continue
            made = len(seen) - 1  # the rate is that of the updates that were made
            np.testing.assert_allclose(metrics["learning_rate"], schedule(made), rtol=1e-6)
            loss = float(metrics["loss"])
            mean = loss if mean is None else 0.98 * mean + 0.02 * loss
            np.testing.assert_allclose(after["loss_mean"], mean, rtol=1e-6)
            squares = [np.square(x).sum() for x in jax.tree.leaves(after["parameters"])]
            np.testing.assert_allclose(metrics["parameter_norm"], sum(squares) ** 0.5, rtol=1e-5)
            seen.append(after["parameters"])
        assert int(metrics["skipped"]) == 1
        # The running mean, by hand: decays 1/10, 2/11, ... of updates that were made.
        wanted = seen[0]
        for count, new in enumerate(seen[1:]):
            decay = min(0.99, (1 + count) / (10 + count))
            wanted = jax.tree.map(lambda a, b, d=decay: d * a + (1 - d) * b, wanted, new)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), wanted,
            jax.device_get(steps.evaluated(state)),
        )
        assert steps.evaluated({"parameters": 1}) == 1


def test_a_state_that_is_begun_from_given_parameters_keeps_them_twice():
    config = dataclasses.replace(
        SMALL, optimizer=dataclasses.replace(SMALL.optimizer, ema=0.5),
    )
    steps = Steps(config, make_mesh(config.mesh, jax.devices()[:1]))
    given = jax.tree.map(lambda x: jax.numpy.ones(x.shape), steps.abstract["parameters"])
    state = steps.begun_from({"parameters": None, "ema": None, "step": 0}, given)
    for one, other in zip(jax.tree.leaves(given), jax.tree.leaves(state["ema"]), strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.unsafe_buffer_pointer() != other.unsafe_buffer_pointer()


@pytest.mark.slow
def test_an_evaluation_in_micro_batches_is_the_whole_batchs():
    """With padding rows, a masked reconstruction and position classes."""
    config = dataclasses.replace(
        SMALL, data=dataclasses.replace(SMALL.data, batch_size=6),
        objective=dataclasses.replace(
            SMALL.objective, reconstruction_form="masked", position_classes=True,
        ),
    )
    mesh = make_mesh(config.mesh, jax.devices()[:1])
    two = {name: np.concatenate([x, x]) for name, x in batch_of().items()}
    batch = two | {
        "signal": RNG.normal(size=(6, 4, 128)).astype(np.float32),
        "keys": RNG.integers(1, 3, (6, 5)).astype(np.int32),
        "kinds": RNG.random((6, 5)) < 0.6, "valid": np.arange(6) < 5,
    }
    batch["signal"][:, 3] = RNG.integers(-1, 5, (6, 128))
    parameters = drawn(config)[1]
    with jax.set_mesh(mesh):
        whole, parts = (
            jax.jit(Steps(dataclasses.replace(config, micro_batches=n), mesh).losses)(
                parameters, batch
            ) for n in (1, 3)
        )
    assert set(whole[1]) == {"contrastive", "caption", "reconstruction", "position"}
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), whole, parts)
