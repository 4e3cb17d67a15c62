"""Arousals: of respiratory events, of leg movements, spontaneous; what they do to the stage."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sleeplm_jax.recordings.simulator.hypnogram import N1, N2, N3, W_CLOSED, R
from sleeplm_jax.recordings.simulator.individual import Individual
from sleeplm_jax.recordings.simulator.limbs import LimbMovement
from sleeplm_jax.recordings.simulator.respiration import RespiratoryEvent


@dataclass
class Arousal:
    onset: float
    duration: float  # 3-15 s
    strength: float  # about 1
    respiratory: bool


def draw_arousals(
    person: Individual,
    states: np.ndarray,
    events: list[RespiratoryEvent],
    limbs: list[LimbMovement],
    rng: np.random.Generator,
) -> tuple[list[Arousal], np.ndarray]:
    """Arousals in order, and the states [seconds] with the shifts to N1 or wake they cause.

    At least 10 s of sleep come before each (AASM); after an arousal from N2 the sleeper is often
    in N1 for a while.
    """
    states = states.copy()
    asleep = states > W_CLOSED
    wanted: list[tuple[float, bool]] = [
        (event.end + rng.uniform(-0.8, 0.8), True) for event in events if event.arousal
    ]
    wanted += [
        (limb.onset + rng.uniform(0.0, 0.9), False) for limb in limbs if limb.arousal
    ]
    weight = np.zeros(len(states))
    for state, factor in ((N1, 1.2), (N2, 1.1), (N3, 0.45), (R, 1.1)):
        weight[states == state] = factor
    in_event = np.zeros(len(states), bool)
    for event in events:
        in_event[max(int(event.onset) - 5, 0) : int(event.end) + 15] = True
    weight[in_event] = 0
    chance = rng.random(len(states)) < weight * person.arousals_per_hour / 3600
    wanted += [(second + float(rng.random()), False) for second in np.flatnonzero(chance)]
    starts = [event.onset for event in events]
    arousals: list[Arousal] = []
    for onset, respiratory in sorted(wanted):
        second = int(onset)
        if second < 15 or not asleep[second - 10 : second].all():
            continue
        if arousals and onset < arousals[-1].onset + arousals[-1].duration + 12:
            continue
        duration = round(float(np.clip(rng.lognormal(np.log(8.0), 0.45), 3.2, 14.8)), 1)
        if second + duration + 2 > len(states):
            continue
        strength = float(np.exp(0.25 * rng.standard_normal()))
        arousals.append(Arousal(round(onset, 1), duration, strength, respiratory))
        state = states[second - 1]
        stop = int(onset + duration)
        coming = next((start for start in starts if start > onset), len(states))
        draw = rng.random()
        if draw < 0.05 and coming > stop + 30:
            length = int(rng.uniform(15, 45))
            length = int(min(length, coming - stop - 12))
            states[second : stop + length] = W_CLOSED
            states[stop + length : stop + length + 15] = np.minimum(
                states[stop + length : stop + length + 15], N1
            )
        elif draw < (0.19 if state == N2 else 0.08) and state in (N2, R):
            length = int(rng.uniform(10, 50))
            shifted = states[stop : stop + length]
            shifted[(shifted == N2) | (shifted == R)] = N1
        elif draw < 0.42 and state == N3:
            length = int(rng.uniform(20, 70))
            shifted = states[stop : stop + length]
            shifted[shifted == N3] = N2
    return arousals, states
