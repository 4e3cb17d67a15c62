"""Leg movements: isolated ones and periodic series, and the two anterior tibial electromyograms.

AASM rules: a movement lasts 0.5-10 s and rises at least 8 µV above the resting EMG; four or more,
5-90 s from onset to onset, make a periodic series (Zucconi et al. 2006, Sleep Med 7:175-83,
unverified). None is scored within half a second of a respiratory event.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import signal

from sleeplm_jax.recordings.simulator.hypnogram import W_CLOSED
from sleeplm_jax.recordings.simulator.individual import Individual
from sleeplm_jax.recordings.simulator.noise import fluctuation, stretch
from sleeplm_jax.recordings.simulator.respiration import RespiratoryEvent

LEG_RATE = 128  # Hz
RESTING_UV = 3.0
SIDES = ("LEG-L", "LEG-R")


@dataclass
class LimbMovement:
    onset: float
    duration: float
    sides: tuple[str, ...]  # labels; the first leads and is scored
    size_uv: float
    periodic: bool
    arousal: bool


def draw_limb_movements(
    person: Individual,
    states: np.ndarray,
    events: list[RespiratoryEvent],
    rng: np.random.Generator,
) -> list[LimbMovement]:
    """In order of onset. Series lie mostly in N1 and N2 and fade through the night."""
    seconds = len(states)
    free = states > W_CLOSED
    for event in events:
        free[max(int(event.onset) - 2, 0) : int(event.end) + 12] = False
    hours = (states > W_CLOSED).sum() / 3600
    found: list[LimbMovement] = []
    weight = np.array([0, 0, 1.2, 1.0, 0.25, 0.2])[states] * free
    weight = weight * (1.3 - 0.6 * np.arange(seconds) / seconds)
    wanted, tries = round(person.plm_index * hours), 0
    while wanted >= 4 and weight.sum() > 0 and tries < 400:
        tries += 1
        left = wanted - len(found)
        if left < 4:
            break
        number = min(4 + int(rng.exponential(14)), left)
        at = float(rng.choice(seconds, p=weight / weight.sum())) + float(rng.random())
        leading = int(rng.integers(2))
        series = []
        while len(series) < number:
            if at + 12 >= seconds or not free[int(at) : int(at) + 4].all():
                break
            series.append(_movement(person, at, leading, True, rng))
            at += float(np.clip(rng.lognormal(np.log(person.plm_interval), 0.22), 8, 80))
        if len(series) >= 4:
            found += series
            last = series[-1]
            weight[max(int(series[0].onset) - 95, 0) : int(last.onset) + 95] = 0
            free[max(int(series[0].onset) - 95, 0) : int(last.onset) + 95] = False
    weight = np.array([0, 0, 1.0, 0.8, 0.4, 0.8])[states] * free
    busy = -100.0
    for second in np.flatnonzero(rng.random(seconds) < weight * person.limb_index / 3600):
        if second > busy and second + 12 < seconds:  # apart: no series by chance
            found.append(
                _movement(person, second + float(rng.random()), int(rng.integers(2)), False, rng)
            )
            busy = second + 95
    return sorted(found, key=lambda movement: movement.onset)


def _movement(person, at, leading, periodic, rng) -> LimbMovement:
    sides = (SIDES[leading],) if rng.random() < 0.65 else (SIDES[leading], SIDES[1 - leading])
    duration = float(np.clip(rng.lognormal(np.log(1.9), 0.5), 0.6, 9.0))
    size = float(np.clip(rng.lognormal(np.log(55), 0.5), 20, 250))
    wakes = bool(rng.random() < (0.22 if periodic else 0.3))
    return LimbMovement(round(at, 1), round(duration, 1), sides, round(size, 1), periodic, wakes)


def legs(
    person: Individual,
    states: np.ndarray,
    limbs: list[LimbMovement],
    moving: np.ndarray,
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    """Both electromyograms in µV, float32 [seconds * LEG_RATE], by label.

    `moving` [seconds * LEG_RATE] is the strength of the body's movement.
    """
    seconds, n = len(states), len(states) * LEG_RATE
    sos = signal.butter(2, [12, 58], "bandpass", fs=LEG_RATE, output="sos").astype(np.float32)
    tone = np.array([1.6, 1.25, 1.0, 0.95, 0.9, 0.75])[states]
    signals = {}
    for label in SIDES:
        level = RESTING_UV * tone * np.exp(fluctuation(rng, seconds, 120, 0.15))
        envelope = stretch(level, 1, LEG_RATE, n) + 60 * moving
        for limb in limbs:
            if label not in limb.sides:
                continue
            late = 0.0 if label == limb.sides[0] else 0.15
            first = int((limb.onset + late) * LEG_RATE)
            last = int((limb.onset + limb.duration) * LEG_RATE)
            x = np.linspace(0, 1, max(last - first, 2))
            rise = np.clip(np.minimum(x / 0.12, (1 - x) / 0.2), 0, 1)
            envelope[first : first + len(x)] += limb.size_uv * rise
        wave = signal.sosfilt(sos, rng.standard_normal(n, np.float32))
        signals[label] = (wave * envelope * np.float32(1 / 0.85)).astype(np.float32)
    return signals
