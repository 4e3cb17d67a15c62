"""Captioning loss: next-token cross-entropy with the vocabulary taken in chunks.

Shapes: B batch, L text tokens, D decoder width, V vocabulary, n chunks.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

PAD = 0
VOCABULARY_CHUNK = 8192


def vocabulary_terms(
    hidden: jax.Array, kernel: jax.Array, labels: jax.Array, chunk: int = VOCABULARY_CHUNK
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """What a cross-entropy needs of the logits `hidden @ kernel`, float32 `labels.shape` each:
    the label's logit, the logsumexp over the vocabulary, the mean over the vocabulary.

    `hidden [..., D]`, `kernel [D, V]` (cast to hidden's type; products add up in float32),
    `labels int [...]`. With V > chunk, chunks of at most `chunk` columns follow one another,
    forward and again backward, so that no more than `[..., chunk]` logits exist at a time: one
    further product with the kernel buys the memory. With V <= chunk they are kept, as plainly.
    """
    columns = kernel.shape[1]
    if columns <= chunk:
        logits = _logits(hidden, kernel.astype(hidden.dtype))
        label = jnp.take_along_axis(logits, labels[..., None], -1)[..., 0]
        return label, jax.nn.logsumexp(logits, -1), logits.mean(-1)
    return _chunked(hidden, kernel, labels, -(-columns // chunk))


def caption_nll(
    hidden: jax.Array, kernel: jax.Array, text: jax.Array, chunk: int = VOCABULARY_CHUNK
) -> tuple[jax.Array, jax.Array]:
    """Summed negative log-likelihood `[B]` and number of predicted tokens `[B]`.

    `hidden [B, L - 1, D]` and `kernel [D, V]` give logits that predict `text[:, 1:]` (`text
    [B, L]`); pad is not predicted.
    """
    labels = text[:, 1:]
    real = labels != PAD
    label, total, _ = vocabulary_terms(hidden, kernel, labels, chunk)
    return jnp.where(real, total - label, 0.0).sum(-1), real.sum(-1)


def predicted(text: jax.Array, valid: jax.Array | None = None) -> jax.Array:
    """Which tokens of `text[:, 1:]` are predicted, bool `[B, L - 1]`: of valid rows, no pad."""
    return (text[:, 1:] != PAD) & (True if valid is None else valid[:, None])


def caption_loss(
    hidden: jax.Array,
    kernel: jax.Array,
    text: jax.Array,
    valid: jax.Array | None = None,
    *,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    chunk: int = VOCABULARY_CHUNK,
    count: jax.Array | None = None,
) -> jax.Array:
    """Mean over all predicted tokens of the batch (not a mean of sequence means).

    `label_smoothing` e spreads e of the target evenly over the vocabulary (Szegedy et al. 2016,
    as torch's `cross_entropy`); `z_loss` is the factor of the squared logsumexp, which keeps
    logits near a normalised scale in bfloat16 (PaLM, Chowdhery et al. 2022: 1e-4). `valid bool
    [B]`: samples outside it take no part. `count` is what the sum is divided by where the batch
    is a part of a whole (`predicted` of the whole, added up).
    """
    labels, real = text[:, 1:], predicted(text, valid)
    label, total, mean = vocabulary_terms(hidden, kernel, labels, chunk)
    cost = total - label
    if label_smoothing > 0:
        cost = total - (1 - label_smoothing) * label - label_smoothing * mean
    if z_loss > 0:
        cost = cost + z_loss * total**2
    count = jnp.maximum(real.sum(), 1) if count is None else count
    return jnp.where(real, cost, 0.0).sum() / count


# ---- Chunks


def _logits(hidden, kernel):
    return jnp.einsum("...d,dv->...v", hidden, kernel, preferred_element_type=jnp.float32)


def _parts(columns: int) -> int:
    """In how many runs the columns are cut before chunks are taken of each: as many as devices
    share them (mesh axis `tensor`), so that every device works on its own part of every chunk."""
    shape = jax.sharding.get_abstract_mesh().shape
    ways = shape.get("tensor", 1)
    return ways if columns % ways == 0 else 1


class _Chunks:
    """Chunk j of a kernel `[D, V]`: columns `j * c ...` of each of its runs.

    The last chunk is moved back to end with the run; what it shares with the one before it is
    not `fresh` and counts once. So nothing is padded or copied as a whole.
    """

    def __init__(self, columns: int, n: int):
        self.runs = _parts(columns)
        self.run = columns // self.runs
        self.c = -(-self.run // n)
        self.n = -(-self.run // self.c)

    def start(self, j):
        return jnp.minimum(j * self.c, self.run - self.c)

    def kernel(self, kernel, j):
        """`[D, c * runs]`"""
        width = kernel.shape[0]
        cut = kernel.reshape(width, self.runs, self.run)
        cut = jax.lax.dynamic_slice_in_dim(cut, self.start(j), self.c, 2)
        return cut.reshape(width, -1)

    def ids(self, j):
        """Each column's token id, and whether no earlier chunk had it; `[c * runs]` both."""
        inside = self.start(j) + jnp.arange(self.c)
        ids = jnp.arange(self.runs)[:, None] * self.run + inside
        return ids.reshape(-1), jnp.tile(inside >= j * self.c, self.runs)

    def add(self, whole, j, part):
        """`part [D, c * runs]` added to its columns of `whole [D, V]`."""
        width = whole.shape[0]
        cut = whole.reshape(width, self.runs, self.run)
        part = part.reshape(width, self.runs, self.c)
        before = jax.lax.dynamic_slice_in_dim(cut, self.start(j), self.c, 2)
        cut = jax.lax.dynamic_update_slice_in_dim(cut, before + part, self.start(j), 2)
        return cut.reshape(width, -1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _chunked(hidden, kernel, labels, n):
    chunks, columns = _Chunks(kernel.shape[1], n), kernel.shape[1]

    def add(carry, j):
        label, most, total, mean = carry
        logits = _logits(hidden, chunks.kernel(kernel, j).astype(hidden.dtype))
        ids, fresh = chunks.ids(j)
        own = fresh & (labels[..., None] == ids)
        label = label + jnp.where(own, logits, 0.0).sum(-1)
        mean = mean + jnp.where(fresh, logits, 0.0).sum(-1) / columns
        logits = jnp.where(fresh, logits, -jnp.inf)
        higher = jnp.maximum(most, logits.max(-1))
        total = total * jnp.exp(most - higher) + jnp.exp(logits - higher[..., None]).sum(-1)
        return (label, higher, total, mean), None

    zero = jnp.zeros(labels.shape, jnp.float32)
    start = (zero, jnp.full(labels.shape, -jnp.inf, jnp.float32), zero, zero)
    (label, most, total, mean), _ = jax.lax.scan(add, start, jnp.arange(chunks.n))
    return label, most + jnp.log(total), mean


def _chunked_forward(hidden, kernel, labels, n):
    label, total, mean = _chunked(hidden, kernel, labels, n)
    return (label, total, mean), (hidden, kernel, labels, total)


def _chunked_backward(n, saved, cotangents):
    hidden, kernel, labels, total = saved
    d_label, d_total, d_mean = (x[..., None] for x in cotangents)
    chunks, columns = _Chunks(kernel.shape[1], n), kernel.shape[1]

    def add(carry, j):
        d_hidden, d_kernel = carry
        part = chunks.kernel(kernel, j).astype(hidden.dtype)
        ids, fresh = chunks.ids(j)
        d_logits = d_total * jnp.exp(_logits(hidden, part) - total[..., None])
        d_logits = d_logits + d_label * (labels[..., None] == ids) + d_mean / columns
        d_logits = jnp.where(fresh, d_logits, 0.0).astype(hidden.dtype)
        d_hidden += jnp.einsum("...v,dv->...d", d_logits, part, preferred_element_type=jnp.float32)
        d_part = jnp.einsum(
            "td,tv->dv",
            hidden.reshape(-1, hidden.shape[-1]), d_logits.reshape(-1, part.shape[1]),
            preferred_element_type=jnp.float32,
        )
        return (d_hidden, chunks.add(d_kernel, j, d_part)), None

    start = (jnp.zeros(hidden.shape, jnp.float32), jnp.zeros(kernel.shape, jnp.float32))
    (d_hidden, d_kernel), _ = jax.lax.scan(add, start, jnp.arange(chunks.n))
    return d_hidden.astype(hidden.dtype), d_kernel.astype(kernel.dtype), None


_chunked.defvjp(_chunked_forward, _chunked_backward)
