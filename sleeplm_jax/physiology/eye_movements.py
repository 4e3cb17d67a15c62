"""Eye movements from E1 and E2: rapid ones by YASA, slow ones and blinks by their shape.

The eye is a dipole and E1 lies below the left, E2 above the right outer canthus (AASM's recommended
placement): whatever moves both eyes, sideways or upwards, is of opposite sign in the two, and what
comes from the brain is of one sign. So a conjugate movement is told from a slow wave, and one
sideways is not told from one upwards: a blink is known by its shape alone (it comes back at once)
and by going up, which is positive at E2 and negative at E1. With both electrodes below the eyes
(AASM's alternative) blinks have one sign and are not found here.

AASM: rapid eye movements are conjugate, irregular, sharply peaked, with an initial deflection under
500 ms; slow ones are conjugate, fairly regular, sinusoidal, with one over 500 ms; blinks are
conjugate vertical movements at 0.5-2 Hz in wake.
"""

from __future__ import annotations

import numpy as np
from scipy import signal

from sleeplm_jax.physiology.detections import (
    Detections,
    detections,
    filtered,
    none_found,
    resampled,
    turning_points,
)
from sleeplm_jax.physiology.yasa_quietly import SILENT, quietly
from sleeplm_jax.recordings.night import Trace

INITIAL = 0.5  # s: AASM's border between rapid and slow
LOWEST_RATE = 25.0  # Hz
SHORTEST = 10.0  # s

# Rapid: AASM names no size. YASA's 50 µV leave out six in ten of the simulator's; with 30 as many
# of those found are right.
RAPID_SIZE = (30.0, 325.0)  # µV at the peak

# Slow: a half wave of (E1 - E2) / 2 from one turning point to the next.
SLOW_RATE = 20.0  # Hz
SLOW_BAND = (0.15, 1.5)  # Hz
SLOW_DEFLECTION = (INITIAL, 4.0)  # s; 4 s is half a period at AASM's high-pass of 0.3 Hz, doubled
SLOW_SIZE = (25.0, 400.0)  # µV peak to peak in (E1 - E2) / 2
SLOW_AGAINST = -0.5  # correlation of E1 and E2 within the deflection
SLOW_RATIO = 3.0  # the larger of the two in terms of the other
# A saccade held against an amplifier's high-pass decays slowly, as a sail: its deflection looks
# slow, its beginning is not. Of a sine's half wave of 0.5 s, 71 % pass within 0.25 s.
SUDDEN_S, SUDDEN = 0.25, 0.75
SUDDEN_BAND = 8.0  # Hz
SLOW_EDGE = 0.1  # s: two filters place a turning point this differently

# Blinks: narrow peaks of (E2 - E1) / 2 that come back.
BLINK_BAND = (0.3, 10.0)  # Hz
BLINK_SIZE = (35.0, 500.0)  # µV
BLINK_WIDTH = (0.06, 0.3)  # s at half height
BACK_S, BACK = 0.3, 0.3  # s from the peak within which it falls to this share of its height


def rapid_eye_movements(left: Trace, right: Trace) -> Detections | None:
    """Rapid eye movements of E1 and E2 in µV: amplitude is the larger one's at its peak, 0.5-5 Hz.

    Agarwal et al., IEEE Trans Biomed Eng 2005, 52:1390-6, and Yetton et al. 2016, as YASA 0.8.1
    cites and implements them: peaks of -E1·E2 of 30-325 µV (in its root) and 0.3-1.2 s. Dropped are
    those whose initial deflection takes 0.5 s or longer and the turning points of a rolling eye. In
    wake, saccades and blinks are found as well: no hypnogram enters.
    """
    left, right = _pair(left, right)
    if left is None or right is None:
        return None
    with quietly() as yasa:
        found = yasa.rem_detect(
            np.asarray(left.values, np.float64), np.asarray(right.values, np.float64), left.rate,
            amplitude=RAPID_SIZE, verbose=SILENT,
        )
    if found is None:
        return none_found()
    table = found.summary()
    largest = np.maximum(table["LOCAbsValPeak"].to_numpy(), table["ROCAbsValPeak"].to_numpy())
    out = detections(*(table[name].to_numpy() for name in ("Start", "End", "Peak")), largest)
    out = out.where(out.peak - out.onset < INITIAL)
    slow = slow_eye_movements(left, right)
    # Where one slow deflection ends and the next begins: the turning points of a rolling eye.
    rolling = detections(slow.end, slow.end).with_partner(detections(slow.onset, slow.onset), 1e-3)
    return out.without_partner(rolling, SLOW_EDGE)


def slow_eye_movements(left: Trace, right: Trace) -> Detections | None:
    """Slow deflections of E1 against E2 in µV, one per half wave: amplitude is that of (E1 - E2)/2.

    The deflection lasts over 0.5 s, E1 and E2 move against each other in it, and no quarter second
    of it, nor the one before, makes up three quarters of it. Source: AASM for the 500 ms and the
    conjugation; 25 µV and the rest are this project's.
    """
    left, right = _pair(left, right)
    if left is None or right is None:
        return None
    left, right = resampled(left, SLOW_RATE), resampled(right, SLOW_RATE)
    rate = left.rate
    one, two = filtered(left, *SLOW_BAND), filtered(right, *SLOW_BAND)
    both = (one - two) / 2
    fast = (filtered(left, None, SUDDEN_BAND) - filtered(right, None, SUDDEN_BAND)) / 2
    turns = turning_points(both)
    begin, until = turns[:-1], turns[1:]
    size = np.abs(both[until] - both[begin])
    lasts = (until - begin) / rate
    good = (lasts > SLOW_DEFLECTION[0]) & (lasts <= SLOW_DEFLECTION[1])
    good &= (size >= SLOW_SIZE[0]) & (size <= SLOW_SIZE[1])
    begin, until, size = begin[good], until[good], size[good]
    # Change within SUDDEN_S, at its largest from SUDDEN_S before the deflection to its end.
    step = max(round(SUDDEN_S * rate), 1)
    change = np.abs(fast[step:] - fast[:-step])  # [i]: from i to i + step
    keep = np.zeros(len(begin), bool)
    for i, (a, b) in enumerate(zip(begin, until)):
        swing_one, swing_two = one[a : b + 1], two[a : b + 1]
        high, low = sorted((np.ptp(swing_one), np.ptp(swing_two)), reverse=True)
        if low <= 0 or high > SLOW_RATIO * low:
            continue
        if np.corrcoef(swing_one, swing_two)[0, 1] > SLOW_AGAINST:
            continue
        keep[i] = change[max(a - step, 0) : max(b - step, a) + 1].max() < SUDDEN * size[i]
    begin, until, size = begin[keep], until[keep], size[keep]
    return detections(begin / rate, until / rate, None, size, rate / (2 * (until - begin)))


def blinks(left: Trace, right: Trace) -> Detections | None:
    """Blinks of E1 (below the left eye) and E2 (above the right one) in µV, by shape.

    Narrow upward peaks of (E2 - E1) / 2, 0.3-10 Hz, that are back at 30 % of their height within
    0.3 s; amplitude is the peak's, from zero. A saccade stays away for longer. Source: AASM for
    what a blink is; sizes and widths are this project's. Upward glances that come back at once
    are found as well.
    """
    left, right = _pair(left, right)
    if left is None or right is None:
        return None
    rate = left.rate
    one, two = filtered(left, *BLINK_BAND), filtered(right, *BLINK_BAND)
    lid = (two - one) / 2
    # The lid moves E2 more than E1, but E1 must not go the same way as far.
    peaks, found = signal.find_peaks(
        lid, height=BLINK_SIZE, prominence=BLINK_SIZE[0], wlen=round(2 * rate) + 1
    )
    widths, _, first, last = signal.peak_widths(lid, peaks, rel_height=0.5)
    keep = (widths / rate >= BLINK_WIDTH[0]) & (widths / rate <= BLINK_WIDTH[1])
    keep &= (two[peaks] > 0) & (one[peaks] < 0)
    peaks, height = peaks[keep], found["peak_heights"][keep]
    first, last = first[keep], last[keep]
    reach = np.arange(1, round(BACK_S * rate) + 1)
    after = lid[np.minimum(peaks[:, None] + reach, len(lid) - 1)]
    back = after.min(axis=1, initial=np.inf) <= BACK * height
    before = lid[np.maximum(peaks[:, None] - reach, 0)]
    back &= before.min(axis=1, initial=np.inf) <= BACK * height
    peaks, height, first, last = peaks[back], height[back], first[back], last[back]
    return detections(first / rate, last / rate, peaks / rate, height)


def _pair(left: Trace, right: Trace) -> tuple[Trace | None, Trace | None]:
    """Both at one rate and of one length; None where that or a length is not to be had."""
    left, right = resampled(left), resampled(right)
    if abs(left.rate - right.rate) > 1e-6 * left.rate:
        slower = min(left.rate, right.rate)
        left, right = resampled(left, slower), resampled(right, slower)
    count = min(len(left.values), len(right.values))
    if (
        abs(left.rate - right.rate) > 1e-6 * left.rate
        or left.rate < LOWEST_RATE or count < SHORTEST * left.rate
    ):
        return None, None
    return (
        Trace(left.values[:count], left.rate, left.unit),
        Trace(right.values[:count], left.rate, right.unit),
    )
