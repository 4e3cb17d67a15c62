"""Nights whose stages a FakeModel reads off their signals."""

from pathlib import Path

import numpy as np

from sleeplm_jax.config import STAGES, SignalSpec
from sleeplm_jax.recordings.night import Event, Night, Resolution, Trace
from tests.fake_model import tone

SPEC = SignalSpec()


def resolution(channel: str, stand_in: bool = False) -> Resolution:
    return Resolution(channel, f"{channel}-M1", (channel, "M1"), "µV", "uV", 200.0, 1.0, stand_in,
                      f"first candidate for {channel}", "a manual")


def night(stages, scored=True, missing=(), events=(), simulated=True, **more) -> Night:
    """A night whose C4 carries `stages`; `scored`: whether they are known."""
    stages = np.asarray(stages)
    signals = tone(stages)
    mask = np.ones(signals.shape[:2], bool)
    for channel in missing:
        row = SPEC.channels.index(channel)
        mask[:, row], signals[:, row] = False, -1 if channel == "POS" else 0
    channels = {
        c: None if c in missing or c == "HR" else resolution(c, c == "C3")
        for c in (*SPEC.channels, "HR", "SpO2")
    }
    c4 = SPEC.channels.index("C4")
    traces = {"SpO2": Trace(np.full(len(stages) * 30, 95, np.float32), 1.0, "%")}
    if "C4" not in missing:
        traces["C4"] = Trace(30 * signals[:, c4].reshape(-1), 64.0, "µV")
    return Night(
        recording="night-one", subject="Doe, Jane", cohort="test", path=Path("/secret/Doe.edf"),
        spec=SPEC, signals=signals, mask=mask, scale=np.ones(10, np.float32),
        offset=np.zeros(10, np.float32),
        stages=stages.astype(np.int8) if scored else np.full(len(stages), -1, np.int8),
        events=tuple(events), channels=channels, traces=traces, flags=("stand_in: C3 is C3-M1",),
        simulated=simulated, rules="AASM", **more,
    )


def records(night: Night) -> list[dict]:
    return [
        {
            "stage": STAGES[stage] if stage >= 0 else None,
            "events": [
                {"kind": e.kind, "onset": e.onset - 30 * i, "end": min(e.end - 30 * i, 30.0),
                 "continues_from": False, "continues_into": False, "channel": None}
                for e in night.events if 30 * i <= e.onset < 30 * (i + 1)
            ],
            "measurements": [], "missing": [], "scored": ["respiratory"], "stand_ins": [],
        }
        for i, stage in enumerate(night.stages.tolist())
    ]


EVENTS = (
    Event("obstructive_apnea", 605.0, 14.0), Event("arousal", 619.0, 4.0),
    Event("desaturation", 622.0, 5.0), Event("hypopnea", 1210.0, 12.0),
)
