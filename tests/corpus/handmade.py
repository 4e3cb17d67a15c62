"""Nights made by hand, for tests that need to know every value."""

from pathlib import Path

import numpy as np

from sleeplm_jax.config import STAGES, SignalSpec
from sleeplm_jax.recordings.night import Event, Night, Resolution


def night(epochs: int = 4, seed: int = 0, name: str = "hand", spec: SignalSpec = SignalSpec()):
    rng = np.random.default_rng(seed)
    channels = spec.channels
    signals = np.clip(rng.normal(0, 2, (epochs, *spec.shape)), -6, 6).astype(np.float32)
    mask = np.ones((epochs, len(channels)), bool)
    mask[:, channels.index("C4")] = False
    signals[:, channels.index("C4")] = 0
    position = channels.index("POS")
    signals[:, position] = (np.arange(epochs) % 6 - 1)[:, None]
    found = Resolution("C3", "C3-M2", ("C3", "M2"), "µV", "mV", 256.0, 1000.0, False, "why", "here")
    return Night(
        recording=name, subject=name, cohort="handmade", path=Path("/nowhere") / name, spec=spec,
        signals=signals, mask=mask, scale=np.full(len(channels), 20, np.float32),
        offset=np.zeros(len(channels), np.float32),
        stages=np.arange(epochs).astype(np.int8) % 5,
        events=(Event("hypopnea", 12.5, 14.0), Event("arousal", 40.0, 4.0, "C3")),
        channels={"C3": found, "C4": None}, traces={}, flags=("flag ä",),
    )  # fmt: skip


def records(night: Night) -> list[dict]:
    return [
        {
            "stage": STAGES[stage] if stage >= 0 else None, "events": [], "measurements": [],
            "missing": ["C4"], "scored": [], "stand_ins": [],
        }
        for stage in night.stages.tolist()
    ]  # fmt: skip
