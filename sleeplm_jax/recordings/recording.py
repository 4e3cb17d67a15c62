"""An open recording: its signals' headers, and their samples one signal at a time.

What a format's reader (edf.py, wfdb_files.py, dreem.py) makes of a file, and all that the rest of
the package sees of it. Of the person it holds age and sex, where a header states them.
"""

from __future__ import annotations

import datetime
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sleeplm_jax.errors import RecordingError
from sleeplm_jax.recordings.header_person import NOTHING_SAID, HeaderPerson

# A damaged header turns a night into months; the tensors of a longer file do not fit a machine's
# memory either.
LONGEST_S = 7 * 86_400
# Physical values beyond this are no measurement in any unit; sums of their squares overflow.
LARGEST = 1e12
FASTEST_HZ = 50_000


@dataclass(frozen=True)
class SignalInfo:
    """The header of one signal, without anything about the person."""

    label: str
    unit: str  # as the file says
    rate: float  # Hz
    physical_min: float
    physical_max: float
    samples: int
    prefilter: str
    transducer: str
    readable: bool = True  # False where the calibration is undefined (min equals max)


class Recording:
    """An open file: `signals`, `duration_s`, `start` (clock time or None), `flags`.

    `start` is the time of day only. `read(i)` gives signal i in the file's physical units;
    `load(i)` is the format's way to do so. `notes` are the file's own annotations, `person`
    what the header says of age and sex.
    """

    def __init__(
        self,
        path: Path,
        signals: tuple[SignalInfo, ...],
        duration_s: float,
        start: datetime.time | None,
        flags: tuple[str, ...],
        load: Callable[[int], np.ndarray],
        notes: Callable[[], Sequence[tuple[float, float, str]]] = tuple,
        person: HeaderPerson = NOTHING_SAID,
    ):
        self.path, self.signals, self.duration_s = path, signals, duration_s
        self.start, self.flags, self.person = start, flags, person
        self._load, self._notes = load, notes

    def annotations(self) -> list[tuple[float, float, str]]:
        """(onset s, duration s, text) of the file's own annotations, in order; 0 s for none.

        Empty where a format or a plain EDF has none. Raises RecordingError where they cannot be
        read.
        """
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return list(self._notes())
        except Exception as error:
            raise unreadable(self.path, error) from None

    def read(self, index: int) -> np.ndarray:
        """Samples of signal `index`, float64 [samples], in the file's physical unit.

        Raises RecordingError where the signal's calibration is undefined or the file changed.
        """
        info = self.signals[index]
        if not info.readable:
            raise RecordingError(
                self.path,
                f"signal {info.label!r} has no calibration (no usable range in the header)",
                "leave that signal out or export the recording again",
            )
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                values = self._load(index)
        except Exception as error:
            raise unreadable(self.path, error) from None
        return values[: info.samples]


def unreadable(path: Path, error: Exception) -> RecordingError:
    """The one line for what a library could not read.

    Without the text of its exception, which may quote header bytes, names included.
    """
    return RecordingError(
        path,
        f"cannot be read ({type(error).__name__})",
        "the file is damaged: copy it again, or export it from the recording software",
    )
