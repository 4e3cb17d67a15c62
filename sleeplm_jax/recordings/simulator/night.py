"""One simulated night: the parts put together in the order in which they depend on one another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sleeplm_jax.recordings.simulator import (
    body,
    eeg,
    eyes,
    heart,
    limbs,
    respiration,
    scored,
    snore,
)
from sleeplm_jax.recordings.simulator.artefacts import disturb, movement_artefacts
from sleeplm_jax.recordings.simulator.course import draw_course
from sleeplm_jax.recordings.simulator.individual import Individual
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
class SimulatedNight:
    individual: Individual
    signals: list[Signal]
    stages: np.ndarray  # int8 [epochs], index into config.STAGES
    events: list[scored.ScoredEvent]
    truth: dict


def simulate(
    index: int,
    seconds: int,
    seed: int,
    artefacts: bool = True,
    people: tuple[str, ...] | None = None,
) -> SimulatedNight:
    """Simulate night `index` of cohort `seed`; `seconds` is a multiple of 30.

    `artefacts` allows what artefacts.py does to a recording; movement is part of every night.
    `people` are the kinds of sleeper to draw from (people.KINDS), all of them if None.

    Every part draws from its own generator, so a change in one leaves the others as they were.
    """

    def part(number: int) -> np.random.Generator:
        return np.random.default_rng([seed, index, number])

    course = draw_course(index, seconds, seed, people)
    person, states, movements = course.person, course.states, course.movements
    events, arousals, breathing = course.events, course.arousals, course.breathing

    beats, monitor = heart.beat_times(
        person, states, breathing, events, arousals, movements, part(7)
    )
    ecg = heart.electrocardiogram(person, beats, breathing, part(8))
    heart.shake_belts(person, beats, breathing, part(16))

    weights = eeg.state_weights(states, eeg.draw_mix(states, part(9)))
    drive = eeg.slow_wave_drive(states, part(10))
    phasic = eyes.phasic_density(states, 8 * 3600 / seconds, part(11))
    head = eeg.brain(person, states, weights, arousals, drive, phasic, part(12))
    left, right, blinks, looks = eyes.eyes(person, states, weights, phasic, head.frontal, part(13))
    # the eyes' dipole reaches the central electrodes too, of opposite sign on the two sides
    ocular = np.float32(0.06) * (left - right) / 2
    head.c3 += ocular + np.float32(0.14) * blinks
    head.c4 += np.float32(0.14) * blinks - ocular
    chin, twitches = body.chin(person, states, arousals, movements, phasic, part(14))
    # the mastoids are never quite silent: a little of the heart in all that refers to them
    beat = ecg[:: heart.ECG_RATE // eeg.RATE] / np.float32(person.r_uv)
    for m2, m1, size in zip((head.c3, left), (head.c4, right), (1.0, 0.9), strict=True):
        m2 += np.float32(size * person.ecg_leak_uv[1]) * beat
        m1 += np.float32(size * person.ecg_leak_uv[0]) * beat
    _disturb(head, left, right, ecg, movements, part(15))
    moving = body.movement_envelope(movements, limbs.LEG_RATE, seconds * limbs.LEG_RATE, part(19))
    leg = limbs.legs(person, states, course.limbs, moving, part(20))
    hum = snore.snore(person, states, breathing, part(21))

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
        *(
            Signal(label, "uV", limbs.LEG_RATE, (-800, 800), leg[label] * gain[label])
            for label in limbs.SIDES
        ),
        Signal("Snore", "", snore.SNORE_RATE, (-20, 20), hum * gain["Snore"]),
        Signal("Position", "", 1, (-1, 31), course.position.astype(np.float32)),
        Signal("HR", "bpm", 1, (0, 255), monitor.astype(np.float32)),
        Signal("SpO2", "%", 1, (0, 100), breathing.spo2.astype(np.float32)),
    ]
    spoilt = movement_artefacts(movements, seconds)
    if artefacts:
        by_label = {signal.label: (signal.values, signal.rate) for signal in signals}
        spoilt += disturb(by_label, seconds, part(17))
    spoilt.sort(key=lambda artefact: (artefact.onset, artefact.kind, artefact.channel))
    for signal in signals:
        if signal.unit == "uV":
            signal.prefiltering = eeg_filter
        np.clip(signal.values, *signal.limit, out=signal.values)
    truth = (
        head.truth
        | looks
        | {
            "r_peaks": [round(float(beat), 4) for beat in beats],
            "artefacts": [artefact.as_dict() for artefact in spoilt],
            "rem_twitches": twitches,
            "states": ["W_open", "W_closed", "N1", "N2", "N3", "R"],
            "state_bouts": _run_lengths(states),
            "limb_movements": [
                {
                    "onset": limb.onset,
                    "duration": limb.duration,
                    "channels": list(limb.sides),
                    "periodic": limb.periodic,
                }
                for limb in course.limbs
            ],
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
    marks = scored.scored(events, arousals, breathing.desaturations, course.limbs, spoilt)
    return SimulatedNight(person, signals, course.stages, marks, truth)


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


def _run_lengths(states: np.ndarray) -> list[list[int]]:
    """[state, first second, seconds] of every bout."""
    first = np.flatnonzero(np.diff(states, prepend=-9))
    length = np.diff(np.append(first, len(states)))
    return [[int(states[a]), int(a), int(n)] for a, n in zip(first, length, strict=True)]
