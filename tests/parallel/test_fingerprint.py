"""Fingerprints of arrays: the same wherever the bits lie, another for other bits or places."""

import os
import subprocess
import sys

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from sleeplm_jax.parallel import fingerprint as module
from sleeplm_jax.parallel.fingerprint import fingerprint

KINDS = (np.float32, ml_dtypes.bfloat16, np.int32, np.uint8, bool)


def values(kind, shape=(6, 5, 4)):
    return (np.random.default_rng(0).normal(size=shape) * 50).astype(kind)


def hashed(x):
    """MurmurHash3's 32-bit finaliser."""
    x = ((x ^ (x >> 16)) * 0x85EBCA6B) % 2**32
    x = ((x ^ (x >> 13)) * 0xC2B2AE35) % 2**32
    return x ^ (x >> 16)


def defined(x):
    """The definition, one number at a time."""
    total = 0
    width = x.dtype.itemsize
    numbers = np.frombuffer(x.tobytes(), {1: np.uint8, 2: np.uint16, 4: np.uint32}[width])
    for place, bits in enumerate(numbers.tolist()):
        total += hashed(bits ^ hashed((place * 0x9E3779B1) % 2**32))
    return total % 2**32


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("small", [-1, 1 << 18])
@pytest.mark.filterwarnings("error")
def test_host_and_device_give_what_is_defined(kind, small, monkeypatch):
    monkeypatch.setattr(module, "_SMALL", small)
    for x in (values(kind), values(kind, ()), values(kind, (3, 1))):
        assert fingerprint([jnp.asarray(x)]) == fingerprint([x]) == hashed(defined(x))


def test_a_bit_a_place_a_length_and_an_order_count():
    x = values(np.float32)
    flipped = x.copy()
    flipped.view(np.uint32)[3, 2, 1] ^= 1
    swapped = x.copy()
    swapped[0, 0, :2] = x[0, 0, 1::-1]
    longer = np.concatenate([x.reshape(-1), np.zeros(1, np.float32)])
    found = [fingerprint(tree) for tree in (
        [x], [flipped], [swapped], [longer], [-x], [x * 2], [x, x * 2], [x * 2, x], [x, x],
    )]
    assert len(set(found)) == len(found)


SHARDED = """
import jax
from jax.sharding import NamedSharding, PartitionSpec as P
from sleeplm_jax.parallel import fingerprint as module
from tests.parallel.test_fingerprint import KINDS, values
mesh = jax.make_mesh((4, 2), ("a", "b"))
for kind in KINDS:
    x = values(kind, (8, 12))
    expected = module.fingerprint([x])
    for small in (0, 1 << 18):
        module._SMALL = small
        for spec in (P(), P("a"), P("b", "a"), P(("a", "b")), P(None, "b")):
            there = jax.device_put(x, NamedSharding(mesh, spec))
            assert module.fingerprint([there]) == expected, (kind, spec, small)
print("equal")
"""


def test_the_sharding_does_not_matter():
    done = subprocess.run(
        [sys.executable, "-c", SHARDED], capture_output=True, text=True, timeout=200,
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "8", "JAX_PLATFORMS": "cpu"},
    )
    assert done.stdout.strip() == "equal", done.stderr
