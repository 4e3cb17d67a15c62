"""From samples on disk to training batches: order, channel dropout, captions, tokens.

The order is a pure function: step s of batch size B holds the global indices s*B ... s*B + B - 1,
a global index names one sample (a fresh shuffle each pass), and everything random about it is
drawn from [seed, global index]. So a batch depends neither on threads, nor on which host makes
which of its rows, nor on where a run was resumed.

Legend: B batch, C channels, T samples, L tokens, K caption kinds.
"""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any

import grain
import numpy as np

from sleeplm_jax.captions.grounding import grounded_for
from sleeplm_jax.captions.record import keys_of, stated_kinds
from sleeplm_jax.captions.render import say
from sleeplm_jax.config import CAPTION_KINDS, PREFIX_LENGTH, DataConfig
from sleeplm_jax.corpus import loader_processes
from sleeplm_jax.corpus.manifest import Corpus
from sleeplm_jax.corpus.mixture import Mixture
from sleeplm_jax.corpus.nightfile import CODE_UNKNOWN, CODES, dequantise
from sleeplm_jax.corpus.order import Order
from sleeplm_jax.corpus.random_maps import (
    shift_step,
    shift_steps,
    shifted,
    sized_channels,
    without_sizes,
)
from sleeplm_jax.corpus.tokenizer import Tokenizer
from sleeplm_jax.recordings.night import trusted

EVALUATION_SEED = 20_240_601  # evaluation captions are worded the same in every run
STAGE_EVENT = CAPTION_KINDS.index("stage_event")
STAGE_ONLY = [float(kind == STAGE_EVENT) for kind in range(len(CAPTION_KINDS))]

Batch = dict[str, np.ndarray]


class Loader:
    """Batches of one split of a corpus.

    A batch is a dict of arrays: `signal` float32 [B, C, T] in z units; `channel_mask` bool [B, C],
    without the channels whose artefacts `data.mask_artefacts` names; `artefact` uint8 [B, C], bits
    of config.ARTEFACTS, of masked channels too;
    `text` int32 [B, L]; `prefix` int32 [B, 2], the kinds that the text holds in its order as
    indices into CAPTION_KINDS, -1 where there is none; `kinds` bool [B, K], the same as a set;
    `keys` int32 [B, K], equal where captions of that kind would state the same, 0 where nothing
    can be said; `stage` int32 [B]; `index` int32 [B], the sample's place in the split.

    Captions and keys are of the record as far as the channels that the sample still shows after
    channel dropout bear it, the words in `data.style`. The signal of row j therefore fits the text
    of row i just when their keys agree in every kind that text i holds. With `data.ungrounded` both
    are of the whole record.

    A row without any text (`kinds` all False, the text bos and eos) occurs in training only when
    no sample of the split can be described; in evaluation it occurs for each such sample.
    """

    def __init__(
        self, corpus: Corpus | Mixture, split: str, tokenizer: Tokenizer, data: DataConfig,
        seed: int = 0,
    ):
        # Not the corpus itself: a loader travels to processes, a large manifest would too.
        self.spec, self.split, self.tokenizer = corpus.spec, split, tokenizer
        self.data, self.seed = data, seed
        self._source = corpus.source(split)
        self._channels = self.spec.channels
        self._codes = np.array([c in CODES for c in self._channels])
        self._untrusted = bool(data.mask_artefacts)
        self._level = None if data.level == "all" else data.level
        self._weights = data.captions.weights()
        self._keep = tuple(frozenset(keep.split(",")) for keep in data.dropout_keep)
        self._shifts = shift_steps(self.spec, data.time_shift)
        self._order = Order(self._source.sizes, self._source.weights, seed)

    def __len__(self) -> int:
        """How many samples the split holds."""
        return len(self._source)

    def position(self, global_index: int) -> int:
        """The place in the split of the sample that `global_index` names."""
        return self._order.place(int(global_index))

    def sample(self, global_index: int) -> dict[str, Any]:
        """Row `global_index` of the endless sequence of training samples, without the batch axis.

        Also holds `caption`, the text as a string.
        """
        row = self._drawn(int(global_index))
        made = self._filled([row], self.empty(1))
        return {name: array[0] for name, array in made.items()} | {"caption": row["caption"]}

    def batch(
        self, step: int, batch_size: int, rows: slice | Sequence[int] | None = None
    ) -> Batch:
        """The rows `rows` (all by default) of the global batch of `step`."""
        chosen = _rows(rows, batch_size)
        return self.fill(step * batch_size + chosen, self.empty(len(chosen)))

    def empty(self, rows: int) -> Batch:
        """Arrays for a batch of `rows` rows, their values undefined."""
        channels, kinds = len(self._channels), len(CAPTION_KINDS)
        forms = {
            "signal": ((channels, self.spec.samples), np.float32),
            "channel_mask": ((channels,), bool), "artefact": ((channels,), np.uint8),
            "text": ((self.data.text_length,), np.int32),
            "prefix": ((PREFIX_LENGTH,), np.int32), "kinds": ((kinds,), bool),
            "keys": ((kinds,), np.int32), "stage": ((), np.int32), "index": ((), np.int32),
        }
        return {name: np.empty((rows, *shape), kind) for name, (shape, kind) in forms.items()}

    def fill(self, global_indices: Sequence[int], out: Batch) -> Batch:
        """Writes the samples of `global_indices` into the rows of `out` (see `empty`)."""
        return self._filled((self._drawn(int(index)) for index in global_indices), out)

    def iterate(
        self, start_step: int, batch_size: int, rows: slice | Sequence[int] | None = None
    ) -> Iterator[Batch]:
        """The batches of start_step, start_step + 1, ... without end, in exactly this order.

        They are made ahead, at most `data.prefetch` of them at a time, by `data.workers` threads
        or, where that is not 0, by `data.processes` processes. To be closed when done with.
        """
        chosen = _rows(rows, batch_size)
        if self.data.processes:
            yield from loader_processes.batches(
                self, start_step, batch_size, chosen, self.data.processes, self.data.prefetch
            )
        options = grain.ReadOptions(
            num_threads=self.data.workers, prefetch_buffer_size=self.data.prefetch
        )
        steps = _Steps(self, start_step, batch_size, chosen)
        yield from grain.MapDataset.source(steps).to_iter_dataset(options)

    def evaluation_positions(self, samples: int | None = None) -> np.ndarray:
        """Places of the samples that `eval_batches` gives: all, or `samples` evenly spaced ones."""
        total = len(self)
        if samples is None or samples >= total:
            return np.arange(total)
        return np.linspace(0, total - 1, samples).astype(int)

    def eval_batches(
        self,
        batch_size: int,
        kinds: str = "mix",
        samples: int | None = None,
        rows: slice | Sequence[int] | None = None,
    ) -> Iterator[Batch]:
        """Every sample once (or `samples` evenly spaced ones), in the split's order.

        Same channels and words in each run: no dropout, wording drawn by the sample's place.
        `kinds` is one of CAPTION_KINDS, or "mix" for texts as in training. The last batch is
        filled up with its last sample; `valid` bool [B] is False there.
        """
        places = self.evaluation_positions(samples)
        weights = self._weights
        if kinds != "mix":
            weights = [float(kind == kinds) for kind in CAPTION_KINDS]
            if not any(weights):
                raise ValueError(f"kinds {kinds!r}: choose mix, {', '.join(CAPTION_KINDS)}")
        chosen = _rows(rows, batch_size)
        for start in range(0, len(places), batch_size):
            part = places[start : start + batch_size]
            made = (self._fixed(int(part[min(row, len(part) - 1)]), weights) for row in chosen)
            batch = self._filled(made, self.empty(len(chosen)))
            yield batch | {"valid": chosen < len(part)}

    def _drawn(self, global_index: int) -> dict[str, Any]:
        """What is drawn of a training sample: a row of `_row`."""
        rng = np.random.default_rng([self.seed, global_index])
        position = first = self.position(global_index)
        while True:
            sample = self._source[position]
            there = self._there(sample)
            shown = self._dropped(there, rng)
            said = self._say(sample["record"], shown, rng)
            if not said["drawn"] and (shown != there).any():
                shown = there
                said = self._say(sample["record"], shown, rng)
            if said["drawn"] or (following := self._order.after(position)) == first:
                break
            position = following  # nothing to say: its turn goes to the one after it
        if self._shifts and said["drawn"] == [STAGE_EVENT]:
            sample, shown, said = self._shifted(sample, shown, said, position, rng)
        row = self._row(sample, shown, said, position)
        if self.data.gain_jitter:
            row["gain"], row["keys"] = self._gain(said, shown, rng)
        return row

    def _shifted(
        self, sample: dict[str, Any], shown: np.ndarray, said: dict[str, Any], position: int,
        rng: np.random.Generator,
    ) -> tuple[dict[str, Any], np.ndarray, dict[str, Any]]:
        """Sample, channels and words as given, or shifted in time by up to `data.time_shift` s."""
        steps = int(rng.integers(-self._shifts, self._shifts + 1))
        start = steps * shift_step(self.spec)
        other = position + (1 if steps > 0 else -1)
        if not steps or not 0 <= other < len(self):
            return sample, shown, said
        pair = (sample, self._source[other])
        if steps < 0:
            pair, start = pair[::-1], self.spec.samples + start
        moved = shifted(*pair, start, self.spec)
        if moved is None:
            return sample, shown, said
        still = self._there(moved) & shown
        words = self._say(moved["record"], still, rng, STAGE_ONLY)
        if not words["drawn"]:  # what is left shows no stage
            return sample, shown, said
        return moved, still, words

    def _gain(
        self, said: dict[str, Any], shown: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, list[int]]:
        """A gain for each channel, float64 [C], and the keys that the changed signal bears."""
        gain = np.exp(self.data.gain_jitter * rng.normal(size=len(shown)))
        gain[self._codes] = 1
        if self.data.ungrounded:
            return gain, said["keys"]
        contents = said["contents"]
        kept = sized_channels(contents[CAPTION_KINDS[kind]] for kind in said["drawn"])
        gain[[name in kept for name in self._channels]] = 1
        changed = {name for name, factor in zip(self._channels, gain, strict=True) if factor != 1}
        record = without_sizes(said["record"], changed)
        return gain, keys_of(stated_kinds(record, self._level)).tolist()

    def _fixed(self, position: int, weights: Sequence[float]) -> dict[str, Any]:
        sample = self._source[position]
        rng = np.random.default_rng([EVALUATION_SEED, position])
        shown = self._there(sample)
        said = self._say(sample["record"], shown, rng, weights)
        return self._row(sample, shown, said, position)

    def _there(self, sample: dict[str, Any]) -> np.ndarray:
        """The sample's mask bool [C] without the channels that `data.mask_artefacts` takes out."""
        if not self._untrusted or not sample["artefact"].any():
            return sample["mask"]
        return trusted(sample["mask"], sample["artefact"], self.data.mask_artefacts)

    def _dropped(self, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """`mask` bool [C], or with some of its channels taken away; never all of them."""
        present = np.flatnonzero(mask)
        if rng.random() >= self.data.channel_dropout or len(present) < 2:
            return mask
        if self._keep:
            keep = self._keep[rng.integers(len(self._keep))]
            left = [c for c in present if self._channels[c] in keep]
        else:
            left = rng.permutation(present)[: rng.integers(1, len(present))]
        if not len(left):
            return mask
        shown = np.zeros_like(mask)
        shown[left] = True
        return shown

    def _say(
        self,
        record: dict,
        shown: np.ndarray,
        rng: np.random.Generator,
        weights: np.ndarray | None = None,
    ) -> dict[str, Any]:
        """Caption, its kinds, and the keys of all kinds, from what the shown channels bear.

        With `data.ungrounded` from the whole record.
        """
        weights = self._weights if weights is None else weights
        if not self.data.ungrounded:
            names = [c for c, there in zip(self._channels, shown.tolist(), strict=True) if there]
            record = grounded_for(record, names, self.spec.rate)
        contents = stated_kinds(record, self._level)
        keys = keys_of(contents).tolist()
        odds = [weight if key else 0.0 for weight, key in zip(weights, keys, strict=True)]
        wanted = 1 + int(rng.random() < self.data.pair_probability)
        drawn: list[int] = []
        while len(drawn) < min(wanted, PREFIX_LENGTH) and any(odds):
            sums = list(accumulate(odds))
            kind = bisect_right(sums, rng.random() * sums[-1])
            drawn.append(kind)
            odds[kind] = 0.0
        drawn.sort(key=lambda kind: kind != STAGE_EVENT)  # stable: the others as they were drawn
        named = [CAPTION_KINDS[kind] for kind in drawn]
        texts = [say(contents[kind], kind, rng, self.data.style) for kind in named]
        if len(texts) > 1 and not self._fits(" ".join(texts)):
            drawn, texts = drawn[:1], texts[:1]  # a kind that is named must not be cut away
        return {
            "caption": " ".join(texts), "drawn": drawn, "keys": keys, "contents": contents,
            "record": record,
        }

    def _fits(self, caption: str) -> bool:
        return len(self.tokenizer.ids(caption)) + 2 <= self.data.text_length

    def cut_share(self, samples: int = 256) -> float:
        """Share of the first training texts that `data.text_length` cuts off."""
        return float(np.mean([not self._fits(self.sample(i)["caption"]) for i in range(samples)]))

    def _row(
        self, sample: dict[str, Any], shown: np.ndarray, said: dict[str, Any], position: int
    ) -> dict[str, Any]:
        drawn = said["drawn"]
        return {
            "caption": said["caption"],
            "stored": sample["signal"],  # int16 [C, T], becomes the signal in `_filled`
            "channel_mask": shown,
            "artefact": sample["artefact"],
            "text": self.tokenizer.encode(said["caption"], self.data.text_length),
            "prefix": (drawn + [-1] * PREFIX_LENGTH)[:PREFIX_LENGTH],
            "kinds": [kind in drawn for kind in range(len(CAPTION_KINDS))],
            "keys": said["keys"],
            "stage": sample["stage"],
            "index": position,
        }

    def _filled(self, rows: Iterable[dict[str, Any]], out: Batch) -> Batch:
        """`out` with `rows` of `_row` in its places, in their order."""
        for place, row in enumerate(rows):
            signal, shown = out["signal"][place], row["channel_mask"]
            dequantise(row["stored"], self._channels, signal)
            if not shown.all():
                signal[~shown] = 0
                signal[~shown & self._codes] = CODE_UNKNOWN
            if "gain" in row:
                signal[...] = np.clip(signal * row["gain"][:, None], -6, 6)
            for name, array in out.items():
                if name != "signal":
                    array[place] = row[name]
        return out


class _Steps:
    """Random access to a host's batches from `start` on, as Grain wants it."""

    def __init__(self, loader: Loader, start: int, batch_size: int, rows: np.ndarray):
        self._loader, self._start, self._batch_size, self._rows = loader, start, batch_size, rows

    def __len__(self) -> int:
        return sys.maxsize - self._start

    def __getitem__(self, step: int) -> Batch:
        return self._loader.batch(self._start + step, self._batch_size, self._rows)

    def __repr__(self) -> str:
        return f"steps of {self._loader.split} from {self._start}"


def _rows(rows: slice | Sequence[int] | None, batch_size: int) -> np.ndarray:
    everything = np.arange(batch_size)
    return everything if rows is None else everything[rows]
