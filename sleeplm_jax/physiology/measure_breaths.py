"""Breathing between channels, the shape of flow, and falls of saturation, per 30-s epoch.

E epochs.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sleeplm_jax.physiology.desaturations import desaturations, readings
from sleeplm_jax.physiology.epochs import EPOCH_SECONDS
from sleeplm_jax.physiology.polarity import AGREE
from sleeplm_jax.physiology.thoracoabdominal import belt_phase, epoch_phase, paradox
from sleeplm_jax.recordings.night import Trace

UNITS = {
    "belt_phase": "degrees",
    "paradox": "degrees",
    "flow_flatness": "ratio",
    "spo2_drop": "points",
}
LEAST_PARADOX = 3.0  # s of a stretch within the epoch: a breath at least
LEAST_DROP = 2.0  # points of a fall within the epoch, of 3 and more in all
Timed = tuple[int, float, float, float]  # epoch, value, start and end in s of the epoch


def belts_agree(signs: dict) -> bool:
    """Whether the belts are known to be the same way up, of `polarity.polarity`.

    Where one is inverted, or neither agrees with the other, a phase would say nothing of the
    breathing that the model's input shows.
    """
    return signs["belts"] is not None and signs["belts"]["correlation"] >= AGREE


def inspiration_up(signs: dict) -> bool | None:
    """Which way inspiration points in the airflow; None where no belt tells.

    Taken for granted is that belts rise with inspiration; a flow that goes against two belts that
    agree is the one turned over.
    """
    if signs["odd"] == "AF":
        return False
    with_belts = [
        signs[pair]["correlation"] >= AGREE
        for pair in ("thorax_flow", "abdomen_flow") if signs[pair] is not None
    ]
    return True if any(with_belts) else None


def measure_belts(
    thorax: Trace, abdomen: Trace, good: np.ndarray
) -> tuple[dict[str, np.ndarray], list[Timed]]:
    """({"belt_phase": [E]}, stretches of paradox) of belts that are the same way up.

    belt_phase: median of the breaths' |phase| in degrees. A stretch's value is that of the breaths
    in its part of the epoch. `good` bool [E]: both belts can be measured.
    """
    breaths = belt_phase(thorax, abdomen)
    if breaths is None:
        return {}, []
    middle = (breaths.begin + breaths.end) / 2
    stretches = []
    against = paradox(breaths)
    for begin, until in zip(against.onset, against.end):
        for epoch, a, b in _parts(begin, until, good):
            zero = epoch * EPOCH_SECONDS
            mine = (middle >= zero + a) & (middle <= zero + b) & np.isfinite(breaths.phase)
            if b - a >= LEAST_PARADOX and mine.any():
                stretches.append((epoch, float(np.median(np.abs(breaths.phase[mine]))), a, b))
    return {"belt_phase": epoch_phase(breaths, len(good))}, stretches


def spo2_drops(spo2: Trace, good: np.ndarray) -> list[Timed]:
    """Falls of saturation in points, from where they begin in the epoch to their lowest there.

    Of desaturations of 3 points and more (desaturations.py), the part of the fall that lies in the
    epoch, if that is LEAST_DROP points.
    """
    found = desaturations(spo2)
    if found is None:
        return []
    values, rate = readings(spo2)
    out = []
    for onset, nadir in zip(found.onset, found.peak):
        for epoch, a, b in _parts(onset, nadir, good):
            zero = epoch * EPOCH_SECONDS
            part = values[int((zero + a) * rate) : int((zero + b) * rate) + 1]
            part = part[np.isfinite(part)]
            if len(part) and part[0] - part.min() >= LEAST_DROP:
                out.append((epoch, float(part[0] - part.min()), a, b))
    return out


def _parts(begin: float, until: float, good: np.ndarray) -> Iterator[tuple[int, float, float]]:
    """(epoch, start, end) of the parts of an interval that lie in `good` epochs."""
    first, last = int(begin // EPOCH_SECONDS), int(until // EPOCH_SECONDS)
    for epoch in range(max(first, 0), min(last, len(good) - 1) + 1):
        zero = epoch * EPOCH_SECONDS
        a, b = max(begin - zero, 0.0), min(until - zero, EPOCH_SECONDS)
        if good[epoch] and b > a:
            yield epoch, float(a), float(b)
