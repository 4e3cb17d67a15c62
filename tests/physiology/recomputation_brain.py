"""Features of EEG and EOG once more, by other tools.

E epochs of 30 s.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from scipy import signal

from tests.physiology.recomputation_signals import (
    EPOCH,
    Channel,
    above_drift,
    crossings,
    cut,
    fir,
    slower,
)

BAND_EDGES = {"delta": (0.5, 4), "theta": (4, 8), "alpha": (8, 12), "sigma": (12, 16),
              "beta": (16, 30)}  # fmt: skip


def eeg_band(name: str) -> Callable:
    def one(channel: Channel, epochs: int) -> np.ndarray:
        from mne.time_frequency import psd_array_multitaper

        density, hertz = psd_array_multitaper(
            cut(above_drift(channel, 0.3), epochs), channel.rate, bandwidth=0.5, verbose="error"
        )
        return _share(density, hertz, BAND_EDGES[name], (0.5, 30))

    return one


def eog_band(edges: tuple[float, float]) -> Callable:
    def one(channel: Channel, epochs: int) -> np.ndarray:
        from mne.time_frequency import psd_array_multitaper

        density, hertz = psd_array_multitaper(
            cut(above_drift(channel, 0.2), epochs), channel.rate, bandwidth=0.2, verbose="error"
        )
        return _share(density, hertz, edges, (0.3, 30))

    return one


def _share(density, hertz, edges, total) -> np.ndarray:
    def power(low, high):
        return density[:, (hertz >= low) & (hertz < high)].sum(axis=1)

    return 100 * power(*edges) / power(*total)


def spindle_count(channel: Channel, epochs: int) -> np.ndarray:
    """YASA at the file's rate; those whose sigma stands out 2.75 times, by an FIR filter."""
    import yasa

    rate = channel.rate
    found = yasa.spindles_detect(
        channel.values, rate, freq_sp=(11, 16), duration=(0.5, 3), freq_broad=(1, 30),
        min_distance=300, thresh={"rel_pow": 0.1, "corr": 0.6, "rms": 1.0}, verbose="CRITICAL",
    )
    out = np.zeros(epochs)
    if found is None:
        return out
    envelope = np.abs(signal.hilbert(fir(channel, 11, 16)))
    for row in found.summary().itertuples():
        within = envelope[int(row.Start * rate) : int(row.End * rate)]
        beside = np.concatenate([
            envelope[max(int((row.Start - 3) * rate), 0) : max(int((row.Start - 0.3) * rate), 0)],
            envelope[int((row.End + 0.3) * rate) : int((row.End + 3) * rate)],
        ])
        if 11 <= row.Frequency <= 16 and np.percentile(within, 75) >= 2.75 * np.median(beside):
            out[min(int(row.Peak // EPOCH), epochs - 1)] += 1
    return out


def under_muscle(channel: Channel, seconds: np.ndarray) -> np.ndarray:
    """Whether 20-30 Hz has over twice its usual RMS in the second of each time or one beside it."""
    rate = channel.rate
    count = int(len(channel.values) / rate)
    fast = fir(channel, 20, 30)[: int(count * rate)].reshape(count, -1)
    loud = np.sqrt((fast**2).mean(axis=1))
    loud = loud > 2 * np.median(loud)
    loud = loud | np.r_[loud[1:], False] | np.r_[False, loud[:-1]]
    return loud[np.minimum(seconds.astype(int), count - 1)]


@functools.cache
def slow_waves(channel: Channel) -> list[tuple[float, float, float, float]]:
    """(begin, end, lowest, peak to peak) between rises through zero of the 0.5-2-Hz band."""
    rate, x, out = channel.rate, fir(channel, 0.5, 2, 0.2), []
    falls = crossings(-x)
    for a, b in zip(falls[:-1], falls[1:]):
        middle = a + 1 + int(np.argmax(x[a + 1 : b + 1] >= 0))
        size = x[middle:b].max(initial=0) - x[a:middle].min(initial=0)
        halves = ((middle - a) / rate, (b - middle) / rate)
        if (
            75 <= size <= 500 and 0.5 <= sum(halves) <= 2
            and all(0.2 <= half <= 1.05 for half in halves)
            and x[a:middle].min() <= -10 and x[middle:b].max() >= 10
        ):
            out.append((a / rate, b / rate, (a + int(x[a:middle].argmin())) / rate, size))
    keep = ~under_muscle(channel, np.array([wave[2] for wave in out]))
    return [wave for wave, kept in zip(out, keep) if kept]


def slow_wave(what: str) -> Callable:
    def one(channel: Channel, epochs: int) -> np.ndarray:
        waves = slow_waves(channel)
        where = np.array([int(wave[2] // EPOCH) for wave in waves], int)
        out = np.zeros(epochs)
        for epoch in range(epochs):
            mine = [wave for wave, e in zip(waves, where) if e == epoch]
            out[epoch] = {
                "count": len(mine),
                "share": sum(max(min(b, 30 * epoch + 30) - max(a, 30 * epoch), 0)
                             for a, b, _, _ in waves) / EPOCH * 100,
                "size": np.median([wave[3] for wave in mine]) if mine else np.nan,
            }[what]
        return out

    return one


def k_complex_count(channel: Channel, epochs: int) -> np.ndarray:
    """Troughs of an FIR band with their crest, held against the seconds about them."""
    rate, x = channel.rate, fir(channel, 0.3, 4, 0.3)
    count = int(len(x) / rate)
    second = np.ptp(x[: int(count * rate)].reshape(count, -1), axis=1)
    falls, waves = crossings(-x), []
    for a, b in zip(falls[:-1], falls[1:]):
        middle = a + 1 + int(np.argmax(x[a + 1 : b + 1] >= 0))
        low, high = a + int(x[a:middle].argmin()), middle + int(x[middle : b + 1].argmax())
        waves.append((low / rate, high / rate, x[low], x[high]))
    times = np.array([wave[0] for wave in waves])
    sizes = np.array([wave[3] - wave[2] for wave in waves])
    loud, out = under_muscle(channel, times), np.zeros(epochs)
    for i, (low, high, down, up) in enumerate(waves):
        around = second[max(int(low) - 10, 0) : int(low) + 11]
        if loud[i] or not 75 <= sizes[i] <= 500 or sizes[i] < 2 * np.median(around):
            continue
        first, last = round(low * rate), round(high * rate)
        reach = int(1.2 * rate)
        left, right = x[max(first - reach, 0) : first][::-1], x[last : last + reach]
        begin = low - (1 + np.argmax(left >= 0.1 * down)) / rate
        end = high + np.argmax(right <= 0.1 * up) / rate
        rivals = (np.abs(times - low) <= 2.5) & (sizes >= sizes[i] / 2)
        if (
            0.1 <= high - low <= 0.9 and min(-down, up) >= 0.2 * sizes[i]
            and rivals.sum() <= 2 and 0.5 <= end - begin <= 2
        ):
            out[min(int(low // EPOCH), epochs - 1)] += 1
    return out


def alpha_share(channel: Channel, epochs: int) -> np.ndarray:
    """Half seconds whose spectrum of 2 s (one FFT each) peaks at 8-13 Hz."""
    slow = slower(channel, 100.0)
    values, rate = slow.values, slow.rate
    window = np.hanning(int(2 * rate))
    starts = np.arange(0, len(values) - len(window) + 1, int(rate / 2))
    pieces = values[starts[:, None] + np.arange(len(window))]
    power = np.abs(np.fft.rfft((pieces - pieces.mean(axis=1, keepdims=True)) * window)) ** 2
    hertz = np.fft.rfftfreq(len(window), 1 / rate)

    def rows(low, high):
        return (hertz >= low) & (hertz <= high)

    alpha = np.flatnonzero(rows(8, 13))
    top = alpha[power[:, alpha].argmax(axis=1)]
    near = np.abs(hertz[None, :] - hertz[top][:, None]) <= 1
    peak = (power * near).sum(axis=1)
    beside = np.sqrt(power[:, rows(4, 7)].mean(axis=1) * power[:, rows(14, 20)].mean(axis=1))
    is_alpha = (peak / near.sum(axis=1) >= 2.5 * beside)
    is_alpha &= peak >= 0.25 * power[:, rows(1, 30)].sum(axis=1)
    where = ((starts + len(window) / 2) / rate // EPOCH).astype(int)
    return np.array([100 * is_alpha[where == epoch].mean() for epoch in range(epochs)])


def rapid_eye_movement_count(left: Channel, right: Channel, epochs: int) -> np.ndarray:
    """YASA at the file's rate, less initial deflections of 0.5 s and turns of a rolling eye."""
    import yasa

    found = yasa.rem_detect(
        left.values, right.values, left.rate, amplitude=(30, 325), verbose="CRITICAL"
    )
    out = np.zeros(epochs)
    if found is None:
        return out
    slow = slow_deflections(left, right)
    turns = np.array([b for (_, b), (c, _) in zip(slow[:-1], slow[1:]) if abs(c - b) < 0.06])
    for row in found.summary().itertuples():
        rolling = len(turns) and np.abs(turns - row.Peak).min() <= 0.1
        if row.Peak - row.Start < 0.5 and not rolling:
            out[min(int(row.Peak // EPOCH), epochs - 1)] += 1
    return out


@functools.cache
def slow_deflections(left: Channel, right: Channel) -> list[tuple[float, float]]:
    """Half waves of the eyes' difference at 0.15-1.5 Hz, by extremes between zeros of its slope."""
    one, two = (slower(channel, 20.0) for channel in (left, right))
    rate = one.rate
    a, b = fir(one, 0.15, 1.5, 0.15), fir(two, 0.15, 1.5, 0.15)
    both, fast = (a - b) / 2, (fir(one, None, 8) - fir(two, None, 8)) / 2
    turns = np.sort(np.r_[signal.argrelmax(both)[0], signal.argrelmin(both)[0]])
    step, out = int(0.25 * rate), []
    for i, j in zip(turns[:-1], turns[1:]):
        size = abs(both[j] - both[i])
        swings = sorted((np.ptp(a[i : j + 1]), np.ptp(b[i : j + 1])))
        about = fast[max(i - step, 0) : j + 1]
        sudden = np.abs(about[step:] - about[:-step])
        if (
            0.5 < (j - i) / rate <= 4 and 25 <= size <= 400 and swings[1] <= 3 * swings[0]
            and np.corrcoef(a[i : j + 1], b[i : j + 1])[0, 1] <= -0.5
            and sudden.max(initial=0) < 0.75 * size
        ):
            out.append((i / rate, j / rate))
    return out


def slow_eye_movement_share(left: Channel, right: Channel, epochs: int) -> np.ndarray:
    out = np.zeros(epochs)
    for begin, until in slow_deflections(left, right):
        for epoch in range(int(begin // EPOCH), min(int(until // EPOCH), epochs - 1) + 1):
            out[epoch] += min(until, 30 * epoch + 30) - max(begin, 30 * epoch)
    return 100 * out / EPOCH


def blink_count(left: Channel, right: Channel, epochs: int) -> np.ndarray:
    """Peaks of the lids' signal through an FIR band, their width from its half-height crossings."""
    rate = left.rate
    one, two = fir(left, 0.3, 10), fir(right, 0.3, 10)
    lid, out = (two - one) / 2, np.zeros(epochs)
    for peak in signal.argrelmax(lid, order=int(0.06 * rate))[0]:
        height = lid[peak]
        reach = int(0.3 * rate)
        before, after = lid[max(peak - reach, 0) : peak], lid[peak + 1 : peak + 1 + reach]
        if not 35 <= height <= 500 or two[peak] <= 0 or one[peak] >= 0 or not len(before):
            continue
        if before.min() > 0.3 * height or after.min(initial=np.inf) > 0.3 * height:
            continue
        foot = height - max(
            lid[max(peak - int(rate), 0) : peak].min(), lid[peak : peak + int(rate)].min()
        )
        level = height - foot / 2
        width = np.argmax(before[::-1] < level) + np.argmax(after < level) + 1
        if foot >= 35 and 0.06 <= width / rate <= 0.3:
            out[min(int(peak / rate // EPOCH), epochs - 1)] += 1
    return out
