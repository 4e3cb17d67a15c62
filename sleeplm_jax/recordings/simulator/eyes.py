"""The electro-oculogram: saccades, blinks, slow and rapid eye movements, the brain's leakage."""

from __future__ import annotations

import numpy as np
from scipy import signal

from sleeplm_jax.recordings.simulator.eeg import RATE
from sleeplm_jax.recordings.simulator.hypnogram import N1, W_CLOSED, W_OPEN, R
from sleeplm_jax.recordings.simulator.individual import Individual
from sleeplm_jax.recordings.simulator.noise import add_waves, fluctuation, smooth, stretch


def phasic_density(states: np.ndarray, hour_scale: float, rng: np.random.Generator) -> np.ndarray:
    """Phasic activity of REM sleep [seconds], 0-1: bursts of seconds, denser late in the night."""
    seconds = len(states)
    burst = fluctuation(rng, seconds, 9) + 0.6 * fluctuation(rng, seconds, 60)
    late = np.clip(np.arange(seconds) / 3600 * hour_scale / 8, 0, 1)
    return np.clip(burst - 0.55 + 0.35 * late, 0, 1) * (states == R)


def eyes(
    person: Individual,
    states: np.ndarray,
    weights: np.ndarray,
    phasic: np.ndarray,
    frontal: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, list]]:
    """E1-M2, E2-M1 and the blinks' share, µV, float32 [seconds * RATE]; the movements in them.

    The eye is a dipole: with E1 below one and E2 above the other outer canthus every conjugate
    movement is of opposite sign in the two, and what comes from the brain is of one sign.
    """
    seconds, n = len(states), len(states) * RATE
    times, jumps, rapid = _saccades(person, states, phasic, rng)
    gaze = np.zeros(n, np.float32)
    rise = np.hanning(int(0.07 * RATE) + 3)
    rise = (rise / rise.sum()).astype(np.float32)
    add_waves(gaze, (times * RATE).astype(np.int64), jumps[:, None].astype(np.float32) * rise)
    gaze = np.cumsum(gaze, dtype=np.float64)
    # amplifiers are not DC: a held gaze decays (0.3 Hz high-pass), so saccades look like sails
    b, a = signal.butter(1, 0.3, "highpass", fs=RATE)
    movement = signal.lfilter(b, a, gaze).astype(np.float32)

    rolling, slow_times = _slow_rolling(states, weights, seconds, n, rng)
    movement += rolling
    left, right = movement * np.float32(1.0), movement * np.float32(-0.92)

    onsets = _blinks(person, states, rng)
    t = np.arange(int(0.6 * RATE)) / RATE
    width = rng.uniform(0.045, 0.075, (len(onsets), 1))
    height = rng.uniform(70, 190, (len(onsets), 1))
    lid = height * np.exp(-0.5 * ((t - 0.2) / width) ** 2)
    lid = lid - 0.18 * height * np.exp(-0.5 * ((t - 0.42) / (1.7 * width)) ** 2)
    start = (onsets * RATE).astype(np.int64)
    blinks = np.zeros(n, np.float32)
    add_waves(blinks, start, lid)
    left -= np.float32(0.55) * blinks  # the electrode above the eye sees the lid best
    right += blinks
    for channel in (left, right):
        channel += frontal * np.float32(rng.uniform(0.9, 1.1))
        channel += 1.2 * rng.standard_normal(n, np.float32)
        channel += stretch(fluctuation(rng, seconds, 3, 3.0), 1, RATE, n)
    truth = {
        "rapid_eye_movements": [round(float(time), 2) for time in times[rapid]],
        "slow_eye_movement_seconds": slow_times,
        "blinks": [round(float(onset), 2) for onset in onsets],
    }
    return left, right, blinks, truth


def _saccades(person, states, phasic, rng) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times (s), changes of gaze (µV at E1), and which belong to REM sleep."""
    seconds = len(states)
    per_second = (
        person.rem_density / 60 / max(float(phasic[states == R].mean()), 0.02)
        if (states == R).any()
        else 0.0
    )
    rate = np.clip(per_second * phasic, 0, 2.2)
    rate[states == W_OPEN] = 0.55
    rate[states == W_CLOSED] = 0.05
    reading = (fluctuation(rng, seconds, 60) > 0.6) & (states == W_OPEN)
    rate[reading] = 0
    count = rng.poisson(rate)
    times = np.repeat(np.arange(seconds), count) + rng.random(count.sum())
    rapid = np.repeat(states == R, count)
    gaze, jumps = 0.0, np.empty(len(times))
    aim = person.saccade_uv * rng.standard_normal(len(times))
    for number, target in enumerate(aim):  # goals about the middle, not a random walk
        jumps[number] = target - gaze
        gaze = target
    # reading: small steps to one side, a sweep back at the end of the line
    lines_t, lines_j = [], []
    for second in np.flatnonzero(np.diff(reading.astype(int), prepend=0) == 1):
        time = float(second)
        while int(time) < seconds and reading[int(time)]:
            steps = int(rng.integers(5, 9))
            for step in range(steps):
                lines_t.append(time)
                back = step == steps - 1
                lines_j.append(person.saccade_uv * (-0.28 * (steps - 1) if back else 0.28))
                time += rng.uniform(0.2, 0.32)
    order_t = np.concatenate([times, lines_t])
    order = np.argsort(order_t, kind="stable")
    jumps = np.concatenate([jumps, lines_j])[order]
    rapid = np.concatenate([rapid, np.zeros(len(lines_t), bool)])[order]
    return order_t[order], jumps, rapid


def _slow_rolling(states, weights, seconds, n, rng) -> tuple[np.ndarray, int]:
    """Slow, sinusoidal, conjugate movements (deflection > 0.5 s) in drowsy wake and N1."""
    asleep_soon = smooth((states == N1).astype(float), 40)
    drowsy = np.clip(weights[:, N1] + weights[:, W_CLOSED] * np.clip(2.5 * asleep_soon, 0, 1), 0, 1)
    grid = 8
    slow = seconds * grid
    wander = np.exp(stretch(fluctuation(rng, seconds, 6, 0.3), 1, grid, slow))
    angle = 2 * np.pi * np.cumsum(0.30 * wander) / grid
    size = np.clip(0.5 + stretch(fluctuation(rng, seconds, 8, 0.6), 1, grid, slow), 0, 2)
    envelope = stretch(drowsy, 1, grid, slow) * size
    rolling = 55 * envelope * np.sin(angle)
    return stretch(rolling, grid, RATE, n), int((drowsy > 0.5).sum())


def _blinks(person, states, rng) -> np.ndarray:
    count = rng.poisson(person.blinks_per_minute / 60 * (states == W_OPEN))
    times = np.repeat(np.arange(len(states)), count) + rng.random(count.sum())
    times.sort()
    return times[np.diff(times, prepend=-1) > 0.4]
