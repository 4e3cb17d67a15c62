"""The snore sensor: a piezo or microphone that hums with each snored breath."""

from __future__ import annotations

import numpy as np
from scipy import signal

from sleeplm_jax.recordings.simulator.hypnogram import N1, N2, N3, R
from sleeplm_jax.recordings.simulator.individual import Individual
from sleeplm_jax.recordings.simulator.noise import fluctuation, smooth, stretch
from sleeplm_jax.recordings.simulator.respiration import RATE as BREATH_RATE
from sleeplm_jax.recordings.simulator.respiration import Breathing

SNORE_RATE = 64  # Hz: the hum's presence, not its sound


def snore(
    person: Individual, states: np.ndarray, breathing: Breathing, rng: np.random.Generator
) -> np.ndarray:
    """Vibration in arbitrary units, float32 [seconds * SNORE_RATE]: bursts in inspiration, silent
    in apnoeas, loud in the breaths that end them."""
    seconds, n = len(states), len(states) * SNORE_RATE
    noise = 0.03 * rng.standard_normal(n, np.float32)
    if not person.snorer:
        return noise
    liking = np.zeros(6)
    liking[[N1, N2, N3, R]] = 0.5, 1.0, 1.0, 0.45
    spell = np.clip(0.35 + fluctuation(rng, seconds, 400, 0.5), 0, 1)
    level = stretch(smooth(liking[states], 5) * spell, 1, BREATH_RATE, len(breathing.cycle))
    phase = breathing.cycle % 1.0
    inspired = np.sin(np.pi * np.clip(phase / person.inspiratory_share, 0, 1))
    loud = level * inspired * np.clip(breathing.depth - 0.15, 0, 1.8) ** 1.3
    sos = signal.butter(2, [10, 30], "bandpass", fs=SNORE_RATE, output="sos").astype(np.float32)
    hum = signal.sosfilt(sos, rng.standard_normal(n, np.float32))
    return (noise + hum * stretch(loud, BREATH_RATE, SNORE_RATE, n)).astype(np.float32)
