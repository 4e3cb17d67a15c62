"""Text tower and decoder a token at a time, with caches; equal to the pass over the whole text.

A caption's lanes (beams, or samples) stand beside one another: each position of a cache holds one
entry a lane, and a mask says which entries are a lane's own past. So a beam that moves to another
lane moves no cache, and all lanes of a group read one cache of keys in one product.

Layers are scanned, or taken `apart`: a scan copies each layer's weights and cache out of the
stack at every step. With few rows that copy is most of the work; with many it is not, and the scan
compiles sooner and holds the weights once.

Shapes: B epochs, P prompts an epoch, G = B * P groups, W lanes a group, K prefix slots, T text
positions, S cache entries, Q signal tokens, D width, H heads, d = D / H, A layers, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from sleeplm_jax.models.layers import Stack
from sleeplm_jax.models.recoca import ReCoCa
from sleeplm_jax.models.text import PAD


class Entries(NamedTuple):
    """Keys and values of a layer, or of all layers stacked. Heads before entries: a step's
    products then need no transposed copy of the cache."""

    keys: jax.Array  # [(A,) G, H, S, d]
    values: jax.Array


Layered = Entries | tuple[Entries, ...]  # stacked, or one a layer


class Cache(NamedTuple):
    text: Layered  # of the tower, S = T * W; entry t * W + w is position t of lane w
    visible: jax.Array  # bool [G, T * W]: entries that the tower does not hide as padding
    decoder: Layered  # S = K + T * W, the prefix first


class Layers(NamedTuple):
    """A stack's blocks: their graph, and parameters stacked or one tree a layer."""

    graph: Any
    parameters: Any

    @classmethod
    def of(cls, stack: Stack, apart: bool) -> Layers:
        graph, parameters = nnx.split(stack.blocks)
        return cls(graph, unstacked(parameters) if apart else parameters)


def unstacked(tree) -> tuple:
    """A tree with a leading axis of layers as a tuple of trees, one a layer."""
    return tuple(
        jax.tree.map(lambda x, i=i: x[i], tree) for i in range(len(jax.tree.leaves(tree)[0]))
    )


class Writer(NamedTuple):
    """What every step reads: the model, its layers, and what is seen of the signals."""

    model: ReCoCa
    text: Layers
    decoder: Layers
    seen: Layered

    @classmethod
    def of(cls, model: ReCoCa, seen: Entries, apart: bool = False) -> Writer:
        """Make it outside the loop over positions, or taking apart costs at each of them."""
        return cls(
            model, Layers.of(model.text.stack, apart), Layers.of(model.decoder.stack, apart),
            unstacked(seen) if apart else seen,
        )


def observe(model: ReCoCa, signal, channel_mask) -> Entries:
    """What every layer's cross-attention reads of `signal [B, C, T]`, once for all captions of an
    epoch: `[A, B, H, Q, d]`."""
    tokens = model.context(model.encode_signal(signal, channel_mask)["caption_tokens"])
    graph, parameters = nnx.split(model.decoder.stack.blocks)

    def body(carry, layer):
        block = nnx.merge(graph, layer)
        return carry, _heads_first(*block.cross_attention.keys_values(block.context(tokens)))

    return Entries(*jax.lax.scan(body, None, parameters)[1])


def start(writer: Writer, prefix, lanes: int, length: int) -> Cache:
    """Caches for texts of `length` T, the prefix `int [B, P, K]` taken in."""
    batch, prompts, slots = prefix.shape
    groups, model = batch * prompts, writer.model
    x = model.decoder.start(prefix.reshape(groups, slots))
    whole = jnp.ones((slots, slots), bool)
    _, decoder = _extend(writer.decoder, x, None, None, whole, writer.seen)
    room = ((0, 0), (0, length * lanes), (0, 0))
    decoder = jax.tree.map(lambda y: jnp.pad(y, ((0, 0),) * (y.ndim - 3) + room), decoder)
    attention = model.text.stack.blocks.attention
    depth, _, width = attention.k.kernel.shape
    empty = jnp.zeros(
        (depth, groups, attention.heads, length * lanes, width // attention.heads),
        model.text.dtype,
    )
    text = Entries(empty, empty)
    visible = jnp.zeros((groups, length * lanes), bool)
    return Cache(unstacked(text) if type(decoder) is tuple else text, visible, decoder)


def step(writer: Writer, cache: Cache, tokens, before, position, past):
    """Logits `f32 [G, W, V]` of what follows `tokens int [G, W]` at `position`, and the cache with
    these taken in.

    before: `int [G, W]`, each lane's token at the position before (any at 0). past: `bool
    [G, W, T * W]`, the entries of earlier positions that belong to each lane's text.
    """
    groups, lanes = tokens.shape
    model = writer.model
    alone = jnp.eye(lanes, dtype=bool)  # lanes do not see one another
    now = _visible(model, tokens, before, position)
    x = model.text.embed(tokens.reshape(-1, 1), position).reshape(groups, lanes, -1)
    x, new = _extend(
        writer.text, x, cache.text, past & cache.visible[:, None],
        alone & now[:, None, None, :], None,
    )
    text = _put(cache.text, new, position * lanes)
    visible = jax.lax.dynamic_update_slice(cache.visible, now, (0, position * lanes))
    slots = jax.tree.leaves(cache.decoder)[0].shape[-2] - past.shape[2]
    past = jnp.concatenate([jnp.ones((groups, lanes, slots), bool), past], 2)
    x, new = _extend(
        writer.decoder, x.astype(model.decoder.dtype), cache.decoder, past, alone, writer.seen
    )
    decoder = _put(cache.decoder, new, slots + position * lanes)
    hidden = model.decoder.norm(x).astype(model.decoder.dtype)
    return model.logits(hidden), Cache(text, visible, decoder)


def _visible(model: ReCoCa, tokens, before, position):
    """Which keys of the tower can be read, `bool [G, W]`, as TextEncoder masks padding."""
    if model.text.summary == "last":
        return jnp.ones(tokens.shape, bool)
    if model.text.summary == "shifted":
        return (position == 0) | (before != PAD)
    return tokens != PAD


def _extend(layers: Layers, x, cache: Layered | None, past, own, seen: Layered | None):
    """New tokens `x [G, N, D]` through a stack: `([G, N, D], their entries, S = N)`.

    They read the cached entries that `past bool [G, N, S]` names, and one another by `own`, a
    mask that broadcasts to `[G, H, N, N]`.
    """

    def body(x, layer):
        parameters, cache, seen = layer
        block, made = nnx.merge(layers.graph, parameters), []

        def back(y):
            attention = block.attention
            new = _heads_first(*attention.keys_values(y))
            made.append(new)
            q = _split(attention.q(y), attention.heads)
            parts = [(*new, own)] if cache is None else [(*cache, past[:, None]), (*new, own)]
            return attention.out(_joined(_read(q, parts)))

        def across(y):
            # The prompts and lanes of an epoch are so many queries of one set of keys.
            attention, batch = block.cross_attention, seen.keys.shape[0]
            q = _split(attention.q(y).reshape(batch, -1, y.shape[-1]), attention.heads)
            return attention.out(_joined(_read(q, [(*seen, True)])).reshape(y.shape))

        x = block.around(x, back, across)
        return x, Entries(*made[0])

    return _through(body, x, (layers.parameters, cache, seen))


def _through(body: Callable, x, given: tuple):
    """`body(x, layer) -> (x, made)` over all layers; what `made` is comes layered as `given`."""
    if type(given[0]) is not tuple:
        return jax.lax.scan(body, x, given)
    made = []
    for i in range(len(given[0])):
        x, one = body(x, tuple(None if part is None else part[i] for part in given))
        made.append(one)
    return x, tuple(made)


def _read(q, parts):
    """Attention of `q [G, H, N, d]` over several sets of (keys, values `[G, H, M, d]`, mask),
    softmax in float32 over all of them: `[G, H, N, d]`."""
    scores = [
        jnp.where(
            mask,
            jnp.einsum("ghnd,ghmd->ghnm", q, k, preferred_element_type=jnp.float32)
            * (q.shape[-1] ** -0.5),
            -1e30,
        )
        for k, _, mask in parts
    ]
    weights = jax.nn.softmax(jnp.concatenate(scores, -1), -1)
    mixed, first = 0.0, 0
    for k, v, _ in parts:
        part = weights[..., first : first + k.shape[2]].astype(v.dtype)
        mixed = mixed + jnp.einsum("ghnm,ghmd->ghnd", part, v)
        first += k.shape[2]
    return mixed


def _split(x, heads: int):
    return jnp.swapaxes(x.reshape(*x.shape[:-1], heads, -1), 1, 2)


def _joined(x):
    x = jnp.swapaxes(x, 1, 2)
    return x.reshape(*x.shape[:2], -1)


def _heads_first(keys, values) -> Entries:
    return Entries(jnp.swapaxes(keys, 1, 2), jnp.swapaxes(values, 1, 2))


def _put(cache: Layered, new: Layered, at) -> Layered:
    return jax.tree.map(
        lambda all_, some: jax.lax.dynamic_update_slice_in_dim(all_, some, at, all_.ndim - 2),
        cache, new,
    )
