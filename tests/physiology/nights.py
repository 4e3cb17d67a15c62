"""Nights drawn from formulas, for tests: every channel's truth is known."""

from pathlib import Path

import numpy as np

from sleeplm_jax.config import SLEEPLM_CHANNELS, SignalSpec
from sleeplm_jax.recordings.night import Night, Resolution, Trace


def resolution(channel, stand_in=False):
    return Resolution(
        channel, channel, (channel,), "µV", "uV", 1.0, 1.0, stand_in, "drawn", "tests"
    )


def drawn_traces(epochs, rate=128.0, seed=0):
    """EEG alpha, EOG 0.5 Hz, breathing at 15 a minute, a beat a second, chin noise, supine."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(epochs * 30 * rate)) / rate
    slow = np.arange(epochs * 30 * 16) / 16

    def noise(size=None):
        return rng.standard_normal(len(time) if size is None else size)

    beat = (time + 0.5) % 1.0 - 0.5
    values = {
        "ECG": (1000 * np.exp(-0.5 * (beat / 0.012) ** 2) + 10 * noise(), rate),
        "EOG-L": (80 * np.sin(2 * np.pi * 0.5 * time) + noise(), rate),
        "EOG-R": (-80 * np.sin(2 * np.pi * 0.5 * time) + noise(), rate),
        "C3": (30 * np.sin(2 * np.pi * 10 * time) + 2 * noise(), rate),
        "C4": (30 * np.sin(2 * np.pi * 2 * time) + 2 * noise(), rate),
        "EMG": (5 * noise(), rate),
        "POS": (np.full(epochs * 30, 2.0), 1.0),
        "HR": (np.full(epochs * 30, 60.0), 1.0),
        "SpO2": (np.full(epochs * 30, 96.0), 1.0),
    }
    for channel in ("ABD", "THX", "AF"):
        values[channel] = (np.sin(2 * np.pi * 0.25 * slow) + 0.01 * noise(len(slow)), 16.0)
    return {name: Trace(v.astype(np.float32), r, "µV") for name, (v, r) in values.items()}


def drawn_night(epochs=6, stages=None, events=(), traces=None, mask=None, stand_ins=()):
    traces = drawn_traces(epochs) if traces is None else traces
    spec = SignalSpec()
    if mask is None:
        mask = np.tile([name in traces for name in SLEEPLM_CHANNELS], (epochs, 1))
    stages = np.full(epochs, 2) if stages is None else stages
    return Night(
        recording="drawn", subject="drawn", cohort="tests", path=Path("drawn.edf"), spec=spec,
        signals=np.zeros((epochs, *spec.shape), np.float32), mask=mask,
        scale=np.ones(len(mask[0]), np.float32), offset=np.zeros(len(mask[0]), np.float32),
        stages=np.asarray(stages, np.int8), events=tuple(events),
        channels={name: resolution(name, name in stand_ins) for name in traces}, traces=traces,
    )  # fmt: skip
