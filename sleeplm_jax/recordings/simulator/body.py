"""Body position, movements, and the chin's muscle tone."""

from __future__ import annotations

import numpy as np
from scipy import signal

from sleeplm_jax.recordings.simulator.arousals import Arousal
from sleeplm_jax.recordings.simulator.hypnogram import N1, N2, N3, W_CLOSED, W_OPEN, R
from sleeplm_jax.recordings.simulator.individual import Individual
from sleeplm_jax.recordings.simulator.noise import add_waves, fluctuation, smooth, stretch

RIGHT, LEFT, SUPINE, PRONE, UPRIGHT = range(5)
EMG_RATE = 256  # Hz

Movements = list[tuple[float, float, float]]  # onset s, duration s, strength about 1


def draw_positions(
    person: Individual, states: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, Movements]:
    """Position code per second int8 [seconds], and the movements that change it.

    People turn when they are awake or at the border of sleep, every 20-60 minutes.
    """
    seconds = len(states)
    liking = rng.dirichlet([2.5, 2.5, 4.0, 0.6])
    position = np.full(seconds, UPRIGHT, np.int8)
    light = np.flatnonzero((states == W_OPEN) | (states == W_CLOSED) | (states == N1))
    asleep = np.flatnonzero(states > W_CLOSED)
    onset = int(asleep[0]) if len(asleep) else seconds
    lying = int(min(rng.uniform(20, 90), 0.4 * onset)) if rng.random() < 0.4 else 0
    now = int(rng.choice(4, p=liking))
    position[lying:] = now
    movements: Movements = [(float(lying), 6.0, 1.2)] if lying else []
    at = lying
    while True:
        due = at + rng.gamma(2.2, 14 * 60) + 60
        later = light[light >= due]
        if len(later) == 0 or later[0] > seconds - 30:
            break
        at = int(later[0])
        weights = liking.copy()
        weights[now] = 0
        now = int(rng.choice(4, p=weights / weights.sum()))
        duration = float(rng.uniform(4, 14))
        movements.append((at + float(rng.random()), duration, float(rng.uniform(0.8, 1.6))))
        position[at + int(duration / 2) :] = now
    return position, movements


def draw_movements(
    person: Individual, states: np.ndarray, arousals: list[Arousal], rng: np.random.Generator
) -> Movements:
    """Small movements: fidgeting in wake, a shift of the body at some arousals."""
    movements: Movements = []
    wake = np.flatnonzero((states == W_OPEN) | (states == W_CLOSED))
    rate = person.restlessness * np.where(states[wake] == W_OPEN, 1 / 24, 1 / 60)
    for second in wake[rng.random(len(wake)) < rate]:
        strength = float(rng.lognormal(np.log(0.35), 0.6))
        movements.append((second + float(rng.random()), float(rng.uniform(1, 6)), strength))
    for arousal in arousals:
        if rng.random() < 0.3:
            duration = float(min(arousal.duration, rng.uniform(1.5, 6)))
            movements.append((arousal.onset + 1, duration, float(rng.uniform(0.2, 0.8))))
    return movements


def movement_envelope(
    movements: Movements, rate: int, n: int, rng: np.random.Generator
) -> np.ndarray:
    """Strength of movement over time, fitful, float32 [n]."""
    envelope = np.zeros(n, np.float32)
    for onset, duration, strength in movements:
        first, last = int(onset * rate), min(int((onset + duration) * rate), n)
        if last - first < 4:
            continue
        shape = np.sin(np.pi * np.linspace(0, 1, last - first)) ** 0.7
        shape = shape * np.exp(fluctuation(rng, last - first, 0.35 * rate, 0.7) - 0.25)
        envelope[first:last] = np.maximum(envelope[first:last], strength * shape)
    return envelope


# tone relative to quiet wake; REM is the person's own atonia
_TONE = {W_OPEN: 1.35, W_CLOSED: 1.0, N1: 0.62, N2: 0.42, N3: 0.34}


def chin(
    person: Individual,
    states: np.ndarray,
    arousals: list[Arousal],
    movements: Movements,
    phasic: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, list[float]]:
    """Chin EMG in µV, float32 [seconds * EMG_RATE], and the times of REM twitches in s.

    `phasic` [seconds] is the density of phasic REM events: twitches keep its company.
    """
    seconds, n = len(states), len(states) * EMG_RATE
    level = np.full(6, person.atonia)
    for state, tone in _TONE.items():
        level[state] = max(tone, person.atonia)
    # in logarithms, so that a fall to atonia takes seconds and not a minute
    tone = smooth(np.log(level[states]), 3.0)
    awake = smooth(((states == W_OPEN) | (states == W_CLOSED)).astype(float), 5)
    tone += fluctuation(rng, seconds, 300, 0.12) + fluctuation(rng, seconds, 8, 0.10) * (1 + awake)
    tone += fluctuation(rng, seconds, 40, 0.25) * awake
    envelope = np.exp(tone)
    fine = stretch(envelope, 1, 16, seconds * 16)
    for arousal in arousals:
        first, last = int(arousal.onset * 16), int((arousal.onset + arousal.duration) * 16)
        part = fine[first:last]
        rise = np.sin(np.pi * np.linspace(0, 1, len(part))) ** 0.5
        part += (rise * arousal.strength * rng.uniform(0.3, 1.3)).astype(np.float32)
    wave = rng.standard_normal(n, np.float32)
    sos = signal.butter(2, [12, 95], "bandpass", fs=EMG_RATE, output="sos").astype(np.float32)
    wave = signal.sosfilt(sos, wave).astype(np.float32, copy=False)
    wave *= np.float32(person.chin_uv / np.sqrt((95 - 12) / (EMG_RATE / 2)))
    wave *= stretch(fine, 16, EMG_RATE, n)
    moving = movement_envelope(movements, EMG_RATE, n, rng)
    wave *= 1 + moving * (3.5 / stretch(fine, 16, EMG_RATE, n))
    # brief twitches (< 0.25 s) on top of atonia
    chance = (states == R) * (0.008 + 0.09 * phasic)
    onsets = np.flatnonzero(rng.random(seconds) < chance) + rng.random()
    length = int(0.25 * EMG_RATE)
    t = np.arange(length) / EMG_RATE
    width = rng.uniform(0.08, 0.22, (len(onsets), 1))
    shape = np.where(t < width, np.sin(np.pi * np.clip(t / width, 0, 1)), 0)
    height = person.chin_uv * np.exp(rng.normal(0.2, 0.4, (len(onsets), 1)))
    twitches = (height * shape * rng.standard_normal((len(onsets), length))).astype(np.float32)
    add_waves(wave, (onsets * EMG_RATE).astype(int), twitches)
    return wave, [round(float(onset), 2) for onset in onsets]
