"""What the EEG's background is made of: power spectra by state, by person and by moment."""

from __future__ import annotations

import numpy as np

from sleeplm_jax.recordings.simulator.arousals import Arousal
from sleeplm_jax.recordings.simulator.hypnogram import N1, N2, N3, W_CLOSED, W_OPEN, R
from sleeplm_jax.recordings.simulator.individual import Individual
from sleeplm_jax.recordings.simulator.noise import FrameNoise, fluctuation, smooth

# Background of each state: PSD at 1 Hz (µV²/Hz) and 1/f exponent. The exponent steepens with
# depth (Lendner et al. 2020, eLife 9:e55092; Miskovic et al. 2019, Hum Brain Mapp 40:538-51,
# both unverified). Sizes: see "How real" in docs/simulator.md for what they were held against.
_APERIODIC = {
    W_OPEN: (30.0, 1.30),
    W_CLOSED: (27.0, 1.35),
    N1: (26.0, 1.45),
    N2: (52.0, 1.75),
    N3: (215.0, 1.95),
    R: (26.0, 1.50),
}
PROFILE_HZ = (1.5, 4.0, 9.0, 14.0, 22.0)  # where a person's spectrum departs from the average


def spectra(
    person: Individual,
    states: np.ndarray,
    weights: np.ndarray,
    arousals: list[Arousal],
    noise: FrameNoise,
    rng: np.random.Generator,
) -> np.ndarray:
    """One-sided PSD of every frame, float32 [F, K]."""
    f = np.maximum(noise.frequencies, 0.1)
    low = 1 / (1 + (0.35 / f) ** 4)  # amplifiers and skin take the slowest away

    def peak(centre, width):
        return np.exp(-0.5 * ((f - centre) / width) ** 2) / (width * np.sqrt(2 * np.pi))

    alpha = person.alpha_uv**2
    rows = []
    for state in range(6):
        level, exponent = _APERIODIC[state]
        rows.append(level * f ** -(exponent + person.aperiodic_shift) * low)
    rows[N3] = rows[N3] / np.sqrt(1 + (f / 30) ** 2)
    beta = peak(16.5, 5.0) + 0.6 * peak(26, 6)
    rows[W_OPEN] = rows[W_OPEN] + person.beta_gain * 10 * beta
    rows[W_CLOSED] = rows[W_CLOSED] + person.beta_gain * 8 * beta
    for state in (W_OPEN, W_CLOSED):
        rows[state] = rows[state] + 8 * peak(person.theta_hz + 0.7, 1.5)
    rows[N1] = rows[N1] + person.beta_gain * 4 * beta + 22 * peak(person.theta_hz - 0.8, 1.6)
    rows[N2] = rows[N2] + 16 * peak(person.theta_hz - 0.8, 1.8) + 8 * peak(person.spindle_hz, 1.8)
    rows[N2] = rows[N2] + 11 * peak(9.8, 2.0)
    rows[N3] = rows[N3] + 52 * peak(person.theta_hz - 1.0, 2.0) + 26 * peak(9.0, 2.2)
    rows[N3] = rows[N3] + 8 * peak(person.spindle_hz - 0.8, 1.5)
    rows[R] = rows[R] + person.beta_gain * 5 * beta + 26 * peak(person.theta_hz - 1.4, 2.0)
    rows[R] = rows[R] + (0.03 * alpha + 2.5) * peak(person.alpha_hz - 1.2, 1.2)
    own = 10 ** (np.interp(np.log(f), np.log(PROFILE_HZ), person.profile_db) / 10)
    rows = [row * own for row in rows]
    rows[W_OPEN] = rows[W_OPEN] * person.wake_power
    rows[W_CLOSED] = rows[W_CLOSED] * person.wake_power
    alpha_row = alpha * (peak(person.alpha_hz, 0.65) + 0.06 * peak(2 * person.alpha_hz, 1.2))
    arousal_row = (
        0.8 * alpha * peak(person.alpha_hz - 0.3, 1.0)
        + 16 * peak(person.theta_hz, 1.4)
        + person.beta_gain * 24 * beta
        + 20.0 * f**-1.3 * low
    )
    table = np.stack([*rows, alpha_row, arousal_row]).astype(np.float32)

    seconds = len(states)
    grid = np.arange(seconds)

    def framed(values):
        return np.interp(noise.times, grid, values)

    gains = np.stack([framed(weights[:, state]) for state in range(6)], 1)
    closed = weights[:, W_CLOSED] + 0.10 * weights[:, W_OPEN] + 0.10 * weights[:, N1]
    alpha_gain = framed(closed) * np.exp(fluctuation(rng, noise.frames, 4, 0.55) - 0.15)
    aroused = np.zeros(seconds * 4)
    for arousal in arousals:
        first, last = int(arousal.onset * 4), int((arousal.onset + arousal.duration) * 4)
        aroused[first:last] = np.minimum(arousal.strength, 1.6)
    aroused = np.interp(noise.times * 4, np.arange(seconds * 4), smooth(aroused, 3))
    gains *= 1 - 0.6 * np.clip(aroused, 0, 1)[:, None]
    gains = np.concatenate([gains, alpha_gain[:, None], aroused[:, None]], 1).astype(np.float32)
    # einsum, not BLAS: the same bits whatever number of threads
    power = np.einsum("fk,kb->fb", gains, table)
    # wake is the least steady
    unsteady = 1 + 2 * framed(weights[:, W_OPEN] + weights[:, W_CLOSED])
    for low_edge, high_edge, sd in ((0, 4, 0.28), (4, 8, 0.20), (8, 12, 0.16), (12, 50, 0.10)):
        band = (f >= low_edge) & (f < high_edge)
        drift = unsteady * fluctuation(rng, noise.frames, 4, sd)
        power[:, band] *= np.exp(drift).astype(np.float32)[:, None]
    return power
