"""Rules cover every parameter, and results do not depend on the mesh."""

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from sleeplm_jax.config import MeshConfig, RunConfig
from sleeplm_jax.errors import ConfigError
from sleeplm_jax.models.build import create, with_vocabulary
from sleeplm_jax.parallel.mesh import make_mesh, mesh_shape
from sleeplm_jax.parallel.rules import shardings, spec_for

DEFAULT = with_vocabulary(RunConfig(), 2048)


def test_mesh_axes_fill_and_must_multiply():
    assert mesh_shape(MeshConfig(), 8) == (1, 8, 1, 1)
    assert mesh_shape(MeshConfig(data=-1, fsdp=2, tensor=2), 8) == (1, 2, 2, 2)
    with pytest.raises(ConfigError, match="do not multiply to 8 devices"):
        mesh_shape(MeshConfig(data=3), 8)
    with pytest.raises(ConfigError, match="at most one -1"):
        mesh_shape(MeshConfig(data=-1, fsdp=-1), 8)


def test_every_parameter_has_a_rule():
    tree = jax.eval_shape(lambda: create(DEFAULT)[1])
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    found = jax.tree.leaves(shardings(tree, mesh))
    assert len(found) == len(jax.tree.leaves(tree)) > 100


def test_a_parameter_without_a_rule_is_an_error():
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    with pytest.raises(ValueError, match="no sharding rule covers encoder/novelty"):
        spec_for("encoder/novelty", (3, 3), mesh)


CHILD = """
import dataclasses, json, sys
import jax, numpy as np
from sleeplm_jax.config import *
from sleeplm_jax.models.build import with_vocabulary
from sleeplm_jax.parallel.batches import BatchPlacer
from sleeplm_jax.parallel.mesh import make_mesh
from sleeplm_jax.training.step import Steps
config = RunConfig(steps=4, optimizer=OptimizerConfig(warmup_steps=1), model=ModelConfig(
    spec=SignalSpec(("ECG", "C3", "C4", "POS"), 16, 8),
    encoder=EncoderConfig(width=16, depth=2, heads=2, patch_samples=32, caption_tokens=4),
    text=TextConfig(width=16, depth=2, decoder_depth=2, heads=2), embed_dim=8,
    reconstruction_width=8, vocab_size=128))
if sys.argv[2] == "sleeplm":  # with all that is drawn by chance: dropout and hidden patches
    m, r = config.model, dataclasses.replace
    encoder = r(m.encoder, kind="dual_axis", mlp="swiglu", mlp_bias=False, qkv_bias=False,
                stem_width=8, pool="cascade", dropout=0.2)
    text = r(m.text, summary="shifted", decoder="separate")
    objective = ObjectiveConfig(caption=0, reconstruction_form="masked", position_classes=True)
    config = validate(r(config, model=r(m, encoder=encoder, text=text), objective=objective))
rng = np.random.default_rng(0)
n = 8
batch = {
    "signal": rng.normal(size=(n, 4, 128)).astype("f"), "channel_mask": rng.random((n, 4)) < 0.9,
    "text": rng.integers(3, 99, (n, 12)).astype("i"), "prefix": np.full((n, 2), -1, "i"),
    "keys": rng.integers(1, 3, (n, 5)).astype("i"), "kinds": rng.random((n, 5)) < 0.5}
out = {}
meshes = {"1": (1, 1, 1, 1), "2x2": (1, 1, 2, 2), "4x2": (1, 4, 1, 2), "8x1": (1, 8, 1, 1),
          "2x2x2": (2, 1, 2, 2)}
for name in sys.argv[1].split():
    axes = meshes[name]
    size = int(np.prod(axes))
    mesh = make_mesh(MeshConfig(*axes), jax.devices()[:size])
    placer = BatchPlacer(mesh, n)
    assert (placer.rows == np.arange(n)).all()
    with jax.set_mesh(mesh):
        steps = Steps(config, mesh)
        state = steps.init()
        losses = []
        for _ in range(3):
            state, metrics = steps.train(state, placer.place(batch))
            losses.append([float(metrics["loss"]), float(metrics["grad_norm"])])
    blocks = state["parameters"]["encoder"]["stack"]["blocks"]
    kernel = blocks.get("channel", blocks)["mlp"]["up"]["kernel"]
    moment = jax.tree_util.tree_leaves_with_path(state["optimizer"])
    moment = [x for k, x in moment if "up" in str(k) and "kernel" in str(k) and "encoder" in str(k)]
    out[name] = {"losses": losses, "shard": kernel.addressable_shards[0].data.size / kernel.size,
                 "moment": moment[0].addressable_shards[0].data.size / kernel.size}
print(json.dumps(out))
"""


@pytest.mark.parametrize(
    ("names", "model"),
    [("1 2x2", "vit2d"), pytest.param("1 2x2", "sleeplm", marks=pytest.mark.slow),
     pytest.param("1 2x2 4x2 8x1 2x2x2", "vit2d", marks=pytest.mark.slow)],
    ids=["one mesh", "one mesh, SleepLM's setting", "every mesh"],
)
def test_losses_and_gradients_are_equal_on_every_mesh(names, model):
    """Eight CPU devices in a process of its own (the count is fixed when JAX starts)."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, names, model], capture_output=True, text=True, timeout=600,
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "8", "JAX_PLATFORMS": "cpu"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert list(found) == names.split()
    for name, values in found.items():
        # Sums in another order: float32 rounding, grown by three AdamW steps.
        np.testing.assert_allclose(
            values["losses"], found["1"]["losses"], rtol=2e-4, err_msg=name
        )
    assert found["1"]["shard"] == 1.0
    assert found["2x2"]["shard"] == found["2x2"]["moment"] == 0.25
    if "8x1" in found:
        assert found["8x1"]["shard"] == 1.0
