"""Attention: one function for all modules, and the kernels it may run on.

Shapes: B batch, N queries, M keys, H heads, E width of a head.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from sleeplm_jax.errors import ConfigError
from sleeplm_jax.models import attention_kernels
from sleeplm_jax.models.attention_blockwise import MASKED, blockwise
from sleeplm_jax.models.attention_mask import Mask

KERNELS = ("reference", "blockwise", "cudnn", "splash")
# Below this many queries or keys the scores are small beside the rest of a layer.
LEAST = 256
# On accelerators without a kernel of their own XLA's batched products outrun a loop over blocks
# until the scores are this many for every head (a guess); on CPUs the loop wins from LEAST on
# (measured: as fast at 300 tokens, 3x at 1,200 and at 4,800, docs/objectives.md).
LARGEST = 2048**2


def attend(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    mask: Mask | jax.Array | None = None,
    *,
    kernel: str = "auto",
    dropout: float = 0.0,
    dropout_keys: jax.Array | None = None,
) -> jax.Array:
    """Scaled dot-product attention `[B, N, H, E]`, softmax in float32.

    q `[B, N, H, E]`, k and v `[B, M, H, E]`. `mask` as Mask says, or a dense array of it. A query
    that sees no key gives zeros. `kernel` "auto" takes what `choose` finds; a name is an order,
    kept where the kernel can do the call at all (a dense mask, dropout of the weights by
    `dropout_keys [B]`, or few queries are the reference's). Raises ConfigError for a kernel that
    this machine does not have.
    """
    if mask is None or not isinstance(mask, Mask):
        mask = Mask(dense=mask)
    rate = 0.0 if dropout_keys is None else dropout
    name = choose(kernel, q, k, mask, rate)
    if name == "reference":
        return _reference(q, k, v, mask, rate, dropout_keys)
    if name == "blockwise":
        present = mask.present(k.shape[1])
        return blockwise(q, k, v, present, causal=mask.causal, prefix=mask.prefix)
    out = getattr(attention_kernels, name)(q, k, v, mask)
    some = mask.answered(q.shape[1], k.shape[1])
    return out if some is None else jnp.where(some[:, :, None, None], out, 0)


def kept(keys: jax.Array, rate: float, shape: tuple[int, ...]) -> jax.Array:
    """What dropout keeps, bool of `shape [B, ...]`. Sample i is drawn by `keys[i]` alone: a batch
    draws the same however it is cut into micro-batches."""
    return jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, shape[1:]))(keys)


def choose(kernel: str, q, k, mask: Mask, dropout: float = 0.0) -> str:
    """The kernel (of KERNELS) of one call, from its shapes, types and mask, when it is traced."""
    if kernel not in ("auto", *KERNELS):
        raise ConfigError(
            "model.attention", f"is {kernel!r}", f"choose from auto, {', '.join(KERNELS)}"
        )
    queries, keys = q.shape[1], k.shape[1]
    if kernel in ("cudnn", "splash") and (why := attention_kernels.missing(kernel)):
        raise ConfigError("model.attention", f"{kernel}: {why}", "use auto")
    if mask.dense is not None or dropout > 0 or (mask.causal and queries != keys):
        return "reference"
    if kernel in ("reference", "blockwise"):
        return kernel
    if min(queries, keys) < LEAST:
        return "reference"
    platform = jax.default_backend()
    fast = {"gpu": "cudnn", "tpu": "splash"}.get(platform) if kernel == "auto" else kernel
    if fast:
        some = mask.keys is not None or mask.lengths is not None
        why = attention_kernels.missing(fast, mask.causal and some)
        if not attention_kernels.fits(fast, q):
            why = f"does not take {q.dtype} {q.shape}"
        if not why:
            return fast
        if kernel == fast:
            raise ConfigError("model.attention", f"{kernel}: {why}", "use auto")
    if platform == "cpu" or queries * keys > LARGEST:
        return "blockwise"
    return "reference"


def described(kernel: str = "auto") -> str:
    """One line for the start of a run: what attention runs on here, and why not on more.

    Raises ConfigError for a kernel that was asked for and that this machine has not got.
    """
    if kernel in ("cudnn", "splash") and (why := attention_kernels.missing(kernel)):
        raise ConfigError("model.attention", f"{kernel}: {why}", "use auto")
    if kernel != "auto":
        return f"attention: {kernel}, as set by model.attention"
    platform = jax.default_backend()
    fast = {"gpu": "cudnn", "tpu": "splash"}.get(platform)
    if fast is None:
        return f"attention: XLA, block by block from {LEAST} tokens on ({platform})"
    why = attention_kernels.missing(fast)
    if not why:
        return f"attention: {fast} from {LEAST} tokens on (agrees with the reference here)"
    return f"attention: XLA ({fast} left out: {why})"


def _reference(q, k, v, mask: Mask, dropout: float, keys) -> jax.Array:
    scores = jnp.einsum("bnhe,bmhe->bhnm", q, k, preferred_element_type=jnp.float32)
    scores = scores * (q.shape[-1] ** -0.5)
    seen = mask.whole(q.shape[1], k.shape[1])
    if seen is not None:
        scores = jnp.where(seen, scores, MASKED)
    weights = jax.nn.softmax(scores, axis=-1)
    if dropout > 0:
        there = kept(keys, dropout, weights.shape)
        weights = jnp.where(there, weights / (1 - dropout), 0.0)
    out = jnp.einsum("bhnm,bmhe->bnhe", weights.astype(v.dtype), v)
    if seen is None or (mask.dense is None and mask.present(k.shape[1]) is None):
        return out  # causal alone: every query sees itself
    some = jnp.any(seen, -1, keepdims=True)
    return jnp.where(jnp.swapaxes(some, 1, 2), out, 0)
