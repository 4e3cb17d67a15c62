"""What goes wrong with a recording: electrodes, cables, mains, the oximeter; with its truth.

Half of the nights have little or nothing but movement, as a well-kept laboratory's would; the rates
are plausible, not fits. Kinds are named as the artefact mask names them (night.ARTEFACTS), and
"inverted" for a channel that is upside down all night.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sleeplm_jax.recordings.simulator.body import Movements

SCALP = ("C3-M2", "C4-M1", "E1-M2", "E2-M1")
ELECTRODES = (*SCALP, "Chin", "LEG-L", "LEG-R")
# movement above this strength is seen by whoever scores (draw_movements: strength about 1)
SEEN = 0.5


@dataclass(frozen=True)
class Artefact:
    kind: str  # movement, pop, lead_off, dropout, mains, ecg, inverted
    channel: str  # label in the EDF
    onset: float  # s
    duration: float  # s

    def as_dict(self) -> dict:
        return {
            "kind": self.kind,
            "channel": self.channel,
            "onset": round(self.onset, 2),
            "duration": round(self.duration, 2),
        }


def movement_artefacts(movements: Movements, seconds: int) -> list[Artefact]:
    """The movements that are large enough to spoil the scalp's channels."""
    return [
        Artefact("movement", label, onset, min(duration, seconds - onset))
        for onset, duration, strength in movements
        if strength >= SEEN
        for label in SCALP
    ]


def disturb(
    signals: dict[str, tuple[np.ndarray, int]],
    seconds: int,
    rng: np.random.Generator,
) -> list[Artefact]:
    """Spoil `signals` {label: (values, Hz)} in place; returns what was done."""
    found: list[Artefact] = []
    careless = rng.random() < 0.5  # a careless hook-up has more of everything
    factor = 1.7 if careless else 0.25
    mains = float(rng.choice([50.0, 60.0]))

    def struck(probability: float) -> bool:
        return bool(rng.random() < min(probability * factor, 0.9))

    ecg = signals["ECG"]
    if struck(0.35):
        found += _ecg_leak(signals, ecg, seconds, rng)
    if struck(0.30):
        found += _mains(signals, mains, seconds, rng)
    if struck(0.30):
        found += _pops(signals, seconds, rng)
    if struck(0.15):
        found += _lead_off(signals, mains, seconds, rng)
    if struck(0.40):
        found += _dropouts(signals, seconds, rng)
    for labels, probability in ((("THX", "ABD"), 0.06), (("ECG",), 0.05)):
        if struck(probability):
            label = str(rng.choice(labels))
            signals[label][0][:] *= -1
            found.append(Artefact("inverted", label, 0.0, float(seconds)))
    return found


def _ecg_leak(signals, ecg, seconds, rng) -> list[Artefact]:
    """The heart's field at the mastoids: in each channel that refers to one of them."""
    found = []
    values, rate = ecg
    sharp = values - np.median(values)
    mastoid = str(rng.choice(["M1", "M2", "both"]))
    onset = 0.0 if rng.random() < 0.7 else float(rng.uniform(0, 0.7) * seconds)
    peak = max(float(np.percentile(np.abs(sharp), 99.5)), 1.0)
    size = rng.uniform(18, 50) * float(rng.choice([-1, 1])) / peak
    for label in SCALP:
        if mastoid != "both" and not label.endswith(mastoid):
            continue
        part, own = signals[label]
        first = int(onset * own)
        leak = sharp[:: rate // own][first : len(part)]
        part[first:] += (size * rng.uniform(0.7, 1.0)) * leak
        found.append(Artefact("ecg", label, onset, seconds - onset))
    return found


def _mains(signals, hertz, seconds, rng) -> list[Artefact]:
    """Hum on some electrodes, for minutes or all night: above 5 µV, else nobody would say so."""
    found = []
    labels = rng.choice(ELECTRODES, size=int(rng.integers(1, 4)), replace=False)
    for label in (str(label) for label in labels):
        values, rate = signals[label]
        whole = rng.random() < 0.35
        duration = float(seconds) if whole else float(min(rng.uniform(300, 5400), 0.5 * seconds))
        onset = 0.0 if whole else float(rng.uniform(0, seconds - duration))
        part = values[int(onset * rate) : int((onset + duration) * rate)]
        t = np.arange(len(part)) / rate
        hum = rng.uniform(8, 40) * np.sin(2 * np.pi * hertz * t)
        part += hum.astype(np.float32)
        found.append(Artefact("mains", label, onset, duration))
    return found


def _pops(signals, seconds, rng) -> list[Artefact]:
    """A drying electrode: sudden steps that decay through the amplifier's high-pass."""
    label = str(rng.choice(ELECTRODES[:5]))
    values, rate = signals[label]
    first = float(rng.uniform(0, 0.7) * seconds)
    length = float(rng.uniform(0.1, 0.3) * seconds)
    count = int(min(rng.integers(4, 60), max(length / 20, 1)))
    onsets = np.sort(rng.uniform(first, min(first + length, seconds - 5), count))
    found, last = [], -10.0
    t = np.arange(int(3 * rate)) / rate
    for onset in onsets:
        if onset < last + 4:
            continue
        decay = rng.uniform(0.25, 0.6)
        size = rng.uniform(180, 420) * rng.choice([-1, 1])
        part = values[int(onset * rate) : int(onset * rate) + len(t)]
        part += (size * np.exp(-t / decay)).astype(np.float32)[: len(part)]
        found.append(Artefact("pop", label, float(onset), float(min(3 * decay, seconds - onset))))
        last = onset
    return found


def _lead_off(signals, hertz, seconds, rng) -> list[Artefact]:
    """An electrode comes off for minutes: hum and drift and no brain, or a line."""
    label = str(rng.choice(ELECTRODES))
    values, rate = signals[label]
    duration = int(min(rng.lognormal(np.log(300), 0.9), 0.2 * seconds))
    duration = max(duration, min(60, seconds // 10))
    onset = int(rng.uniform(0.05, 0.75) * seconds)
    part = values[onset * rate : (onset + duration) * rate]
    t = np.arange(len(part)) / rate
    if rng.random() < 0.3:
        part[:] = rng.normal(0, 0.3, len(part))
    else:
        drift = np.cumsum(rng.standard_normal(len(part))) * (60 / np.sqrt(rate))
        drift -= np.linspace(drift[0], drift[-1], len(drift))
        part[:] = drift + rng.uniform(60, 250) * np.sin(2 * np.pi * hertz * t)
    return [Artefact("lead_off", label, float(onset), float(duration))]


def _dropouts(signals, seconds, rng) -> list[Artefact]:
    """The finger clip slips or the hand is cold: saturation reads zero for seconds to minutes."""
    values, rate = signals["SpO2"]
    found, last = [], -30
    count = int(rng.integers(1, 12))
    for onset in np.sort(rng.integers(30, max(seconds - 200, 31), count)):
        duration = int(np.clip(rng.lognormal(np.log(20), 0.9), 5, 150))
        if onset < last + 30:
            continue
        values[onset * rate : (onset + duration) * rate] = 0
        found.append(Artefact("dropout", "SpO2", float(onset), float(duration)))
        last = onset + duration
    return found
