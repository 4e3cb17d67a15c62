"""A value with its interval, and whether the runs say anything about it at all.

"Not identified" is said, by rules fixed before any study was fitted:

- of an exponent, where the ends of its 90 % interval differ by more than log10(2) = 0.30. A term
  x^-a is multiplied by 10^-a over a decade of x: beyond that width the ends disagree by more than
  a factor of two about what is left of it after one decade, or (an exponent of the best size) by
  more than a factor of two about what to train with ten times the compute;
- of any value, where more than 5 % of the resamples, as much as lies beyond one end of the
  interval, ended at the edge of the search or without the term: that end is the edge's then,
  not the data's;
- of the irreducible loss E, where its interval is wider than what the best run is above it: what
  is left to gain is unknown by as much as itself;
- of a constant of repetition, a size or an amount of data, where the interval's ends differ by
  more than a factor of ten (R) or four (a factor of two to either side).
"""

from __future__ import annotations

import math

import numpy as np

INTERVAL = 0.90
WIDE_EXPONENT = math.log10(2.0)
EDGE = 0.05
WIDE_REPEATS = 10.0
WIDE_CHOICE = 4.0


def ends(replicates: np.ndarray) -> tuple[float, float]:
    """The percentile interval of the replicates [B] that are numbers; (nan, nan) of none."""
    sound = replicates[np.isfinite(replicates)]
    if not len(sound):
        return math.nan, math.nan
    low, high = np.quantile(sound, [(1 - INTERVAL) / 2, (1 + INTERVAL) / 2])
    return float(low), float(high)


def bands(replicates: np.ndarray) -> tuple[list, list]:
    """`ends` of every column of [B, m]."""
    low, high = zip(*(ends(column) for column in replicates.T))
    return [_plain(v) for v in low], [_plain(v) for v in high]


def stated(value: float, replicates: np.ndarray, why: str | None = None) -> dict:
    """{"value", "low", "high", "identified", "why"}; `why` is why not, None where it is."""
    low, high = ends(np.asarray(replicates, float))
    missing = 1 - np.isfinite(replicates).mean() if len(replicates) else 1.0
    if why is None and not math.isfinite(value):
        why = "there is no such value"
    if why is None and missing > EDGE:
        why = f"{missing:.0%} of the resamples have no such value"
    return {
        "value": _plain(value), "low": _plain(low), "high": _plain(high),
        "identified": why is None, "why": why,
    }


def exponent(
    value: float, replicates: np.ndarray, edges: tuple[float, float] | None = None
) -> dict:
    """An exponent, `nan` in a replicate without its term; `edges` are those of the search."""
    low, high = ends(replicates)
    why = None
    if not math.isfinite(value):
        why = "the best fit has no such term"
    elif edges is not None:
        at = np.mean((replicates <= edges[0] * 1.01) | (replicates >= edges[1] / 1.01))
        if at > EDGE:
            why = f"{at:.0%} of the resamples end at the edge of the search"
    if why is None and high - low > WIDE_EXPONENT:
        why = f"the interval is {high - low:.2f} wide, above {WIDE_EXPONENT:.2f}"
    return stated(value, replicates, why)


def floor(value: float, replicates: np.ndarray, best_loss: float) -> dict:
    """The irreducible loss E, against what the best cell's loss is above it."""
    low, high = ends(replicates)
    gone = float(np.mean(replicates == 0))
    why = None
    if gone > EDGE:
        why = f"{gone:.0%} of the resamples put it at 0"
    elif high - low > best_loss - value:
        why = (f"the interval is {high - low:.3g} wide, and the best cell is "
               f"{best_loss - value:.3g} above it")
    return stated(value, replicates, why)


def factor(value: float, replicates: np.ndarray, limit: float = WIDE_CHOICE) -> dict:
    """A positive quantity that is known to a factor, or not."""
    low, high = ends(replicates)
    why = None
    if low > 0 and high / low > limit:
        why = f"the interval's ends differ by a factor of {high / low:.3g}, above {limit:g}"
    return stated(value, replicates, why)


def _plain(value: float) -> float | None:
    """A float of JSON: None for what is no number."""
    return float(value) if math.isfinite(value) else None
