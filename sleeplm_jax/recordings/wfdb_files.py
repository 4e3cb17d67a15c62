"""WFDB recordings (a .hea header and its signal files), one signal at a time, by the wfdb library.

Header form: https://physionet.org/physiotools/wag/header-5.htm. The library trusts the header, so
sizes and file names are checked here first. Comments (age, sex, medication) are read by
header_person.py alone, where the montage says what stands in them.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from sleeplm_jax.errors import RecordingError
from sleeplm_jax.recordings.recording import (
    FASTEST_HZ,
    LARGEST,
    LONGEST_S,
    Recording,
    SignalInfo,
    unreadable,
)

MAX_SIGNALS = 512
MAX_HEADER_BYTES = 1 << 20
# Bytes of a sample by storage format (signal-5.htm of the same manual); others are compressed.
BYTES = {"8": 1, "16": 2, "24": 3, "32": 4, "61": 2, "80": 1, "160": 2, "212": 1.5,
         "310": 4 / 3, "311": 4 / 3}


def open_wfdb(path: Path) -> Recording:
    """Open a WFDB record by its header; samples are read only when asked for.

    Samples marked invalid in the file hold the last valid value, with a flag that counts them.
    Raises RecordingError for a damaged header, absent or short signal files, signal files outside
    the header's folder, records of several segments, and more than a week.
    """
    import wfdb

    if path.stat().st_size > MAX_HEADER_BYTES:
        raise RecordingError(path, "is no WFDB header (over 1 MiB)", "give the record's .hea file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = wfdb.rdheader(str(path.with_suffix("")))
    except Exception as error:
        raise unreadable(path, error) from None
    if getattr(header, "n_seg", None):
        raise RecordingError(
            path, f"a WFDB record of {header.n_seg} segments", "give the segments' own .hea files"
        )
    rates, length = _checked(path, header)
    _check_files(path, header, length)
    infos = tuple(
        SignalInfo(
            label=str(header.sig_name[i] or f"signal {i}"),
            unit=str(header.units[i] or ""),
            rate=rate,
            physical_min=float("nan"),
            physical_max=float("nan"),
            samples=length * int(header.samps_per_frame[i]),
            prefilter="",
            transducer="",
            readable=_calibrated(header, i),
        )
        for i, rate in enumerate(rates)
    )
    flags = tuple(
        f"uncalibrated_signal: {info.label!r} has no usable gain in the header, left out"
        for info in infos if not info.readable
    )

    def load(index: int) -> np.ndarray:
        record = wfdb.rdrecord(
            str(path.with_suffix("")), channels=[index], smooth_frames=False, m2s=False
        )
        return _without_gaps(np.asarray(record.e_p_signal[0], np.float64))

    start = header.base_time
    return Recording(path, infos, length / float(header.fs), start, flags, load)


def _checked(path: Path, header) -> tuple[list[float], int]:
    """Rate of each signal (Hz) and the length in frames, or RecordingError."""
    try:
        fs, length, count = float(header.fs), int(header.sig_len or 0), int(header.n_sig)
        rates = [fs * int(header.samps_per_frame[i]) for i in range(count)]
    except (TypeError, ValueError, IndexError, OverflowError):
        fs = length = count = 0
        rates = []
    if not (0 < count <= MAX_SIGNALS and len(header.sig_name or ()) == count):
        raise RecordingError(
            path, f"names {count} signals (1 to {MAX_SIGNALS} are read)",
            "the file is damaged or no WFDB header: copy it again",
        )
    if not all(0 < rate <= FASTEST_HZ for rate in (fs, *rates)):
        raise RecordingError(
            path, "its header's sampling rate is no usable number",
            "the file is damaged: copy it again",
        )
    if not 0 < length / fs <= LONGEST_S:
        raise RecordingError(
            path, f"lasts {length / fs:g} s by its header (up to {LONGEST_S // 3600} h are read)",
            "the file is damaged, or split the recording",
        )
    return rates, length


def _check_files(path: Path, header, length: int) -> None:
    """The signal files that the header names lie beside it and are long enough."""
    needed: dict[str, float] = {}
    for i, name in enumerate(header.file_name):
        if not name or Path(name).name != name or name in ("~", "-"):
            raise RecordingError(
                path, f"names a signal file {name!r} that does not lie beside it",
                "the file is damaged: copy it again",
            )
        each = BYTES.get(str(header.fmt[i]))
        if each is not None:
            needed[name] = needed.get(name, float(header.byte_offset[i] or 0)) + (
                each * length * int(header.samps_per_frame[i])
            )
        else:
            needed.setdefault(name, 1)
    for name, size in needed.items():
        file = path.with_name(name)
        try:
            present = file.stat().st_size
        except OSError:
            raise RecordingError(
                path, f"its signal file {name!r} is missing", "copy it beside the header"
            ) from None
        # Odd lengths are rounded up to whole groups of samples; a part of one may be missing.
        if present + 8 < int(size):
            raise RecordingError(
                path, f"truncated: {name!r} has {present} bytes, the header needs {int(size)}",
                "copy the recording again",
            )


def _calibrated(header, index: int) -> bool:
    gain = header.adc_gain[index]
    baseline = header.baseline[index]
    try:
        return bool(0 < abs(float(gain)) and abs(float(baseline or 0) / float(gain)) <= LARGEST)
    except (TypeError, ValueError):
        return False


def _without_gaps(values: np.ndarray) -> np.ndarray:
    """Invalid samples (NaN) hold the last valid value: a flat stretch, which is masked as one."""
    bad = ~np.isfinite(values)
    if not bad.any():
        return values
    index = np.where(bad, 0, np.arange(len(values)))
    np.maximum.accumulate(index, out=index)
    held = values[index]
    return np.where(np.isfinite(held), held, 0.0)
