"""Does it cost accuracy of generated numbers when a number is cut into several tokens?

    sleeplm simulate --out nights --nights 16 --hours 3 --seed 1
    sleeplm prepare --recordings nights --out corpus --cohort simulated
    python experiments/benchmarks/number_tokens.py corpus --lengths
    python experiments/benchmarks/number_tokens.py corpus --out cells [--seeds 0 1 2]
        [--cuts whole digits apart] [--steps 700]

One captioner per cut of `corpus.tokenizer.NUMBERS`, number of steps and seed: the same sentences,
order, readings, schedule and batch; the vocabularies differ in nothing but where a number may be
cut. It measures the side of language alone: there is no signal encoder. The decoder reads one token
for every number that a caption states, its value blurred by NOISE of the number's spread, as from
an encoder that has learnt to measure; it has to find the right one and say it. What it says for
other people's epochs is read by `captions.parse` and compared number by number. `floor` says the
blurred value itself (a captioner may beat it where one number tells of another, as the mean of the
heart rate does of its range); `median` says the training median. Three kinds of captions of one
channel each, so that a run takes a minute or two of one core.

A cell whose file lies in the folder is not run again. Prints Markdown tables.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from number_tokens_decoder import BOS, EOS, PAD, REACH, initial, loss, writer
from number_tokens_tables import tables

from sleeplm_jax.config import CAPTION_KINDS, SignalSpec

KINDS = ("brain", "heart", "respiratory")  # percentages; whole numbers and times; decimals
CHANNELS = ("C3", "ECG", "AF")  # one of each kind
NOISE = 0.1  # sd of a reading's error, in standard deviations of that number over people
RAREST = 20  # a number that fewer training epochs state gets no token
FAR = 0.5  # an error of over so many standard deviations is far off

Slot = tuple  # (kind, feature, channel, number of its stretch, "value" | "start" | "end")


@dataclass(frozen=True)
class Size:
    """Of the decoder and its training."""

    width: int = 96
    layers: int = 2
    heads: int = 4
    mlp: int = 2
    batch: int = 32
    rate: float = 3e-3
    warmup: int = 50
    vocab: int = 2048
    style: str = "default"


# ---- What captions state, as numbers


def slots(content: dict | None, kind: str) -> dict[Slot, float | str]:
    """{slot: number or word} of what `record.stated` or `captions.parse` gave."""
    from sleeplm_jax.captions.check import facts

    out: dict[Slot, float | str] = {}
    seen: dict[tuple, int] = {}
    for feature, channel, value in facts(content, kind):
        if not isinstance(value, tuple):
            if not isinstance(value, (str, bool)):
                out[kind, feature, channel, 0, "value"] = float(value)
            else:
                # A stage, a word, a group without events, a channel that is missing.
                held = feature in ("stage", "eeg_waves", "eye_movements")
                name = feature if held else f"{feature}={value}"
                out[kind, name, channel, 0, "word"] = str(value)
            continue
        number = seen[feature, channel] = seen.get((feature, channel), -1) + 1
        parts = ("start", "end") if len(value) == 2 else ("value", "start", "end")
        for part, one in zip(parts, value):
            out[kind, feature, channel, number, part] = one if isinstance(one, str) else float(one)
    return out


@dataclass
class Epochs:
    """Epochs of a split: what captions of each state, and where they can be had."""

    records: list[dict]
    stated: list[dict[str, dict[Slot, float | str]]]  # by kind; kinds without a caption are absent

    def of(self, kind: str) -> list[int]:
        return [i for i, one in enumerate(self.stated) if kind in one]


def load(corpus, splits: tuple[str, ...], spec: SignalSpec) -> Epochs:
    from sleeplm_jax.captions.record import stated

    records, found = [], []
    for split in splits:
        source = corpus.source(split)
        for index in range(len(source)):
            record = source[index]["record"]
            contents = {kind: stated(record, kind, spec) for kind in KINDS}
            records.append(record)
            found.append({k: slots(c, k) for k, c in contents.items() if c is not None})
    return Epochs(records, found)


class Reader:
    """The stand-in for an encoder: numbers of an epoch as tokens. Learns spreads from `train`."""

    def __init__(self, train: Epochs):
        values: dict[Slot, list] = {}
        for one in train.stated:
            for said in one.values():
                for slot, value in said.items():
                    values.setdefault(slot, []).append(value)
        self.slots = sorted((s for s, v in values.items() if len(v) >= RAREST), key=str)
        self.words: dict[Slot, list[str]] = {}
        self.said: dict[Slot, np.ndarray] = {}  # every value that training states, in order
        self.centre, self.spread = {}, {}
        for slot in values:
            if isinstance(values[slot][0], str):
                self.words[slot] = sorted(set(values[slot]))
                continue
            self.said[slot] = np.unique(values[slot])
            self.centre[slot] = float(np.median(values[slot]))
            self.spread[slot] = max(float(np.std(values[slot])), 1e-6)

    def of(self, kind: str) -> np.ndarray:
        """Which slots a kind states: bool [S]."""
        return np.array([slot[0] == kind for slot in self.slots])

    def read(self, epochs: Epochs, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """(readings float32 [N, S] in standard deviations, whether there is one bool [N, S]).

        An epoch's blur is drawn once: an encoder misreads a signal the same way each time.
        """
        rng = np.random.default_rng([seed, len(epochs.stated)])
        blur = rng.normal(0, NOISE, (len(epochs.stated), len(self.slots)))
        values = np.zeros(blur.shape, np.float32)
        present = np.zeros(blur.shape, bool)
        for i, one in enumerate(epochs.stated):
            said = {slot: value for part in one.values() for slot, value in part.items()}
            for j, slot in enumerate(self.slots):
                if slot not in said:
                    continue
                present[i, j] = True
                if slot in self.words:
                    place = self.words[slot].index(said[slot]) if said[slot] in self.words[slot] \
                        else len(self.words[slot])
                    values[i, j] = -REACH + 0.4 * place
                else:
                    values[i, j] = (said[slot] - self.centre[slot]) / self.spread[slot] + blur[i, j]
        return values, present

    def floor(self, epochs: Epochs, values: np.ndarray, index: int, kind: str) -> dict:
        """What is nearest to the readings of an epoch, of all that training ever stated."""
        out, place = {}, {slot: j for j, slot in enumerate(self.slots)}
        for slot in epochs.stated[index][kind]:
            if slot in place and slot not in self.words:
                value = values[index, place[slot]] * self.spread[slot] + self.centre[slot]
                choices = self.said[slot]
                out[slot] = float(choices[np.argmin(np.abs(choices - value))])
        return out


# ---- One cell


@dataclass
class Lesson:
    """The captions of one run, in order: the same for every cut."""

    kinds: list[str]
    epochs: list[list[int]]
    texts: list[list[str]]


def lesson(size: Size, epochs: Epochs, spec: SignalSpec, steps: int, seed: int) -> Lesson:
    """Batches of one kind in turn, every epoch in turn, a fresh wording each time."""
    from sleeplm_jax.captions.render import render

    rng = np.random.default_rng([seed, 1])
    queues: dict[str, list[int]] = {kind: [] for kind in KINDS}
    out = Lesson([], [], [])
    for number in range(steps):
        kind = KINDS[number % len(KINDS)]
        while len(queues[kind]) < size.batch:
            queues[kind] += rng.permutation(epochs.of(kind)).tolist()
        batch, queues[kind] = queues[kind][:size.batch], queues[kind][size.batch:]
        out.kinds.append(kind)
        out.epochs.append(batch)
        out.texts.append(
            [render(epochs.records[i], kind, rng, size.style, spec) for i in batch])
    return out


class Vocabulary:
    """The pieces of a tokenizer that a lesson uses: the softmax need not hold the others."""

    def __init__(self, tokenizer, texts: list[list[str]], kinds: list[str]):
        self.tokenizer = tokenizer
        lengths: dict[str, int] = {}
        used = {PAD, BOS, EOS}
        for kind, batch in zip(kinds, texts):
            for text in batch:
                ids = tokenizer.ids(text)
                used.update(ids)
                lengths[kind] = max(lengths.get(kind, 0), len(ids) + 2)
        self.ids = np.array(sorted(used))  # pad, bos and eos keep their places
        self.rooms = {kind: 8 * -(-most // 8) for kind, most in lengths.items()}
        self.size = 128 * -(-len(self.ids) // 128)

    def rows(self, texts: list[str], kind: str) -> np.ndarray:
        rows = np.stack([self.tokenizer.encode(text, self.rooms[kind]) for text in texts])
        return np.searchsorted(self.ids, rows).astype(np.int32)

    def text(self, row: np.ndarray) -> str:
        return self.tokenizer.decode(self.ids[np.minimum(row, len(self.ids) - 1)])


@functools.cache
def trainer(size: Size, steps: int):
    """(optax transformation, compiled step)."""
    import jax
    import optax

    schedule = optax.warmup_cosine_decay_schedule(0, size.rate, min(size.warmup, steps // 4), steps)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, 0.9, 0.98))

    @jax.jit
    def step(params, state, kind, values, present, text):
        found, slope = jax.value_and_grad(loss)(params, size.heads, kind, values, present, text)
        update, state = optimizer.update(slope, state, params)
        return optax.apply_updates(params, update), state, found

    return optimizer, step


def train(size: Size, vocabulary: Vocabulary, reader: Reader, read: tuple, plan: Lesson, seed: int):
    """(parameters, what training said of itself)."""
    values, present = read
    length = max(vocabulary.rooms.values())
    params = initial(size, len(KINDS), vocabulary.size, len(reader.slots), length, seed)
    optimizer, step = trainer(size, len(plan.kinds))
    state = optimizer.init(params)
    tokens, losses, took = 0, [], []
    for kind, batch, texts in zip(plan.kinds, plan.epochs, plan.texts):
        rows = vocabulary.rows(texts, kind)
        tokens += int((rows != PAD).sum())
        began = time.process_time()
        params, state, found = step(params, state, KINDS.index(kind), values[batch],
                                    present[batch] & reader.of(kind), rows)
        losses.append(float(found))
        took.append(time.process_time() - began)
    captions = len(plan.kinds) * size.batch
    return params, {"tokens_per_caption": tokens / captions, "pieces": len(vocabulary.ids),
                    "loss_per_caption": float(np.mean(losses[-30:])) * tokens / captions,
                    "cpu_ms_per_step": 1e3 * float(np.median(took))}


def write(params, size: Size, vocabulary: Vocabulary, kind, values, present) -> list[str]:
    """The decoder's greedy captions for readings [N, S]."""
    out, batch, length = [], 128, max(vocabulary.rooms.values())
    for start in range(0, len(values), batch):
        part = slice(start, start + batch)
        short = batch - len(values[part])  # one shape, one compilation
        padded = [np.pad(x[part], ((0, short), (0, 0)), mode="edge") for x in (values, present)]
        rows = writer(size.heads, length)(params, KINDS.index(kind), *padded)
        out += [vocabulary.text(row) for row in np.asarray(rows)[: batch - short]]
    return out


class Marks:
    """Numbers stated against numbers said, by feature."""

    def __init__(self, reader: Reader):
        self.reader, self.rows, self.invented, self.said = reader, {}, 0, 0

    def add(self, wanted: dict, got: dict) -> None:
        for slot, true in wanted.items():
            if isinstance(true, str) or slot not in self.reader.spread:
                continue
            kind, feature, _, _, part = slot
            said = got.get(slot)
            said = said if isinstance(said, float) else None
            error = None if said is None else abs(said - true)
            spread = self.reader.spread[slot]
            self.rows.setdefault((kind, feature, part), []).append(
                (error, None if error is None else error / spread))
        numbers = [slot for slot, value in got.items() if isinstance(value, float)]
        self.said += len(numbers)
        self.invented += sum(slot not in wanted for slot in numbers)

    def result(self) -> dict:
        """Per feature and over all numbers: n, parsed, exact, far (not parsed counts as far),
        median and mean absolute error of what was parsed (in all: in standard deviations)."""
        features = {" ".join(key): self._of(rows, 0) for key, rows in sorted(self.rows.items())}
        every = [row for rows in self.rows.values() for row in rows]
        return {"all": self._of(every, 1) | {"invented": self.invented / max(self.said, 1)},
                "features": features}

    @staticmethod
    def _of(rows: list[tuple], unit: int) -> dict:
        errors = np.array([row[unit] for row in rows if row[0] is not None])
        relative = np.array([row[1] for row in rows if row[0] is not None])
        n = len(rows)
        return {
            "n": n, "parsed": len(errors) / n, "exact": float((errors < 1e-9).sum()) / n,
            "far": 1 - float((relative <= FAR).sum()) / n,
            "median": float(np.median(errors)) if len(errors) else None,
            "mean": float(np.mean(errors)) if len(errors) else None,
        }  # fmt: skip


def grade(reader: Reader, epochs: Epochs, chosen: dict[str, list[int]], say) -> dict:
    """Marks of `say(kind, indices)`, which gives for each epoch its text or {slot: value}."""
    from sleeplm_jax.captions.parse import parse

    marks, unread, texts, whole = Marks(reader), 0, 0, 0
    for kind, indices in chosen.items():
        for index, one in zip(indices, say(kind, indices), strict=True):
            if isinstance(one, str):
                found = parse(one)
                unread += bool(found.unread)
                one = slots(found[kind], kind)
            wanted = epochs.stated[index][kind]
            marks.add(wanted, one)
            texts += 1
            whole += one == wanted
    return marks.result() | {"texts": texts, "unread": unread / texts, "whole": whole / texts}


def pick(epochs: Epochs, most: int) -> dict[str, list[int]]:
    """Evenly spaced epochs of every kind."""
    out = {}
    for kind in KINDS:
        have = epochs.of(kind)
        places = np.unique(np.linspace(0, len(have) - 1, min(most, len(have))).astype(int))
        out[kind] = [have[i] for i in places]
    return out


def run(size: Size, tokenizer, reader, learn, test, plan: Lesson, seed, samples) -> dict:
    """One captioner, trained and graded, beside the floor and the median of its readings."""
    began = time.perf_counter()
    vocabulary = Vocabulary(tokenizer, plan.texts, plan.kinds)
    params, about = train(size, vocabulary, reader, reader.read(learn, seed), plan, seed)
    trained = time.perf_counter()
    values, present = reader.read(test, seed)
    chosen = pick(test, samples)
    shown: dict[str, list[str]] = {}

    def say(kind, indices):
        texts = write(params, size, vocabulary, kind, values[indices],
                      present[indices] & reader.of(kind))
        shown[kind] = texts[:2]
        return texts

    result = grade(reader, test, chosen, say)
    floor = grade(reader, test, chosen, lambda kind, indices: [
        reader.floor(test, values, i, kind) for i in indices])
    median = grade(reader, test, chosen, lambda kind, indices: [
        {s: reader.centre[s] for s in test.stated[i][kind] if s in reader.centre}
        for i in indices])
    return about | {
        "train_s": trained - began, "write_s": time.perf_counter() - trained,
        "load": os.getloadavg()[0], "model": result, "floor": floor, "median": median,
        "captions": shown,
    }  # fmt: skip


# ---- Lengths and cells


def lengths(corpus, vocab: int, draws: int = 3) -> str:
    """Mean and 99th percentile of tokens, with bos and eos, of every kind, style and cut."""
    from sleeplm_jax.captions.render import render
    from sleeplm_jax.captions.wording import STYLES
    from sleeplm_jax.corpus.tokenizer import NUMBERS

    sources = [corpus.source(split) for split in ("val", "test")]
    records = [source[i]["record"] for source in sources for i in range(len(source))]
    made = {cut: tokenizer_of(corpus, cut, vocab) for cut in NUMBERS}
    lines = [f"| captions of {len(records)} epochs | cut | " + " | ".join(CAPTION_KINDS)
             + " | all five |", "|---|---|" + "---|" * (len(CAPTION_KINDS) + 1)]
    for style in STYLES:
        for spec, suffix in ((corpus.spec, ""), (None, ", ungrounded")):
            counts = {cut: {k: [] for k in (*CAPTION_KINDS, "all five")} for cut in made}
            for number, record in enumerate(records):
                for draw in range(draws):
                    rng = np.random.default_rng([number, draw])
                    texts = {k: render(record, k, rng, style, spec) for k in CAPTION_KINDS}
                    texts = {k: text for k, text in texts.items() if text}
                    texts["all five"] = " ".join(texts.values())
                    for cut, tokenizer in made.items():
                        for kind, text in texts.items():
                            counts[cut][kind].append(len(tokenizer.ids(text)) + 2)
            for cut, found in counts.items():
                cells = (f"{np.mean(n):.0f}, {np.percentile(n, 99):.0f}" for n in found.values())
                lines.append(f"| {style}{suffix} | {cut} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def tokenizer_of(corpus, numbers: str, vocab: int):
    """The corpus' tokenizer with numbers cut so, held in memory alone."""
    from sleeplm_jax.corpus.tokenizer import MAX_SENTENCES, trained

    return trained(corpus, {"vocab_size": vocab, "seed": 0, "numbers": numbers,
                            "max_sentences": MAX_SENTENCES})


def read_cells(folder: Path, about: dict) -> dict[str, dict]:
    """The finished cells of a folder; SystemExit where one is of another corpus or size."""
    out = {}
    for path in sorted(folder.glob("*.json")):
        held = json.loads(path.read_text())
        if held["about"] != about:
            raise SystemExit(f"{path} is a cell of another corpus, wording or size")
        out[path.stem] = held["cell"]
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--out", type=Path, default=Path("number_tokens"), help="folder of cells")
    parser.add_argument("--lengths", action="store_true", help="print tokens per caption and stop")
    parser.add_argument("--cuts", nargs="+", default=["whole", "digits", "apart"])
    parser.add_argument("--steps", nargs="+", type=int, default=[700])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--samples", type=int, default=256, help="test epochs of each kind")
    parser.add_argument("--style", default="default")
    options = parser.parse_args()
    from sleeplm_jax.corpus.manifest import Corpus
    from sleeplm_jax.corpus.tokenizer import captions_version

    corpus, size = Corpus.open(options.corpus), Size(style=options.style)
    if options.lengths:
        print(lengths(corpus, size.vocab))
        return
    about = json.loads(json.dumps({
        "corpus": corpus.hash, "captions": captions_version(), "size": asdict(size),
        "channels": CHANNELS, "noise": NOISE, "samples": options.samples}))
    options.out.mkdir(exist_ok=True)
    spec = SignalSpec(channels=CHANNELS)
    if options.seeds:
        learn, test = load(corpus, ("train",), spec), load(corpus, ("val", "test"), spec)
        reader = Reader(learn)
        print(f"{len(learn.records)} training epochs, {len(test.records)} others, "
              f"{len(reader.slots)} numbers and words", flush=True)
        made = {cut: tokenizer_of(corpus, cut, size.vocab) for cut in options.cuts}
    for seed in options.seeds:
        for steps in options.steps:
            plan = lesson(size, learn, spec, steps, seed)
            for cut in options.cuts:  # in turn, so that a busy machine hurts all alike
                name = f"{cut}-{steps}-{seed}"
                if name in read_cells(options.out, about):
                    continue
                cell = run(size, made[cut], reader, learn, test, plan, seed, options.samples)
                text = json.dumps({"about": about, "cell": cell}, indent=1)
                (options.out / f"{name}.json").write_text(text + "\n")
                every = cell["model"]["all"]
                print(f"{name}: exact {100 * every['exact']:.1f} %, parsed "
                      f"{100 * every['parsed']:.1f} %, far {100 * every['far']:.1f} %, "
                      f"{cell['train_s']:.0f} + {cell['write_s']:.0f} s", flush=True)
    print("\n" + tables(read_cells(options.out, about)))


if __name__ == "__main__":
    main()
