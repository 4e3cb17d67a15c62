"""How masks reach cuDNN and splash. Neither kernel's hardware is here: splash is interpreted and
lowered for TPUs, cuDNN's arguments go to XLA's implementation of the same function."""

import dataclasses
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sleeplm_jax.models import attention_kernels
from sleeplm_jax.models.attention import attend
from sleeplm_jax.models.attention_kernels import cudnn, splash
from sleeplm_jax.models.attention_mask import Mask

RNG = np.random.default_rng(0)
B, N, H, E = 2, 130, 2, 24  # neither length nor width fills a block of 128
Q, K, V, WEIGHT = RNG.normal(size=(4, B, N, H, E)).astype(np.float32)
KEYS = RNG.random((B, N)) < 0.6
KEYS[:, 0] = True
MASKS = {
    "all": Mask(),
    "causal": Mask(causal=True),
    "prefix": Mask(causal=True, prefix=3),
    "keys": Mask(keys=jnp.asarray(KEYS)),
    "causal keys": Mask(causal=True, keys=jnp.asarray(KEYS)),
    "lengths": Mask(lengths=jnp.asarray([N, 4])),
}


def value_and_gradients(function):
    def both(q, k, v):
        loss = lambda *x: (function(*x) * WEIGHT).sum()  # noqa: E731
        return function(q, k, v), *jax.grad(loss, (0, 1, 2))(q, k, v)

    return jax.jit(both)(Q, K, V)


def same_as_reference(name, function):
    plain = value_and_gradients(lambda q, k, v: attend(q, k, v, MASKS[name], kernel="reference"))
    for ours, theirs in zip(value_and_gradients(function), plain):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("name", ["keys", "causal keys", "prefix"])
def test_splash_interpreted_is_the_reference_in_value_and_gradient(name):
    same_as_reference(name, lambda q, k, v: splash(q, k, v, MASKS[name], interpret=True))


@pytest.mark.parametrize("name", MASKS)
def test_cudnn_is_given_the_same_mask(name):
    same_as_reference(name, lambda q, k, v: cudnn(q, k, v, MASKS[name], implementation="xla"))


def test_cudnn_gets_lengths_and_flags_rather_than_matrices(monkeypatch):
    given = {}

    def library(q, k, v, **arguments):
        given.update(arguments, shape=q.shape)
        return q

    monkeypatch.setattr(jax.nn, "dot_product_attention", library)
    cudnn(Q, K, V, MASKS["keys"])
    assert given["implementation"] == "cudnn" and "mask" not in given
    np.testing.assert_array_equal(given["key_value_seq_lengths"], KEYS.sum(1))
    given.clear()
    cudnn(Q, K, V, MASKS["causal"])
    assert given["is_causal"] and "mask" not in given
    given.clear()
    cudnn(Q, K, V, MASKS["causal keys"])
    # A bias, which cuDNN's backward pass wants of even lengths.
    assert given["mask"].shape == (B, 1, 136, 136) and given["shape"][1] == 136


@pytest.mark.parametrize("name", ["all", "lengths", "causal", "causal keys", "prefix"])
def test_cudnn_takes_what_it_is_given(monkeypatch, name):
    """JAX's own checks of the call, forward and backward, as if a Hopper GPU were here: it
    refuses odd lengths and float32, for instance. Lowered only."""
    library = pytest.importorskip("jax._src.cudnn.fused_attention_stablehlo")
    monkeypatch.setattr(library, "check_cudnn_version", lambda: 91000)
    monkeypatch.setattr(library, "check_compute_capability", lambda capability: True)
    monkeypatch.setattr(library, "is_cuda_compute_capability_equal", lambda capability: False)
    mask = MASKS[name]
    if mask.keys is not None:
        mask = dataclasses.replace(mask, keys=mask.keys[:, :129])
    x = jax.ShapeDtypeStruct((B, 129, H, E), jnp.bfloat16)
    f = lambda *x: cudnn(*x, mask).astype(jnp.float32).sum()  # noqa: E731
    text = (
        jax.jit(jax.grad(f, (0, 1, 2))).trace(x, x, x).lower(lowering_platforms=("cuda",)).as_text()
    )
    assert "__cudnn$fmha" in text and "Backward" in text


@pytest.mark.parametrize(("name", "dtype"), [("keys", "bfloat16"), ("causal keys", "float32")])
def test_splash_lowers_for_tpus(name, dtype):
    """Pallas' own checks of block shapes and types; not the TPU compiler, not a run."""
    x = jax.ShapeDtypeStruct(Q.shape, dtype)
    f = lambda *x: splash(*x, MASKS[name]).astype(jnp.float32).sum()  # noqa: E731
    lowered = jax.jit(jax.grad(f, (0, 1, 2))).trace(x, x, x).lower(lowering_platforms=("tpu",))
    # The forward pass, and dq and dk with dv.
    assert lowered.as_text().count("tpu_custom_call") == 3


def test_a_kernel_that_is_wrong_or_fails_is_left_out():
    right = lambda q, k, v, mask: attend(q, k, v, mask, kernel="reference")  # noqa: E731
    assert attention_kernels._try(right) == attention_kernels._try(right, causal=True) == ""
    blind = lambda q, k, v, mask: attend(q, k, v, kernel="reference")  # noqa: E731
    assert "off the reference" in attention_kernels._try(blind)

    @jax.custom_vjp
    def no_gradient(q, k, v, keys):
        return attend(q, k, v, Mask(keys=keys), kernel="reference")

    no_gradient.defvjp(
        lambda q, k, v, keys: (no_gradient(q, k, v, keys), (q, k, v)),
        lambda saved, _: (*map(jnp.zeros_like, saved), None),
    )
    assert "dq is" in attention_kernels._try(lambda q, k, v, m: no_gradient(q, k, v, m.keys))

    def broken(q, k, v, mask):
        raise NotImplementedError("head dim\nsecond line")

    assert attention_kernels._try(broken) == "NotImplementedError: head dim"


SCRIPT = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P
from sleeplm_jax.config import MeshConfig
from sleeplm_jax.models.attention import attend
from sleeplm_jax.models.attention_kernels import splash
from sleeplm_jax.models.attention_mask import Mask
from sleeplm_jax.objectives.caption import caption_loss
from sleeplm_jax.parallel.mesh import BATCH_AXES, make_mesh

rng = np.random.default_rng(0)
mesh = make_mesh(MeshConfig(data=2, tensor=2))
q, k, v = rng.normal(size=(3, 4, 128, 2, 16)).astype(np.float32)
mask = Mask(keys=jnp.asarray(rng.random((4, 128)) < 0.7))
plain = attend(q, k, v, mask, kernel="reference")
hidden = rng.normal(size=(4, 6, 8)).astype(np.float32)
kernel = rng.normal(size=(8, 96)).astype(np.float32)
text = jnp.asarray(rng.integers(1, 96, (4, 7)))
whole = jax.value_and_grad(caption_loss, (0, 1))(hidden, kernel, text)
with jax.set_mesh(mesh):
    rows = NamedSharding(mesh, P(BATCH_AXES))
    place = lambda x, *spec: jax.device_put(x, NamedSharding(mesh, P(*spec)))
    heads = [place(x, BATCH_AXES, None, "tensor") for x in (q, k, v)]
    out = jax.jit(lambda *x: splash(*x, mask, interpret=True))(*heads)
    np.testing.assert_allclose(out, plain, atol=1e-5)
    assert "tensor" in out.sharding.spec[2], out.sharding

    f = jax.jit(jax.value_and_grad(lambda *x: caption_loss(*x, chunk=20), (0, 1)))
    inputs = place(hidden, BATCH_AXES), place(kernel, None, "tensor"), place(text, BATCH_AXES)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 3e-6, 1e-6), f(*inputs), whole)
    compiled = f.lower(*inputs).compile().as_text()
    assert "f32[8,96]" not in compiled, "a device holds all columns"
print("agree")
"""


def test_over_several_devices_nothing_is_gathered():
    """Splash on each device's samples and heads; each device its own columns of every chunk."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=300,
        env=os.environ | {
            "XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"
        },
    )
    assert done.stdout.strip().endswith("agree"), done.stderr[-2000:]
