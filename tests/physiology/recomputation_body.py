"""Features of heart, oxygen, breathing, chin and position once more, by other tools.

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
    crossings,
    cut,
    fir,
    slower,
)


@functools.cache
def beats(ecg: Channel) -> np.ndarray:
    """R peaks by MNE's detector, moved to the largest deflection within 50 ms, in s."""
    from mne.preprocessing.ecg import qrs_detector

    values, rate = ecg.values, ecg.rate
    found = qrs_detector(rate, values, thresh_value="auto", filter_length="10s", verbose="error")
    sharp = fir(ecg, 5, 30)
    sign = 1 if sharp.max() > -sharp.min() else -1
    centred, reach, out = sign * values, int(0.05 * rate), []
    for peak in found:
        first = max(peak - reach, 1)
        top = first + int(centred[first : peak + reach + 1].argmax())
        if not 0 < top < len(values) - 1:
            continue
        a, b, c = np.polyfit([-1, 0, 1], centred[top - 1 : top + 2], 2)
        out.append((top + (-b / (2 * a) if a < 0 else 0.0)) / rate)
    return np.unique(out)


def sinus(times: np.ndarray) -> np.ndarray:
    intervals = np.diff(times)
    usual = np.array([np.median(intervals[max(i - 5, 0) : i + 6]) for i in range(len(intervals))])
    return (np.abs(intervals - usual) <= 0.3 * usual) & (intervals >= 0.3) & (intervals <= 2)


@functools.cache
def heart_curve(ecg: Channel, epochs: int) -> np.ndarray:
    """bpm [E, 120]: 60/RR drawn between the intervals' middles, a mean of 4 s within the epoch."""
    times = beats(ecg)
    good = sinus(times)
    rate, middle = 60 / np.diff(times)[good], ((times[1:] + times[:-1]) / 2)[good]
    grid = np.arange(epochs * 120) / 4 + 0.125
    curve = np.interp(grid, middle, rate).reshape(epochs, 120)
    padded = np.pad(curve, ((0, 0), (8, 8)), mode="edge")
    return np.stack([padded[:, i : i + 120] for i in range(17)]).mean(axis=0)


def heart(what: str) -> Callable:
    return lambda ecg, epochs: getattr(np, what)(heart_curve(ecg, epochs), axis=1)


def largest_change(ecg: Channel, epochs: int) -> np.ndarray:
    """The largest rise or fall (max of later less earlier, both ways) of the epoch's curve."""
    curve = heart_curve(ecg, epochs)
    rise = (curve - np.minimum.accumulate(curve, axis=1)).max(axis=1)
    fall = (np.maximum.accumulate(curve, axis=1) - curve).max(axis=1)
    return np.maximum(rise, fall)


def rmssd(ecg: Channel, epochs: int) -> np.ndarray:
    times = beats(ecg)
    good, out = sinus(times), np.full(epochs, np.nan)
    for epoch in range(epochs):
        inside = [
            (times[i + 2] - 2 * times[i + 1] + times[i]) ** 2
            for i in range(len(times) - 2)
            if good[i] and good[i + 1]
            and 30 * epoch <= times[i] and times[i + 2] < 30 * epoch + 30
        ]
        if len(inside) >= 10:
            out[epoch] = 1000 * np.sqrt(np.mean(inside))
    return out


def spo2(what: str) -> Callable:
    def one(channel: Channel, epochs: int) -> np.ndarray:
        cuts = cut(channel, epochs)
        cuts = np.where((cuts >= 50) & (cuts <= 100), cuts, np.nan)
        return getattr(np, f"nan{what}")(cuts, axis=1)

    return one


def spo2_drop(channel: Channel, epochs: int) -> np.ndarray:
    """Points that the readings fall within the epoch, in falls of 3 and more by peak prominence."""
    values = np.round(channel.values[:: max(int(channel.rate), 1)])
    out = np.full(epochs, np.nan)
    lows = signal.find_peaks(np.r_[-101, -values, -101], prominence=2, plateau_size=1)
    for low in lows[1]["left_edges"] - 1:
        first = max(low - 90, 0)
        top = values[first:low].max(initial=0)
        if top - values[low] < 3:
            continue
        onset = first + int(np.flatnonzero(values[first:low] == top)[-1])
        for epoch in range(int(onset // 30), min(int(low // 30), epochs - 1) + 1):
            part = values[max(onset, 30 * epoch) : min(low, 30 * epoch + 30) + 1]
            if len(part) > 1 and part[0] - part.min() >= 2:
                out[epoch] = np.nanmax([out[epoch], part[0] - part.min()])
    return out


@functools.cache
def breaths(channel: Channel) -> np.ndarray:
    """Times (s) at which the FIR band of 0.1-0.7 Hz rises through zero in a breath of some size."""
    slow = slower(channel, 25.0)
    x, rate = fir(slow, 0.1, 0.7, 0.1), slow.rate
    local = np.sqrt(np.convolve(x**2, np.ones(int(30 * rate)) / int(30 * rate), "same"))
    rises = crossings(x)
    out = []
    for a, b in zip(rises, np.r_[rises[1:], len(x)]):
        if np.ptp(x[a:b]) >= max(local[a], 0.1 * 2 * np.sqrt(2) * np.median(local)):
            out.append(a / rate - x[a] / (x[a + 1] - x[a]) / rate)
    return np.array(out)


def breath_intervals(channel: Channel, epochs: int) -> list[np.ndarray]:
    times = breaths(channel)
    return [np.diff(times[(times >= 30 * e) & (times < 30 * e + 30)]) for e in range(epochs)]


def respiratory_rate(channel: Channel, epochs: int) -> np.ndarray:
    return np.array([60 / x.mean() if len(x) >= 2 else np.nan
                     for x in breath_intervals(channel, epochs)])


def breath_interval_variability(channel: Channel, epochs: int) -> np.ndarray:
    return np.array([x.std(ddof=1) if len(x) >= 3 else np.nan
                     for x in breath_intervals(channel, epochs)])


def breath_amplitude(channel: Channel, epochs: int) -> np.ndarray:
    slow = slower(channel, 25.0)
    size = cut(Channel(fir(slow, 0.1, 0.7, 0.1), slow.rate), epochs).std(axis=1)
    return 100 * size / np.median(size)


def flow_flatness(channel: Channel, epochs: int) -> np.ndarray:
    """Inspirations between zero crossings of the pressure less its median of 30 s, by loops."""
    slow = slower(channel, 25.0)
    x, rate = fir(slow, None, 4), slow.rate
    step, half = int(rate / 4), int(15 * rate)
    middle = [np.median(x[max(i - half, 0) : i + half]) for i in range(0, len(x), step)]
    x = x - np.interp(np.arange(len(x)), np.arange(0, len(x), step), middle)
    flow = np.sign(x) * np.sqrt(np.abs(x))
    rises, found = crossings(flow), []
    for a, b in zip(rises[:-1], rises[1:]):
        part = flow[a + 1 : b + 1]
        part = part[: int(np.argmax(part <= 0))] if (part <= 0).any() else part
        if 0.5 <= len(part) / rate <= 4:
            found.append((a / rate + len(part) / rate / 2, part.max(),
                          part[part >= part.max() / 5].mean() / part.max()))
    usual = np.median([peak for _, peak, _ in found])
    out = np.full(epochs, np.nan)
    for epoch in range(epochs):
        mine = [flat for at, peak, flat in found if at // EPOCH == epoch and peak >= usual / 4]
        out[epoch] = np.median(mine) if len(mine) >= 3 else np.nan
    return out


@functools.cache
def correlations(thorax: Channel, abdomen: Channel) -> tuple[np.ndarray, float]:
    """Correlation of the belts within 4 s about each sample, NaN where one rests; and its rate."""
    one, two = (slower(channel, 25.0) for channel in (thorax, abdomen))
    a, b = fir(one, 0.1, 0.7, 0.1), fir(two, 0.1, 0.7, 0.1)
    window = np.ones(int(4 * one.rate)) / int(4 * one.rate)
    product, first, second = (
        np.convolve(values, window, "same") for values in (a * b, a * a, b * b)
    )
    size = np.sqrt(first * second)
    return np.where(size > size.mean() / 20, product / size, np.nan), one.rate


def belt_phase(thorax: Channel, abdomen: Channel, epochs: int) -> np.ndarray:
    """The angle whose cosine the median correlation is: sines' phase."""
    found, rate = correlations(thorax, abdomen)
    cuts = cut(Channel(found, rate), epochs)
    return np.degrees(np.arccos(np.clip(np.nanmedian(cuts, axis=1), -1, 1)))


def paradox(thorax: Channel, abdomen: Channel, epochs: int) -> np.ndarray:
    """The angle of the epoch's correlations below zero, where these last for 3 s in all."""
    found, rate = correlations(thorax, abdomen)
    out = np.full(epochs, np.nan)
    for epoch, row in enumerate(cut(Channel(found, rate), epochs)):
        if (row < 0).sum() >= 3 * rate:
            out[epoch] = np.degrees(np.arccos(np.clip(np.median(row[row < 0]), -1, 1)))
    return out


def emg_median_frequency(channel: Channel, epochs: int) -> np.ndarray:
    from mne.time_frequency import psd_array_multitaper

    density, hertz = psd_array_multitaper(
        cut(channel, epochs), channel.rate, fmin=10, fmax=30, bandwidth=1.0, verbose="error"
    )
    whole = np.cumsum(density, axis=1)
    return np.array([np.interp(row[-1] / 2, row, hertz) for row in whole])


def burst_ratio(channel: Channel, epochs: int) -> np.ndarray:
    cuts = cut(Channel(fir(channel, 10, 30, 2.0), channel.rate), epochs)
    windows = cuts[:, : int(0.5 * channel.rate) * 60].reshape(epochs, 60, -1)
    sizes = windows.std(axis=2)
    return np.quantile(sizes, 0.95, axis=1) / np.median(sizes, axis=1)


def muscle_tone(channel: Channel, epochs: int) -> np.ndarray:
    size = cut(Channel(fir(channel, 10, 30, 2.0), channel.rate), epochs).std(axis=1)
    return 100 * size / np.median(size)


def position_seconds(channel: Channel, epochs: int) -> np.ndarray:
    """Seconds of every position in the epoch, [E, 5]: right, left, supine, prone, upright."""
    codes = np.rint(cut(channel, epochs))
    return np.stack([(codes == code).sum(axis=1) for code in range(5)], axis=1) / channel.rate
