"""Ring contrastive losses equal the dense ones on any mesh, in value and gradient, and gather
nothing. Eight fake devices need a process of their own."""

import json
import os
import subprocess
import sys

import pytest

SCRIPT = """
import json, re, sys
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from sleeplm_jax.config import MeshConfig
from sleeplm_jax.objectives import contrastive, ring
from sleeplm_jax.parallel.mesh import BATCH_AXES, make_mesh

B, E, K = 48, 16, 3
rng = np.random.default_rng(0)
unit = lambda x: (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)
signal, text = unit(rng.normal(size=(B, E))), unit(rng.normal(size=(B, E)))
# Few values: many captions are equal, within blocks and across them.
keys = rng.integers(1, 4, size=(B, K)).astype(np.int32)
kinds = rng.random((B, K)) < 0.5
kinds[:, 0] |= ~kinds.any(-1)
valid = rng.random(B) < 0.8
batch = (keys, kinds, valid)

def dense(form, equal, arrays, keys, kinds, valid):
    signal, text, log_scale, bias = arrays
    logits = jnp.exp(log_scale) * signal @ text.T + bias
    same = contrastive.positives(keys, kinds) if equal else jnp.eye(B, dtype=bool)
    loss = {"softmax": contrastive.softmax_loss, "sigmoid": contrastive.sigmoid_loss}[form]
    return loss(logits, same, valid)

def ringed(form, equal, chunk, arrays, keys, kinds, valid):
    signal, text, log_scale, bias = arrays
    return ring.ring_loss(signal, text, jnp.exp(log_scale), bias, keys, kinds, valid,
                          form=form, equal=equal, chunk=chunk)

out = {}
arrays = (signal, text, jnp.float32(2.0), jnp.float32(-3.0))
for shape in ((1, 1, 1, 1), (1, 8, 1, 1), (2, 2, 2, 1), (1, 2, 2, 2)):
    n = int(np.prod(shape))
    mesh = make_mesh(MeshConfig(*shape), jax.devices()[:n])
    with jax.set_mesh(mesh):
        rows = NamedSharding(mesh, PartitionSpec(BATCH_AXES))
        whole = NamedSharding(mesh, PartitionSpec())
        placed = tuple(jax.device_put(x, rows if jnp.ndim(x) else whole) for x in arrays)
        extra = tuple(jax.device_put(x, rows) for x in batch)
        for form in ("softmax", "sigmoid"):
            for equal in (True, False):
                want = jax.value_and_grad(lambda a: dense(form, equal, a, *batch))(arrays)
                got = jax.jit(jax.value_and_grad(
                    lambda a, *b: ringed(form, equal, 4, a, *b)))(placed, *extra)
                worst = 0.0
                for a, b in zip(jax.tree.leaves(want), jax.tree.leaves(got)):
                    a, b = np.asarray(a), np.asarray(b)
                    worst = max(worst, float(abs(a - b).max() / max(abs(a).max(), 0.02)))
                out[f"{shape} {form} {equal}"] = worst
                if n == 8 and equal:
                    text_of = jax.jit(jax.value_and_grad(
                        lambda a, *b: ringed(form, True, 4, a, *b))).lower(
                        placed, *extra).compile().as_text()
                    out[f"gathers {shape} {form}"] = len(re.findall(r"all-gather\\(", text_of))
                    out[f"permutes {shape} {form}"] = len(
                        re.findall(r"collective-permute(?:-start)?\\(", text_of))
print(json.dumps(out))
"""


@pytest.fixture(scope="module")
def found():
    environment = dict(os.environ, JAX_NUM_CPU_DEVICES="8", JAX_PLATFORMS="cpu")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=environment, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_value_and_gradient_equal_the_dense_losses(found):
    compared = {k: v for k, v in found.items() if not k.startswith(("gathers", "permutes"))}
    assert len(compared) == 16
    # Relative to each array's largest entry (0.02 where it is smaller: a softmax has no slope by
    # its bias); float32 sums in another order.
    assert max(compared.values()) < 1e-5, compared


def test_no_embedding_is_gathered(found):
    for name, count in found.items():
        if name.startswith("gathers"):
            assert count == 0, name
        if name.startswith("permutes"):
            assert count > 0, name
