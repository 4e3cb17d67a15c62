"""Chin EMG in one fixed band that a 64-Hz input still shows, and body position with its changes."""

from __future__ import annotations

import numpy as np

from sleeplm_jax.physiology.epochs import EPOCH_SECONDS, bandpass, cut, slower
from sleeplm_jax.physiology.spectral import power_spectra
from sleeplm_jax.recordings.channels import POSITIONS
from sleeplm_jax.recordings.night import Trace

# AASM records the chin at 10-100 Hz; 10-30 Hz is what every cohort's rate and a 64-Hz input hold,
# and it lies below the mains frequency.
BAND = (10.0, 30.0)
WIDE = (5.0, 45.0)  # Hz: below the mains, and far enough from the band's edges to leave it whole
WORK_RATE = 200.0  # Hz: a beat's place to 2.5 ms, a twentieth of a period in the band
QRS_S = 0.08  # s to either side of an R peak
QRS_BEATS = 60  # of which the usual complex is the median
SEGMENT = 2.0  # s of a Welch window: 0.5-Hz bins
WINDOW = 0.5  # s of the envelope: long enough for five periods of 10 Hz
SHORTEST_POSITION = 3.0  # s: a sensor that passes through a code on the way is not a position


def measure_chin(
    trace: Trace, epochs: int, good: np.ndarray, beats: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Chin EMG of 10-30 Hz per epoch: {feature: [E]}; {} where the rate is below 60 Hz.

    emg_median_frequency: Hz that halves the band's power (De Luca 1997).
    burst_ratio: 95th percentile over median of the RMS of 0.5-s windows; a steady tone is near 1.
    muscle_tone: RMS of the epoch in per cent of the median over the night's `good` epochs [E].
    beats: times of R peaks in s, whose usual complex is taken out of the chin (without_heart).
    """
    if trace.rate < 2 * BAND[1]:
        return {}
    slow = slower(trace, WORK_RATE)
    slow = bandpass(slow, WIDE[0], min(WIDE[1], 0.499 * slow.rate), order=4)
    if beats is not None:
        slow = without_heart(slow, beats)
    whole_band = np.nan_to_num(cut(slow, epochs))  # past the end; such epochs are not `good`
    cuts = np.nan_to_num(
        cut(bandpass(slow, BAND[0], min(BAND[1], 0.499 * slow.rate), order=4), epochs)
    )
    frequencies, densities = power_spectra(whole_band, slow.rate, SEGMENT)
    inside = (frequencies >= BAND[0] - 1e-6) & (frequencies <= BAND[1] + 1e-6)
    median = _halving(frequencies[inside], densities[:, inside].astype(np.float64))
    window = round(WINDOW * slow.rate)
    whole = cuts.shape[1] // window * window
    squares = cuts[:, :whole].astype(np.float64).reshape(epochs, -1, window) ** 2
    envelope = np.sqrt(squares.mean(axis=2))
    high, middle = np.percentile(envelope, (95, 50), axis=1)
    rms = np.sqrt((cuts.astype(np.float64) ** 2).mean(axis=1))
    usual = np.median(rms[good]) if good.any() else np.nan
    nothing = np.full(epochs, np.nan)
    return {
        "emg_median_frequency": median,
        "burst_ratio": np.divide(high, middle, out=nothing.copy(), where=middle > 0),
        "muscle_tone": 100 * rms / usual if usual > 0 else nothing,
    }


def without_heart(trace: Trace, beats: np.ndarray) -> Trace:
    """`trace` less what the beats (s) leave in it: the median over 60 of them, fading at its ends.

    Averaged subtraction: what does not follow the heart has a median near zero and stays.
    """
    reach = round(QRS_S * trace.rate)
    at = np.rint(beats * trace.rate).astype(int)
    at = at[(at >= reach) & (at < len(trace.values) - reach)]
    blocks = len(at) // QRS_BEATS if len(at) >= QRS_BEATS else int(len(at) >= 20)
    if not blocks:
        return trace
    index = at[:, None] + np.arange(-reach, reach + 1)
    groups = np.array_split(trace.values[index], blocks)
    taper = np.minimum(1, 4 * (1 - np.abs(np.arange(-reach, reach + 1)) / (reach + 1)))
    usual = [np.tile(np.median(group, axis=0) * taper, (len(group), 1)) for group in groups]
    values = np.array(trace.values, np.float32)
    np.subtract.at(values, index, np.concatenate(usual).astype(np.float32))
    return Trace(values, trace.rate, trace.unit)


def _halving(frequencies: np.ndarray, densities: np.ndarray) -> np.ndarray:
    """Frequency at which the cumulated power [E, F] reaches half, linear between bins: [E]."""
    step = frequencies[1] - frequencies[0]
    cumulated = np.cumsum(densities, axis=1)
    half = cumulated[:, -1:] / 2
    index = (cumulated < half).sum(axis=1).clip(max=len(frequencies) - 1)
    rows = np.arange(len(cumulated))
    inside = densities[rows, index]
    before = cumulated[rows, index] - inside
    share = np.divide(half[:, 0] - before, inside, out=np.zeros(len(rows)), where=inside > 0)
    found = frequencies[index] + (share - 0.5) * step
    return np.where(cumulated[:, -1] > 0, found, np.nan)


def positions(trace: Trace, epochs: int) -> list[list[tuple[str, float, float]]]:
    """Position of each epoch as stretches (word, start s, end s inside the epoch); [] if unknown.

    `trace` holds SleepLM's codes 0-4 (else unknown) as steps. Stretches under 3 s are passed over:
    the position before them goes on.
    """
    with np.errstate(invalid="ignore"):
        codes = np.rint(np.nan_to_num(trace.values, nan=-1)).astype(int)
    codes = np.where((codes >= 0) & (codes < len(POSITIONS)), codes, -1)
    if not len(codes):
        return [[] for _ in range(epochs)]
    borders = np.flatnonzero(np.diff(codes)) + 1
    runs: list[list[float]] = []  # code, start s, end s
    for start, end in zip([0, *borders], [*borders, len(codes)]):
        passing = (end - start) / trace.rate < SHORTEST_POSITION
        if runs and (passing or runs[-1][0] == codes[start]):
            runs[-1][2] = end / trace.rate
        else:
            runs.append([codes[start], start / trace.rate, end / trace.rate])
    out: list[list[tuple[str, float, float]]] = [[] for _ in range(epochs)]
    for code, start, end in runs:
        if code < 0:
            continue
        first = int(start // EPOCH_SECONDS)
        for epoch in range(first, min(epochs, int(np.ceil(end / EPOCH_SECONDS)))):
            zero = epoch * EPOCH_SECONDS
            a, b = max(start - zero, 0.0), min(end - zero, EPOCH_SECONDS)
            if round(b) > round(a):  # a sliver under half a second is nobody's position
                out[epoch].append((POSITIONS[int(code)], a, b))
    return out
