"""From samples on disk to training batches: order, channel dropout, captions, tokens.

The order is a pure function: step s of batch size B holds the global indices s*B ... s*B + B - 1,
a global index names one sample (a fresh shuffle each pass), and everything random about it is
drawn from [seed, global index]. So a batch depends neither on threads, nor on which host makes
which of its rows, nor on where a run was resumed.

Legend: B batch, C channels, T samples, L tokens, K caption kinds.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

import grain
import numpy as np

from sleeplm_jax.captions.grounding import grounded_for
from sleeplm_jax.captions.record import keys_of, stated
from sleeplm_jax.captions.render import say
from sleeplm_jax.config import CAPTION_KINDS, PREFIX_LENGTH, DataConfig
from sleeplm_jax.corpus.manifest import Corpus
from sleeplm_jax.corpus.nightfile import CODE_UNKNOWN, CODES, dequantise
from sleeplm_jax.corpus.tokenizer import Tokenizer
from sleeplm_jax.recordings.night import trusted

EVALUATION_SEED = 20_240_601  # evaluation captions are worded the same in every run
STAGE_EVENT = CAPTION_KINDS.index("stage_event")

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
        self, corpus: Corpus, split: str, tokenizer: Tokenizer, data: DataConfig, seed: int = 0
    ):
        self.corpus, self.split, self.tokenizer = corpus, split, tokenizer
        self.data, self.seed = data, seed
        self._source = corpus.source(split)
        self._channels = corpus.spec.channels
        self._codes = np.array([c in CODES for c in self._channels])
        self._untrusted = bool(data.mask_artefacts)
        self._weights = np.array(data.captions.weights(), float)
        self._keep = tuple(frozenset(keep.split(",")) for keep in data.dropout_keep)
        self._order = grain.MapDataset.range(len(self._source)).seed(seed).shuffle().repeat()

    def __len__(self) -> int:
        """How many samples the split holds."""
        return len(self._source)

    def position(self, global_index: int) -> int:
        """The place in the split of the sample that `global_index` names."""
        return int(self._order[int(global_index)])

    def sample(self, global_index: int) -> dict[str, Any]:
        """Row `global_index` of the endless sequence of training samples, without the batch axis.

        Also holds `caption`, the text as a string.
        """
        rng = np.random.default_rng([self.seed, global_index])
        start = self.position(global_index)
        for step in range(len(self)):  # almost always the first: a sample with nothing to say
            position = (start + step) % len(self)  # gives its turn to the one after it
            sample = self._source[position]
            there = self._there(sample)
            shown = self._dropped(there, rng)
            said = self._say(sample["record"], shown, rng)
            if not said["kinds"].any() and (shown != there).any():
                shown = there
                said = self._say(sample["record"], shown, rng)
            if said["kinds"].any():
                break
        row = self._row(sample, shown, said, position)
        if self.data.gain_jitter:
            gain = np.exp(self.data.gain_jitter * rng.normal(size=len(shown)))
            gain[self._codes] = 1
            row["signal"] = np.clip(row["signal"] * gain[:, None], -6, 6).astype(np.float32)
        return row

    def batch(
        self, step: int, batch_size: int, rows: slice | Sequence[int] | None = None
    ) -> Batch:
        """The rows `rows` (all by default) of the global batch of `step`."""
        chosen = _rows(rows, batch_size)
        return _stacked([self.sample(step * batch_size + row) for row in chosen])

    def iterate(
        self, start_step: int, batch_size: int, rows: slice | Sequence[int] | None = None
    ) -> Iterator[Batch]:
        """The batches of start_step, start_step + 1, ... without end, in exactly this order.

        They are made ahead by `data.workers` threads, at most `data.prefetch` of them at a time.
        """
        steps = _Steps(self, start_step, batch_size, _rows(rows, batch_size))
        options = grain.ReadOptions(
            num_threads=self.data.workers, prefetch_buffer_size=self.data.prefetch
        )
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
            weights = np.array([float(kind == kinds) for kind in CAPTION_KINDS])
            if not weights.any():
                raise ValueError(f"kinds {kinds!r}: choose mix, {', '.join(CAPTION_KINDS)}")
        chosen = _rows(rows, batch_size)
        for start in range(0, len(places), batch_size):
            part = places[start : start + batch_size]
            made = [self._fixed(int(part[min(row, len(part) - 1)]), weights) for row in chosen]
            yield _stacked(made) | {"valid": np.array([row < len(part) for row in chosen], bool)}

    def _fixed(self, position: int, weights: np.ndarray) -> dict[str, Any]:
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
        names = tuple(c for c, there in zip(self._channels, shown, strict=True) if there)
        if not self.data.ungrounded:
            record = grounded_for(record, names, self.corpus.spec.rate)
        contents = {kind: stated(record, kind, spec=None) for kind in CAPTION_KINDS}
        keys = keys_of(contents)
        odds = np.where(keys != 0, weights, 0.0)
        wanted = 1 + int(rng.random() < self.data.pair_probability)
        drawn: list[int] = []
        while len(drawn) < min(wanted, PREFIX_LENGTH) and odds.sum() > 0:
            kind = int(np.searchsorted(odds.cumsum(), rng.random() * odds.sum(), side="right"))
            drawn.append(kind)
            odds[kind] = 0
        drawn.sort(key=lambda kind: kind != STAGE_EVENT)  # stable: the others as they were drawn
        named = [CAPTION_KINDS[kind] for kind in drawn]
        texts = [say(contents[kind], kind, rng, self.data.style) for kind in named]
        if len(texts) > 1 and not self._fits(" ".join(texts)):
            drawn, texts = drawn[:1], texts[:1]  # a kind that is named must not be cut away
        kinds = np.zeros(len(CAPTION_KINDS), bool)
        kinds[drawn] = True
        return {
            "caption": " ".join(texts),
            "prefix": np.array((drawn + [-1] * PREFIX_LENGTH)[:PREFIX_LENGTH], np.int32),
            "kinds": kinds,
            "keys": keys.astype(np.int32),
        }

    def _fits(self, caption: str) -> bool:
        return len(self.tokenizer.ids(caption)) + 2 <= self.data.text_length

    def cut_share(self, samples: int = 256) -> float:
        """Share of the first training texts that `data.text_length` cuts off."""
        return float(np.mean([not self._fits(self.sample(i)["caption"]) for i in range(samples)]))

    def _row(
        self, sample: dict[str, Any], shown: np.ndarray, said: dict[str, Any], position: int
    ) -> dict[str, Any]:
        signal = dequantise(sample["signal"], self._channels)
        signal[~shown] = 0
        signal[~shown & self._codes] = CODE_UNKNOWN
        return said | {
            "signal": signal,
            "channel_mask": np.asarray(shown, bool),
            "artefact": np.asarray(sample["artefact"], np.uint8),
            "text": self.tokenizer.encode(said["caption"], self.data.text_length),
            "stage": np.int32(sample["stage"]),
            "index": np.int32(position),
        }


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


def _stacked(rows: list[dict[str, Any]]) -> Batch:
    return {name: np.stack([row[name] for row in rows]) for name in rows[0] if name != "caption"}
