"""Packing night files into ArrayRecord shards with TFDS, without TensorFlow.

Three facts of TFDS 4.9 shape this file. `encoding='bytes'` keeps int16 tensors as raw bytes
(otherwise each value becomes a 64-bit varint, three times the size and the time). Past 1 GB a
split, its GeneratorBasedBuilder sorts examples through temporary files that it opens with
TensorFlow, shuffled or not; its ShardBasedBuilder streams one shard after the other in our order
(and takes a Beam runner). Importing `tensorflow_datasets` takes 0.4 s, so it happens in functions.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sleeplm_jax.config import SignalSpec
from sleeplm_jax.corpus.nightfile import NightFile, read_night

SPLITS = ("train", "val", "test")
NAME = "sleeplm_nights"
SHARD_BYTES = 256 << 20  # also about what packing holds in memory


@dataclass(frozen=True)
class PackedNight:
    """A night file on its way into a split; `samples` counts the epochs that are kept."""

    path: Path
    samples: int


def kept_epochs(mask: np.ndarray) -> np.ndarray:
    """Which epochs become samples, bool [E]: those where any channel of `mask` [E, C] is there."""
    return mask.any(axis=1)


def features(spec: SignalSpec) -> Any:
    """The TFDS features of one sample of `spec`."""
    import tensorflow_datasets as tfds

    def raw(shape: tuple[int, ...], dtype: type) -> Any:
        return tfds.features.Tensor(shape=shape, dtype=dtype, encoding="bytes")

    channels = len(spec.channels)
    text, number = tfds.features.Text, tfds.features.Scalar
    return tfds.features.FeaturesDict({
        "signal": raw(spec.shape, np.int16),
        "mask": raw((channels,), np.bool_),
        "artefact": raw((channels,), np.uint8),  # bits of config.ARTEFACTS
        "scale": raw((channels,), np.float32),
        "offset": raw((channels,), np.float32),
        "stage": number(np.int32),
        "record": text(),  # JSON
        "recording": text(),
        "subject": text(),
        "cohort": text(),
        "epoch": number(np.int32),  # of the recording, from 0
    })


def pack(
    nights: dict[str, list[PackedNight]],
    spec: SignalSpec,
    folder: Path,
    advance: Callable[[int], None] = lambda samples: None,
) -> Path:
    """Writes the nights of each split, in their order, as shards below `folder`.

    `advance` is told how many samples were just handed to the writer. Returns the folder of the
    shards. A split without nights is left out. Raises CorpusError for a damaged night file.
    """
    import tensorflow_datasets as tfds

    class Nights(tfds.core.ShardBasedBuilder, skip_registration=True):
        name = NAME
        VERSION = tfds.core.Version("1.0.0")

        def _info(self) -> Any:
            return tfds.core.DatasetInfo(
                builder=self, features=features(spec), disable_shuffling=True
            )

        def _shard_iterators_per_split(self, dl_manager: Any) -> dict[str, list]:
            return {
                split: [functools.partial(_keyed, shard, advance) for shard in shards]
                for split in SPLITS if (shards := _shards(nights.get(split, []), spec))
            }

    # TFDS announces "Downloading ..." on stdout and draws its own bars; nothing is downloaded.
    active = tfds.core.utils.tqdm_utils._active
    tfds.display_progress_bar(False)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            builder = Nights(data_dir=folder, file_format="array_record")
            builder.download_and_prepare(
                download_config=tfds.download.DownloadConfig(try_download_gcs=False)
            )
    except RuntimeError as error:  # array_record's words for what the system said
        if os.strerror(errno.ENOSPC) in str(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from None
        raise
    finally:
        tfds.display_progress_bar(active)
    return Path(builder.data_dir)


def _shards(nights: list[PackedNight], spec: SignalSpec) -> list[list[PackedNight]]:
    """Consecutive nights, whole ones, that together make about SHARD_BYTES."""
    each = max(1, SHARD_BYTES // (2 * len(spec.channels) * spec.samples))
    shards: list[list[PackedNight]] = []
    held = each
    for night in nights:
        if held >= each:
            shards.append([])
            held = 0
        shards[-1].append(night)
        held += night.samples
    return shards


def _keyed(
    shard: list[PackedNight], advance: Callable[[int], None]
) -> Iterator[tuple[int, dict]]:
    key = 0
    for night in shard:
        for example in _examples(read_night(night.path)):
            yield key, example
            key += 1
        advance(night.samples)


def _examples(night: NightFile) -> Iterator[dict]:
    artefacts = night.input_artefacts
    for epoch in np.flatnonzero(kept_epochs(night.mask)):
        yield {
            "signal": night.signals[epoch],
            "mask": night.mask[epoch],
            "artefact": artefacts[epoch],
            "scale": night.scale,
            "offset": night.offset,
            "stage": int(night.stages[epoch]),
            "record": night.records[epoch],
            "recording": night.recording,
            "subject": night.subject,
            "cohort": night.cohort,
            "epoch": int(epoch),
        }
