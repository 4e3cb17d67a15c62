"""The electroencephalogram: background by state, and the waves a technologist looks for."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import signal

from sleeplm_jax.recordings.simulator.arousals import Arousal
from sleeplm_jax.recordings.simulator.hypnogram import N1, N2, N3, W_CLOSED, W_OPEN, R
from sleeplm_jax.recordings.simulator.individual import Individual
from sleeplm_jax.recordings.simulator.noise import (
    FrameNoise,
    add_waves,
    fluctuation,
    smooth,
    stretch,
)
from sleeplm_jax.recordings.simulator.spectra import spectra

RATE = 128  # Hz of EEG and EOG

@dataclass
class Brain:
    """Signals float32 [seconds * RATE] in µV, and the events put into them (s)."""

    c3: np.ndarray
    c4: np.ndarray
    frontal: np.ndarray  # what the eye electrodes pick up
    truth: dict[str, list] = field(default_factory=dict)


def state_weights(states: np.ndarray, bouts_mix: np.ndarray) -> np.ndarray:
    """Weights of the six states [seconds, 6]: soft borders, and neighbours mixed in by bout.

    `bouts_mix` [seconds] in (-1, 1): how much of the next lighter (< 0) or deeper (> 0) state
    shows through, since no bout is a pure specimen.
    """
    weights = np.zeros((len(states), 6))
    weights[np.arange(len(states)), states] = 1
    lighter = np.array([W_OPEN, W_CLOSED, W_CLOSED, N1, N2, N1])
    deeper = np.array([W_CLOSED, N1, N2, N3, N3, N1])
    index = np.arange(len(states))
    share = np.abs(bouts_mix)
    other = np.where(bouts_mix < 0, lighter[states], deeper[states])
    weights[index, states] -= share
    weights[index, other] += share
    return smooth(weights, 2.5)


def draw_mix(states: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """How impure each second is: slow drifts, larger in N1 and at shallow N2."""
    size = np.array([0.10, 0.14, 0.30, 0.16, 0.18, 0.14])[states]
    return np.clip(size * fluctuation(rng, len(states), 45), -0.55, 0.55)


def slow_wave_drive(states: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Propensity for slow waves [seconds], 1 in steady N3: builds up over minutes, falls fast."""
    target = np.array([0.0, 0.0, 0.0, 0.07, 1.0, 0.0])[states]
    rise = np.array([8.0, 8.0, 15.0, 60.0, 45.0, 10.0])[states]
    drive, level = np.empty(len(states)), 0.0
    for second, (goal, slow) in enumerate(zip(target, rise, strict=True)):
        level += (goal - level) / slow
        drive[second] = level
    return drive * np.exp(fluctuation(rng, len(states), 90, 0.15))


def brain(
    person: Individual,
    states: np.ndarray,
    weights: np.ndarray,
    arousals: list[Arousal],
    drive: np.ndarray,
    phasic: np.ndarray,
    rng: np.random.Generator,
) -> Brain:
    """Both central derivations and the frontal activity seen by the eye electrodes."""
    seconds = len(states)
    noise = FrameNoise(seconds, RATE)
    power = spectra(person, states, weights, arousals, noise, rng)
    shared, own3, own4, own_f = (noise.draw(rng) for _ in range(4))
    # neighbouring electrodes share slow activity more than fast
    f = noise.frequencies
    common = (0.55 + 0.33 * np.exp(-f / 9)).astype(np.float32)
    amplitude = np.sqrt(power)
    a, b = np.sqrt(common), np.sqrt(1 - common)
    c3 = noise.synthesise(a * shared + b * own3, amplitude)
    c4 = noise.synthesise(a * shared + b * own4, amplitude)
    front = 0.62 * (0.5 + 0.5 * np.exp(-f / 8)).astype(np.float32)
    frontal = noise.synthesise(0.8 * shared + 0.6 * own_f, amplitude * front)
    result = Brain(*(np.zeros(noise.n, np.float32) for _ in range(3)))
    _slow_waves(result, person, drive, rng)
    # faster activity rides on the up state and is quelled in the down state
    nesting = np.exp(np.clip(result.c3 + result.c4, -120, 120) * np.float32(0.0045))
    background = Brain(c3 * nesting, c4 * nesting, frontal * nesting)
    _burst(background, person, states, rng)
    for channel, more in ((result.c3, background.c3), (result.c4, background.c4),
                          (result.frontal, background.frontal)):  # fmt: skip
        channel += more
        channel -= np.float32(0.0014) * np.square(np.clip(channel, -150, 150))  # sharper troughs
    k_onsets = _k_complexes(result, person, weights, drive, rng)
    _spindles(result, person, weights, drive, k_onsets, rng)
    _vertex_waves(result, person, weights, rng)
    _sawtooth(result, weights, phasic, rng)
    return result


def _burst(result: Brain, person, states, rng) -> None:
    """Waxing and waning within a second, which makes real EEG less Gaussian than filtered noise,
    and scalp muscle, fitful and of each side's own."""
    n, seconds = len(result.c3), len(states)
    sd = person.burstiness * np.array([1.35, 1.2, 1.0, 0.9, 0.65, 1.0])[states]
    sd = np.repeat(smooth(sd, 3), 16)
    wax = np.exp(sd * fluctuation(rng, seconds * 16, 3) - sd**2)
    wax = stretch(wax, 16, RATE, n)
    for channel in (result.c3, result.c4, result.frontal):
        channel *= wax
    level = np.array([1.0, 0.45, 0.15, 0.06, 0.04, 0.08])[states]
    level = smooth(level, 2) * np.exp(fluctuation(rng, seconds, 25, 0.6) - 0.3)
    sos = signal.butter(2, [18, 60], "bandpass", fs=RATE, output="sos").astype(np.float32)
    for channel in (result.c3, result.c4):
        fitful = np.exp(fluctuation(rng, seconds * 8, 4, 0.6) - 0.36)
        envelope = np.repeat(level, 8) * fitful * (person.muscle_uv / 0.81)
        muscle = signal.sosfilt(sos, rng.standard_normal(n, np.float32))
        channel += muscle * stretch(envelope, 8, RATE, n)


def _place(result: Brain, onsets, waves, gains, rng) -> None:
    """Add waves [events, samples] to the derivations with `gains` (c3, c4, frontal)."""
    start = np.round(np.asarray(onsets) * RATE).astype(np.int64)
    lateral = np.exp(rng.normal(0, 0.12, (len(start), 1))).astype(np.float32)
    waves = np.asarray(waves, np.float32)
    add_waves(result.c3, start, waves * gains[0] * lateral)
    add_waves(result.c4, start, waves * gains[1] / lateral)
    add_waves(result.frontal, start, waves * gains[2])


def _poisson_times(rate: np.ndarray, rng, dead: float) -> np.ndarray:
    """Times in s of events at `rate` per second [seconds], at least `dead` s apart."""
    count = rng.poisson(np.clip(rate, 0, None))
    times = np.repeat(np.arange(len(rate)), count) + rng.random(count.sum())
    times.sort()
    kept, last = [], -np.inf
    for time in times:
        if time - last >= dead:
            kept.append(time)
            last = time
    return np.array(kept)


def _slow_waves(result: Brain, person, drive, rng) -> None:
    """Down state, then up state; amplitude lognormal, in trains, frontal more than central."""
    seconds = len(drive)
    rate = 1.05 * np.clip(drive, 0, 1.3) * np.exp(fluctuation(rng, seconds, 6, 0.5) - 0.12)
    onsets = _poisson_times(rate, rng, 0.45)
    n = len(onsets)
    if n == 0:
        return
    level = np.interp(onsets, np.arange(seconds), drive)
    size = person.slow_wave_uv * np.exp(rng.normal(-0.10, 0.36, n))
    size *= 0.55 + 0.45 * np.clip(level, 0, 1.2)
    # long and short ones: delta is broad, not a line at 1 Hz
    pace = np.exp(rng.normal(-0.10, 0.36, n))
    down = (0.5 / person.slow_wave_hz * pace * np.exp(rng.normal(-0.18, 0.25, n)))[:, None]
    up = (0.5 / person.slow_wave_hz * pace * np.exp(rng.normal(0.10, 0.25, n)))[:, None]
    t = np.arange(int(2.6 * RATE)) / RATE
    wave = np.where(t < down, -0.62 * np.sin(np.pi * np.clip(t / down, 0, 1) ** 0.8) ** 1.15, 0)
    wave += np.where(t >= down, 0.38 * np.sin(np.pi * np.clip((t - down) / up, 0, 1)), 0)
    wave = smooth(wave.T, 0.02 * RATE).T
    _place(result, onsets, wave * size[:, None], (1.0, 1.0, 0.72), rng)
    large = size > 75
    result.truth["slow_waves"] = [
        [round(float(a), 2), round(float(s), 1)]
        for a, s in zip(onsets[large], size[large], strict=True)
    ]


def _k_complexes(result: Brain, person, weights, drive, rng) -> np.ndarray:
    rate = person.k_complexes_per_minute / 60 * np.clip(weights[:, N2] - 0.15, 0, 1) * 1.2
    onsets = _poisson_times(rate, rng, 6.0)
    n = len(onsets)
    t = np.arange(int(1.6 * RATE)) / RATE
    size = (0.62 * person.slow_wave_uv + 38) * np.exp(rng.normal(0, 0.22, n))
    sharp = rng.uniform(0.09, 0.13, (n, 1))
    slow = rng.uniform(0.17, 0.26, (n, 1))
    wave = 0.10 * np.exp(-0.5 * ((t - 0.12) / 0.05) ** 2)
    wave = wave - 0.58 * np.exp(-0.5 * ((t - 0.36) / sharp) ** 2)
    wave = wave + 0.42 * np.exp(-0.5 * ((t - 0.36 - 2.1 * sharp - slow) / slow) ** 2)
    _place(result, onsets, wave * size[:, None], (1.0, 1.0, 0.8), rng)
    result.truth["k_complexes"] = [
        [round(float(a), 2), round(float(s), 1)] for a, s in zip(onsets, size, strict=True)
    ]
    return onsets


def _spindles(result: Brain, person, weights, drive, k_onsets, rng) -> None:
    """11-16 Hz, 0.5-2 s, waxing and waning; they cluster every 50 s and ride on K complexes.

    Clustering: Lecci et al. 2017, Sci Adv 3:e1602026.
    """
    seconds = len(drive)
    hertz = 0.02 * np.exp(fluctuation(rng, seconds, 100, 0.2))
    slow = 1 + 0.6 * np.sin(2 * np.pi * np.cumsum(hertz))
    density = np.clip(weights[:, N2] - 0.1, 0, 1) * 1.1 + 0.35 * weights[:, N3]
    onsets = _poisson_times(person.spindles_per_minute / 60 * slow * density, rng, 1.5)
    riding = k_onsets[rng.random(len(k_onsets)) < 0.4] + 0.7
    onsets = np.sort(np.concatenate([onsets, riding]))
    n = len(onsets)
    t = np.arange(int(2.2 * RATE)) / RATE
    duration = np.clip(rng.gamma(6, 0.16, (n, 1)), 0.5, 2.0)
    hertz = np.clip(rng.normal(person.spindle_hz, 0.45, (n, 1)), 11.1, 15.9)
    size = person.spindle_uv * np.exp(rng.normal(0, 0.28, (n, 1)))
    x = np.clip(t / duration, 0, 1)
    skew = rng.uniform(0.8, 1.3, (n, 1))
    envelope = np.sin(np.pi * x**skew) ** 1.3
    chirp = -0.35 * (x - 0.5) * duration  # they slow down a little
    angle = 2 * np.pi * (hertz + chirp) * t + rng.uniform(0, 2 * np.pi, (n, 1))
    wave = 0.5 * size * envelope * np.sin(angle)
    _place(result, onsets, wave, (1.0, 1.0, 0.32), rng)
    result.truth["spindles"] = [
        [round(float(a), 2), round(float(d), 2), round(float(h), 2), round(float(s), 1)]
        for a, d, h, s in zip(onsets, duration[:, 0], hertz[:, 0], size[:, 0], strict=True)
    ]


def _vertex_waves(result: Brain, person, weights, rng) -> None:
    """Sharp negative waves under 0.5 s, in deeper N1."""
    rate = 3.0 / 60 * np.clip(weights[:, N1] - 0.3, 0, 1) * (0.5 + 2 * weights[:, N2])
    onsets = _poisson_times(rate, rng, 1.5)
    n = len(onsets)
    t = np.arange(int(0.7 * RATE)) / RATE
    width = rng.uniform(0.035, 0.06, (n, 1))
    size = (30 + 0.35 * person.slow_wave_uv) * np.exp(rng.normal(0, 0.25, (n, 1)))
    wave = -0.75 * np.exp(-0.5 * ((t - 0.2) / width) ** 2)
    wave = wave + 0.25 * np.exp(-0.5 * ((t - 0.2 - 3.2 * width) / (1.6 * width)) ** 2)
    _place(result, onsets, size * wave, (1.0, 1.0, 0.35), rng)
    result.truth["vertex_waves"] = [round(float(a), 2) for a in onsets]


def _sawtooth(result: Brain, weights, phasic, rng) -> None:
    """Trains of notched triangular waves, 2-6 Hz, before and between bursts of eye movements."""
    rate = np.clip(weights[:, R] - 0.3, 0, 1) * (0.004 + 0.02 * np.roll(phasic, -4))
    onsets = _poisson_times(rate, rng, 6)
    n = len(onsets)
    t = np.arange(int(6 * RATE)) / RATE
    duration = rng.uniform(2, 5.5, (n, 1))
    hertz = rng.uniform(2.4, 4.2, (n, 1))
    x = np.clip(t / duration, 0, 1)
    phase = (hertz * t + 0.06 * np.sin(2 * np.pi * 0.7 * t)) % 1.0
    tooth = np.where(phase < 0.68, phase / 0.68, (1 - phase) / 0.32) - 0.5
    size = rng.uniform(20, 42, (n, 1))
    wave = size * tooth * np.sin(np.pi * x) ** 0.6
    _place(result, onsets, wave, (1.0, 1.0, 0.5), rng)
    result.truth["sawtooth_trains"] = [
        [round(float(a), 2), round(float(d), 2)]
        for a, d in zip(onsets, duration[:, 0], strict=True)
    ]
