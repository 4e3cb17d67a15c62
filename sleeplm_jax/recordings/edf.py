"""EDF and BDF files, one signal at a time at its own rate (edfio), with the faults found first.

edfio is lenient: it cuts a truncated file short with a warning and reads an EDF+D as continuous.
Both would shift every epoch against its scoring, so the header is checked here before edfio sees
the file. Of the patient and recording identification fields, only age and sex become part of a
Recording (header_person.py).
"""

from __future__ import annotations

import datetime
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sleeplm_jax.errors import RecordingError
from sleeplm_jax.recordings.header_person import HeaderPerson, person_of_edf
from sleeplm_jax.recordings.recording import (
    FASTEST_HZ,
    LARGEST,
    LONGEST_S,
    Recording,
    SignalInfo,
    unreadable,
)

MAX_SIGNALS = 2048
# edfio holds a whole BDF in memory, several times over; an EDF is memory-mapped.
MAX_BDF_BYTES = 2 << 30
# Onsets of EDF+D records that differ from the regular grid by more than this are a gap (s).
GAP_TOLERANCE = 0.02
_SIGNAL_FIELDS = (16, 80, 8, 8, 8, 8, 8, 80, 8, 32)


def _integer(path: Path, raw: bytes, name: str, low: int, high: int) -> int:
    try:
        value = int(raw.decode("ascii").strip("\x00 "))
    except (UnicodeDecodeError, ValueError):
        value = None
    if value is None or not low <= value <= high:
        shown = "unreadable" if value is None else value
        raise RecordingError(
            path,
            f"the header's {name} is {shown} (allowed {low} to {high})",
            "the file is damaged or not an EDF/BDF: export the recording again",
        )
    return value


@dataclass(frozen=True)
class Layout:
    """What the fixed header says, checked against the file."""

    kind: str  # "EDF" or "BDF"
    reserved: str
    records: int
    record_s: float
    flags: tuple[str, ...]
    person: HeaderPerson


def check_layout(path: Path) -> Layout:
    """Sizes in the header against the file's size, before anything is allocated.

    Raises RecordingError for what is not a whole EDF or BDF file with data.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            fixed = file.read(256)
            signals = _signal_count(path, fixed)
            variable = file.read(256 * signals)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise RecordingError(path, f"cannot be opened ({reason})", "check the path") from None
    kind = "BDF" if fixed[:1] == b"\xff" else "EDF"
    if len(variable) < 256 * signals:
        raise RecordingError(
            path, "the file ends inside its header", "copy or export the recording again"
        )
    header_bytes = _integer(path, fixed[184:192], "header size", 256 * (signals + 1), 1 << 30)
    if header_bytes != 256 * (signals + 1):
        raise RecordingError(
            path,
            f"the header says it has {header_bytes} bytes, {signals} signals need "
            f"{256 * (signals + 1)}",
            "the file is damaged or not an EDF/BDF: export the recording again",
        )
    if kind == "BDF" and size > MAX_BDF_BYTES:
        raise RecordingError(
            path,
            f"a BDF of {size / 2**30:.1f} GiB (at most {MAX_BDF_BYTES >> 30} GiB is read)",
            "convert it to EDF+ or leave unneeded signals out",
        )
    records = _integer(path, fixed[236:244], "number of data records", -1, 10**8)
    try:
        record_s = float(fixed[244:252].decode("ascii").strip("\x00 "))
    except (UnicodeDecodeError, ValueError):
        record_s = float("nan")
    if not 0 <= record_s <= LONGEST_S:
        raise RecordingError(
            path,
            "the header's data record duration is no usable number of seconds",
            "the file is damaged or not an EDF/BDF: export the recording again",
        )
    start = sum(_SIGNAL_FIELDS[:8]) * signals
    counts = [
        _integer(path, variable[start + 8 * i : start + 8 * i + 8], f"sample count of signal {i}",
                 0, 10**8)
        for i in range(signals)
    ]  # fmt: skip
    if record_s and max(counts) / record_s > FASTEST_HZ and records != 0:
        raise RecordingError(
            path,
            f"a signal of {max(counts) / record_s:g} Hz by its header (data records of "
            f"{record_s:g} s, at most {FASTEST_HZ} Hz are read)",
            "the file is damaged: export the recording again",
        )
    record_bytes = sum(counts) * (3 if kind == "BDF" else 2)
    if record_bytes == 0:
        raise RecordingError(path, "its data records hold no samples", "export it again")
    present, flags = (size - header_bytes) // record_bytes, []
    if records == -1:
        # The EDF specification allows -1 while recording; the file was never closed.
        flags.append(f"unfinished_header: number of records unknown, {present} are there")
        records = present
    if records == 0 or present == 0:
        raise RecordingError(
            path,
            f"holds no data ({records} data records in the header, {present} in the file)",
            "copy or export the recording again",
        )
    if present < records:
        raise RecordingError(
            path,
            f"truncated: the header says {records} data records, the file holds {present} "
            f"({present * record_s:g} of {records * record_s:g} s)",
            "copy or export the recording again",
        )
    if present > records:
        flags.append(
            f"data_beyond_header: {present} data records in the file, {records} in the header; "
            "the rest is left out"
        )
    elif (size - header_bytes) % record_bytes:
        flags.append("data_beyond_header: the file ends inside a data record, left out")
    if records * record_s > LONGEST_S:
        raise RecordingError(
            path,
            f"lasts {records * record_s / 3600:.0f} h by its header ({records} data records of "
            f"{record_s:g} s, at most {LONGEST_S // 3600} h are read)",
            "correct the header, or split the recording",
        )
    reserved = fixed[192:236].decode("latin-1").strip()
    return Layout(kind, reserved, records, record_s, tuple(flags), person_of_edf(fixed))


def _signal_count(path: Path, fixed: bytes) -> int:
    if not fixed:
        raise RecordingError(path, "is empty (0 bytes)", "copy it again")
    known = fixed[:8] in (b"0       ", b"\xffBIOSEMI")
    if len(fixed) < 256 or not known:
        raise RecordingError(
            path,
            "is not an EDF, EDF+ or BDF file",
            "give the recording as EDF/EDF+/BDF (other formats: export from the software)",
        )
    return _integer(path, fixed[252:256], "number of signals", 1, MAX_SIGNALS)


def _record_times(edf, layout: Layout) -> np.ndarray | int | None:
    """Onset (s) of every data record by its own time stamp, float64 [records].

    None without an annotation signal; the number of the first record without a stamp if one lacks.
    """
    annotations = [s for s in edf._signals if s._is_annotation_signal]
    if not annotations:
        return None
    rows = annotations[0].digital.view(np.uint8).reshape(-1, annotations[0]._bytes_per_data_record)
    onsets = []
    for row in rows[: layout.records]:
        # A time-stamped annotation list starts "+<onset>\x14"; the record's own comes first.
        stamp = row.tobytes().split(b"\x14", 1)[0].split(b"\x15", 1)[0].strip(b"\x00")
        try:
            onsets.append(float(stamp))
        except ValueError:
            return len(onsets)
    times = np.asarray(onsets)
    return times if np.isfinite(times).all() else int(np.flatnonzero(~np.isfinite(times))[0])


def _check_gaps(path: Path, edf, layout: Layout) -> tuple[str, ...]:
    """EDF+: the time stamps of the records must lie on the regular grid.

    A jump is an error in an EDF+D and a flag in an EDF+C, which promises that there is none:
    writers that promise it have been seen to get the stamps wrong rather than the signal.
    """
    discontinuous = layout.reserved.startswith(f"{layout.kind}+D")
    if not discontinuous and not layout.reserved.startswith(f"{layout.kind}+C"):
        return ()
    times = _record_times(edf, layout)
    if discontinuous and times is None:
        raise RecordingError(
            path,
            f"says it is discontinuous ({layout.kind}+D) but holds no record times",
            f"export it as continuous {layout.kind}+C",
        )
    if discontinuous and isinstance(times, int):
        raise RecordingError(
            path,
            f"data record {times} carries no time, so a gap cannot be excluded",
            f"export it as continuous {layout.kind}+C",
        )
    if isinstance(times, int) and any(f.startswith("data_beyond_header") for f in layout.flags):
        # Records of another size than the header says: every sample would be misplaced.
        raise RecordingError(
            path,
            f"data record {times} carries no time and the file is longer than its header says: "
            "the header's sample counts do not fit the data",
            "the file is damaged: export the recording again",
        )
    if not isinstance(times, np.ndarray):
        return ()
    steps = np.diff(times) - layout.record_s
    # Small jitter is fine, many small steps in one direction are not.
    broken = np.flatnonzero(np.abs(steps) > GAP_TOLERANCE)
    if broken.size or abs(steps.sum()) > 1.0:
        at = int(broken[0]) if broken.size else int(np.argmax(np.abs(np.cumsum(steps)) > 1.0))
        more = f" and {broken.size - 1} more" if broken.size > 1 else ""
        if not discontinuous:
            return (
                f"record_times_jump: by {steps[at]:g} s after {(at + 1) * layout.record_s:g} s of "
                f"signal{more}, though the file says it is continuous; taken as continuous",
            )
        raise RecordingError(
            path,
            f"discontinuous ({layout.kind}+D): a gap of {steps[at]:g} s after "
            f"{(at + 1) * layout.record_s:g} s of signal{more}",
            "split the recording at the gap, or export it as continuous "
            f"{layout.kind}+C with the gap filled",
        )
    return ()


def _start_time(edf) -> tuple[datetime.time | None, tuple[str, ...]]:
    from edfio import AnonymizedDateError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            try:
                edf.startdate  # noqa: B018  an invalid date makes the clock time suspect too
            except AnonymizedDateError:
                pass  # "Startdate X": the date was removed on purpose, the time stays
            return edf.starttime, ()
        except Exception:
            return None, ("invalid_start: the header's start date or time is not valid",)


def open_edf(path: Path) -> Recording:
    """Open an EDF, EDF+ or BDF file; samples are read only when asked for.

    Raises RecordingError for a file that is absent, of another format, truncated, without data
    records, damaged in its header, without signals, or discontinuous with a real gap. An EDF+D
    without a gap is read; an invalid start date is a flag and `start` is None.
    Format: Kemp & Olivan 2003 (EDF+), https://www.edfplus.info/specs/edfplus.html.
    """
    layout = check_layout(path)
    if layout.record_s == 0:
        raise RecordingError(
            path,
            "its data records last 0 s: it holds annotations only, or its header is damaged",
            "give the recording's signal file, or export it again",
        )
    import edfio

    read = edfio.read_bdf if layout.kind == "BDF" else edfio.read_edf
    failure: Exception | None = None
    for encoding in ("utf-8", "latin-1"):  # the standard says ASCII; recorders write both
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                edf = read(path, header_encoding=encoding)
                infos = tuple(_signal_info(s, layout) for s in edf.signals)
            break
        except UnicodeDecodeError as error:
            failure = error
        except Exception as error:
            raise unreadable(path, error) from None
    else:
        raise unreadable(path, failure)
    if not infos:
        raise RecordingError(
            path, "holds annotations only, no signals", "give the recording's signal file"
        )
    try:
        jumps = _check_gaps(path, edf, layout)
    except RecordingError:
        raise
    except Exception as error:
        raise unreadable(path, error) from None
    start, flags = _start_time(edf)
    flags = layout.flags + flags + jumps
    flags += tuple(
        f"uncalibrated_signal: {info.label!r} has no usable range in the header, left out"
        for info in infos
        if not info.readable
    )

    def notes():
        return [(float(n.onset), float(n.duration or 0.0), n.text) for n in edf.annotations]

    return Recording(
        path, infos, layout.records * layout.record_s, start, flags,
        lambda index: edf.signals[index].data, notes, layout.person,
    )


def _signal_info(signal, layout: Layout) -> SignalInfo:
    low, high = float(signal.physical_min), float(signal.physical_max)
    readable = low != high and signal.digital_min != signal.digital_max
    return SignalInfo(
        label=signal.label,
        unit=signal.physical_dimension,
        rate=float(signal.sampling_frequency),
        physical_min=low,
        physical_max=high,
        samples=signal.samples_per_data_record * layout.records,
        prefilter=signal.prefiltering,
        transducer=signal.transducer_type,
        readable=bool(readable and abs(low) <= LARGEST and abs(high) <= LARGEST
                      and signal.samples_per_data_record > 0),
    )  # fmt: skip
