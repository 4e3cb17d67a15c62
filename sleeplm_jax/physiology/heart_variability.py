"""Heart rate variability of five minutes: LF and HF power of the RR intervals.

Task Force of ESC and NASPE 1996 (Circulation 93:1043-65): five minutes is the standard short
recording, LF is 0.04-0.15 Hz and HF 0.15-0.4 Hz, in ms². VLF, below, is not assessed in it.
"""

from __future__ import annotations

import numpy as np
from scipy import interpolate, signal

from sleeplm_jax.physiology.heart import sinus_intervals

BANDS = {"lf_power": (0.04, 0.15), "hf_power": (0.15, 0.4)}  # Hz
SECONDS = 300.0
RATE = 4.0  # Hz of the evenly spaced series
COVERED = 0.9  # of the time must lie in sinus intervals
LONGEST_GAP = 5.0  # s between two of them


def band_powers(times: np.ndarray, begin: float, seconds: float = SECONDS) -> dict[str, float]:
    """{"lf_power", "hf_power"} in ms² of beats at `times` (s) from `begin` on; {} where unknown.

    RR intervals of sinus beats stand at their ends, a cubic spline makes 4 Hz of them, a line is
    taken out, and the power is that of a periodogram with a Hann window over all of it. Linear
    interpolation would lose a third of the power at 0.25 Hz and 60 bpm. Unknown where sinus
    intervals cover less than 90 % of the time or leave a gap of over 5 s.
    """
    end = begin + seconds
    ends, intervals = times[1:][sinus_intervals(times)], np.diff(times)[sinus_intervals(times)]
    first = max(np.searchsorted(ends, begin) - 2, 0)
    last = np.searchsorted(ends, end) + 2
    ends, intervals = ends[first:last], intervals[first:last]
    inside = (ends >= begin) & (ends < end)
    if inside.sum() < 10 or intervals[inside].sum() < COVERED * seconds:
        return {}
    known = np.concatenate([[begin], ends[inside], [end]])
    if np.diff(known).max() > LONGEST_GAP:
        return {}
    grid = begin + (np.arange(round(seconds * RATE)) + 0.5) / RATE
    # Beyond the first and last beat the nearest value: a spline drawn on would run away.
    series = 1000 * interpolate.CubicSpline(ends, intervals)(np.clip(grid, ends[0], ends[-1]))
    frequencies, density = signal.periodogram(series, RATE, "hann", detrend="linear")
    step = frequencies[1]
    return {
        name: float(density[(frequencies >= low) & (frequencies < high)].sum() * step)
        for name, (low, high) in BANDS.items()
    }
