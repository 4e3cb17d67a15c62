"""What chunks cost and save: captioning loss over the vocabulary, attention over long windows.

    python experiments/benchmarks/chunks.py          about 2 minutes on 2 idle cores
    python experiments/benchmarks/chunks.py --quick  half a minute

Both ways of a row run in turn in one process, value and gradient, and the best of the rounds
counts; memory is the compiled program's temporary memory, not a sample of the process. The plain
way is whole logits (loss) and whole scores (attention).
"""

from __future__ import annotations

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np

from sleeplm_jax.models.attention import attend
from sleeplm_jax.models.attention_mask import Mask
from sleeplm_jax.objectives.caption import caption_loss


def compared(ways: dict, inputs: tuple, rounds: int) -> dict[str, tuple[float, float]]:
    """{name: (milliseconds, MiB)} of compiled functions; their results must agree."""
    compiled = {name: jax.jit(f).lower(*inputs).compile() for name, f in ways.items()}
    results = {name: jax.block_until_ready(f(*inputs)) for name, f in compiled.items()}
    first = jax.tree.leaves(next(iter(results.values())))
    for other in results.values():
        for a, b in zip(first, jax.tree.leaves(other)):
            off = float(jnp.abs(a - b).max() / jnp.abs(a).max())
            assert off < 1e-4, off
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(rounds):
        for name, f in compiled.items():
            began = time.perf_counter()
            jax.block_until_ready(f(*inputs))
            best[name] = min(best[name], time.perf_counter() - began)
    return {
        name: (1e3 * best[name], f.memory_analysis().temp_size_in_bytes / 2**20)
        for name, f in compiled.items()
    }


def loss_row(samples, length, width, vocabulary, chunks, rounds):
    rng = np.random.default_rng(0)
    hidden = jnp.asarray(rng.normal(size=(samples, length, width)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(width, vocabulary)) * width**-0.5, jnp.float32)
    text = jnp.asarray(rng.integers(1, vocabulary, (samples, length + 1)))

    def way(chunk):
        f = jax.value_and_grad(lambda h, k: caption_loss(h, k, text, chunk=chunk), (0, 1))
        return lambda h, k: f(h, k)

    ways = {"whole": way(vocabulary)} | {f"{c:,}": way(c) for c in chunks}
    return compared(ways, (hidden, kernel), rounds)


def attention_row(batch, length, heads, width, mask, rounds):
    rng = np.random.default_rng(0)
    q, k, v, weight = (
        jnp.asarray(rng.normal(size=(batch, length, heads, width)), jnp.float32) for _ in range(4)
    )

    def way(kernel):
        def loss(q, k, v):
            return (attend(q, k, v, mask, kernel=kernel) * weight).sum()

        return jax.grad(loss, (0, 1, 2))

    return compared({"whole": way("reference"), "blocks": way("blockwise")}, (q, k, v), rounds)


def show(title: str, found: dict[str, tuple[float, float]]) -> None:
    whole = found["whole"]
    for name, (ms, mib) in found.items():
        print(f"| {title} | {name} | {ms:,.0f} | {ms / whole[0]:.2f} | {mib:,.0f} |", flush=True)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--quick", action="store_true")
    quick = arguments.parse_args().quick
    rounds = 2 if quick else 3
    print(f"{jax.devices()[0].device_kind}, {jax.device_count()} device(s), jax {jax.__version__}")
    print("\n| captioning loss: tokens, width, vocabulary | chunk | ms | of whole | MiB |")
    print("|---|---|--:|--:|--:|")
    rows = [(32, 64, 384, 2048, (512,)), (32, 64, 384, 8192, (2048, 4096))]
    if not quick:
        rows.append((8, 128, 768, 49_408, (4096, 8192)))
    for samples, length, width, vocabulary, chunks in rows:
        title = f"{samples * length:,}, {width}, {vocabulary:,}"
        show(title, loss_row(samples, length, width, vocabulary, chunks, rounds))
    print("\n| attention: samples, tokens, heads x width | way | ms | of whole | MiB |")
    print("|---|---|--:|--:|--:|")
    rows = [(8, 300, Mask()), (2, 1200, Mask()), (2, 1200, Mask(causal=True))]
    if not quick:
        rows.append((1, 4800, Mask()))
    for batch, length, mask in rows:
        title = f"{batch}, {length:,}, 6 x 64{', causal' if mask.causal else ''}"
        show(title, attention_row(batch, length, 6, 64, mask, rounds))


if __name__ == "__main__":
    main()
