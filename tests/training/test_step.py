"""The jitted step: a poisoned batch changes nothing, hidden patches, bounded temperature."""

import dataclasses

import jax
import numpy as np

from sleeplm_jax.parallel.batches import BatchPlacer
from sleeplm_jax.parallel.mesh import make_mesh
from sleeplm_jax.training.step import Steps
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
    loss = jax.jit(steps._loss)
    parameters = jax.jit(steps._init)()["parameters"]
    train = [loss(parameters, batch, jax.random.key(n))[1] for n in (1, 1, 2)]
    assert set(train[0]) == {"reconstruction", "position"}
    for name in train[0]:
        assert train[0][name] == train[1][name] != train[2][name]
    assert loss(parameters, batch)[0] == loss(parameters, batch)[0]
