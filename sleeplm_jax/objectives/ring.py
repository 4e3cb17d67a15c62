"""Contrastive losses over a sharded batch without gathering it: the blocks of texts go round.

Every device keeps its signals and passes texts on to its neighbour, so that each meets all texts
after one round; only one block of logits, `chunk` rows of it at a time, exists at once. Value and
gradient equal `contrastive.softmax_loss` and `sigmoid_loss`, equal captions in other devices'
blocks included. The backward pass is written out: automatic differentiation of a ring keeps every
block that passed by, which is the gathered batch again.

Method: the ring of OpenCLIP's SigLIP loss; for the softmax, rows keep a running log-sum-exp and
each text's column carries its own along (as in ring attention, Liu et al. 2023).

Shapes: B batch, n devices, b = B / n rows of a block, E embedding, K kinds of caption.
"""

from __future__ import annotations

import functools
import math
from typing import Literal

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from sleeplm_jax.parallel.mesh import AXES, BATCH_AXES

ROWS = 1024  # of a block whose logits exist at once

Form = Literal["softmax", "sigmoid"]


def ring_axes(batch: int) -> tuple[str, ...]:
    """Mesh axes that rows are split over in the mesh at hand: all where the batch divides, else
    the batch axes (devices along `tensor` then repeat one another's work); () without a mesh."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return ()
    fitting = (axes for axes in (AXES, BATCH_AXES) if batch % _devices(mesh, axes) == 0)
    return next(fitting, ())


def ways(batch: int) -> int:
    """Over how many devices a batch's rows are split in the mesh at hand (1 without one)."""
    return _devices(jax.sharding.get_abstract_mesh(), ring_axes(batch))


def _devices(mesh, axes: tuple[str, ...]) -> int:
    return math.prod(mesh.shape[axis] for axis in axes)


def ring_loss(
    signal, text, scale, bias, keys, kinds, valid, *, form: Form, equal: bool, chunk: int = ROWS
) -> jax.Array:
    """Scalar loss of L2-normalised embeddings `[B, E]` with logits `scale * s . t + bias`.

    `keys int32 [B, K]` and `kinds bool [B, K]` say which texts are true of which signals (see
    `contrastive.positives`) where `equal`; else a signal's own text alone is. Rows outside `valid
    bool [B]` take no part. To be traced under a mesh that `ring_axes` finds axes of.
    """
    axes = ring_axes(len(signal))
    if not axes:
        raise ValueError(f"a batch of {len(signal)} does not divide over the mesh's batch axes")
    return _loss(
        signal.astype(jnp.float32), text.astype(jnp.float32), jnp.float32(scale),
        jnp.float32(bias), keys, kinds, valid, (form, equal, chunk, axes),
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(7,))
def _loss(signal, text, scale, bias, keys, kinds, valid, static):
    return _forward(signal, text, scale, bias, keys, kinds, valid, static)[0]


def _forward(signal, text, scale, bias, keys, kinds, valid, static):
    inputs = (signal, text, scale, bias, keys, kinds, valid)
    sharded, whole = PartitionSpec(static[3]), PartitionSpec()
    value, statistics = jax.shard_map(
        functools.partial(_ring_forward, static=static),
        in_specs=(sharded, sharded, whole, whole, sharded, sharded, sharded),
        out_specs=(whole, sharded), check_vma=False,
    )(*inputs)
    return value, (inputs, statistics)


def _backward(static, saved, slope):
    inputs, statistics = saved
    sharded, whole = PartitionSpec(static[3]), PartitionSpec()
    gradients = jax.shard_map(
        functools.partial(_ring_backward, static=static),
        in_specs=((sharded, sharded, whole, whole, sharded, sharded, sharded), sharded, whole),
        out_specs=(sharded, sharded, whole, whole), check_vma=False,
    )(inputs, statistics, slope)
    return (*gradients, None, None, None)


_loss.defvjp(_forward, _backward)


# ---- On one device: local blocks, first dimension b


def _ring_forward(signal, text, scale, bias, keys, kinds, valid, *, static):
    form, equal, chunk, axes = static
    count = jnp.maximum(jax.lax.psum(valid.sum(), axes), 1)
    own = _numbers(len(signal), axes)
    rows = dict(signal=signal, keys=keys, number=own, valid=valid)
    block = dict(text=text, keys=keys, kinds=kinds, number=own, valid=valid)
    if form == "sigmoid":

        def step(carry, _):
            total, block = carry

            def one(total, row):
                logits, positive, both = _compare(row, block, scale, bias, equal)
                losses = -jax.nn.log_sigmoid(jnp.where(positive, logits, -logits))
                return total + jnp.where(both, losses, 0.0).sum(), None

            total = _over_chunks(one, total, rows, chunk)[0]
            return (total, _pass_on(block, axes)), None

        (total, _), _ = jax.lax.scan(step, (jnp.float32(0), block), length=_ways(axes))
        return jax.lax.psum(total, axes) / count, ()

    def step(carry, _):
        row_sums, (column_sums, block) = carry

        def one(column_sums, chunked):
            row, sums = chunked
            logits, positive, both = _compare(row, block, scale, bias, equal)
            return (
                _merge(column_sums, _sums(logits, positive, both, 0)),
                _merge(sums, _sums(logits, positive, both, 1)),
            )

        column_sums, row_sums = _over_chunks(one, column_sums, (rows, row_sums), chunk)
        return (row_sums, _pass_on((column_sums, block), axes)), None

    start = (
        jnp.full(len(signal), -jnp.inf), jnp.zeros(len(signal)), jnp.zeros(len(signal)),
        jnp.zeros(len(signal)),
    )
    (row_sums, (column_sums, _)), _ = jax.lax.scan(
        step, (start, (start, block)), length=_ways(axes)
    )
    total, statistics = jnp.float32(0), []
    for top, exponentials, of_positives, positives in (row_sums, column_sums):
        positives = jnp.maximum(positives, 1)
        # Rows that take no part have no finite sum; whatever is kept for them is never read.
        normaliser = jnp.where(valid, top + jnp.log(jnp.maximum(exponentials, 1e-37)), 0.0)
        total += jnp.where(valid, normaliser - of_positives / positives, 0.0).sum()
        statistics += [normaliser, positives]
    return 0.5 * jax.lax.psum(total, axes) / count, tuple(statistics)


def _ring_backward(inputs, statistics, slope, *, static):
    form, equal, chunk, axes = static
    signal, text, scale, bias, keys, kinds, valid = inputs
    share = slope / jnp.maximum(jax.lax.psum(valid.sum(), axes), 1)
    own = _numbers(len(signal), axes)
    rows = dict(signal=signal, keys=keys, number=own, valid=valid)
    block = dict(text=text, keys=keys, kinds=kinds, number=own, valid=valid)
    if form == "softmax":
        rows["normaliser"], rows["positives"], block["normaliser"], block["positives"] = statistics

    def step(carry, _):
        to_signal, to_scale, to_bias, (to_text, block) = carry

        def one(sums, chunked):
            row, to_signal = chunked
            to_text, to_scale, to_bias = sums
            logits, positive, both = _compare(row, block, scale, bias, equal)
            if form == "sigmoid":
                change = jax.nn.sigmoid(logits) - positive
            else:
                change = 0.5 * (
                    jnp.exp(logits - row["normaliser"][:, None])
                    - positive / row["positives"][:, None]
                    + jnp.exp(logits - block["normaliser"])
                    - positive / block["positives"]
                )
            change = jnp.where(both, change, 0.0) * share
            sums = (
                to_text + scale * change.T @ row["signal"],
                to_scale + (change * (logits - bias)).sum() / scale,
                to_bias + change.sum(),
            )
            return sums, to_signal + scale * change @ block["text"]

        (to_text, to_scale, to_bias), to_signal = _over_chunks(
            one, (to_text, to_scale, to_bias), (rows, to_signal), chunk
        )
        return (to_signal, to_scale, to_bias, _pass_on((to_text, block), axes)), None

    zero = jnp.float32(0)
    start = (jnp.zeros_like(signal), zero, zero, (jnp.zeros_like(text), block))
    (to_signal, to_scale, to_bias, (to_text, _)), _ = jax.lax.scan(
        step, start, length=_ways(axes)
    )
    return to_signal, to_text, jax.lax.psum(to_scale, axes), jax.lax.psum(to_bias, axes)


def _compare(row, block, scale, bias, equal):
    """Logits, which of them are of a true pair, and which take part at all: `[rows, b]`."""
    dots = jnp.matmul(row["signal"], block["text"].T, preferred_element_type=jnp.float32)
    both = row["valid"][:, None] & block["valid"]
    positive = row["number"][:, None] == block["number"]
    if equal:
        same = row["keys"][:, None, :] == block["keys"]
        positive |= jnp.all(same | ~block["kinds"], axis=-1)
    return scale * dots + bias, positive & both, both


def _sums(logits, positive, both, axis):
    """`(maximum, sum of exponentials over it, sum of positives' logits, positives)` by axis."""
    logits = jnp.where(both, logits, -jnp.inf)
    top = logits.max(axis)
    shift = jnp.where(jnp.isfinite(top), top, 0.0)
    return (
        top, jnp.exp(logits - jnp.expand_dims(shift, axis)).sum(axis),
        jnp.where(positive, logits, 0.0).sum(axis), positive.sum(axis).astype(jnp.float32),
    )


def _merge(a, b):
    top = jnp.maximum(a[0], b[0])
    shift = jnp.where(jnp.isfinite(top), top, 0.0)
    exponentials = a[1] * jnp.exp(a[0] - shift) + b[1] * jnp.exp(b[0] - shift)
    return top, exponentials, a[2] + b[2], a[3] + b[3]


def _over_chunks(function, carry, rows, chunk):
    """`function(carry, rows) -> carry, outputs` over pieces of at most `chunk` rows."""
    count = len(jax.tree.leaves(rows)[0])
    pieces = next(n for n in range(-(-count // chunk), count + 1) if count % n == 0)
    if pieces == 1:
        return function(carry, rows)
    cut = jax.tree.map(lambda x: x.reshape(pieces, count // pieces, *x.shape[1:]), rows)
    carry, outputs = jax.lax.scan(function, carry, cut)
    return carry, jax.tree.map(lambda x: x.reshape(count, *x.shape[2:]), outputs)


def _numbers(count, axes):
    """Rows' places in the whole batch."""
    return jax.lax.axis_index(axes) * count + jnp.arange(count)


def _ways(axes):
    return jax.lax.axis_size(axes)


def _pass_on(block, axes):
    """What the device before held."""
    ways = _ways(axes)
    if ways == 1:
        return block
    around = [(i, (i + 1) % ways) for i in range(ways)]
    return jax.tree.map(lambda x: jax.lax.ppermute(x, axes, around), block)
