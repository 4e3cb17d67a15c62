"""Every feature once more, by other tools: MNE's reader and filters, YASA, numpy, scipy.

`RECOMPUTED` names for each feature the tool, what may differ and in how many epochs. Nothing here
comes from sleeplm_jax: files are read by MNE, bands cut by its FIR filters (ours are Butterworth)
or taken from spectra, peaks found by zero crossings where ours look for extremes and the reverse.

E epochs of 30 s.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import signal

EPOCH = 30.0
EEG, EOG = ("C3", "C4", "F3", "F4", "O1", "O2"), ("EOG-L", "EOG-R")
BELTS = ("THX", "ABD", "AF")


@dataclass(frozen=True, eq=False)  # hashed by identity: what costs time is kept by channel
class Channel:
    """float64 [samples] in physical units, and their rate in Hz."""

    values: np.ndarray
    rate: float


BAND_EDGES = {"delta": (0.5, 4), "theta": (4, 8), "alpha": (8, 12), "sigma": (12, 16),
              "beta": (16, 30)}  # fmt: skip


def read_edf(path, labels: dict[str, str]) -> dict[str, Channel]:
    """Channels of a file by MNE, each label at its own rate; volts become microvolts."""
    import mne

    out = {}
    for channel, label in labels.items():
        raw = mne.io.read_raw_edf(path, include=[label], encoding="latin1", verbose="error")
        values = raw.get_data()[0]
        scale = 1e6 if raw._orig_units[label] in ("µV", "mV", "V") else 1.0
        out[channel] = Channel(values * scale, float(raw.info["sfreq"]))
    return out


def cut(channel: Channel, epochs: int) -> np.ndarray:
    samples = int(round(EPOCH * channel.rate))
    return channel.values[: epochs * samples].reshape(epochs, samples)


def fir(
    channel: Channel, low: float | None, high: float | None, flank: float | str = "auto"
) -> np.ndarray:
    """MNE's zero-phase FIR; `flank` in Hz (MNE's own: a quarter of the edge, 2 Hz and more)."""
    import mne

    return mne.filter.filter_data(
        channel.values - np.median(channel.values), channel.rate, low, high, phase="zero",
        l_trans_bandwidth=flank, h_trans_bandwidth=flank, verbose="error",
    )


def slower(channel: Channel, rate: float) -> Channel:
    """Brought down by the Fourier method (ours: polyphase)."""
    if channel.rate <= rate:
        return channel
    count = int(round(len(channel.values) * rate / channel.rate))
    return Channel(signal.resample(channel.values, count), rate)


# Bands ------------------------------------------------------------------------------------------


@functools.cache
def above_drift(channel: Channel, edge: float) -> Channel:
    return Channel(fir(channel, edge, None, edge / 2), channel.rate)


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


# Waves in the EEG ---------------------------------------------------------------------------------


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


def crossings(values: np.ndarray) -> np.ndarray:
    """Samples after which `values` rise through zero."""
    return np.flatnonzero((values[:-1] < 0) & (values[1:] >= 0))


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


# Eyes ---------------------------------------------------------------------------------------------


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


# Heart and oxygen ---------------------------------------------------------------------------------


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


# Breathing ----------------------------------------------------------------------------------------


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


# Chin and position --------------------------------------------------------------------------------


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


@dataclass(frozen=True)
class Recomputation:
    """How a feature is recomputed, and what has to agree: within `within` (in its unit) or, where
    that is more, `relative` of the value, in `share` of the epochs that hold the feature."""

    tool: str
    channels: tuple[str, ...]  # each of them
    function: Callable
    within: float
    share: float
    why: str  # the two may differ
    relative: float = 0.0
    pair: tuple[str, ...] = ()  # measured together, under the name of `channels`


_ESTIMATOR = "another estimator with other leakage at the bands' edges"
_COUNT = "a wave at the edge of a criterion is one filter's and not the other's"
_PEAKS = "another detector, other edges of a breath"
_EYES = ("EOG-L", "EOG-R")
_WAVES = ("C3", "C4", "F3", "F4")
_ECG = ("ECG",)
RECOMPUTED: dict[str, Recomputation] = {
    **{
        f"{band}_power": Recomputation(
            "MNE `psd_array_multitaper`, 0.5 Hz", channels, eeg_band(band), 3, 0.9, _ESTIMATOR, 0.1
        )
        for band, channels in (
            ("delta", _WAVES), ("theta", ("C3", "C4")), ("alpha", ("C3", "C4", "O1", "O2")),
            ("sigma", ("C3", "C4")), ("beta", ("C3", "C4")),
        )
    },
    **{
        f"{speed}_eye_movement_power": Recomputation(
            "MNE `psd_array_multitaper`, 0.2 Hz", EOG, eog_band(edges), 6.0, 0.9, _ESTIMATOR
        )
        for speed, edges in (("slow", (0.3, 1)), ("rapid", (1, 5)))
    },
    "spindle_count": Recomputation(
        "YASA at the file's rate, sigma envelope by MNE's FIR", ("C3", "C4"), spindle_count, 1, 0.9,
        _COUNT),
    "k_complex_count": Recomputation(
        "zero crossings behind MNE's FIR", _WAVES, k_complex_count, 1, 0.9, _COUNT),
    "slow_wave_count": Recomputation(
        "zero crossings behind MNE's FIR", _WAVES, slow_wave("count"), 1, 0.9, _COUNT, 0.2),
    "slow_wave_share": Recomputation(
        "the same", _WAVES, slow_wave("share"), 5, 0.9, _COUNT, 0.2),
    "slow_wave_amplitude": Recomputation(
        "the same", _WAVES, slow_wave("size"), 10, 0.9, _COUNT, 0.1),
    "alpha_share": Recomputation(
        "numpy's FFT of each half second", ("O1", "O2"), alpha_share, 5, 0.9,
        "windows at the peak's borderline"),
    "rapid_eye_movement_count": Recomputation(
        "YASA at the file's rate", ("EOG",), rapid_eye_movement_count, 1, 0.9, _COUNT, 0.15, _EYES),
    "slow_eye_movement_share": Recomputation(
        "extremes behind MNE's FIR", ("EOG",), slow_eye_movement_share, 10, 0.9, _COUNT, 0, _EYES),
    "blink_count": Recomputation(
        "numpy's extremes behind MNE's FIR", ("EOG",), blink_count, 1, 0.9, _COUNT, 0.15, _EYES),
    **{
        f"heart_rate_{name}": Recomputation(
            "MNE `qrs_detector`, 60/RR", _ECG, heart(name), 0.5, 0.95,
            "another place of the R peak, another moving average")
        for name in ("min", "mean", "max")
    },
    "heart_rate_trend": Recomputation(
        "MNE `qrs_detector`, running extremes", _ECG, largest_change, 1, 0.9,
        "reversals under 5 bpm are passed over differently", 0.1),
    "rmssd": Recomputation(
        "MNE `qrs_detector`, Task Force's formula", _ECG, rmssd, 3, 0.9,
        "the R peak's place to 1-2 ms", 0.1),
    "spo2_min": Recomputation("numpy", ("SpO2",), spo2("min"), 0.01, 1.0, "rounding of the file"),
    "spo2_mean": Recomputation("numpy", ("SpO2",), spo2("mean"), 0.01, 1.0, "rounding of the file"),
    "spo2_drop": Recomputation(
        "scipy `find_peaks`, prominence 2", ("SpO2",), spo2_drop, 0.6, 0.9,
        "falls that follow each other at once"),
    "respiratory_rate": Recomputation(
        "rises through zero behind MNE's FIR", BELTS, respiratory_rate, 1.0, 0.9, _PEAKS),
    "breath_interval_variability": Recomputation(
        "the same", BELTS, breath_interval_variability, 0.3, 0.85, _PEAKS, 0.15),
    "breath_amplitude": Recomputation(
        "standard deviation behind MNE's FIR", BELTS, breath_amplitude, 4, 0.9,
        "the filters' flanks"),
    "flow_flatness": Recomputation(
        "zero crossings, breath by breath", ("AF",), flow_flatness, 0.03, 0.9, _PEAKS),
    "belt_phase": Recomputation(
        "first harmonic of each breath", ("belts",), belt_phase, 15, 0.9, _PEAKS, 0, BELTS[:2]),
    "paradox": Recomputation(
        "the same, breaths over 90 degrees", ("belts",), paradox, 20, 0.85, _PEAKS, 0, BELTS[:2]),
    "emg_median_frequency": Recomputation(
        "MNE `psd_array_multitaper`, cumulated", ("EMG",), emg_median_frequency, 0.5, 0.95,
        "another estimator, no filter's flanks"),
    "burst_ratio": Recomputation(
        "RMS behind MNE's FIR", ("EMG",), burst_ratio, 0.1, 0.9, "the filters' flanks", 0.1),
    "muscle_tone": Recomputation(
        "RMS behind MNE's FIR", ("EMG",), muscle_tone, 5, 0.95, "the filters' flanks", 0.05),
    "position": Recomputation(
        "numpy: seconds of each code", ("POS",), position_seconds, 3, 0.95,
        "stretches under 3 s belong to the one before"),
}
