"""What of a night is not to be trusted: an artefact mask per channel and epoch, as bits.

Everything is judged on the traces, at native rates and unfiltered, against the same channel's own
night: amplitudes differ by a factor of ten between people and a unit may be unknown. What each bit
means, its source and what was measured with it on real nights is in docs/quality.md.

E epochs, S whole seconds, C canonical channels (config.CANONICAL_CHANNELS).
"""

from __future__ import annotations

import dataclasses

import numpy as np

from sleeplm_jax.config import ARTEFACTS, CANONICAL_CHANNELS
from sleeplm_jax.physiology import heart
from sleeplm_jax.physiology.electrodes import heart_in, pops
from sleeplm_jax.physiology.epochs import FLAT_SHARE, GROSS, SILENT
from sleeplm_jax.physiology.seconds import Seconds, by_second
from sleeplm_jax.recordings.channels import CHANNELS
from sleeplm_jax.recordings.night import Night, Trace, artefact_bits

BY_SECOND = "by_second"  # in Night.extra: {channel: Seconds}
ELECTRODES = ("eeg", "eog", "emg", "ecg")
BREATHING = ("effort", "flow")

CLIPPED = 0.01  # share of an epoch's samples at a limit of the file: 0.3 s
# An amplifier may clip inside the file's range: seconds twice as large as usual, of which a tenth
# lies at their extremes (a sine spends 4 % there), likewise 0.3 s of an epoch in all.
# And of a range of many converter steps: at 31 µV a step (a NOX leg) everything is an edge.
EDGE_SHARE, EDGE_RANGE, EDGE_STEPS = 0.1, 2.0, 50
LOST = 0.1  # share of an epoch's samples that were not recorded
LOST_READING = 1 - heart.COVERED  # of a device's readings that no person has, as it is measured
# Movement: seconds in which channels of two kinds burst at once, five of them in an epoch (more
# than the 3 s that AASM asks of an arousal, less than the half epoch of its "major body movement").
MOVEMENT_S = 5
LOCAL_EPOCHS = 3  # to either side: 3.5 min, Brunner's local background is 3 min
FAST_FACTOR = 4.0  # in power, over the local median: Brunner's
TONE_FACTOR = 16.0  # the chin and the legs twitch and tense: four times the local amplitude
RANGE_FACTOR = 2.0  # a second's peak to peak over the local median of an EEG or EOG
BREATH_FACTOR = 3.0  # of a belt, in 5 s
ECG_FACTOR = 3.0  # of a second of an ECG, which holds a beat anyhow
ALONE_FACTOR = 2.0  # where only one kind of channel is there, it must burst this much more
# Mains: half of the power that the channel shows is the line's.
MAINS_SHARE = 0.5
OPEN_SHARE, OPEN_RMS = 0.9, 3.0  # an open input: nearly all of it, and louder than the channel
SILENT_BREATHS = 4  # epochs without a breath are no apnoea but a sensor that is off
# Saturation as in the pobm toolbox (Levy et al., npj Digital Medicine 2021, 4:1) and in heart.py.
SATURATION = (50.0, 100.0)  # %

# What leaves a channel unmeasured in an epoch, by the channel's kind. A chin's burst is its
# measurement, beats and breaths are found through what disturbs an EEG.
_BRAIN = ("flat", "clipped", "movement", "pop", "lead_off", "dropout")
UNMEASURABLE = {
    "eeg": _BRAIN, "eog": _BRAIN,
    "emg": ("flat", "clipped", "lead_off", "dropout", "mains"),
    "ecg": ("flat", "lead_off", "dropout"),
    "effort": ("flat", "movement", "lead_off", "dropout"),
    "flow": ("flat", "movement", "lead_off", "dropout"),
    "oximetry": ("dropout",), "heart_rate": ("dropout",),
}


def mark_artefacts(night: Night) -> Night:
    """`night` with its `artefacts`; a night that has them already is returned as it is."""
    if night.artefacts is not None:
        return night
    bits, seconds, beats = _look(night)
    # Found once: quality.py goes on from the seconds, measure.py from the beats.
    extra = night.extra | {BY_SECOND: seconds, heart.BEATS: beats}
    return dataclasses.replace(night, artefacts=bits, extra=extra)


def unmeasurable(night: Night, channel: str) -> np.ndarray:
    """Epochs in which `channel` must not be measured, bool [E]; none where nothing was marked."""
    names = UNMEASURABLE.get(CHANNELS[channel].kind, ())
    if night.artefacts is None or not names:
        return np.zeros(len(night.stages), bool)
    column = night.artefacts[:, CANONICAL_CHANNELS.index(channel)]
    return (column & artefact_bits(names)) != 0


def find_artefacts(night: Night) -> np.ndarray:
    """Artefact bits of every canonical channel, uint8 [E, C]; 0 for channels that are not there.

    An epoch is a sample of `night.spec`. Channels slower than 3 Hz are judged by their values only.
    """
    return _look(night)[0]


def _look(night: Night) -> tuple[np.ndarray, dict[str, Seconds], np.ndarray | None]:
    """The bits, each channel's seconds, and the R peaks (s) where there is an ECG."""
    epochs, length = len(night.stages), int(night.spec.seconds)
    found = {name: {} for name in night.traces}
    seconds: dict[str, Seconds] = {}
    for name, trace in night.traces.items():
        kind = CHANNELS[name].kind
        _dropouts(found[name], name, trace, epochs, length)
        if kind in ("position", "heart_rate", "oximetry"):
            continue
        made = by_second(trace, epochs * length, spectral=kind in ELECTRODES)
        if made is None:
            continue
        seconds[name] = made
        _still(found[name], "leg" if name.startswith("LEG") else kind, made, epochs)
        _clipped(found[name], kind, trace, made, epochs, length)
        _mains(found[name], kind, made, epochs)
    _movement(found, seconds, epochs)
    for name, made in seconds.items():
        _lead_off(found[name], CHANNELS[name].kind, made, epochs)
        if CHANNELS[name].kind in ("eeg", "eog"):
            other = {"EOG-L": "EOG-R", "EOG-R": "EOG-L"}.get(name)
            popped = pops(night.traces[name], made, epochs, length, night.traces.get(other))
            found[name]["pop"] = popped & ~found[name].get("movement", np.zeros(epochs, bool))
    brain = {n: trace for n, trace in night.traces.items() if CHANNELS[n].kind in ("eeg", "eog")}
    ecg, beats = night.traces.get("ECG"), None
    if ecg is not None and ecg.rate >= heart.LOWEST_ECG_RATE:
        beats = heart.beat_times(ecg)
        for name, where in heart_in(brain, beats, epochs, length).items():
            found[name]["ecg"] = where

    bits = np.zeros((epochs, len(CANONICAL_CHANNELS)), np.uint8)
    for name, reasons in found.items():
        column = CANONICAL_CHANNELS.index(name)
        for reason, where in reasons.items():
            bits[:, column] |= where.astype(np.uint8) << ARTEFACTS.index(reason)
    return bits, seconds, beats


def _epochs(values: np.ndarray, epochs: int) -> np.ndarray:
    """Values [S] of whole epochs as [E, S / E]."""
    return values[: len(values) // epochs * epochs].reshape(epochs, -1)


def _local(values: np.ndarray, epochs: int) -> np.ndarray:
    """The usual value about each second, [S]: median of its epoch and LOCAL_EPOCHS on either side.

    At most three times the night's: an hour of thrashing about is no background.
    """
    rows = np.pad(_epochs(values, epochs), ((LOCAL_EPOCHS, LOCAL_EPOCHS), (0, 0)), mode="edge")
    spans = np.lib.stride_tricks.sliding_window_view(rows, 2 * LOCAL_EPOCHS + 1, axis=0)
    usual = np.median(spans.reshape(epochs, -1), axis=1)
    usual = np.minimum(usual, 3 * np.median(values))
    return np.repeat(usual, len(values) // epochs)


def _still(found: dict, kind: str, made: Seconds, epochs: int) -> None:
    """Flat: one value for over a third of an epoch's seconds; throughout where a signal may rest.

    An ECG of coarse steps is flat between beats, never for 3 s. A leg at rest can be smaller than
    a step of its converter.
    """
    still = made.still & (made.lost == 0)
    if kind == "ecg":
        runs = still[:-2] & still[1:-1] & still[2:] if len(still) > 2 else still[:0]
        runs = np.pad(runs, 2)
        still = runs[2:] | runs[1:-1] | runs[:-2]
        still = still[: len(made)]
    share = _epochs(still, epochs).mean(axis=1)
    rests = kind in BREATHING or kind in ("snore", "leg")
    found["flat"] = share == 1 if rests else share > FLAT_SHARE


def _clipped(
    found: dict, kind: str, trace: Trace, made: Seconds, epochs: int, length: int
) -> None:
    share = np.zeros(epochs * length, np.float32)
    if trace.railed is not None:
        part = trace.railed[: len(share)]
        share[: len(part)] = part
    moves = ~made.still & (made.lost == 0)
    if kind in ("eeg", "eog") and moves.any():
        least = max(EDGE_RANGE * np.median(made.range[moves]), EDGE_STEPS * _step(trace))
        loud = made.range > least
        share = np.maximum(share, np.where(loud & (made.edge >= EDGE_SHARE), made.edge, 0))
    found["clipped"] = _epochs(share, epochs).mean(axis=1) >= CLIPPED


def _step(trace: Trace) -> float:
    """The smallest change between two samples of a trace's middle: one step of the converter."""
    middle = len(trace.values) // 2
    changes = np.abs(np.diff(trace.values[max(middle - 100_000, 0) : middle + 100_000]))
    changes = changes[changes > 0]
    return float(changes.min()) if len(changes) else 0.0


def _dropouts(found: dict, name: str, trace: Trace, epochs: int, length: int) -> None:
    """Samples that are not there, and a device's readings that no person has."""
    values = np.asarray(trace.values)
    bad = ~np.isfinite(values)
    if name == "SpO2":
        bad |= ~((values >= SATURATION[0]) & (values <= SATURATION[1]))
    elif name == "HR":
        bad |= ~((values >= 60 / heart.LONGEST_RR) & (values <= 60 / heart.SHORTEST_RR))
    edges = np.minimum(np.rint(np.arange(epochs + 1) * length * trace.rate), len(values))
    edges = edges.astype(np.int64)
    total = np.concatenate([[0], np.cumsum(bad)])
    wanted = max(length * trace.rate, 1)
    absent = np.maximum(np.floor(wanted) - np.diff(edges), 0)  # behind the trace's end
    share = (total[edges[1:]] - total[edges[:-1]] + absent) / wanted
    found["dropout"] = share > (LOST_READING if name in ("SpO2", "HR") else LOST)


def _mains(found: dict, kind: str, made: Seconds, epochs: int) -> None:
    """More line than signal: of all power for muscles, of the line and 1-35 Hz for the others."""
    if not made.mains or made.body is None:
        return
    own = made.wide if kind == "emg" else made.body
    own = _epochs(own, epochs).mean(axis=1)
    share = np.zeros(epochs)
    for line in made.mains.values():
        power = _epochs(line, epochs).mean(axis=1)
        share = np.maximum(share, power / np.maximum(power + own, np.finfo(np.float32).tiny))
    found["mains"] = share > MAINS_SHARE


def _bursts(kind: str, made: Seconds, epochs: int, factor: float = 1.0) -> np.ndarray | None:
    """Seconds in which a channel does what a moving body does to it, bool [S]; None: cannot tell.

    A channel that hardly ever varies has no background to compare with.
    """
    ranges = made.range.astype(np.float64)
    if kind in ("eeg", "eog", "emg"):
        if made.fast is None:
            return None
        strong = made.wide if kind == "emg" else made.fast
        usual = _local(strong, epochs)
        limit = factor * (TONE_FACTOR if kind == "emg" else FAST_FACTOR)
        out = (strong > limit * usual) & (usual > 0)
        if kind != "emg":
            out &= ranges > factor * RANGE_FACTOR * _local(ranges, epochs)
        return out
    if kind == "effort":
        shifts = (-2, -1, 0, 1, 2)  # five seconds: a breath
        high = np.max([_shifted(made.high, by) for by in shifts], axis=0).astype(np.float64)
        span = high - np.min([_shifted(made.low, by) for by in shifts], axis=0)
        usual = _local(span, epochs)
        return (span > BREATH_FACTOR * usual) & (usual > 0)
    if kind == "ecg":
        usual = _local(ranges, epochs)
        return (ranges > ECG_FACTOR * usual) & (usual > 0)
    return None


def _shifted(values: np.ndarray, by: int) -> np.ndarray:
    out = np.roll(values, by)
    if by > 0:
        out[:by] = values[0]
    elif by < 0:
        out[by:] = values[-1]
    return out


def _movement(found: dict, seconds: dict[str, Seconds], epochs: int) -> None:
    """Bursts of channels of two kinds at once; where one kind is all there is, a stronger one."""
    bursts = {}
    for name, made in seconds.items():
        burst = _bursts(CHANNELS[name].kind, made, epochs)
        if burst is not None:
            bursts[name] = burst
    kinds = {CHANNELS[name].kind for name in bursts}
    if not kinds:
        return
    if len(kinds) == 1:
        for name, made in seconds.items():
            if name in bursts:
                bursts[name] = _bursts(CHANNELS[name].kind, made, epochs, ALONE_FACTOR)
        together = np.logical_or.reduce(list(bursts.values()))
    else:
        votes = sum(
            np.logical_or.reduce([b for n, b in bursts.items() if CHANNELS[n].kind == kind])
            .astype(int) for kind in kinds
        )
        together = votes >= 2
    moving = together | _shifted(together, 1) | _shifted(together, -1)
    for name, burst in bursts.items():
        found[name]["movement"] = _epochs(burst & moving, epochs).sum(axis=1) >= MOVEMENT_S
        found[name]["_moving"] = moving


def _lead_off(found: dict, kind: str, made: Seconds, epochs: int) -> None:
    """An epoch far too quiet, or far too loud without a moving body, or all mains."""
    moving = found.pop("_moving", np.zeros(len(made), bool))
    flat = found["flat"] | found["dropout"]  # said already
    ranges = _epochs(made.range.astype(np.float64), epochs)
    typical = np.median(ranges, axis=1)  # a second's: a single pop or beat does not count
    usual = np.median(typical[~flat]) if (~flat).any() else 0.0
    if not usual > 0:
        return
    if kind in BREATHING:
        highest = _epochs(made.high.astype(np.float64), epochs).max(axis=1)
        lowest = _epochs(made.low.astype(np.float64), epochs).min(axis=1)
        span = highest - lowest
        quiet = span < SILENT * np.median(span)
        found["lead_off"] = _runs(quiet, SILENT_BREATHS) & ~flat
        return
    if kind not in ELECTRODES:
        return
    off = typical < SILENT * usual
    if kind in ("eeg", "eog"):
        still = _epochs(moving, epochs).mean(axis=1) < FLAT_SHARE
        off |= (typical > GROSS * usual) & still
    if made.mains and made.body is not None and kind != "emg":
        body = _epochs(made.body, epochs).mean(axis=1)
        loudness = np.median(body[~flat]) if (~flat).any() else 0.0
        for line in made.mains.values():
            power = _epochs(line, epochs).mean(axis=1)
            off |= (power > OPEN_SHARE * (power + body)) & (power > OPEN_RMS**2 * loudness)
    found["lead_off"] = off & ~flat


def _runs(where: np.ndarray, least: int) -> np.ndarray:
    """`where` bool [E], kept only in runs of at least `least`."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], where.astype(np.int8), [0]])))
    out = np.zeros_like(where)
    for start, end in zip(edges[::2], edges[1::2]):
        if end - start >= least:
            out[start:end] = True
    return out
