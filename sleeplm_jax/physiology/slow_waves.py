"""Slow waves of AASM's slow-wave activity, by YASA's detector at AASM's band and amplitude.

AASM: waves of 0.5-2 Hz and over 75 µV peak to peak, measured over the frontal regions; N3 is an
epoch that holds them for a fifth of its length (6 s). YASA's defaults are 0.3-1.5 Hz, with at least
40 µV below and 10 µV above zero. Over C3 and C4 the same waves are smaller than over the frontal
leads, so that fewer pass the criterion there.
"""

from __future__ import annotations

import numpy as np

from sleeplm_jax.physiology.background import calm
from sleeplm_jax.physiology.detections import Detections, detections, none_found, resampled
from sleeplm_jax.physiology.yasa_quietly import SILENT, quietly
from sleeplm_jax.recordings.night import Trace

BAND = (0.5, 2.0)  # Hz
PEAK_TO_PEAK = (75.0, 500.0)  # µV; the upper bound is YASA's against movement, widened by half
# A half wave of either sign lasts between half a period of 2 Hz and of 0.5 Hz.
HALF_WAVE = (0.25, 1.0)  # s
SLACK = 0.05  # s: waves are not symmetric, the two halves together make the period
LEAST_HALF = 10.0  # µV of either sign: YASA's for the positive one
LOWEST_RATE = 64.0  # Hz: 30 Hz, where muscle shows
SHORTEST = 30.0  # s: YASA's filter of 0.2-Hz flanks is 16 s long


def slow_waves(trace: Trace) -> Detections | None:
    """Slow waves of an EEG in µV: negative then positive half wave, amplitude peak to peak.

    Peak is the negative one, frequency the inverse of the duration (both half waves), 0.5-2 Hz.
    Amplitudes are those of the 0.5-2 Hz band. Waves under muscle are dropped. `trace` may come from
    `resampled` already. Massimini et al., J Neurosci 2004, 24:6862-70, as implemented in YASA
    0.8.1.
    """
    trace = resampled(trace)
    if trace.rate < LOWEST_RATE or len(trace.values) < SHORTEST * trace.rate:
        return None
    halves = (HALF_WAVE[0] - SLACK, HALF_WAVE[1] + SLACK)
    with quietly() as yasa:
        found = yasa.sw_detect(
            np.asarray(trace.values, np.float64), trace.rate, freq_sw=BAND, dur_neg=halves,
            dur_pos=halves, amp_neg=(LEAST_HALF, PEAK_TO_PEAK[1]),
            amp_pos=(LEAST_HALF, PEAK_TO_PEAK[1]), amp_ptp=PEAK_TO_PEAK,
            verbose=SILENT,
        )
    if found is None:
        return none_found()
    table = found.summary()
    out = detections(*(
        table[name].to_numpy() for name in ("Start", "End", "NegPeak", "PTP", "Frequency")
    ))
    return calm(trace, out.where((out.frequency >= BAND[0]) & (out.frequency <= BAND[1])))
