"""The order of training samples: a global index names one sample, by arithmetic alone.

One corpus: a fresh shuffle each pass. Several with weights: whose turn an index is follows from a
fixed pattern of one period, which of its samples from how many turns it had before. Nothing is
counted while training, so any index can be asked for at any time, by any process.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from grain.experimental import index_shuffle

LONGEST_PERIOD = 100_000  # turns


class Order:
    """The endless sequence of samples of parts of `sizes` samples, laid end to end.

    `weights`: integers without a common divisor, one a part; of every `sum(weights)` indices in a
    row a part has its weight's number. Each part is shuffled anew each time it is through.
    """

    def __init__(self, sizes: Sequence[int], weights: Sequence[int], seed: int):
        self.sizes = tuple(sizes)
        self.firsts = tuple(int(first) for first in np.cumsum([0, *sizes[:-1]]))
        self._weights = tuple(weights)
        self._turns = turns(weights)
        self._before = np.zeros(len(self._turns), np.int64)  # turns of the same part, this period
        for part in range(len(weights)):
            mine = self._turns == part
            self._before[mine] = np.arange(mine.sum())
        # The seed that Grain's `MapDataset.seed(s).shuffle()` derives; worked out here, because
        # there it is no promise, and an order must last.
        self._seeds = [
            int(np.random.SeedSequence((seed + part, 1)).generate_state(1)[0])
            for part in range(len(self.sizes))
        ]

    def place(self, global_index: int) -> int:
        """The place, among all parts' samples, of the one that `global_index` names."""
        part, own = 0, global_index
        if len(self.sizes) > 1:
            period, turn = divmod(global_index, len(self._turns))
            part = int(self._turns[turn])
            own = period * self._weights[part] + int(self._before[turn])
        done, left = divmod(own, self.sizes[part])
        return self.firsts[part] + index_shuffle(
            left, max_index=self.sizes[part] - 1, seed=(self._seeds[part] + done) % 2**32, rounds=4
        )

    def after(self, place: int) -> int:
        """The next place in the same part, its first after its last."""
        part = int(np.searchsorted(self.firsts, place, side="right")) - 1
        first, size = self.firsts[part], self.sizes[part]
        return first + (place - first + 1) % size


def turns(weights: Sequence[int]) -> np.ndarray:
    """Whose turn it is, over one period: int16 [sum(weights)].

    After any number n of turns from the start, part k has had n * weight / sum of them to within
    1 - 1 / (2K - 2) for K parts, so over any window to within twice that: one turn for two parts,
    less than two for more. (No sequence keeps every window of three or more to within one.)
    Source: R. Tijdeman, The chairman assignment problem, Discrete Mathematics 32 (1980).
    """
    total, parts = sum(weights), len(weights)
    out = np.zeros(total, np.int16)
    if parts == 1:
        return out
    scale = 2 * parts - 2
    had = [0] * parts
    for n in range(1, total + 1):
        # owed: how much of a turn each part is behind, times total; all in integers
        owed = [n * weight - total * count for weight, count in zip(weights, had, strict=True)]
        due = [
            (Fraction((scale - 1) * total - scale * behind, weights[part]), part)
            for part, behind in enumerate(owed) if scale * behind >= total
        ]
        part = min(due)[1]
        out[n - 1] = part
        had[part] += 1
    return out


def integer_weights(weights: Sequence[Fraction]) -> tuple[int, ...]:
    """The smallest integers in the same proportions."""
    whole = math.lcm(*(weight.denominator for weight in weights))
    scaled = [int(weight * whole) for weight in weights]
    divisor = math.gcd(*scaled)
    return tuple(number // divisor for number in scaled)
