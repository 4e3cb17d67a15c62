"""Epochs of a split, read in a fixed order and batch by batch: a corpus may not fit in memory.

Shapes: N epochs, C channels, T samples, K caption kinds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sleeplm_jax.captions.record import caption_keys
from sleeplm_jax.captions.render import render
from sleeplm_jax.config import CAPTION_KINDS, SignalSpec
from sleeplm_jax.corpus.manifest import Corpus, Source
from sleeplm_jax.corpus.nightfile import CODE_UNKNOWN, CODES, dequantise
from sleeplm_jax.recordings.channels import CHANNELS
from sleeplm_jax.recordings.night import artefact_bits, trusted

BRAIN_ARTEFACTS = ("flat", "clipped", "movement", "pop", "lead_off", "dropout")
SPLIT_NUMBER = {"train": 0, "val": 1, "test": 2}


@dataclass(frozen=True)
class Epochs:
    """Samples with whose they are; `rows` are their indices in the split."""

    rows: np.ndarray  # int [N]
    signal: np.ndarray  # float32 [N, C, T], z units (codes as they are)
    mask: np.ndarray  # bool [N, C], without untrusted channels
    clean: np.ndarray  # bool [N]: no EEG channel (EOG where there is no EEG) carries an artefact
    stage: np.ndarray  # int [N], negative where unscored
    records: tuple[dict, ...]
    subject: np.ndarray  # str [N]
    keys: np.ndarray  # int32 [N, K], 0 where a kind is not available


def choose_rows(corpus: Corpus, split: str, most: int | None, seed: int) -> np.ndarray:
    """At most `most` indices of a split, drawn without replacement from [seed, split], sorted."""
    total = corpus.samples(split)
    if most is None or most >= total:
        return np.arange(total)
    rng = np.random.default_rng([seed, SPLIT_NUMBER[split]])
    return np.sort(rng.choice(total, most, replace=False))


def read(
    source: Source, spec: SignalSpec, rows: np.ndarray, mask_artefacts: tuple[str, ...] = (),
    ungrounded: bool = False, level: str | None = None,
) -> Epochs:
    """The samples `rows` of a split, channels with one of `mask_artefacts` taken out as missing.

    Keys are of what the spec's input shows, or with `ungrounded` of the whole records, as far as
    captions of `level` say it.
    """
    samples = [source[int(row)] for row in rows]
    signal = dequantise(np.stack([s["signal"] for s in samples]), spec.channels)
    artefact = np.stack([s["artefact"] for s in samples])
    stored = np.stack([s["mask"] for s in samples]).astype(bool)
    mask = trusted(stored, artefact, mask_artefacts)
    for c, name in enumerate(spec.channels):
        signal[stored[:, c] & ~mask[:, c], c] = CODE_UNKNOWN if name in CODES else 0
    return Epochs(
        rows=np.asarray(rows),
        signal=signal,
        mask=mask,
        clean=clean_epochs(artefact, stored, spec),
        stage=np.array([int(s["stage"]) for s in samples]),
        records=tuple(s["record"] for s in samples),
        subject=np.array([f"{s['cohort']}/{s['subject']}" for s in samples]),
        keys=np.stack([
            caption_keys(s["record"], None if ungrounded else spec, level) for s in samples
        ]),
    )


def clean_epochs(artefact: np.ndarray, mask: np.ndarray, spec: SignalSpec) -> np.ndarray:
    """Epochs whose EEG (EOG where a spec has no EEG) is there and without artefact, bool [N].

    artefact: uint8 [N, C], bits of config.ARTEFACTS; mask: bool [N, C]. Mains and ECG alone spare
    the bands that stages are scored by.
    """
    for kind in ("eeg", "eog"):
        columns = [c for c, name in enumerate(spec.channels) if CHANNELS[name].kind == kind]
        if columns:
            bits = np.uint8(artefact_bits(BRAIN_ARTEFACTS))
            marked = ((artefact[:, columns] & bits) != 0) & mask[:, columns]
            return mask[:, columns].any(axis=1) & ~marked.any(axis=1)
    return np.ones(len(mask), bool)


def batches(
    corpus: Corpus, split: str, rows: np.ndarray, size: int = 128,
    mask_artefacts: tuple[str, ...] = (), ungrounded: bool = False, level: str | None = None,
) -> Iterator[Epochs]:
    """`read` in pieces of `size`."""
    source = corpus.source(split)
    for start in range(0, len(rows), size):
        part = rows[start:start + size]
        yield read(source, corpus.spec, part, mask_artefacts, ungrounded, level)


def sentence(
    record: dict, kind: str, row: int, seed: int, spec: SignalSpec | None,
    style: str = "default", level: str | None = None,
) -> str | None:
    """The caption of a kind, worded by [seed, row, kind]; None where there is none."""
    rng = np.random.default_rng([seed, int(row), CAPTION_KINDS.index(kind)])
    return render(record, kind, rng, style, spec=spec, level=level)
