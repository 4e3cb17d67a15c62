"""Opening a recording, whatever its format: what the first bytes say, not what the name promises.

| format | suffixes | read by |
|---|---|---|
| EDF, EDF+, BDF | .edf .bdf .rec (UCDDB, ISRUC) | edf.py |
| WFDB header | .hea (slpdb, PhysioNet 2018) | wfdb_files.py |
| Dreem HDF5 | .h5 (DOD-H, DOD-O) | dreem.py |
"""

from __future__ import annotations

from pathlib import Path

from sleeplm_jax.errors import RecordingError
from sleeplm_jax.recordings.recording import Recording

SUFFIXES = (".edf", ".bdf", ".rec", ".hea", ".h5")
HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"


def open_recording(path: Path | str) -> Recording:
    """Open a recording of any known format; samples are read only when asked for.

    Raises RecordingError for a file that is absent, of an unknown format, damaged, truncated or
    without signals; see the format's own `open_...` for what else it refuses.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            first = file.read(8)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise RecordingError(path, f"cannot be opened ({reason})", "check the path") from None
    if first == HDF5_MAGIC:
        from sleeplm_jax.recordings.dreem import open_dreem

        return open_dreem(path)
    if path.suffix.casefold() == ".hea":
        from sleeplm_jax.recordings.wfdb_files import open_wfdb

        return open_wfdb(path)
    header = path.with_suffix(".hea")
    if path.suffix.casefold() in (".dat", ".mat") and header.is_file():
        raise RecordingError(
            path, "holds the samples of a WFDB record", f"give its header {header.name}"
        )
    from sleeplm_jax.recordings.edf import open_edf

    return open_edf(path)
