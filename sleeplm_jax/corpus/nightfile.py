"""One prepared night as one `.npz`: int16 signals, masks, stages, events and measured records.

The same night gives the same bytes (fixed time stamps in the zip, entries stored uncompressed in
a fixed order), so that the file's hash identifies its content. No pickles are written or read.
Legend: E epochs, C channels, T samples an epoch.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import json
import zipfile
from dataclasses import dataclass

import numpy as np

from sleeplm_jax.config import CANONICAL_CHANNELS, SignalSpec
from sleeplm_jax.errors import CorpusError
from sleeplm_jax.files import write_atomically
from sleeplm_jax.places import Place, readable
from sleeplm_jax.recordings.night import Night

NIGHT_FORMAT = 2
CLIP = 6.0  # z units; recordings.signals clips there
STEPS = 32767  # int16 steps from 0 to CLIP: a step is 0.00018 z, far below any recorder's noise
CODES = ("POS",)  # channels that hold integer codes and are stored as they are
CODE_UNKNOWN = -1  # what a missing code channel holds

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip can hold


@dataclass(frozen=True)
class NightFile:
    """What `read_night` returns; `records` are JSON strings, one an epoch."""

    recording: str
    subject: str
    cohort: str
    spec: SignalSpec
    signals: np.ndarray  # int16 [E, C, T]
    mask: np.ndarray  # bool [E, C]
    scale: np.ndarray  # float32 [C], physical units per z unit
    offset: np.ndarray  # float32 [C], physical units at z = 0
    stages: np.ndarray  # int8 [E]
    artefacts: np.ndarray  # uint8 [E, len(CANONICAL_CHANNELS)], see Night.artefacts
    events: tuple[dict, ...]  # kind, onset, duration (s from the recording's start), channel, value
    records: tuple[str, ...]
    channels: dict[str, dict | None]  # how each canonical channel was found
    flags: tuple[str, ...]
    rules: str
    simulated: bool
    provenance: dict  # see recordings.night.Provenance
    trim: dict | None  # how the night was cut, as prepare says; None: the whole recording

    @property
    def input_artefacts(self) -> np.ndarray:
        """The columns of `artefacts` that belong to the samples' channels, uint8 [E, C]."""
        return self.artefacts[:, [CANONICAL_CHANNELS.index(c) for c in self.spec.channels]]


@functools.cache  # a loader comes here every sample
def steps_per_unit(channels: tuple[str, ...]) -> np.ndarray:
    """int16 steps per z unit, float32 [C]; 1 for channels that hold codes."""
    return np.array([1.0 if c in CODES else STEPS / CLIP for c in channels], np.float32)


def quantise(signals: np.ndarray, channels: tuple[str, ...]) -> np.ndarray:
    """float [..., C, T] in z units within ±6 (codes as they are) -> int16 of the same shape."""
    steps = np.rint(signals * steps_per_unit(channels)[:, None])
    return np.clip(steps, -STEPS, STEPS).astype(np.int16)


def dequantise(
    signals: np.ndarray, channels: tuple[str, ...], out: np.ndarray | None = None
) -> np.ndarray:
    """The inverse of `quantise`: int16 [..., C, T] -> float32, written to `out` where given."""
    return np.multiply(signals, (1 / steps_per_unit(channels))[:, None], out=out, dtype=np.float32)


def write_night(night: Night, records: list[dict], path: Place) -> None:
    """Writes `night` and its `records` (one an epoch, JSON-able) to `path`, atomically.

    Raises ValueError when the arrays do not agree with each other or hold values that are not
    finite: that is a fault of the caller, not of a user's file.
    """
    epochs = len(night.stages)
    artefacts = night.artefacts
    if artefacts is None:
        artefacts = np.zeros((epochs, len(CANONICAL_CHANNELS)), np.uint8)
    shapes = {
        "signals": (night.signals.shape, (epochs, *night.spec.shape)),
        "mask": (night.mask.shape, (epochs, len(night.spec.channels))),
        "scale": (night.scale.shape, (len(night.spec.channels),)),
        "offset": (night.offset.shape, (len(night.spec.channels),)),
        "artefacts": (artefacts.shape, (epochs, len(CANONICAL_CHANNELS))),
        "records": ((len(records),), (epochs,)),
    }
    for name, (found, wanted) in shapes.items():
        if found != wanted:
            raise ValueError(f"{night.recording}: {name} has shape {found}, expected {wanted}")
    for name in ("signals", "scale", "offset"):
        if not np.isfinite(getattr(night, name)).all():
            raise ValueError(f"{night.recording}: {name} holds values that are not finite")
    about = {
        "format": NIGHT_FORMAT,
        "recording": night.recording,
        "subject": night.subject,
        "cohort": night.cohort,
        "spec": dataclasses.asdict(night.spec),
        "channels": {
            name: dataclasses.asdict(found) if found else None
            for name, found in night.channels.items()
        },
        "flags": list(night.flags),
        "rules": night.rules,
        "simulated": night.simulated,
        "provenance": dataclasses.asdict(night.provenance),
        "trim": night.extra.get("trim"),
    }
    events = [dataclasses.asdict(event) for event in night.events]
    lines = "\n".join(_compact(record) for record in records)
    entries = {
        "about": _text(_compact(about)),
        "signals": quantise(night.signals, night.spec.channels),
        "mask": night.mask.astype(bool),
        "scale": night.scale.astype(np.float32),
        "offset": night.offset.astype(np.float32),
        "stages": night.stages.astype(np.int8),
        "artefacts": artefacts.astype(np.uint8),
        "events": _text(_compact(events)),
        "records": _text(lines),
    }
    _write_entries(entries, path)


def restate_person(path: Place, subject: str, provenance: dict) -> None:
    """Rewrites the night file with another subject, as `write_night` would have written it.

    `provenance` holds the keys of Provenance that change; the others stay.
    """
    with np.load(readable(path), allow_pickle=False) as archive:
        entries = {name: archive[name] for name in archive.files}
    about = json.loads(entries["about"].tobytes())
    about |= {"subject": subject, "provenance": about["provenance"] | provenance}
    _write_entries(entries | {"about": _text(_compact(about))}, path)


def _write_entries(entries: dict[str, np.ndarray], path: Place) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, array in entries.items():
            member = zipfile.ZipInfo(f"{name}.npy", _EPOCH)
            member.create_system = 3  # the default depends on the platform
            with archive.open(member, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)
    write_atomically(path, buffer.getbuffer())


def read_night(path: Place) -> NightFile:
    """Reads what `write_night` wrote.

    Raises CorpusError when the file is absent, damaged, or of another format version.
    """
    remedy = "remove it and run `sleeplm prepare` again"
    try:
        with np.load(readable(path), allow_pickle=False) as entries:
            about = json.loads(entries["about"].tobytes())
            if about["format"] != NIGHT_FORMAT:
                raise CorpusError(
                    path, f"night file of format {about['format']}, this version reads "
                    f"{NIGHT_FORMAT}", remedy,
                )
            lines = entries["records"].tobytes().decode()
            spec = about["spec"] | {"channels": tuple(about["spec"]["channels"])}
            return NightFile(
                recording=about["recording"],
                subject=about["subject"],
                cohort=about["cohort"],
                spec=SignalSpec(**spec),
                signals=entries["signals"],
                mask=entries["mask"],
                scale=entries["scale"],
                offset=entries["offset"],
                stages=entries["stages"],
                artefacts=entries["artefacts"],
                events=tuple(json.loads(entries["events"].tobytes())),
                records=tuple(lines.split("\n")) if lines else (),
                channels=about["channels"],
                flags=tuple(about["flags"]),
                rules=about["rules"],
                simulated=about["simulated"],
                provenance=about["provenance"],
                trim=about["trim"],
            )
    except FileNotFoundError as error:
        raise CorpusError(path, "no such night file", "run `sleeplm prepare` again") from error
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise CorpusError(
            path, f"damaged night file ({type(error).__name__}: {error})", remedy
        ) from error


def _compact(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _text(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8)
