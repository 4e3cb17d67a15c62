"""How much faster captions are written with caches than by running the whole text at every step.

    python experiments/benchmarks/generation_speed.py             # its last row is long
    python experiments/benchmarks/generation_speed.py --quick     # a smaller model

Both sides write the same number of tokens (random weights, ends forbidden), greedily, in the same
process, turn about; the table gives the median of the ratios and the least time of either side.
"Whole text" is what this project did before it had caches: one batch a kind, the signal encoded
each time, tower and decoder over all positions at every step. The tokens of both are compared.
Needs no data: signals and weights are random, only shapes matter to speed.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from sleeplm_jax.config import (
    CAPTION_KINDS,
    DataConfig,
    EncoderConfig,
    ModelConfig,
    ObjectiveConfig,
    RunConfig,
    TextConfig,
)
from sleeplm_jax.inference.generation import Decoding
from sleeplm_jax.inference.prompts import prompt
from sleeplm_jax.inference.run import Model
from sleeplm_jax.models.build import bind, create, graph_of

TIMES = 3


class Marks:
    """As much of a tokenizer as generation asks for."""

    pad_id, bos_id, eos_id, unwritten = 0, 1, 2, (0, 1)

    def __init__(self, vocab_size: int):
        self.vocab_size = vocab_size


def config_of(width: int, depth: int, length: int) -> RunConfig:
    heads = max(1, width // 64)
    return RunConfig(
        data=DataConfig(text_length=length),
        model=ModelConfig(
            encoder=EncoderConfig(width=width, depth=depth, heads=heads, patch_samples=192),
            text=TextConfig(width=width, depth=depth, decoder_depth=depth, heads=heads),
            vocab_size=2048,
        ),
        objective=ObjectiveConfig(reconstruction=0.0),
    )


def whole_text(config: RunConfig, tokens: int):
    """Greedy captions `int32 [N, tokens]` of one kind, every step over the whole text."""
    graph = graph_of(config)
    words = jnp.arange(config.model.vocab_size) > 2  # no padding, start or end

    @jax.jit
    def write(parameters, signal, mask, prefix):
        model = bind(graph, parameters)
        seen = model.encode_signal(signal, mask)["caption_tokens"]

        def body(position, text):
            states = model.encode_text(text)["tokens"]
            logits = model.decode(states, prefix, seen)[:, position]
            best = jnp.where(words, logits, -jnp.inf).argmax(-1)
            return text.at[:, position + 1].set(best.astype(text.dtype))

        text = jnp.zeros((len(signal), tokens), jnp.int32).at[:, 0].set(1)
        return jax.lax.fori_loop(0, tokens - 1, body, text)

    return write


def compare(model: Model, tokens: int, epochs: int, kinds: tuple[str, ...]) -> tuple:
    """(s with caches, s over the whole text, ratio, share of equal texts) for these captions."""
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(epochs, *model.spec.shape)).astype(np.float32)
    mask = np.ones(signal.shape[:2], bool)
    prompts = np.stack([prompt(kind) for kind in kinds])
    decoding, before = Decoding(min_tokens=tokens), whole_text(model.config, tokens)

    def cached():
        return model.generate(signal, mask, prompts, decoding)[0][:, :, 0]

    def uncached():
        texts = [
            np.concatenate([
                jax.device_get(before(model.parameters, signal[i : i + model.batch_size],
                                      mask[i : i + model.batch_size],
                                      np.tile(one, (min(model.batch_size, epochs - i), 1))))
                for i in range(0, epochs, model.batch_size)
            ])
            for one in prompts
        ]
        return np.stack(texts, 1)

    same = float((cached() == uncached()).all(-1).mean())  # compiles both
    took: dict = {cached: [], uncached: []}
    for _ in range(TIMES):
        for side in (cached, uncached):
            start = time.perf_counter()
            side()
            took[side].append(time.perf_counter() - start)
    ratios = np.array(took[uncached]) / np.array(took[cached])
    return min(took[cached]), min(took[uncached]), float(np.median(ratios)), same


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    if given.quick:
        given.width, given.depth = 128, 2
    config = config_of(given.width, given.depth, given.tokens)
    model = Model(config, create(config)[1], Marks(2048), 0, {}, Path("."), batch_size=64)
    print(f"width {given.width}, {given.depth} layers each in encoder, tower and decoder, texts of "
          f"{given.tokens} tokens; {jax.devices()[0].platform}, {os.cpu_count()} cores, load "
          f"{os.getloadavg()[0]:.1f} at the start")
    print(f"{'epochs':>6} {'kinds':>5} {'cached s':>9} {'whole s':>9} {'ratio':>6} "
          f"{'tokens/s':>9} {'same':>5}")
    one, five = CAPTION_KINDS[-1:], CAPTION_KINDS
    for epochs, kinds in ((1, one), (1, five), (4, five), (16, five)):
        cached, whole, ratio, same = compare(model, given.tokens, epochs, kinds)
        speed = epochs * len(kinds) * (given.tokens - 1) / cached
        print(f"{epochs:6} {len(kinds):5} {cached:9.2f} {whole:9.2f} {ratio:6.1f} {speed:9.0f} "
              f"{same:5.0%}", flush=True)
    print(f"load {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()
