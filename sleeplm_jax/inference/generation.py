"""How the words of a caption are chosen: greedily, by beams, or drawn at random; one compiled loop.

Shapes: B epochs, P prompts an epoch, G = B * P groups, W lanes a group (beams or samples),
T text positions, K prefix slots, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sleeplm_jax.corpus.tokenizer import Tokenizer
from sleeplm_jax.errors import ConfigError
from sleeplm_jax.models.decoding import Cache, Entries, Writer, start, step
from sleeplm_jax.models.recoca import ReCoCa


@dataclass(frozen=True)
class Decoding:
    """How words are chosen; by default the most probable one at each step.

    Raises ConfigError for settings that contradict one another.
    """

    max_tokens: int = 0  # start and end of text included; 0: the text length of training
    # The text cannot end before it has so many tokens, the start counted. SleepLM decodes with 16.
    min_tokens: int = 0
    beams: int = 1
    # Beams are ranked by log probability over (tokens after the start) to this power.
    length_penalty: float = 1.0
    temperature: float = 0.0  # logits are divided by it and a word drawn; 0 draws nothing
    top_k: int = 0  # draw among the k most probable words; 0: all
    top_p: float = 1.0  # ... of these, among the fewest that hold this share of probability
    samples: int = 1  # texts a prompt: drawn ones, or the best beams
    seed: int = 0
    # Logits of words already said are divided by it (multiplied where negative), as in CTRL
    # (arXiv 1909.05858) and SleepLM's `generate`, which runs with 1.
    repetition_penalty: float = 1.0

    def __post_init__(self):
        def need(ok: bool, field: str, remedy: str) -> None:
            if not ok:
                raise ConfigError(f"decoding.{field}", f"is {getattr(self, field)}", remedy)

        need(self.max_tokens == 0 or self.max_tokens >= 2, "max_tokens", "give 2 or more")
        need(self.min_tokens >= 0, "min_tokens", "give 0 or more")
        need(
            not self.max_tokens or self.min_tokens <= self.max_tokens, "min_tokens",
            f"give at most max_tokens, {self.max_tokens}",
        )
        need(self.beams >= 1, "beams", "give 1 or more")
        need(self.length_penalty >= 0, "length_penalty", "give 0 or more")
        need(self.temperature >= 0, "temperature", "give 0 or more")
        need(self.top_k >= 0, "top_k", "give 1 or more, or 0 for all words")
        need(0 < self.top_p <= 1, "top_p", "give more than 0 and at most 1")
        need(self.samples >= 1, "samples", "give 1 or more")
        need(0 <= self.seed < 2**32, "seed", "give 0 to 4294967295")
        need(self.repetition_penalty > 0, "repetition_penalty", "give more than 0")
        need(
            self.beams == 1 or self.temperature == 0, "temperature",
            f"give 0 with {self.beams} beams: they draw nothing",
        )
        need(
            self.temperature > 0 or (self.top_k == 0 and self.top_p == 1), "temperature",
            "give more than 0 with top_k or top_p: words are not drawn otherwise",
        )
        need(
            self.temperature > 0 or self.samples <= self.beams, "samples",
            "give a temperature, or as many beams: other texts would all be the same",
        )

    @property
    def lanes(self) -> int:
        return max(self.beams, self.samples)


GREEDY = Decoding()
# With so few rows a step mostly reads weights: layers are then taken apart (models/decoding.py).
# CPU time of 16 tokens, width 768, 6 + 6 layers: 1 row 0.66 s for 0.99 scanned, 5 rows 1.34 for
# 1.69; at width 384 nothing is gained from 16 rows on.
FEW_ROWS = 8


class Words(NamedTuple):
    """What the loop needs to know of a tokenizer."""

    pad: int
    bos: int
    eos: int
    barred: np.ndarray  # bool [V]: never said

    @classmethod
    def of(cls, tokenizer: Tokenizer, vocabulary: int) -> Words:
        """vocabulary: rows of the model's logits; those beyond the tokenizer's only pad it."""
        barred = np.arange(vocabulary) >= tokenizer.vocab_size
        barred[list(tokenizer.unwritten)] = True
        return cls(tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id, barred)


def generate(model: ReCoCa, seen: Entries, prefix, wanted, index, seed, decoding: Decoding,
             words: Words, length: int):
    """Texts `int32 [G, samples, T]`, bos first, padded after eos, and their `scores f32 [G,
    samples]`: log probability as the model (without barred words) has it, for beams divided as
    `length_penalty` says, best first.

    seen: of models.decoding.observe; prefix: `int [B, P, K]`; wanted: `bool [G]`, the loop ends
    when these groups have their texts; index: `uint32 [G]`, with `seed` it decides a group's draws,
    whatever else is in the batch.
    """
    writer = Writer.of(model, seen, len(wanted) * decoding.lanes <= FEW_ROWS)
    cache = start(writer, prefix, decoding.lanes, length)
    if decoding.beams > 1:
        return _beams(writer, cache, wanted, decoding, words, length)
    return _lanes(writer, cache, wanted, index, seed, decoding, words, length)


class _Drawn(NamedTuple):
    text: jax.Array  # [G, W, T]
    score: jax.Array  # [G, W]
    done: jax.Array  # [G, W]
    position: jax.Array
    cache: Cache


def _lanes(writer, cache, wanted, index, seed, decoding, words, length):
    """Greedy decoding, or independent draws side by side."""
    groups, lanes = len(wanted), decoding.samples
    own = jnp.eye(lanes, dtype=bool)[:, None, :]
    keys = jax.vmap(lambda i: jax.vmap(
        lambda w: jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), i), w)
    )(jnp.arange(lanes)))(index)

    def body(s: _Drawn) -> _Drawn:
        past = own & (jnp.arange(length) < s.position)[:, None]
        past = jnp.broadcast_to(past.reshape(lanes, -1), (groups, lanes, length * lanes))
        logits, cache = _step(writer, s.cache, s.text, s.position, past)
        logits = _allowed(logits, s.text, s.position, decoding, words)
        if decoding.temperature > 0:
            now = jax.vmap(jax.vmap(jax.random.fold_in, (0, None)), (0, None))(keys, s.position)
            chosen = jax.vmap(jax.vmap(lambda x, key: draw(x, key, decoding)))(logits, now)
        else:
            chosen = logits.argmax(-1)
        gain = jnp.take_along_axis(jax.nn.log_softmax(logits), chosen[..., None], -1)[..., 0]
        chosen = jnp.where(s.done, words.pad, chosen).astype(s.text.dtype)
        text = jax.lax.dynamic_update_slice(s.text, chosen[..., None], (0, 0, s.position + 1))
        score = s.score + jnp.where(s.done, 0.0, gain)
        return _Drawn(text, score, s.done | (chosen == words.eos), s.position + 1, cache)

    text, score = _empty(groups, lanes, length, words), jnp.zeros((groups, lanes))
    done = jnp.broadcast_to(~wanted[:, None], (groups, lanes))
    out = jax.lax.while_loop(
        lambda s: (s.position < length - 1) & ~s.done.all(), body,
        _Drawn(text, score, done, jnp.int32(0), cache),
    )
    return out.text, out.score


def draw(logits, key, decoding: Decoding):
    """A word of `logits [V]`, by temperature, then top_k, then top_p (as transformers orders
    them)."""
    logits = logits / decoding.temperature
    if not decoding.top_k and decoding.top_p == 1:
        return jax.random.categorical(key, logits)
    values, ids = jax.lax.top_k(logits, min(decoding.top_k or len(logits), len(logits)))
    share = jax.nn.softmax(values)
    values = jnp.where(jnp.cumsum(share) - share < decoding.top_p, values, -jnp.inf)
    return ids[jax.random.categorical(key, values)]


class _Beams(NamedTuple):
    text: jax.Array  # [G, W, T], texts that go on
    score: jax.Array  # [G, W], their log probabilities
    slots: jax.Array  # [G, W, T]: the lane in which each position's token stands in the cache
    ended: jax.Array  # [G, W, T], the best texts that ended, best first
    ended_score: jax.Array  # [G, W], normalised; -inf where there is none yet
    position: jax.Array
    cache: Cache


def _beams(writer, cache, wanted, decoding, words, length):
    """Beam search over twice as many candidates as beams, so that ends leave all beams going."""
    groups, lanes = len(wanted), decoding.beams
    power = decoding.length_penalty

    def normal(score, tokens):
        return score / jnp.asarray(tokens, jnp.float32) ** power

    def body(s: _Beams) -> _Beams:
        past = s.slots[..., None] == jnp.arange(lanes)
        past &= (jnp.arange(length) < s.position)[:, None]
        past = past.reshape(groups, lanes, length * lanes)
        logits, cache = _step(writer, s.cache, s.text, s.position, past)
        logits = _allowed(logits, s.text, s.position, decoding, words)
        scores = jax.nn.log_softmax(logits) + s.score[..., None]
        # Best of each lane first: of a whole vocabulary a lane only its best can be among these.
        width = min(2 * lanes, scores.shape[-1])
        scores, tokens = jax.lax.top_k(scores, width)
        scores, best = jax.lax.top_k(scores.reshape(groups, -1), 2 * lanes)
        tokens = jnp.take_along_axis(tokens.reshape(groups, -1), best, 1).astype(s.text.dtype)
        parent = best // width
        text = jnp.take_along_axis(s.text, parent[..., None], 1)
        text = jax.lax.dynamic_update_slice(text, tokens[..., None], (0, 0, s.position + 1))
        slots = jnp.take_along_axis(s.slots, parent[..., None], 1)
        slots = jax.lax.dynamic_update_slice(slots, parent[..., None], (0, 0, s.position))
        end = tokens == words.eos
        closed = jnp.where(end, normal(scores, s.position + 1), -jnp.inf)
        ended_score, ended = _best(
            jnp.concatenate([s.ended_score, closed], 1), lanes,
            jnp.concatenate([s.ended, text], 1),
        )
        score, text, slots = _best(jnp.where(end, -jnp.inf, scores), lanes, text, slots)
        return _Beams(text, score, slots, ended, ended_score, s.position + 1, cache)

    def going(s: _Beams):
        # Log probabilities only fall: no text that goes on can come to more than this.
        most = normal(s.score.max(1), length - 1)
        over = s.ended_score[:, decoding.samples - 1] >= most
        return (s.position < length - 1) & ~(over | ~wanted).all()

    text = _empty(groups, lanes, length, words)
    first = jnp.where(jnp.arange(lanes) == 0, 0.0, -jnp.inf)  # all lanes are one text at first
    out = jax.lax.while_loop(going, body, _Beams(
        text, jnp.broadcast_to(first, (groups, lanes)), jnp.zeros_like(text), text,
        jnp.full((groups, lanes), -jnp.inf), jnp.int32(0), cache,
    ))  # fmt: skip
    # A text that was cut off stands behind every one that ended.
    scores = jnp.concatenate([out.ended_score, normal(out.score, jnp.maximum(out.position, 1))], 1)
    cut = jnp.arange(2 * lanes) >= lanes
    _, texts, scores = _best(
        jnp.where(cut, scores - 1e6, scores), decoding.samples,
        jnp.concatenate([out.ended, out.text], 1), scores,
    )
    return texts, scores


def _best(score, count: int, *others):
    """The best `count` along axis 1, best first, of scores `[G, N]` and what belongs to them."""
    score, best = jax.lax.top_k(score, count)
    return score, *(
        jnp.take_along_axis(x, best.reshape(*best.shape, *(1,) * (x.ndim - 2)), 1) for x in others
    )


def _step(writer, cache, text, position, past):
    tokens = jax.lax.dynamic_index_in_dim(text, position, 2, keepdims=False)
    before = jax.lax.dynamic_index_in_dim(text, jnp.maximum(position - 1, 0), 2, keepdims=False)
    return step(writer, cache, tokens, before, position, past)


def _allowed(logits, text, position, decoding: Decoding, words: Words):
    """`logits [G, W, V]` with -inf for what may not follow `text [G, W, T]` after `position`."""
    if decoding.repetition_penalty != 1:
        here = jnp.arange(text.shape[2]) <= position
        said = jnp.where(here, text, text[..., :1])
        known = jnp.take_along_axis(logits, said, -1)
        known = jnp.where(
            known < 0, known * decoding.repetition_penalty, known / decoding.repetition_penalty
        )
        logits = jnp.put_along_axis(logits, said, known, -1, inplace=False)
    logits = jnp.where(words.barred, -jnp.inf, logits)
    if decoding.min_tokens:
        early = position + 1 < decoding.min_tokens
        logits = logits.at[..., words.eos].add(jnp.where(early, -jnp.inf, 0.0))
    return logits


def _empty(groups: int, lanes: int, length: int, words: Words):
    text = jnp.full((groups, lanes, length), words.pad, jnp.int32)
    return text.at[..., 0].set(words.bos)
