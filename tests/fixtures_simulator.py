"""Simulated nights made once for the simulator's tests, and how those tests read them.

Read with edfio and by our scoring reader; nothing here is taken from the simulator's own objects.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

SEED, NIGHTS, HOURS = 11, 4, 2.0
W, N1, N2, N3, R = range(5)


@pytest.fixture(scope="session")
def clean_cohort(tmp_path_factory) -> Path:
    """Four nights of 2 h in which nothing goes wrong but movement."""
    from sleeplm_jax.recordings.simulator import simulate_cohort

    out = tmp_path_factory.mktemp("clean_cohort")
    simulate_cohort(out, NIGHTS, HOURS, SEED, workers=1, progress=False, artefacts=False)
    return out


@pytest.fixture(scope="session")
def apnoeic(tmp_path_factory) -> Path:
    """Three hours of a snorer with severe apnoea, whose events leave room between them."""
    from sleeplm_jax.recordings.simulator import simulate_night
    from sleeplm_jax.recordings.simulator.individual import draw_individual

    kind = ("apnoea-severe",)
    people = [draw_individual(np.random.default_rng([SEED, i, 0]), kind) for i in range(60)]
    index = next(i for i, person in enumerate(people) if person.ahi < 42 and person.snorer)
    out = tmp_path_factory.mktemp("apnoea")
    return simulate_night(out, index, 3.0, SEED, artefacts=False, people=kind)


@pytest.fixture(scope="session")
def spoilt_nights(tmp_path_factory) -> list[tuple[Path, Path]]:
    """Six half-hour nights twice: as recorded and, of the same seed, without artefacts."""
    from sleeplm_jax.recordings.simulator import simulate_night

    spoilt, clean = (tmp_path_factory.mktemp(name) for name in ("spoilt", "unspoilt"))
    return [
        (
            simulate_night(spoilt, index, 0.5, SEED),
            simulate_night(clean, index, 0.5, SEED, artefacts=False),
        )
        for index in range(6)
    ]


def channels(path: Path) -> dict[str, tuple[np.ndarray, float]]:
    """{label: (values, Hz)} of an EDF."""
    import edfio

    return {s.label: (s.data, s.sampling_frequency) for s in edfio.read_edf(path).signals}


def truth_of(path: Path) -> dict:
    return json.loads(path.with_suffix(".truth.json").read_text())


def stages_of(path: Path) -> np.ndarray:
    from sleeplm_jax.recordings.scoring import read_scoring

    return read_scoring(path.with_suffix(".xml"), None).stages


def nights(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.edf"))


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def spectrum(values: np.ndarray, rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Median over epochs of each epoch's PSD, [bins]."""
    from scipy import signal

    frequency, density = signal.welch(values, rate, nperseg=int(4 * rate), axis=-1)
    return frequency, np.median(density, axis=0)


def epochs(values: np.ndarray, rate: float) -> np.ndarray:
    return values.reshape(-1, int(30 * rate))


def band(frequency, density, low, high) -> float:
    return float(density[(frequency >= low) & (frequency < high)].sum())
