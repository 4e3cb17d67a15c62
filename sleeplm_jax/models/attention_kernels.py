"""Fused attention kernels: cuDNN's flash attention on NVIDIA GPUs, Pallas splash on TPUs.

Both are JAX's own; here stand the ways our masks reach them, and the test of whether this
machine has them. Shapes: B batch, N queries, M keys, H heads, E width of a head.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import threading

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from sleeplm_jax.models.attention_blockwise import blockwise
from sleeplm_jax.models.attention_mask import Mask
from sleeplm_jax.parallel.mesh import BATCH_AXES

LANES = 128  # a TPU register's: splash wants lengths and widths in multiples of it
LARGEST_BLOCK = 512
# JAX's cuDNN path refuses odd lengths in training; a multiple of 8 keeps a bias' rows aligned too.
EVEN = 8
# Largest difference to the reference that a capability test accepts, for inputs of order 1 in
# bfloat16 (8 bits of mantissa: one rounding of a value near 1 is 0.004).
AGREES = 0.03


def fits(kernel: str, q: jax.Array) -> bool:
    """Whether a kernel takes queries `[B, N, H, E]` of this type and shape at all."""
    batch, _, heads, width = q.shape
    if kernel == "cudnn":  # JAX's own limits; heads up to 256 wide need Hopper or newer
        return q.dtype in (jnp.bfloat16, jnp.float16) and width % 8 == 0 and width <= 128
    shape = jax.sharding.get_abstract_mesh().shape
    devices = math.prod(shape.get(axis, 1) for axis in BATCH_AXES)
    whole = batch % devices == 0 and heads % shape.get("tensor", 1) == 0
    return whole and q.dtype in (jnp.bfloat16, jnp.float32)


def _prefixed(run, q, k, v, mask: Mask):
    """`run`, which knows no prefix: the first `prefix` queries see that many keys and no more,
    the others what causal ones see."""
    first = slice(None), slice(mask.prefix)
    present = mask.present(k.shape[1])
    own = blockwise(q[first], k[first], v[first], None if present is None else present[first])
    others = run(q, k, v, dataclasses.replace(mask, prefix=0))
    return jnp.concatenate([own, others[:, mask.prefix :]], 1)


# ---- cuDNN


def cudnn(q, k, v, mask: Mask, implementation="cudnn") -> jax.Array:
    """`[B, N, H, E]`; a query without keys gives something finite.

    Lengths go as lengths. Keys of any pattern are moved to the front to become lengths, for
    without order among them attention is the same; under `causal` they become a bias
    `[B, 1, N, N]`.
    """
    if mask.causal and mask.prefix > 1:
        return _prefixed(functools.partial(cudnn, implementation=implementation), q, k, v, mask)
    attention = functools.partial(jax.nn.dot_product_attention, implementation=implementation)
    queries, keys = q.shape[1], k.shape[1]
    present = mask.present(keys)
    if mask.causal and present is None:
        # What fills up comes last, where no real query looks.
        return attention(*map(_even, (q, k, v)), is_causal=True)[:, :queries]
    if mask.causal:
        rows = jnp.arange(queries + -queries % EVEN)
        present = jnp.pad(present, ((0, 0), (0, -keys % EVEN)))
        seen = (rows <= rows[:, None]) & present[:, None, :]
        return attention(*map(_even, (q, k, v)), mask=seen[:, None])[:, :queries]
    count = None
    if mask.keys is not None:
        order = jnp.argsort(~present, axis=1, stable=True)[:, :, None, None]
        k, v = (jnp.take_along_axis(x, order, 1) for x in (k, v))
    if present is not None:  # at least one, for a length of 0 has no softmax
        count = jnp.maximum(present.sum(1), 1).astype(jnp.int32)
    elif keys % EVEN:
        count = jnp.full(len(k), keys, jnp.int32)
    return attention(*map(_even, (q, k, v)), key_value_seq_lengths=count)[:, :queries]


def _even(x):
    return jnp.pad(x, ((0, 0), (0, -x.shape[1] % EVEN), (0, 0), (0, 0)))


# ---- Splash


def splash(q, k, v, mask: Mask, interpret: bool = False) -> jax.Array:
    """`[B, N, H, E]`; keys that are not there form a segment of their own.

    Lengths and head width are filled up to multiples of 128. Under a mesh every device runs the
    kernel on its own samples and heads (a Pallas call is not partitioned by XLA).
    """
    if mask.causal and mask.prefix > 1:
        return _prefixed(functools.partial(splash, interpret=interpret), q, k, v, mask)
    batch, queries, heads, width = q.shape
    keys = k.shape[1]
    present = mask.present(keys)
    if present is None and keys % LANES:
        present = jnp.ones((batch, keys), bool)
    if present is not None:
        present = jnp.pad(present, ((0, 0), (0, -keys % LANES)))
    kernel = _splash_kernel(
        queries + -queries % LANES, keys + -keys % LANES, mask.causal, interpret
    )

    def one_device(q, k, v, present):
        run = kernel(q.shape[1])
        return jax.vmap(run)(q, k, v, present)

    def lay(x):  # [B, rows, H, E] -> [B, H, rows', E']
        fill = ((0, 0), (0, -x.shape[1] % LANES), (0, 0), (0, -width % LANES))
        return jnp.pad(x, fill).swapaxes(1, 2)

    inputs = (lay(q * (width**-0.5)), lay(k), lay(v), present)
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.size > 1:
        split = PartitionSpec(tuple(a for a in BATCH_AXES if a in mesh.shape), "tensor")
        rows = PartitionSpec(split[0])
        one_device = jax.shard_map(
            one_device, in_specs=(split, split, split, None if present is None else rows),
            out_specs=split, check_vma=False,
        )
    return one_device(*inputs).swapaxes(1, 2)[:, :queries, :, :width]


def _splash_kernel(queries: int, keys: int, causal: bool, interpret: bool):
    """`heads -> run(q [H, N, E], k, v, present [M] or None)`."""
    from jax.experimental.pallas.ops.tpu import splash_attention as library

    one = (library.CausalMask if causal else library.FullMask)((queries, keys))
    n, m = _block(queries), _block(keys)
    sizes = library.BlockSizes(
        block_q=n, block_kv=m, block_kv_compute=m, block_q_dkv=n, block_kv_dkv=m,
        block_kv_dkv_compute=m, block_q_dq=n, block_kv_dq=m,
    )

    def make(heads: int):
        kernel = library.make_splash_mha(
            library.MultiHeadMask([one] * heads), block_sizes=sizes, head_shards=1,
            q_seq_shards=1, interpret=interpret,
        )

        def run(q, k, v, present):
            segments = None
            if present is not None:
                segments = library.SegmentIds(
                    q=jnp.ones(queries, jnp.int32), kv=present.astype(jnp.int32)
                )
            return kernel(q, k, v, segment_ids=segments)

        return run

    return make


def _block(length: int) -> int:
    """Largest multiple of 128 up to LARGEST_BLOCK that divides `length`, one itself."""
    return max(b for b in range(LANES, LARGEST_BLOCK + 1, LANES) if length % b == 0)


# ---- Capability


@functools.cache
def missing(kernel: str, causal: bool = False) -> str:
    """Why this machine has not got a kernel ("" when it has): tried once, on a small real call
    with missing keys, whose value and gradient must agree with plain attention. `causal` with
    missing keys is another call (for cuDNN one with a bias) and tried apart."""
    wanted = {"cudnn": "gpu", "splash": "tpu"}[kernel]
    if jax.default_backend() != wanted:
        return f"needs a {wanted.upper()}, this is a {jax.default_backend().upper()}"
    found: list[str] = []
    # In a thread of its own: the caller may be in the middle of a trace or under a mesh.
    thread = threading.Thread(target=lambda: found.append(_try(globals()[kernel], causal)))
    thread.start()
    thread.join()
    return found[0] if found else "the test of it failed"


def _try(run, causal: bool = False) -> str:
    """"" when `run` agrees with float32 attention written out, else what is wrong with it."""
    rng = np.random.default_rng(0)
    batch, length, heads, width = 2, 253, 2, 64
    q, k, v, weight = rng.normal(size=(4, batch, length, heads, width)).astype(np.float32)
    present = np.arange(length) < np.array([[length], [length // 2 + 3]])
    seen = present[:, None, None, :] & (np.tri(length, dtype=bool) | (not causal))
    half = [jnp.asarray(x, jnp.bfloat16) for x in (q, k, v)]

    def plain(q, k, v):
        scores = jnp.einsum("bnhe,bmhe->bhnm", q, k, precision="highest") * width**-0.5
        weights = jax.nn.softmax(jnp.where(seen, scores, -1e30), -1)
        return jnp.einsum("bhnm,bmhe->bnhe", weights, v, precision="highest")

    def both(f, *inputs):
        loss = lambda *x: (f(*x).astype(jnp.float32) * weight).sum()  # noqa: E731
        return jax.jit(lambda *x: (f(*x), *jax.grad(loss, (0, 1, 2))(*x)))(*inputs)

    try:
        mask = Mask(causal=causal, keys=jnp.asarray(present))
        ours = both(lambda q, k, v: run(q, k, v, mask), *half)
        theirs = both(plain, *[x.astype(jnp.float32) for x in half])
        for name, a, b in zip(("value", "dq", "dk", "dv"), ours, theirs):
            off = float(jnp.abs(a.astype(jnp.float32) - b).max())
            if not off <= AGREES * max(1.0, float(jnp.abs(b).max())):
                return f"its {name} is {off:.2g} off the reference"
    except Exception as error:  # whatever a driver, library or compiler says
        return f"{type(error).__name__}: {str(error).splitlines()[0][:120] if str(error) else ''}"
    return ""
