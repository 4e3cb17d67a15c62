"""Small EDF files for tests, written with edfio, and bytes of their headers changed by hand."""

from __future__ import annotations

import datetime
from pathlib import Path

import edfio
import numpy as np

RATE = 100


def tone(hz: float, amplitude: float, seconds: float, rate: float = RATE) -> np.ndarray:
    return amplitude * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)


def signal(label, data, rate=RATE, unit="uV", bound=None, **more) -> edfio.EdfSignal:
    bound = bound or float(max(1.0, np.abs(data).max() * 1.01))
    return edfio.EdfSignal(
        np.asarray(data, float),
        rate,
        label=label,
        physical_dimension=unit,
        physical_range=(-round(bound, 3), round(bound, 3)),
        **more,
    )


def write(path: Path, signals, *, annotations=None, start=datetime.time(22, 30), **more) -> Path:
    edf = edfio.Edf(signals, starttime=start, annotations=annotations, **more)
    edf.write(path)
    return path


def c3(seconds=90, label="C3-M2", **more) -> edfio.EdfSignal:
    rng = np.random.default_rng([7, 1])
    return signal(label, 30 * rng.standard_normal(round(seconds * RATE)), **more)


def patch(path: Path, offset: int, new: bytes) -> Path:
    raw = bytearray(path.read_bytes())
    raw[offset : offset + len(new)] = new
    path.write_bytes(bytes(raw))
    return path


def hypnogram(path: Path, texts, seconds=30.0, **more) -> Path:
    notes = [edfio.EdfAnnotation(i * seconds, seconds, text) for i, text in enumerate(texts)]
    return write(path, [signal("x", np.zeros(round(len(texts) * seconds)), 1)],
                 annotations=notes, **more)  # fmt: skip
