"""Part of a corpus' training split: so many hours of it, for studies of what more data brings."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from sleeplm_jax.corpus.manifest import Corpus, Source
from sleeplm_jax.errors import CorpusError


def limited(corpus: Corpus, hours: float) -> Corpus:
    """`corpus` with `hours` (h) of its training split or, as nights stay whole, a little more.

    People come in an order that a hash of their names decides, each with all nights, until the
    hours are reached. So less is always a part of more, and the same in every process and run. The
    other splits are all there. Its hash and path are the whole corpus'.

    Raises CorpusError where the split holds less.
    """
    nights = corpus.nights("train")
    seconds = corpus.spec.seconds
    wanted = round(hours * 3600 / seconds)  # samples
    have = corpus.samples("train")
    if wanted > have:
        raise CorpusError(
            corpus.path, f"holds {have * seconds / 3600:,.1f} h to train on, data.unique_hours "
            f"asks for {hours:g}", "ask for less (0: all of it), or prepare more nights",
        )
    chosen, total = set(), 0
    for place in sorted(range(len(nights)), key=lambda n: (_rank(nights[n]), n)):
        if total >= wanted:
            break
        chosen.add(place)
        total += nights[place]["samples"]
    ends = np.cumsum([night["samples"] for night in nights])
    rows = np.concatenate([
        np.arange(end - night["samples"], end)
        for place, (night, end) in enumerate(zip(nights, ends, strict=True)) if place in chosen
    ])
    kept = [night for place, night in enumerate(nights) if place in chosen]
    others = [night for night in corpus.nights() if night["split"] != "train"]
    splits = corpus.manifest["splits"]
    train = splits["train"] | {"nights": len(kept), "samples": total}
    return _Part(corpus.path, corpus.manifest | {
        "nights": kept + others, "splits": splits | {"train": train},
    }, rows)


def _rank(night: dict[str, Any]) -> bytes:
    return hashlib.sha256(f"{night['cohort']}/{night['subject']}".encode()).digest()


@dataclass(frozen=True)
class _Part(Corpus):
    rows: np.ndarray  # int [N], of the whole training split

    def source(self, split: str):
        found = super().source(split)
        return _Some(found, self.rows) if split == "train" else found


class _Some:
    """Those samples of a Source that stand at `rows`, int [N]; what Source is otherwise."""

    def __init__(self, source: Source, rows: np.ndarray):
        self._source, self._rows = source, rows
        self.sizes, self.weights = (len(rows),), (1,)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        return self._source[int(self._rows[index])]
