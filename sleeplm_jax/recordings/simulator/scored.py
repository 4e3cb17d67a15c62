"""The night as a scorer would mark it: which events count, their names and their channels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sleeplm_jax.recordings.simulator.arousals import Arousal
from sleeplm_jax.recordings.simulator.artefacts import Artefact
from sleeplm_jax.recordings.simulator.limbs import LimbMovement
from sleeplm_jax.recordings.simulator.respiration import Desaturation, RespiratoryEvent

NAMES = {
    "obstructive_apnea": "Obstructive Apnea",
    "central_apnea": "Central Apnea",
    "mixed_apnea": "Mixed Apnea",
    "hypopnea": "Hypopnea",
    "rera": "RERA",
}


@dataclass
class ScoredEvent:
    name: str  # Profusion's
    onset: float
    duration: float
    channel: str
    lowest: int | None = None
    drop: int | None = None


def decide(
    events: list[RespiratoryEvent], arousals: list[Arousal], desaturations: list[Desaturation]
) -> None:
    """Set `scored`: a hypopnoea needs a desaturation of 3 % or an arousal (AASM rule 1A), a RERA
    needs an arousal."""
    woke = np.array([arousal.onset for arousal in arousals])
    fell = np.array([fall.onset for fall in desaturations])
    for event in events:
        aroused = np.any((woke > event.onset + 5) & (woke < event.end + 3))
        drop = np.any((fell > event.onset - 1) & (fell < event.end + 30))
        if event.kind == "hypopnea":
            event.scored = bool(aroused or drop)
        elif event.kind == "rera":
            event.scored = bool(aroused)


def scored(
    events: list[RespiratoryEvent],
    arousals: list[Arousal],
    desaturations: list[Desaturation],
    limbs: list[LimbMovement],
    artefacts: list[Artefact],
) -> list[ScoredEvent]:
    """All scored events by onset. What an oximeter's dropout hides is not scored."""
    lost = [artefact for artefact in artefacts if artefact.kind == "dropout"]

    def hidden(fall: Desaturation) -> bool:
        return any(
            gap.onset < fall.onset + fall.duration + 1 and fall.onset < gap.onset + gap.duration
            for gap in lost
        )

    found = [
        ScoredEvent(NAMES[event.kind], round(event.onset, 1), event.duration, "AF")
        for event in events
        if event.scored
    ]
    found += [
        ScoredEvent("Arousal ()", arousal.onset, arousal.duration, "C4-M1") for arousal in arousals
    ]
    found += [
        ScoredEvent("SpO2 desaturation", fall.onset, fall.duration, "SpO2", fall.lowest, fall.drop)
        for fall in desaturations
        if not hidden(fall)
    ]
    for limb in limbs:
        side = "Left" if limb.sides[0] == "LEG-L" else "Right"
        name = f"PLM ({side})" if limb.periodic else f"Limb Movement ({side})"
        found.append(ScoredEvent(name, limb.onset, limb.duration, limb.sides[0]))
    found += [ScoredEvent("SpO2 artifact", gap.onset, gap.duration, "SpO2") for gap in lost]
    return sorted(found, key=lambda event: (event.onset, event.name))
