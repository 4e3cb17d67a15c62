"""How many samples a second the loader makes, and what of a sample costs how much.

    python experiments/benchmarks/loader.py [--corpus CORPUS] [--batch 64] [--processes 1 2]
    python experiments/benchmarks/loader.py --corpus CORPUS --rate 500 --processes 0 2 16

Without --corpus four simulated hours are prepared first. All is end to end: records read from the
shards (in the page cache after a first pass), unpacked, grounded, stated, worded anew, tokenised
and written into float32 batches. CPU time is what a core of an idle machine would take; wall time
suffers from whatever else runs, so the load stands beside it.

With --rate a consumer takes that many samples a second, as a device would, and the share of its
time that it waits for data is told: with batches made and placed on the device in the consumer's
own thread ("in turn"), and ahead of it by `parallel.feeding.Feed`, as training does.
"""

from __future__ import annotations

import argparse
import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")  # before numpy

import contextlib  # noqa: E402
import dataclasses  # noqa: E402
import json  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable, Iterator, Sequence  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402

from sleeplm_jax.captions.grounding import grounded_for  # noqa: E402
from sleeplm_jax.captions.record import keys_of, stated_kinds  # noqa: E402
from sleeplm_jax.captions.render import say  # noqa: E402
from sleeplm_jax.config import DataConfig  # noqa: E402
from sleeplm_jax.corpus.loader import Loader  # noqa: E402
from sleeplm_jax.corpus.manifest import Corpus  # noqa: E402
from sleeplm_jax.corpus.nightfile import dequantise  # noqa: E402
from sleeplm_jax.parallel.feeding import Feed  # noqa: E402

DATA = DataConfig()  # channel dropout 0.2, a quarter of the texts of two kinds, 96 tokens


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", help="folder that `sleeplm prepare` wrote")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=8.0, help="for each figure")
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--processes", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--rate", type=float, help="samples/s of a consumer, in place of a profile")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        corpus = Corpus.open(given.corpus or prepared(Path(folder)), verify=False)
        if given.rate:
            for processes in given.processes or [0]:
                waited(corpus, given.batch, given.seconds, processes, given.rate)
            return
        profile(corpus, given.seconds)
        alone(corpus, given.batch, given.seconds)
        for threads in given.threads:
            together(corpus, given.batch, given.seconds, "threads", workers=threads)
        for processes in given.processes:
            together(corpus, given.batch, given.seconds, "processes", processes=processes)
    print(f"at the end: load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


def prepared(folder: Path) -> Path:
    """A corpus of four simulated hours with its tokenizer."""
    from sleeplm_jax.corpus.prepare import prepare_corpus
    from sleeplm_jax.corpus.tokenizer import train_tokenizer
    from sleeplm_jax.recordings.simulator import simulate_cohort

    simulate_cohort(folder / "nights", 4, hours=1.0, seed=5, workers=1, progress=False)
    made = prepare_corpus([folder / "nights"], folder / "corpus", workers=1, progress=False)
    train_tokenizer(made.corpus)
    return folder / "corpus"


def loader_of(corpus: Corpus, **changes) -> Loader:
    data = dataclasses.replace(DATA, **changes)
    return Loader(corpus, "train", corpus.tokenizer(), data, seed=0)


def cost(part: str, function: Callable, items: Sequence, seconds: float) -> list:
    """CPU microseconds of `function` an item, the least of several rounds; its results."""
    results = [function(item) for item in items]
    least, end = np.inf, time.monotonic() + seconds
    while time.monotonic() < end:
        start = time.process_time()
        for item in items:
            function(item)
        least = min(least, time.process_time() - start)
    print(f"| {part} | {1e6 * least / len(items):.0f} |", flush=True)
    return results


def profile(corpus: Corpus, seconds: float) -> None:
    """What a sample's parts cost, each by itself; one thread."""
    loader, source, rng = loader_of(corpus), corpus.source("train"), np.random.default_rng(0)
    shards, tokenizer, channels = source._shards, loader.tokenizer, corpus.spec.channels
    indices, each = list(range(400)), seconds / 11
    print("| part | µs a sample |\n|---|--:|")
    places = cost("its place in the order", loader.position, indices, each)
    raw = cost("read and unpack its record", shards._records.__getitem__, places, each)
    cost("decode the record", shards.decoded, raw, each)
    texts = [shards[place]["record"] for place in places]
    records = cost("parse its measurements (JSON)", json.loads, texts, each)
    cost("generator of its draws", lambda i: np.random.default_rng([0, i]), indices, each)
    shown = cost("ground", lambda r: grounded_for(r, channels, corpus.spec.rate), records, each)
    stated = cost("state, five kinds", stated_kinds, shown, each)
    cost("keys, five kinds", keys_of, stated, each)
    kinds = [
        [kind for kind, content in contents.items() if content is not None] for contents in stated
    ]
    said = [(kind, contents[kind]) for contents, those in zip(stated, kinds, strict=True)
            for kind in those[:1 + (len(those) > 1 and rng.random() < DATA.pair_probability)]]
    words = cost("words, of one kind", lambda pair: say(pair[1], pair[0], rng), said, each)
    cost("tokens, of one kind", lambda text: tokenizer.encode(text, DATA.text_length), words, each)
    stored = [shards[place]["signal"] for place in places[:64]]
    out = np.empty((64, *corpus.spec.shape), np.float32)
    cost("float32 into the batch", lambda j: dequantise(stored[j], channels, out[j]),
         range(64), each)


def alone(corpus: Corpus, size: int, seconds: float) -> None:
    """Batches without threads or processes: CPU time is one core's."""
    loader = loader_of(corpus)
    loader.batch(0, size)
    rates, step, end = [], 0, time.monotonic() + seconds
    start_wall, start_all = time.monotonic(), time.process_time()
    while time.monotonic() < end:
        start = time.process_time()
        for _ in range(4):
            step += 1
            loader.batch(step, size)
        rates.append(4 * size / (time.process_time() - start))
    cpu, wall = time.process_time() - start_all, time.monotonic() - start_wall
    print(f"one thread, end to end: {step * size / cpu:,.0f} samples/s of CPU time (best stretch "
          f"{max(rates):,.0f}), {step * size / wall:,.0f} of wall time{load()}", flush=True)


def together(corpus: Corpus, size: int, seconds: float, what: str, **changes) -> None:
    """Batches of several threads or processes, taken as fast as they come."""
    number = next(iter(changes.values()))
    start = time.monotonic()
    with fed(loader_of(corpus, **changes), size) as batches:
        next(batches)
        first = time.monotonic() - start
        for _ in range(DATA.prefetch + 3):  # what was made while the first was waited for
            next(batches)
        taken, start = 0, time.monotonic()
        while time.monotonic() < start + seconds:
            next(batches)
            taken += size
        wall = time.monotonic() - start
    print(f"{number} {what}: {taken / wall:,.0f} samples/s of wall time, the first batch after "
          f"{first:.1f} s{load()}", flush=True)


def waited(corpus: Corpus, size: int, seconds: float, processes: int, rate: float) -> None:
    """The share of its time that a consumer of `rate` samples/s waits."""
    import jax

    from sleeplm_jax.config import MeshConfig
    from sleeplm_jax.parallel.batches import BatchPlacer
    from sleeplm_jax.parallel.mesh import make_mesh

    placer = BatchPlacer(make_mesh(MeshConfig()), size)
    made = f"{processes} processes" if processes else f"{DATA.workers} threads"
    for ahead in (False, True):
        made_batches = loader_of(corpus, processes=processes).iterate(0, size)
        with contextlib.ExitStack() as stack:
            if ahead:
                batches = stack.enter_context(Feed(made_batches, placer.place))
            else:
                batches = map(placer.place, stack.enter_context(contextlib.closing(made_batches)))
            for _ in range(3):
                next(batches)
            waits: list[float] = []
            start = time.monotonic()
            while time.monotonic() < start + seconds:
                time.sleep(size / rate)
                asked = time.monotonic()
                jax.block_until_ready(next(batches))
                waits.append(time.monotonic() - asked)
            wall = time.monotonic() - start
        print(f"{made}, placed {'ahead' if ahead else 'in turn'}: {len(waits) * size / wall:,.0f} "
              f"samples/s taken, {sum(waits) / wall:.2%} of the time waited (median "
              f"{1e3 * np.median(waits):.2f} ms, longest {1e3 * max(waits):.1f}){load()}",
              flush=True)


@contextlib.contextmanager
def fed(loader: Loader, size: int) -> Iterator[Feed]:
    with Feed(loader.iterate(0, size), lambda batch: batch) as batches:
        yield batches


def load() -> str:
    return f" (load {os.getloadavg()[0]:.1f} of {os.cpu_count()} cores)"


if __name__ == "__main__":
    main()
