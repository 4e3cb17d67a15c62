"""The heart: instantaneous rate from stage, breathing and arousal; beats; the electrocardiogram."""

from __future__ import annotations

import numpy as np

from sleeplm_jax.recordings.simulator.arousals import Arousal
from sleeplm_jax.recordings.simulator.hypnogram import N1, N2, N3, W_CLOSED, W_OPEN, R
from sleeplm_jax.recordings.simulator.individual import Individual
from sleeplm_jax.recordings.simulator.noise import add_waves, fluctuation, smooth, stretch
from sleeplm_jax.recordings.simulator.respiration import RATE as BREATH_RATE
from sleeplm_jax.recordings.simulator.respiration import Breathing, RespiratoryEvent

ECG_RATE = 256  # Hz
_GRID = 8  # Hz of the instantaneous rate

# offset from the NREM rate (bpm), slow wander (bpm), share of respiratory sinus arrhythmia
_RATE = {W_OPEN: 8.0, W_CLOSED: 5.0, N1: 1.5, N2: 0.0, N3: 0.5, R: 3.0}
_WANDER = {W_OPEN: 3.2, W_CLOSED: 2.6, N1: 1.8, N2: 1.4, N3: 0.7, R: 2.6}
_VAGAL = {W_OPEN: 0.6, W_CLOSED: 0.8, N1: 0.9, N2: 1.1, N3: 1.2, R: 0.6}

# P, Q, R, S, T as Gaussians: centre (s from R at 60 bpm), width (s), height (of R).
# After McSharry et al. 2003, IEEE Trans Biomed Eng 50:289-94, in time rather than on a circle.
_WAVES = (
    ("P", -0.170, 0.024, 0.11),
    ("Q", -0.030, 0.0095, -0.10),
    ("R", 0.0, 0.0105, 1.0),
    ("S", 0.030, 0.0105, -0.22),
    ("T", 0.290, 0.050, 0.24),
)


def _by_state(table: dict[int, float], states: np.ndarray, sd: float) -> np.ndarray:
    values = np.array([table[state] for state in range(6)])
    return smooth(values[states], sd)


def beat_times(
    person: Individual,
    states: np.ndarray,
    breathing: Breathing,
    events: list[RespiratoryEvent],
    arousals: list[Arousal],
    movements: list[tuple[float, float, float]],
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Times of the R peaks in s, and the heart rate a monitor shows, in whole bpm [seconds]."""
    seconds, n = len(states), len(states) * _GRID
    slow = _by_state(_RATE, states, 12) - 3.0 * (1 - np.exp(-np.arange(seconds) / 9000))
    slow = slow + _by_state(_WANDER, states, 8) * (
        0.8 * fluctuation(rng, seconds, 45) + 0.45 * fluctuation(rng, seconds, 4)
    )
    rate = person.heart_rate + np.interp(np.arange(n) / _GRID, np.arange(seconds), slow)
    cycle = breathing.cycle[:: BREATH_RATE // _GRID][:n]
    depth = breathing.depth[:: BREATH_RATE // _GRID][:n]
    vagal = np.interp(np.arange(n) / _GRID, np.arange(seconds), _by_state(_VAGAL, states, 8))
    # faster in inspiration, slower in expiration; no breathing, no arrhythmia
    swing = person.rsa_bpm * vagal * np.clip(depth, 0, 1.5)
    rate += swing * np.sin(2 * np.pi * (cycle - 0.06))
    t = np.arange(0, 22, 1 / _GRID)
    surge = (1 - np.exp(-t / 1.6)) * np.exp(-t / 6.5)
    surge /= surge.max()

    def add(onset: float, shape: np.ndarray, size: float) -> None:
        first = int(onset * _GRID)
        part = rate[first : first + len(shape)]
        part += size * shape[: len(part)]

    young = 1.35 - person.age / 100
    for arousal in arousals:
        size = rng.uniform(6, 14) * arousal.strength * young * (1.4 if arousal.respiratory else 1)
        add(max(arousal.onset - 0.5, 0), surge, size)
    for onset, duration, strength in movements:
        add(onset, surge, min(duration, 8) * 1.3 * strength * young)
    for event in events:
        length = int(event.duration * _GRID)
        fall = np.linspace(0, 1, max(length, 2))
        fall = np.concatenate([fall, np.linspace(1, 0, 3 * _GRID)])
        add(event.onset, fall, -rng.uniform(2, 6) * (1 - event.residual))
    rate = np.clip(rate, 36, 150)
    beats = np.concatenate([[0.0], np.cumsum(rate) / 60 / _GRID])
    whole = np.arange(1, int(beats[-1]))
    peaks = np.interp(whole, beats, np.arange(n + 1) / _GRID)
    peaks += rng.normal(0, 0.004, len(peaks))  # sinus node jitter
    peaks = peaks[(peaks > 0.5) & (peaks < seconds - 0.6)]
    shown = 60 / np.convolve(np.diff(peaks), np.ones(6) / 6, "same")
    shown[:5], shown[-5:] = shown[5], shown[-6]  # the running mean is short at the ends
    monitor = np.interp(np.arange(seconds), peaks[1:], shown)
    return peaks, np.round(monitor).astype(int)


def shake_belts(
    person: Individual, peaks: np.ndarray, breathing: Breathing, rng: np.random.Generator
) -> None:
    """Add the beat's small cardiogenic oscillation to belts and flow, seen best in apnoeas."""
    t = np.arange(int(0.9 * BREATH_RATE)) / BREATH_RATE
    wave = np.exp(-((t - 0.2) ** 2) / 0.006) - 0.6 * np.exp(-((t - 0.42) ** 2) / 0.012)
    size = person.cardiogenic * np.exp(rng.normal(0, 0.2, (len(peaks), 1)))
    waves = (size * wave).astype(np.float32)
    start = (peaks * BREATH_RATE).astype(np.int64)
    for channel, gain in ((breathing.thorax, 1.0), (breathing.abdomen, 0.6), (breathing.flow, 0.7)):
        add_waves(channel, start, waves * np.float32(gain))


def electrocardiogram(
    person: Individual, peaks: np.ndarray, breathing: Breathing, rng: np.random.Generator
) -> np.ndarray:
    """ECG in µV, float32 [seconds * ECG_RATE], R at `peaks` s."""
    n = len(breathing.cycle) // BREATH_RATE * ECG_RATE
    interval = np.diff(peaks, prepend=peaks[0] - 1)
    interval = np.clip(interval, 0.4, 1.6).astype(np.float32)
    before, after = int(0.30 * ECG_RATE), int(0.62 * ECG_RATE)
    start = np.floor(peaks * ECG_RATE).astype(np.int64)
    t = np.arange(-before, after, dtype=np.float32) / ECG_RATE
    t = t - (peaks * ECG_RATE - start).astype(np.float32)[:, None] / ECG_RATE
    stretch_t = np.sqrt(interval)[:, None]
    waves = np.zeros_like(t)
    shape = {name: float(np.exp(0.2 * rng.standard_normal())) for name, *_ in _WAVES}
    shape["R"] = 1.0
    for name, centre, width, height in _WAVES:
        scale = stretch_t if name in "PT" else np.float32(1)
        x = (t - np.float32(centre) * scale) / (np.float32(width) * (scale if name == "T" else 1))
        waves += np.float32(height * shape[name]) * np.exp(-0.5 * np.square(x))
    # the axis turns with the diaphragm
    breath = np.interp(peaks, np.arange(len(breathing.cycle)) / BREATH_RATE, breathing.cycle)
    waves *= (1 + 0.06 * np.sin(2 * np.pi * breath)).astype(np.float32)[:, None]
    out = np.zeros(n, np.float32)
    add_waves(out, start - before, waves * np.float32(person.r_uv))
    seconds = n // ECG_RATE
    wander = fluctuation(rng, seconds, 3, 0.035 * person.r_uv)
    out += stretch(wander, 1, ECG_RATE, n)
    out += stretch(0.05 * person.r_uv * np.sin(2 * np.pi * breathing.cycle[::8]), 4, ECG_RATE, n)
    out += 8 * rng.standard_normal(n, np.float32)
    return out
