"""HDF5 recordings of the Dreem Open Datasets (DOD-H, DOD-O), one signal at a time, by h5py.

Layout, read in Dreem's own dreem-learning-open (README: signals/eeg/C3_M2 ...) and in public
readers of the files: groups /signals/<kind> with attributes `fs` (Hz) and `unit`, below them one
one-dimensional dataset a signal; /hypnogram holds a stage per 30 s.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sleeplm_jax.errors import RecordingError
from sleeplm_jax.recordings.recording import (
    FASTEST_HZ,
    LONGEST_S,
    Recording,
    SignalInfo,
    unreadable,
)

MAX_SIGNALS = 512


def open_dreem(path: Path) -> Recording:
    """Open a DOD recording; samples are read only when asked for.

    A signal's label is its dataset's name (`C3_M2`), its group (`eeg`) stands as the transducer.
    Raises RecordingError for another layout of HDF5, links out of the file, and damaged files.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            found = _signals(path, file)
    except RecordingError:
        raise
    except Exception as error:
        raise unreadable(path, error) from None
    infos = tuple(info for info, _ in found)
    names = [name for _, name in found]
    duration = min(info.samples / info.rate for info in infos)

    def load(index: int) -> np.ndarray:
        with h5py.File(path, "r") as file:
            values = np.asarray(file[names[index]][: infos[index].samples], np.float64)
        return np.where(np.isfinite(values), values, 0.0)

    return Recording(path, infos, duration, None, (), load)


def _signals(path: Path, file) -> list[tuple[SignalInfo, str]]:
    import h5py

    if not isinstance(file.get("signals", getlink=True), h5py.HardLink):
        raise RecordingError(
            path, "an HDF5 file without /signals", "only Dreem's DOD layout of HDF5 is read"
        )
    found = []
    for kind, group in _below(file["signals"]):
        if not isinstance(group, h5py.Group):
            continue
        try:
            rate = float(group.attrs["fs"])
        except (KeyError, TypeError, ValueError):
            rate = 0.0
        if not 0 < rate <= FASTEST_HZ:
            raise RecordingError(
                path, f"/signals/{kind} has no usable sampling rate (attribute fs)",
                "the file is damaged or of another layout: download it again",
            )
        unit = group.attrs.get("unit", "")
        unit = unit.decode("utf-8", "replace") if isinstance(unit, bytes) else str(unit)
        for name, data in _below(group):
            if isinstance(data, h5py.Dataset) and data.ndim == 1 and data.dtype.kind in "fiu":
                if not 0 < len(data) / rate <= LONGEST_S:
                    raise RecordingError(
                        path, f"{name} lasts {len(data) / rate:g} s",
                        f"1 sample to {LONGEST_S // 3600} h are read",
                    )
                info = SignalInfo(name, unit, rate, float("nan"), float("nan"), len(data), "", kind)
                found.append((info, f"signals/{kind}/{name}"))
    if not 0 < len(found) <= MAX_SIGNALS:
        raise RecordingError(
            path, f"holds {len(found)} signals (1 to {MAX_SIGNALS} are read)",
            "give a recording of the DOD layout",
        )
    return found


def _below(group):
    """(name, member) of the members that lie in this file: links may lead to any other."""
    import h5py

    for name in sorted(group):
        if isinstance(group.get(name, getlink=True), h5py.HardLink):
            yield name, group[name]
