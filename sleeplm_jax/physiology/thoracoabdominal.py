"""Thorax against abdomen: the phase between the belts, breath by breath.

Together is 0 degrees, against each other (paradox) 180, as the phase angle of thoracoabdominal
asynchrony is read. Of six ways to measure it correlation bore noise and shape best (Pediatr
Pulmonol 2002, 34:462-72, abstract); the angle here is that of the product of the two belts'
analytic signals over a breath. Belts carry no sign of their own: which is up must be known first
(polarity.py), or paradox and an inverted belt are one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import fft, signal

from sleeplm_jax.physiology.breathing import BAND, LOWEST_RATE, WORK_RATE
from sleeplm_jax.physiology.detections import Detections, detections, joined, none_found
from sleeplm_jax.physiology.epochs import EPOCH_SECONDS, bandpass, slower
from sleeplm_jax.recordings.night import Trace

COMMON_RATE = 4.0  # Hz, of the phase
LEAST = 0.1  # of the night's usual product of amplitudes: below, a belt rests and has no phase
PARADOX = 90.0  # degrees: beyond, the belts move against each other more than together


@dataclass(frozen=True)
class Breaths:
    """Arrays [n], one breath each: times in s, `phase` in degrees (-180 to 180, thorax ahead > 0)
    and NaN where a belt rests; `weight` is the product of the belts' amplitudes."""

    begin: np.ndarray
    end: np.ndarray
    phase: np.ndarray
    weight: np.ndarray


def belt_phase(
    thorax: Trace, abdomen: Trace, thorax_sign: int = 1, abdomen_sign: int = 1
) -> Breaths | None:
    """Phase of the thorax against the abdomen in every breath; None under 4 Hz.

    Signs are +1 or -1: -1 turns a belt over that was found inverted. Breaths are cycles of the sum
    of both belts' phases weighted by their amplitudes, 0.1-0.7 Hz.
    """
    if min(thorax.rate, abdomen.rate) < LOWEST_RATE:
        return None
    one, two = _analytic(thorax, thorax_sign), _analytic(abdomen, abdomen_sign)
    count = min(len(one), len(two))
    if count < 10 * COMMON_RATE:
        return None
    one, two = one[:count], two[:count]
    cross = one * np.conj(two)
    # The larger belt keeps time: the sum of two that cancel out has no cycles.
    lead = np.where(np.abs(one) >= np.abs(two), one, two)
    lead = lead * np.where(np.abs(one) >= np.abs(two), 1, np.exp(1j * np.angle(cross)))
    turns = np.floor(np.unwrap(np.angle(lead)) / (2 * np.pi)).astype(int)
    edges = np.flatnonzero(np.diff(np.maximum.accumulate(turns)) > 0) + 1
    if len(edges) < 2:
        nothing = np.zeros(0)
        return Breaths(nothing, nothing, nothing, nothing)
    total = np.add.reduceat(cross, edges)[:-1] / np.diff(edges)
    size = np.add.reduceat(np.abs(cross), edges)[:-1] / np.diff(edges)
    phase = np.degrees(np.angle(total))
    phase[size < LEAST * np.median(size)] = np.nan
    return Breaths(edges[:-1] / COMMON_RATE, edges[1:] / COMMON_RATE, phase, size)


def epoch_phase(breaths: Breaths, epochs: int) -> np.ndarray:
    """Median |phase| of the breaths with their middle in each epoch, degrees [E]; NaN under 3."""
    where = np.floor((breaths.begin + breaths.end) / 2 / EPOCH_SECONDS).astype(int)
    good = np.isfinite(breaths.phase) & (where >= 0) & (where < epochs)
    where, size = where[good], np.abs(breaths.phase[good])
    out = np.full(epochs, np.nan)
    for epoch in np.flatnonzero(np.bincount(where, minlength=epochs) >= 3):
        out[epoch] = np.median(size[where == epoch])
    return out


def paradox(breaths: Breaths, least_s: float = 5.0) -> Detections:
    """Stretches of paradoxical breaths (|phase| over 90 degrees) of at least `least_s` seconds.

    Amplitude is the median |phase| of the stretch in degrees.
    """
    against = np.abs(np.nan_to_num(breaths.phase)) > PARADOX
    if not against.any():
        return none_found()
    begin, until = joined(breaths.begin[against], breaths.end[against], gap=1 / COMMON_RATE)
    long = until - begin >= least_s
    begin, until = begin[long], until[long]
    size = [
        np.median(np.abs(breaths.phase[against & (breaths.begin >= a) & (breaths.end <= b)]))
        for a, b in zip(begin, until)
    ]
    return detections(begin, until, None, size)


def _analytic(trace: Trace, sign: int) -> np.ndarray:
    band = bandpass(slower(trace, WORK_RATE), *BAND)
    values = sign * band.values.astype(np.float64)
    whole = signal.hilbert(values, fft.next_fast_len(len(values)))[: len(values)]
    times = np.arange(int(len(values) / band.rate * COMMON_RATE)) / COMMON_RATE * band.rate
    index = np.minimum(np.rint(times).astype(int), len(values) - 1)
    return whole[index]
