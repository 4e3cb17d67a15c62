"""Reading single samples out of a split's ArrayRecord shards.

TFDS finds the files and says what they hold; its general decoder is left out: it takes as long as
reading and unpacking the record (70 µs against 80), and a loader reads thousands a second.

Legend: C channels, T samples an epoch.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sleeplm_jax.errors import CorpusError

RAW = ("signal", "mask", "artefact", "scale", "offset")  # bytes of an array
TEXT = ("record", "recording", "subject", "cohort")
NUMBER = ("stage", "epoch")


class Shards:
    """The samples of `split` in a folder that `builder.pack` returned, in their order.

    `shards[i]` is a dict: the arrays of RAW (read-only), TEXT as bytes, NUMBER as int. Raises
    CorpusError naming the shard when a sample cannot be read: cut, damaged or gone since it was
    written. Safe to read from several threads.
    """

    def __init__(self, folder: Path, split: str):
        import tensorflow_datasets as tfds
        from tensorflow_datasets.proto import tf_example_pb2

        self.split = split
        try:
            builder = tfds.builder_from_directory(folder)
            info = builder.info.splits[split]
            self._records = builder.as_data_source(
                split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
            )
        except Exception as error:  # TFDS, protobuf and JSON raise what they like
            raise CorpusError(
                folder, f"its {split} split cannot be opened ({_line(error)})",
                "run `sleeplm prepare` again",
            ) from error
        self._parse = tf_example_pb2.Example.FromString
        self._forms = [
            (name, builder.info.features[name].np_dtype, builder.info.features[name].shape)
            for name in RAW
        ]
        self._paths = [Path(path) for path in info.filepaths]
        self._ends = list(itertools.accumulate(info.shard_lengths))

    def __len__(self) -> int:
        return self._ends[-1]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[index] for index in range(len(self)))

    def path(self, index: int) -> Path:
        """The shard that holds sample `index`."""
        return self._paths[bisect.bisect_right(self._ends, index)]

    def __getitem__(self, index: int) -> dict[str, Any]:
        try:
            record = self._records[index]
            if not record:  # array_record's answer where a file that it holds open was cut
                raise EOFError("the shard ends before it")
            return self.decoded(record)
        except Exception as error:  # array_record and protobuf raise what they like
            path = self.path(index)
            finding = "is gone" if not path.exists() else "cannot be read"
            raise CorpusError(
                path, f"sample {index} of {self.split} {finding} ({_line(error)})",
                "look at its disk, then run `sleeplm prepare` again",
            ) from error

    def decoded(self, record: bytes) -> dict[str, Any]:
        """The sample of a record as it is in the shard."""
        fields = self._parse(record).features.feature
        sample: dict[str, Any] = {
            name: np.frombuffer(fields[name].bytes_list.value[0], dtype).reshape(shape)
            for name, dtype, shape in self._forms
        }
        for name in TEXT:
            sample[name] = fields[name].bytes_list.value[0]
        for name in NUMBER:
            sample[name] = fields[name].int64_list.value[0]
        return sample


def _line(error: Exception) -> str:
    """What kind of error it is and the first part of what it says."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:160]}"
