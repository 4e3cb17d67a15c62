"""A number that tells whether arrays are, bit for bit, what they were: on any devices.

Every value's bits are hashed with its place in the whole array, and the hashes added modulo 2^32.
Integers add up to the same in every order, so neither the sharding nor the number of processes
matters. (A sum of the bits themselves, weighed by place, misses an even number of changed signs.)
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sleeplm_jax.parallel.telling import all_say

_STEP = 0x9E3779B1  # odd: places and leaves far apart get numbers far apart
# Larger pieces are summed on their device; a program for each of the many small shapes would take
# seconds to compile (1.5 s for the tiny model of the tests on one core).
_SMALL = 1 << 18


def fingerprint(tree: Any) -> int:
    """Of all leaves of `tree` (arrays, sharded or not), in their order. Waits until they are
    computed; all processes must call it together."""
    leaves = [leaf if isinstance(leaf, jax.Array) else np.asarray(leaf)
              for leaf in jax.tree.leaves(tree)]
    several = any(isinstance(x, jax.Array) and not x.is_fully_addressable for x in leaves)
    own = [_own(leaf) for leaf in leaves]
    sums = np.array(jax.device_get(own), np.uint32).reshape(1, -1)
    if several:
        sums = np.array(all_say("fingerprint", sums[0].tolist()), np.uint32)
    total = 0
    for part in sums.sum(0, dtype=np.uint32).tolist():
        # In numpy's arithmetic, which wraps around; a scalar's would warn.
        total = int(_hashed(np, np.array([(total * _STEP + part) % 2**32], np.uint32))[0])
    return total


def _own(leaf: jax.Array | np.ndarray) -> Any:
    """This process' part of a leaf's sum: every piece of the array counts on one device."""
    if not isinstance(leaf, jax.Array):
        return _sum(np, leaf, (0,) * leaf.ndim, leaf.shape)
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    parts = []
    for shard in leaf.addressable_shards:
        if shard.replica_id == 0:
            start = tuple(np.uint32(index.start or 0) for index in shard.index)
            if shard.data.size <= _SMALL:
                parts.append(_sum(np, np.asarray(shard.data), start, leaf.shape))
            else:
                parts.append(_sum_there(shard.data, start, leaf.shape))
    # Devices' sums meet on the host: they lie on different ones.
    return np.array(jax.device_get(parts), np.uint32).sum(dtype=np.uint32)


def _sum(xp, x, start: tuple, shape: tuple[int, ...]):
    """Of one piece `x` that begins at `start` of an array of `shape`; `xp` is numpy or jax.numpy,
    whose results are equal."""
    if not shape:  # numpy warns of scalars that wrap around, not of arrays
        x, start, shape = x[None], (0,), (1,)
    if x.dtype == bool:
        x = x.astype(xp.uint8)
    bits = {1: xp.uint8, 2: xp.uint16, 4: xp.uint32, 8: xp.uint32}[x.dtype.itemsize]
    if x.dtype.itemsize == 8:  # two numbers each, along one more axis
        x, start, shape = x[..., None], (*start, 0), (*shape, 2)
    x = x.view(bits).astype(xp.uint32)
    # The place by sums over the axes: flattening would gather a sharded array.
    place, stride = xp.zeros((1,) * x.ndim, xp.uint32), 1
    for axis in reversed(range(x.ndim)):
        along = xp.arange(x.shape[axis], dtype=xp.uint32) + xp.uint32(start[axis])
        along = along * xp.uint32(stride % 2**32)
        place = place + along.reshape([-1 if a == axis else 1 for a in range(x.ndim)])
        stride *= shape[axis]
    # By place first, or a value would count alike at places that lie apart as values do.
    return _hashed(xp, x ^ _hashed(xp, place * xp.uint32(_STEP))).sum(dtype=xp.uint32)


def _hashed(xp, x):
    """MurmurHash3's last steps (Appleby, public domain): every bit changes about half of all."""
    x = (x ^ (x >> 16)) * xp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * xp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def _there(x, start, shape):
    return _sum(jnp, x, start, shape)


_sum_there = jax.jit(_there, static_argnums=2)
