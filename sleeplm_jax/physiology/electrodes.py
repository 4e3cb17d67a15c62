"""What one electrode does on its own: its potential pops, or the heart is seen in it.

E epochs, S whole seconds.
"""

from __future__ import annotations

import numpy as np

from sleeplm_jax.physiology.epochs import slower
from sleeplm_jax.physiology.seconds import Seconds
from sleeplm_jax.recordings.night import Trace

# Pop: the potential jumps within 15 ms by this many times the usual second's peak to peak, and
# stays away for 60 ms at least (a spike returns, an eye takes 30 ms or more for its way).
POP_RANGES = 4.0
POP_RISE_S, POP_SIDE_S, POP_STAYS = 0.015, 0.06, 0.6
POP_CLEAR, POP_AROUND_S = 0.5, 0.5  # in a muscle's noise nothing can be told
POP_ACROSS = 0.3
POP_RATE = 90.0  # Hz: below, no sample lies within the rise
ECG_WINDOW = 0.06  # s about the R peak: a QRS complex lasts 0.06 to 0.1 s
ECG_RATE = 100.0  # Hz at which EEG and beats are laid over each other
ECG_LEAST_BEATS = 10
ECG_SHARE = 0.5  # QRS peak to peak over 4 standard deviations of the EEG (about its usual range)
ECG_CERTAIN = 4.0  # and over what as many beats at random times leave


def pops(
    trace: Trace, made: Seconds, epochs: int, length: int, eye: Trace | None
) -> np.ndarray:
    """Epochs with a sudden jump of one electrode's potential that stays, bool [E].

    `eye`: the other eye's trace; where it jumps the other way at the same time, an eye moved.
    """
    if trace.rate < POP_RATE:
        return np.zeros(epochs, bool)
    values = np.asarray(trace.values, np.float32)
    values = values[: int(len(made) * trace.rate)]
    rise = max(1, round(POP_RISE_S * trace.rate))
    side = max(2, round(POP_SIDE_S * trace.rate))
    good = ~made.still & (made.lost == 0)
    usual = float(np.median(made.range[good])) if good.any() else 0.0
    out = np.zeros(epochs, bool)
    if usual > 0 and len(values) > 2 * side + rise:
        jump = values[rise:] - values[:-rise]
        at = np.flatnonzero(np.abs(jump) > POP_RANGES * usual)
        at = at[(at >= side) & (at + rise + side <= len(values))]
        if len(at):
            # The largest of each second: a channel of noise alone has millions.
            second = (at / trace.rate).astype(int)
            order = np.lexsort((np.abs(jump[at]), second))
            at = at[order[np.flatnonzero(np.diff(second[order], append=-1))]]
            before = _means(values, at - side, side)
            after = _means(values, at + rise, side)
            stays = np.abs(after - before) >= POP_STAYS * np.abs(jump[at])
            stays &= _around(jump, at, trace.rate, side) <= POP_CLEAR * np.abs(jump[at])
            if eye is not None and len(eye.values) == len(trace.values):
                across = _means(eye.values, np.minimum(at + rise, len(eye.values) - side), side)
                across -= _means(eye.values, np.minimum(at, len(eye.values)) - side, side)
                stays &= across * np.sign(jump[at]) > -POP_ACROSS * np.abs(jump[at])
            second = np.minimum((at[stays] / trace.rate).astype(int), len(made) - 1)
            out[second // length] = True
    return out


def _around(jump: np.ndarray, at: np.ndarray, rate: float, side: int) -> np.ndarray:
    """The largest jump within POP_AROUND_S of those at `at`, but for themselves (side samples)."""
    near = np.arange(side, round(POP_AROUND_S * rate))
    index = np.clip(at[:, None] + np.concatenate([-near, near]), 0, len(jump) - 1)
    return np.abs(jump[index]).max(axis=1)


def _means(values: np.ndarray, starts: np.ndarray, length: int) -> np.ndarray:
    return values[starts[:, None] + np.arange(length)].mean(axis=1)


def heart_in(
    traces: dict[str, Trace], beats: np.ndarray, epochs: int, length: int
) -> dict[str, np.ndarray]:
    """{channel: bool [E]} of the `traces` in which the mean about R peaks (`beats`, s) stands out.

    It does where it exceeds what as many beats at other times would leave, and is half as large
    as the trace itself. Channels too slow for a QRS complex are left out.
    """
    channels = [name for name, trace in traces.items() if trace.rate >= ECG_RATE]
    times = beats[(beats > 1) & (beats < epochs * length - 1)]
    if len(times) < ECG_LEAST_BEATS or not channels:
        return {}
    epoch = (times // length).astype(int)
    counts = np.bincount(epoch, minlength=epochs)
    out = {}
    for name in channels:
        trace = slower(traces[name], ECG_RATE)
        values = trace.values[: int(epochs * length * trace.rate)]
        reach = round(ECG_WINDOW * trace.rate)
        index = np.rint(times * trace.rate).astype(int)[:, None] + np.arange(-reach, reach + 1)
        inside = (index >= 0).all(axis=1) & (index < len(values)).all(axis=1)
        pieces = values[np.clip(index, 0, len(values) - 1)].astype(np.float64)
        pieces -= pieces.mean(axis=1, keepdims=True)
        pieces[~inside] = 0
        summed = np.zeros((epochs, pieces.shape[1]))
        squares = np.zeros(epochs)
        np.add.at(summed, epoch, pieces)
        np.add.at(squares, epoch, (pieces**2).mean(axis=1))
        count = np.maximum(counts, 1)
        mean = np.ptp(summed / count[:, None], axis=1)
        spread = np.sqrt(squares / count)  # standard deviation within the window
        chance = 4 * spread / np.sqrt(count)
        whole = np.sqrt(_second_variance(values, trace.rate, epochs, length))
        out[name] = (
            (counts >= ECG_LEAST_BEATS) & (whole > 0) & (mean > ECG_SHARE * 4 * whole)
            & (mean > ECG_CERTAIN / 4 * chance)
        )
    return out


def _second_variance(values: np.ndarray, rate: float, epochs: int, length: int) -> np.ndarray:
    """Median over an epoch's seconds of the variance within them, [E]."""
    samples = int(rate)
    starts = np.rint(np.arange(epochs * length) * rate).astype(int)
    starts = np.minimum(starts, max(len(values) - samples, 0))
    blocks = values[starts[:, None] + np.arange(min(samples, len(values)))]
    return np.median(blocks.var(axis=1, dtype=np.float64).reshape(epochs, length), axis=1)
