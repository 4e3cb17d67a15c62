"""One simulated night: the parts put together in the order in which they depend on one another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sleeplm_jax.recordings.simulator import arousals as _arousals
from sleeplm_jax.recordings.simulator import body, eeg, eyes, heart, hypnogram, respiration
from sleeplm_jax.recordings.simulator.individual import Individual, draw_individual
from sleeplm_jax.recordings.simulator.noise import FrameNoise


@dataclass
class Signal:
    label: str
    unit: str
    rate: int  # Hz
    limit: tuple[float, float]  # physical range
    values: np.ndarray  # float32 [seconds * rate]
    transducer: str = "simulated"
    prefiltering: str = ""


@dataclass
class ScoredEvent:
    name: str  # Profusion's
    onset: float
    duration: float
    channel: str
    lowest: int | None = None
    drop: int | None = None


@dataclass
class SimulatedNight:
    individual: Individual
    signals: list[Signal]
    stages: np.ndarray  # int8 [epochs], index into config.STAGES
    events: list[ScoredEvent]
    truth: dict


_NAMES = {
    "obstructive_apnea": "Obstructive Apnea",
    "central_apnea": "Central Apnea",
    "mixed_apnea": "Mixed Apnea",
    "hypopnea": "Hypopnea",
}


def simulate(index: int, seconds: int, seed: int, artefacts: bool = True) -> SimulatedNight:
    """Simulate night `index` of cohort `seed`; `seconds` is a multiple of 30.

    `artefacts` allows electrodes that come off; movement is part of every night.

    Every part draws from its own generator, so a change in one leaves the others as they were.
    """

    def part(number: int) -> np.random.Generator:
        return np.random.default_rng([seed, index, number])

    person = draw_individual(part(0))
    bouts = hypnogram.draw_bouts(person, seconds, part(1))
    states = hypnogram.states_of(bouts, seconds)
    position, turns = body.draw_positions(person, states, part(2))
    events = respiration.draw_events(person, states, position, turns, part(3))
    arousals, states = _arousals.draw_arousals(person, states, events, part(4))
    movements = sorted(turns + body.draw_movements(states, arousals, part(5)))
    breathing = respiration.breathe(person, states, position, events, movements, part(6))
    _score_hypopnoeas(events, arousals, breathing.desaturations)

    beats, monitor = heart.beat_times(
        person, states, breathing, events, arousals, movements, part(7)
    )
    ecg = heart.electrocardiogram(person, beats, breathing, part(8))
    heart.shake_belts(person, beats, breathing, part(16))

    weights = eeg.state_weights(states, eeg.draw_mix(states, part(9)))
    drive = eeg.slow_wave_drive(states, part(10))
    phasic = eyes.phasic_density(states, 8 * 3600 / seconds, part(11))
    head = eeg.brain(person, states, weights, arousals, drive, phasic, part(12))
    left, right, looks = eyes.eyes(person, states, weights, phasic, head.frontal, part(13))
    # the eyes' dipole reaches the central electrodes too, of opposite sign on the two sides
    ocular = np.float32(0.06) * (left - right) / 2
    head.c3 += ocular
    head.c4 -= ocular
    chin, twitches = body.chin(person, states, arousals, movements, phasic, part(14))
    _disturb(head, left, right, ecg, movements, part(15))

    gain = person.gain
    eeg_filter = "HP:0.3Hz simulated"
    signals = [
        Signal("ECG", "uV", heart.ECG_RATE, (-5000, 5000), ecg * gain["ECG"]),
        Signal("ABD", "", respiration.RATE, (-10, 10), breathing.abdomen * gain["ABD"]),
        Signal("THX", "", respiration.RATE, (-10, 10), breathing.thorax * gain["THX"]),
        Signal("AF", "", respiration.RATE, (-10, 10), breathing.flow * gain["AF"]),
        Signal("E1-M2", "uV", eeg.RATE, (-800, 800), left * gain["E1-M2"]),
        Signal("E2-M1", "uV", eeg.RATE, (-800, 800), right * gain["E2-M1"]),
        Signal("C3-M2", "uV", eeg.RATE, (-500, 500), head.c3 * gain["C3-M2"]),
        Signal("C4-M1", "uV", eeg.RATE, (-500, 500), head.c4 * gain["C4-M1"]),
        Signal("Chin", "uV", body.EMG_RATE, (-800, 800), chin * gain["Chin"]),
        Signal("Position", "", 1, (-1, 31), position.astype(np.float32)),
        Signal("HR", "bpm", 1, (0, 255), monitor.astype(np.float32)),
        Signal("SpO2", "%", 1, (0, 100), breathing.spo2.astype(np.float32)),
    ]
    lost = _lead_off(signals, seconds, part(17)) if artefacts else []
    for signal in signals:
        if signal.unit == "uV":
            signal.prefiltering = eeg_filter
        np.clip(signal.values, *signal.limit, out=signal.values)
    stages = hypnogram.epochs_of(states)
    truth = (
        head.truth
        | looks
        | {
            "r_peaks": [round(float(beat), 4) for beat in beats],
            "lead_off": lost,
            "rem_twitches": twitches,
            "states": ["W_open", "W_closed", "N1", "N2", "N3", "R"],
            "state_bouts": _run_lengths(states),
            "movements": [[round(x, 2) for x in movement] for movement in movements],
            "respiratory_events": [
                {
                    "kind": event.kind,
                    "onset": round(event.onset, 1),
                    "duration": event.duration,
                    "residual_flow": round(event.residual, 3),
                    "scored": event.scored,
                }
                for event in events
            ],
            "arousals": [
                [arousal.onset, arousal.duration, arousal.respiratory] for arousal in arousals
            ],
        }
    )
    return SimulatedNight(
        person, signals, stages, _scored(events, arousals, breathing.desaturations), truth
    )


def _score_hypopnoeas(events, arousals, desaturations) -> None:
    """AASM rule 1A: a hypopnoea needs a desaturation of 3 % or an arousal."""
    woke = np.array([arousal.onset for arousal in arousals])
    fell = np.array([fall.onset for fall in desaturations])
    for event in events:
        if event.kind == "hypopnea":
            aroused = np.any((woke > event.onset + 5) & (woke < event.end + 3))
            drop = np.any((fell > event.onset - 1) & (fell < event.end + 30))
            event.scored = bool(aroused or drop)


def _scored(events, arousals, desaturations) -> list[ScoredEvent]:
    scored = [
        ScoredEvent(_NAMES[event.kind], round(event.onset, 1), event.duration, "AF")
        for event in events
        if event.scored
    ]
    scored += [
        ScoredEvent("Arousal ()", arousal.onset, arousal.duration, "C4-M1") for arousal in arousals
    ]
    scored += [
        ScoredEvent("SpO2 desaturation", fall.onset, fall.duration, "SpO2", fall.lowest, fall.drop)
        for fall in desaturations
    ]
    return sorted(scored, key=lambda event: (event.onset, event.name))


def _disturb(head, left, right, ecg, movements, rng) -> None:
    """Movement throws slow swings and muscle into EEG, EOG and ECG."""
    n = len(head.c3)
    moving = body.movement_envelope(movements, eeg.RATE, n, rng)
    noise = FrameNoise(n // eeg.RATE, eeg.RATE)
    f = np.maximum(noise.frequencies, 0.25)
    shape = np.sqrt(900 * f**-2.2 + 2.0 * (f > 15)).astype(np.float32)[None]
    shared = noise.draw(rng)
    for channel in (head.c3, head.c4, left, right):
        own = 0.7 * shared + 0.7 * noise.draw(rng)
        channel += moving * noise.synthesise(own, shape)
    ecg += np.repeat(moving * noise.synthesise(noise.draw(rng), shape), heart.ECG_RATE // eeg.RATE)


def _lead_off(signals: list[Signal], seconds: int, rng) -> list[list]:
    """In one night of eight an electrode comes off for minutes: mains hum, drift, no brain."""
    if rng.random() > 0.125:
        return []
    label = str(rng.choice(["E1-M2", "E2-M1", "C3-M2", "C4-M1", "Chin"]))
    duration = int(min(rng.uniform(60, 420), seconds / 10))
    onset = int(rng.uniform(0.1, 0.85) * seconds)
    signal = next(signal for signal in signals if signal.label == label)
    part = signal.values[onset * signal.rate : (onset + duration) * signal.rate]
    t = np.arange(len(part)) / signal.rate
    drift = np.cumsum(rng.standard_normal(len(part))) * (60 / np.sqrt(signal.rate))
    drift -= np.linspace(drift[0], drift[-1], len(drift))
    part[:] = drift + rng.uniform(60, 250) * np.sin(2 * np.pi * 50 * t)
    return [[label, onset, duration]]


def _run_lengths(states: np.ndarray) -> list[list[int]]:
    """[state, first second, seconds] of every bout."""
    first = np.flatnonzero(np.diff(states, prepend=-9))
    length = np.diff(np.append(first, len(states)))
    return [[int(states[a]), int(a), int(n)] for a, n in zip(first, length, strict=True)]
