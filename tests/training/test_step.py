"""The jitted step: a poisoned batch changes nothing."""

import jax
import numpy as np

from sleeplm_jax.parallel.batches import BatchPlacer
from sleeplm_jax.parallel.mesh import make_mesh
from sleeplm_jax.training.step import Steps
from tests.models.test_recoca import SMALL, batch_of


def test_an_update_that_is_not_a_number_is_left_out():
    mesh = make_mesh(SMALL.mesh, jax.devices()[:1])
    placer = BatchPlacer(mesh, 3)
    keys = {"keys": np.arange(15, dtype=np.int32).reshape(3, 5), "kinds": np.ones((3, 5), bool)}
    good = batch_of() | keys
    bad = good | {"signal": np.full_like(good["signal"], np.nan)}
    with jax.set_mesh(mesh):
        steps = Steps(SMALL, mesh)
        state, _ = steps.train(steps.init(), placer.place(good))
        before = jax.device_get(state["parameters"])
        state, metrics = steps.train(state, placer.place(bad))
        jax.tree.map(np.testing.assert_array_equal, before, jax.device_get(state["parameters"]))
        assert int(metrics["skipped"]) == 1 and int(state["step"]) == 2
        state, metrics = steps.train(state, placer.place(good))
        assert np.isfinite(metrics["loss"]) and int(metrics["skipped"]) == 1
