"""Attention in plain XLA whose memory grows with the length, not with its square.

Online softmax over blocks of keys for one block of queries at a time, and a backward pass that
computes the weights again (Rabe & Staats 2021, arXiv 2112.05682; Dao et al. 2022, arXiv
2205.14135). It runs on every backend and makes windows of hours possible without a kernel.

Shapes: B batch, N queries, M keys, H heads, E width of a head; n, m rows of a block.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

# Largest block: measured best of 128 to 1,024 on a CPU (256).
BLOCK = 256
MASKED = -1e30


def blockwise(q, k, v, keys=None, *, causal=False, prefix=0, block: int = BLOCK) -> jax.Array:
    """`[B, N, H, E]` from q `[B, N, H, E]` and k, v `[B, M, H, E]`; softmax in float32.

    `keys bool [B, M]`, `causal` and `prefix` as in `attention.Mask`. At most `[B, H, block,
    block]` scores exist at a time; under `causal`, blocks that nobody may see are not computed. A
    query that sees no key gives zeros.
    """
    queries, length = q.shape[1], k.shape[1]
    n, m = _even(queries, block), _even(length, block)
    fill_q, fill_k = -queries % n, -length % m
    if fill_k:
        keys = jnp.ones(k.shape[:2], bool) if keys is None else keys
        keys = jnp.pad(keys, ((0, 0), (0, fill_k)))

    def pad(x, rows):
        return jnp.pad(x, ((0, 0), (0, rows), (0, 0), (0, 0)))

    out = _blockwise(pad(q, fill_q), pad(k, fill_k), pad(v, fill_k), keys, causal, prefix, n, m)
    return out[:, :queries]


def _even(length: int, block: int) -> int:
    """Rows of a block, a multiple of 8, so that equal blocks waste little of the last one."""
    rows = -(-length // -(-length // block))
    return rows + -rows % 8


def _cut(x, index, rows, axis=1):
    return jax.lax.dynamic_slice_in_dim(x, index * rows, rows, axis)


def _visible(keys, i, j, causal, prefix, n, m):
    """bool, broadcastable to `[B, H, n, m]`, or None where everything is seen."""
    seen = None if keys is None else _cut(keys, j, m)[:, None, None, :]
    if causal:
        query, key = i * n + jnp.arange(n)[:, None], j * m + jnp.arange(m)
        past = key <= jnp.maximum(query, prefix - 1)
        seen = past if seen is None else seen & past
    return seen


def _scores(q, k):
    scores = jnp.einsum("bnhe,bmhe->bhnm", q, k, preferred_element_type=jnp.float32)
    return scores * (q.shape[-1] ** -0.5)


def _shown(x, seen, otherwise):
    return x if seen is None else jnp.where(seen, x, otherwise)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5, 6, 7))
def _blockwise(q, k, v, keys, causal, prefix, n, m):
    return _forward(q, k, v, keys, causal, prefix, n, m)[0]


def _forward(q, k, v, keys, causal, prefix, n, m):
    batch, queries, heads, width = q.shape

    def one_query_block(i):
        rows = _cut(q, i, n)

        def add(j, carry):
            most, total, mixed = carry
            seen = _visible(keys, i, j, causal, prefix, n, m)
            scores = _shown(_scores(rows, _cut(k, j, m)), seen, MASKED)
            higher = jnp.maximum(most, scores.max(-1))
            weights = _shown(jnp.exp(scores - higher[..., None]), seen, 0.0)
            part = jnp.einsum(
                "bhnm,bmhe->bhne", weights.astype(v.dtype), _cut(v, j, m),
                preferred_element_type=jnp.float32,
            )
            old = jnp.exp(most - higher)
            return higher, total * old + weights.sum(-1), mixed * old[..., None] + part

        start = (
            jnp.full((batch, heads, n), MASKED, jnp.float32),
            jnp.zeros((batch, heads, n), jnp.float32),
            jnp.zeros((batch, heads, n, width), jnp.float32),
        )
        last = k.shape[1] // m
        if causal:
            last = jnp.minimum(-(-jnp.maximum((i + 1) * n, prefix) // m), last)
        most, total, mixed = jax.lax.fori_loop(0, last, add, start)
        some = total > 0
        out = jnp.where(some[..., None], mixed / jnp.where(some, total, 1.0)[..., None], 0.0)
        # +inf makes every weight of a query without keys zero in the backward pass.
        return out.astype(q.dtype), jnp.where(some, most + jnp.log(total), jnp.inf)

    out, lse = jax.lax.map(one_query_block, jnp.arange(queries // n))
    out = jnp.moveaxis(out, 0, 2).reshape(batch, heads, queries, width)
    return out.swapaxes(1, 2), jnp.moveaxis(lse, 0, 2).reshape(batch, heads, queries)


def _blockwise_forward(q, k, v, keys, causal, prefix, n, m):
    out, lse = _forward(q, k, v, keys, causal, prefix, n, m)
    return out, (q, k, v, keys, out, lse)


def _blockwise_backward(causal, prefix, n, m, saved, d_out):
    q, k, v, keys, out, lse = saved
    scale = q.shape[-1] ** -0.5
    along = jnp.einsum(
        "bnhe,bnhe->bhn", d_out, out, preferred_element_type=jnp.float32
    )  # sum of weight * its gradient: what the softmax's backward subtracts

    def one_key_block(d_q, j):
        key, value = _cut(k, j, m), _cut(v, j, m)

        def add(i, carry):
            d_q, d_k, d_v = carry
            rows, d_rows = _cut(q, i, n), _cut(d_out, i, n)
            seen = _visible(keys, i, j, causal, prefix, n, m)
            weights = jnp.exp(_scores(rows, key) - _cut(lse, i, n, 2)[..., None])
            weights = _shown(weights, seen, 0.0)
            f32 = dict(preferred_element_type=jnp.float32)
            d_v += jnp.einsum("bhnm,bnhe->bmhe", weights.astype(d_out.dtype), d_rows, **f32)
            d_weights = jnp.einsum("bnhe,bmhe->bhnm", d_rows, value, **f32)
            d_scores = weights * (d_weights - _cut(along, i, n, 2)[..., None]) * scale
            d_scores = d_scores.astype(q.dtype)
            d_k += jnp.einsum("bhnm,bnhe->bmhe", d_scores, rows, **f32)
            part = jnp.einsum("bhnm,bmhe->bnhe", d_scores, key, **f32)
            d_q = jax.lax.dynamic_update_slice_in_dim(d_q, _cut(d_q, i, n) + part, i * n, 1)
            return d_q, d_k, d_v

        first = 0
        if causal:  # a key of the prefix is seen by every query
            first = jnp.where(j * m < prefix, 0, (j * m) // n)
        zeros = jnp.zeros(key.shape, jnp.float32)
        d_q, d_k, d_v = jax.lax.fori_loop(first, q.shape[1] // n, add, (d_q, zeros, zeros))
        return d_q, (d_k.astype(k.dtype), d_v.astype(v.dtype))

    start = jnp.zeros(q.shape, jnp.float32)
    d_q, parts = jax.lax.scan(one_key_block, start, jnp.arange(k.shape[1] // m))
    d_k, d_v = (jnp.moveaxis(x, 0, 1).reshape(k.shape) for x in parts)
    return d_q.astype(q.dtype), d_k, d_v, None


_blockwise.defvjp(_blockwise_forward, _blockwise_backward)
