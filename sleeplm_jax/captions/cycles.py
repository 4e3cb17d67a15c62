"""NREM-REM sleep cycles of a hypnogram, after Feinberg and Floyd.

Feinberg and Floyd 1979 (Psychophysiology 16:283, doi:10.1111/j.1469-8986.1979.tb02991.x; their
text unverified) as the R package SleepCycles restates them (Blume and Cajochen 2021, MethodsX,
doi:10.1016/j.mex.2021.101318; https://rdrr.io/pkg/SleepCycles/man/SleepCycles.html): a NREM period
of at least 15 min, which may hold wake and less than 5 min of REM sleep, and the REM period after
it, of at least 5 min save for the night's first, for which no minimum is asked.
"""

from __future__ import annotations

import numpy as np

from sleeplm_jax.config import STAGES

NREM_EPOCHS = 30  # 15 min
REM_EPOCHS = 10  # 5 min
_REM = STAGES.index("R")


def sleep_cycles(stages: np.ndarray) -> list[tuple[int, int, bool]]:
    """[(begin, end, complete)] in epochs, in order, of `stages` int8 [E]; `end` is not with it.

    A cycle runs from sleep onset, or the end of the cycle before, to the end of its REM period;
    a REM period goes on over less than 15 min of other stages. The last one may lack its REM
    period: it is then not `complete` and ends with the last epoch asleep. A REM period that comes
    less than 15 min after sleep onset closes no cycle; the next begins after it.
    """
    stages = np.asarray(stages)
    asleep = np.flatnonzero(stages > 0)
    if not len(asleep):
        return []
    begin, last = int(asleep[0]), int(asleep[-1]) + 1
    cycles = []
    for first, end in _rem_periods(stages):
        if first - begin >= NREM_EPOCHS:
            cycles.append((begin, end, True))
        begin = end
    rest = stages[begin:last]
    if last - begin >= NREM_EPOCHS and ((rest > 0) & (rest != _REM)).any():
        cycles.append((begin, last, False))
    return cycles


def _rem_periods(stages: np.ndarray) -> list[tuple[int, int]]:
    """[(begin, end)] of the REM periods in epochs."""
    rem = np.flatnonzero(stages == _REM)
    if not len(rem):
        return []
    nrem = (stages > 0) & (stages != _REM)
    groups: list[list[int]] = [[int(rem[0])]]
    for epoch in rem[1:].tolist():
        between = slice(groups[-1][-1] + 1, epoch)
        # Wake alone, however long, is no NREM period.
        if epoch - groups[-1][-1] - 1 >= NREM_EPOCHS and nrem[between].any():
            groups.append([epoch])
        else:
            groups[-1].append(epoch)
    kept = [g for i, g in enumerate(groups) if i == 0 or len(g) >= REM_EPOCHS]
    return [(group[0], group[-1] + 1) for group in kept]
