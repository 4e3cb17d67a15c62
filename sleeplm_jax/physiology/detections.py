"""What a detector finds: waves or movements with times, and what of them falls into each epoch.

n detections, E epochs of 30 s. Every detector takes traces of the whole night and returns
`Detections`, or None where a trace's rate or length cannot hold what it looks for: none found and
not looked for are two things.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from scipy import signal

from sleeplm_jax.physiology.epochs import EPOCH_SECONDS
from sleeplm_jax.recordings.night import Trace

# Hz: all that AASM names in EEG and EOG lies under 35 Hz, and YASA's time grows with the rate.
WORK_RATE = 100.0


@dataclass(frozen=True)
class Detections:
    """Arrays [n], float64, by onset. Times in s from the recording's start."""

    onset: np.ndarray
    duration: np.ndarray
    peak: np.ndarray  # where the wave is largest: its epoch counts it
    amplitude: np.ndarray  # in the trace's unit, peak to peak unless the detector says otherwise
    frequency: np.ndarray  # Hz, NaN where it has no meaning

    def __len__(self) -> int:
        return len(self.onset)

    @property
    def end(self) -> np.ndarray:
        return self.onset + self.duration

    def where(self, keep: np.ndarray) -> Detections:
        """Those of the mask or index `keep`."""
        return Detections(*(getattr(self, f.name)[keep] for f in dataclasses.fields(self)))

    def outside(self, bad: np.ndarray) -> Detections:
        """Without those that reach into an epoch marked in `bad`, bool [E], or behind the last."""
        first = np.floor(self.onset / EPOCH_SECONDS).astype(int)
        last = np.floor(np.maximum(self.end - 1e-9, self.onset) / EPOCH_SECONDS).astype(int)
        inside = (first >= 0) & (last < len(bad))
        total = np.concatenate([[0], np.cumsum(bad)])
        keep = inside.copy()
        keep[inside] = total[last[inside] + 1] == total[first[inside]]
        return self.where(keep)

    def epochs(self) -> np.ndarray:
        """The epoch of each detection's peak, int [n]."""
        return np.floor(self.peak / EPOCH_SECONDS).astype(int)

    def counts(self, epochs: int) -> np.ndarray:
        """Detections per epoch, by their peak: int [E]."""
        where = self.epochs()
        return np.bincount(where[(where >= 0) & (where < epochs)], minlength=epochs)

    def density(self, epochs: int) -> np.ndarray:
        """Detections per minute in each epoch, float [E]."""
        return self.counts(epochs) * (60 / EPOCH_SECONDS)

    def seconds(self, epochs: int) -> np.ndarray:
        """Seconds of each epoch covered by at least one detection: float [E]."""
        out = np.zeros(epochs)
        begin, until = joined(self.onset, self.end)
        first = np.floor(begin / EPOCH_SECONDS).astype(int)
        last = np.floor(until / EPOCH_SECONDS).astype(int)
        for shift in range(int((last - first).max(initial=-1)) + 1):
            epoch = first + shift
            zero = epoch * EPOCH_SECONDS
            part = np.minimum(until, zero + EPOCH_SECONDS) - np.maximum(begin, zero)
            good = (part > 0) & (epoch >= 0) & (epoch < epochs)
            np.add.at(out, epoch[good], part[good])
        return out

    def share(self, epochs: int) -> np.ndarray:
        """Per cent of each epoch covered by detections, float [E]."""
        return 100 * self.seconds(epochs) / EPOCH_SECONDS

    def medians(self, epochs: int, field: str = "amplitude") -> np.ndarray:
        """Median `field` of each epoch's detections, float [E]; NaN where there is none."""
        out = np.full(epochs, np.nan)
        where, values = self.epochs(), getattr(self, field)
        for epoch in np.unique(where[(where >= 0) & (where < epochs)]):
            out[epoch] = np.median(values[where == epoch])
        return out

    def within(self, epoch: int) -> list[tuple[float, float]]:
        """(start, end) in s of the epoch of those whose peak lies in it, clipped to 0-30."""
        zero, mine = epoch * EPOCH_SECONDS, self.epochs() == epoch
        return [
            (max(float(a) - zero, 0.0), min(float(b) - zero, EPOCH_SECONDS))
            for a, b in zip(self.onset[mine], self.end[mine])
        ]

    def with_partner(self, other: Detections, within: float) -> Detections:
        """Those that `other` has too: a peak of it lies at most `within` s from theirs."""
        return self.where(self._near(other, within))

    def without_partner(self, other: Detections, within: float) -> Detections:
        """Those that `other` does not have."""
        return self.where(~self._near(other, within))

    def _near(self, other: Detections, within: float) -> np.ndarray:
        if not len(other) or not len(self):
            return np.zeros(len(self), bool)
        theirs = np.sort(other.peak)
        after = np.minimum(np.searchsorted(theirs, self.peak), len(theirs) - 1)
        gap = np.minimum(
            np.abs(theirs[after] - self.peak), np.abs(theirs[np.maximum(after - 1, 0)] - self.peak)
        )
        return gap <= within


def detections(onset, end, peak=None, amplitude=None, frequency=None) -> Detections:
    """Detections of array-likes, sorted by onset; peak by default the middle, others NaN."""
    onset, end = np.asarray(onset, np.float64), np.asarray(end, np.float64)
    nothing = np.full(len(onset), np.nan)
    peak = (onset + end) / 2 if peak is None else np.asarray(peak, np.float64)
    amplitude = nothing if amplitude is None else np.asarray(amplitude, np.float64)
    frequency = nothing if frequency is None else np.asarray(frequency, np.float64)
    order = np.argsort(onset, kind="stable")
    return Detections(onset, end - onset, peak, amplitude, frequency).where(order)


def none_found() -> Detections:
    return detections(np.zeros(0), np.zeros(0))


def joined(begin: np.ndarray, until: np.ndarray, gap: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Intervals sorted by `begin`, made one where they overlap or lie at most `gap` apart."""
    if not len(begin):
        return begin, until
    reach = np.maximum.accumulate(until)
    first = np.concatenate([[True], begin[1:] > reach[:-1] + gap])
    starts = np.flatnonzero(first)
    return begin[starts], np.maximum.reduceat(until, starts)


def runs(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and one past the last index of every stretch of True in `mask` [samples]."""
    steps = np.diff(np.concatenate([[0], np.asarray(mask, np.int8), [0]]))
    return np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)


def inside(begin: np.ndarray, until: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices of all samples of the stretches, and the number of the stretch of each."""
    lengths = until - begin
    row = np.repeat(np.arange(len(begin)), lengths)
    start = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    return np.arange(lengths.sum()) - start[row] + begin[row], row


def resampled(trace: Trace, rate: float = WORK_RATE) -> Trace:
    """`trace` brought down to `rate` Hz, anti-aliased, once for all detectors of a channel.

    A slower trace keeps its rate: nothing is gained by inventing samples. Non-finite samples become
    zero about the median, so that they reach no neighbour and look like nothing.
    """
    values = np.asarray(trace.values, np.float32)
    finite = np.isfinite(values)
    centre = np.median(values[finite]) if finite.any() else 0.0
    values = np.where(finite, values - np.float32(centre), np.float32(0))
    # The nearest ratio of small numbers; an odd rate (199.9 Hz) gives an odd one (99.95).
    ratio = Fraction(rate / trace.rate).limit_denominator(256)
    if ratio < 1:
        values = signal.resample_poly(values, ratio.numerator, ratio.denominator)
        return Trace(values.astype(np.float32), trace.rate * float(ratio), trace.unit)
    return Trace(values, trace.rate, trace.unit)


def filtered(trace: Trace, low: float | None, high: float, order: int = 2) -> np.ndarray:
    """Zero-phase Butterworth band-pass (low-pass where `low` is None), float64 [samples]."""
    edges, kind = (high, "lowpass") if low is None else ((low, high), "bandpass")
    sos = signal.butter(order, edges, kind, fs=trace.rate, output="sos")
    pad = min(int(3 * trace.rate / (low or high)), max(len(trace.values) - 1, 0))
    return signal.sosfiltfilt(sos, np.asarray(trace.values, np.float64), padlen=pad)


def turning_points(values: np.ndarray) -> np.ndarray:
    """Indices at which `values` [samples] turn, lows and highs in turn; a plateau counts once."""
    slope = np.sign(np.diff(values))
    moving = np.flatnonzero(slope)
    turns = np.flatnonzero(slope[moving[1:]] != slope[moving[:-1]])
    return moving[turns + 1] if len(moving) > 1 else np.zeros(0, int)
