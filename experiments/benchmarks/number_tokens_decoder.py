"""The small decoder of number_tokens.py: readings of a record's numbers to a caption, in plain JAX.

Shapes: B batch, L text, S slots (numbers that captions state), D width, H heads, E D / H,
V vocabulary, M keys.
"""

from __future__ import annotations

import functools

BUMPS, REACH = 31, 3.0  # a reading is coded by its nearness to BUMPS values within +-REACH sd
PAD, BOS, EOS = 0, 1, 2


def initial(size, kinds: int, vocab: int, slots: int, length: int, seed: int) -> dict:
    """Parameters; `size` has width, layers and mlp (of the width)."""
    import jax

    keys = iter(jax.random.split(jax.random.key(seed), 8 + 16 * size.layers))
    d, hidden = size.width, size.width * size.mlp

    def matrix(*shape, scale=None):
        return jax.random.normal(next(keys), shape) * (scale or shape[-2] ** -0.5)

    def block():
        small = (2 * size.layers) ** -0.5
        return {
            "qkv": matrix(d, 3 * d), "out": matrix(d, d) * small,
            "q": matrix(d, d), "kv": matrix(d, 2 * d), "cross": matrix(d, d) * small,
            "up": matrix(d, hidden), "down": matrix(hidden, d) * small,
        }  # fmt: skip

    return {
        "slot": matrix(slots, d, scale=1.0), "code": matrix(slots, BUMPS, d, scale=0.5),
        "kind": matrix(kinds, d, scale=0.5), "place": matrix(length, d, scale=0.1),
        "blocks": [block() for _ in range(size.layers)],
        "token": matrix(vocab, d, scale=0.5), "head": matrix(d, vocab),
    }  # fmt: skip


def norm(x):
    import jax.numpy as jnp

    return x / jnp.sqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6)


def signal_tokens(params, values, present):
    """[B, S, D] of readings [B, S]: which number it is, and its value as bumps."""
    import jax.numpy as jnp

    centres = jnp.linspace(-REACH, REACH, BUMPS)
    near = jnp.clip(values, -REACH, REACH)[..., None] - centres
    bumps = jnp.exp(-0.5 * (near / (centres[1] - centres[0])) ** 2)
    value = jnp.einsum("bsn,snd->bsd", bumps, params["code"])
    return norm(params["slot"] + value * present[..., None])


def split(x, heads):
    return x.reshape(*x.shape[:-1], heads, x.shape[-1] // heads)


def attend(q, k, v, allowed):
    """q [B, L, H, E], k and v [B, M, H, E], allowed [B or 1, 1, L, M]."""
    import jax
    import jax.numpy as jnp

    scores = jnp.einsum("blhe,bmhe->bhlm", q, k) * q.shape[-1] ** -0.5
    weights = jax.nn.softmax(jnp.where(allowed, scores, -1e9), -1)
    return jnp.einsum("bhlm,bmhe->blhe", weights, v).reshape(*q.shape[:2], -1)


def memories(params, heads, values, present):
    """Keys and values of the signal tokens for every block."""
    import jax.numpy as jnp

    tokens = signal_tokens(params, values, present)
    pairs = [jnp.split(tokens @ block["kv"], 2, -1) for block in params["blocks"]]
    return [tuple(split(x, heads) for x in pair) for pair in pairs]


def decode(params, heads, memory, present, x, allowed, store):
    """Hidden [B, L, D] of inputs x [B, L, D]; `store(i, k, v)` gives the keys that block i sees."""
    import jax
    import jax.numpy as jnp

    for i, (block, (mk, mv)) in enumerate(zip(params["blocks"], memory)):
        q, k, v = (split(y, heads) for y in jnp.split(norm(x) @ block["qkv"], 3, -1))
        x = x + attend(q, *store(i, k, v), allowed) @ block["out"]
        q = split(norm(x) @ block["q"], heads)
        x = x + attend(q, mk, mv, present[:, None, None]) @ block["cross"]
        x = x + jax.nn.gelu(norm(x) @ block["up"]) @ block["down"]
    return norm(x)


def loss(params, heads, kind, values, present, text):
    """Mean cross entropy of text int32 [B, L] after its bos."""
    import jax
    import jax.numpy as jnp

    length = text.shape[1] - 1
    x = params["token"][text[:, :-1]] + params["place"][:length] + params["kind"][kind]
    causal = jnp.tril(jnp.ones((length, length), bool))[None, None]
    memory = memories(params, heads, values, present)
    hidden = decode(params, heads, memory, present, x, causal, lambda i, k, v: (k, v))
    logp = jax.nn.log_softmax(hidden @ params["head"])
    wanted = text[:, 1:]
    nll = -jnp.take_along_axis(logp, wanted[..., None], -1)[..., 0]
    said = wanted != PAD
    return jnp.sum(nll * said) / jnp.sum(said)


@functools.cache
def writer(heads: int, length: int):
    """A compiled function: greedy captions int32 [B, length] after bos, with a cache of keys."""
    import jax
    import jax.numpy as jnp

    @jax.jit
    def write(params, kind, values, present):
        memory = memories(params, heads, values, present)
        batch, width = len(values), params["head"].shape[0]
        shape = (len(params["blocks"]), 2, batch, length, heads, width // heads)

        def step(carry, place):
            cache, token = carry
            x = (params["token"][token] + params["place"][place] + params["kind"][kind])[:, None]
            kept = []

            def store(i, k, v):
                both = jax.lax.dynamic_update_slice_in_dim(
                    cache[i], jnp.stack([k, v]), place, axis=2)
                kept.append(both)
                return both[0], both[1]

            allowed = (jnp.arange(length) <= place)[None, None, None]
            hidden = decode(params, heads, memory, present, x, allowed, store)
            token = jnp.argmax(hidden[:, 0] @ params["head"], -1).astype(jnp.int32)
            return (jnp.stack(kept), token), token

        start = jnp.zeros(shape), jnp.full(batch, BOS, jnp.int32)
        return jax.lax.scan(step, start, jnp.arange(length))[1].T

    return write
