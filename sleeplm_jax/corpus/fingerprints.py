"""What a night's signals are known by: one hash of all of them, and a print of every epoch.

The hash tells an exact copy, whatever its name and scoring. The prints tell a copy of a part: a
night that was cut is scaled by other statistics, so its samples differ in every value, but not in
which of two neighbouring stretches is the higher one.
Legend: E epochs, C channels, T samples an epoch.
"""

from __future__ import annotations

import hashlib

import numpy as np

from sleeplm_jax.corpus.nightfile import CLIP, STEPS

# Channels of fast and irregular signals first: regular breathing can repeat itself.
PRINTED = ("C3", "C4", "F3", "F4", "O1", "O2", "EOG-L", "EOG-R", "EMG", "ECG", "THX", "ABD", "AF")
BLOCKS = 65  # 64 comparisons an epoch: blocks of 0.46 s, longer than a period of alpha
NO_PRINT = np.uint64(0)
LEAST = 1e-3  # z units; neighbours nearer than that are held for equal (16 bits step 0.00018)
MOST_EQUAL = 8  # comparisons of an epoch that may be; one that hardly moves has no print


class SignalsHash:
    """SHA-256 of a night's samples, given one after the other."""

    def __init__(self):
        self._digest = hashlib.sha256()

    def add(self, signal: np.ndarray, mask: np.ndarray) -> None:
        """One sample: int16 [C, T] and bool [C]."""
        self._digest.update(np.ascontiguousarray(mask, bool).tobytes())
        self._digest.update(np.ascontiguousarray(signal, "<i2").tobytes())

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


def signals_sha256(signals: np.ndarray, mask: np.ndarray) -> str:
    """Hex SHA-256 over the samples of a night: int16 [E, C, T] and bool [E, C], kept epochs only.

    Names, stages, events and records do not enter.
    """
    found = SignalsHash()
    for epoch in np.flatnonzero(mask.any(axis=1)):
        found.add(signals[epoch], mask[epoch])
    return found.hexdigest()


def epoch_print(signal: np.ndarray, mask: np.ndarray, channels: tuple[str, ...]) -> np.uint64:
    """The print of one sample, int16 [C, T] with mask bool [C]; NO_PRINT where it has none.

    Taken from the first channel of PRINTED that is there and moves. It survives another scale and
    offset; a cut that is no multiple of the epoch changes every print.
    """
    for name in PRINTED:
        if name not in channels or not mask[channels.index(name)]:
            continue
        values = signal[channels.index(name)]
        length = len(values) // BLOCKS
        if not length:
            return NO_PRINT
        means = values[: BLOCKS * length].reshape(BLOCKS, length).mean(axis=1)
        rises = np.diff(means)
        if (np.abs(rises) < LEAST * STEPS / CLIP).sum() <= MOST_EQUAL:
            return np.packbits(rises > 0).view(np.uint64)[0] | np.uint64(1)
    return NO_PRINT


def shared_prints(
    prints: list[np.ndarray],
) -> list[tuple[int, int, int]]:
    """(i, j, how many) of nights i < j that have epochs in common, most first.

    `prints`: uint64 [E] of each night. A print that a night repeats counts once in it.
    """
    own = [np.unique(p[p != NO_PRINT]) for p in prints]
    if not own:
        return []
    values = np.concatenate(own)
    night = np.concatenate([np.full(len(p), i, np.int64) for i, p in enumerate(own)])
    order = np.lexsort((night, values))
    values, night = values[order], night[order]
    starts = np.flatnonzero(np.r_[True, values[1:] != values[:-1]])
    counts = np.diff(np.r_[starts, len(values)])
    pairs: dict[tuple[int, int], int] = {}
    for start, count in zip(starts[counts > 1], counts[counts > 1], strict=True):
        held = night[start : start + count]
        first = held[0]  # chains of copies meet in their first: n - 1 pairs instead of n squared
        for other in held[1:]:
            pair = (int(first), int(other))
            pairs[pair] = pairs.get(pair, 0) + 1
    return sorted(((i, j, n) for (i, j), n in pairs.items()), key=lambda found: -found[2])
