"""Sleep spindles, by YASA's detector at AASM's band.

AASM: a train of waves of 11-16 Hz, mostly 12-14, of at least 0.5 s, largest over central leads.
YASA's defaults are 12-15 Hz and at most 2 s. No hypnogram enters: the stage is what captions are
used to predict, and a threshold that knew it would tell it.
"""

from __future__ import annotations

import numpy as np
from scipy import fft, ndimage, signal

from sleeplm_jax.physiology.detections import (
    Detections,
    detections,
    filtered,
    none_found,
    resampled,
)
from sleeplm_jax.physiology.yasa_quietly import SILENT, quietly
from sleeplm_jax.recordings.night import Trace

BAND = (11.0, 16.0)  # Hz
DURATION = (0.5, 3.0)  # s; AASM gives no longest
BROAD = (1.0, 30.0)  # Hz
# YASA's are 0.2, 0.65 and 1.5. With those it finds 5 of 21 spindles that experts marked in three
# DREAMS epochs, most of them on slower waves that take the power; what the lower ones let in, what
# follows takes out again (docs/detectors.md).
THRESHOLDS = {"rel_pow": 0.1, "corr": 0.6, "rms": 1.0}
APART_MS = 300  # nearer ones are one; YASA's 500 join a spindle to a ripple of noise beside it
LOWEST_RATE = 64.0  # Hz: 30 Hz and a filter's flank
SHORTEST = 10.0  # s of recording: less is shorter than YASA's filters
# A spindle is a train that stands out, an alpha rhythm or fast activity goes on: the envelope of
# the sigma band in it (its 75th percentile) over the median of the seconds around it.
STANDS_OUT = 2.75
ENVELOPE_BAND = (10.5, 16.5)  # Hz
AROUND = (0.3, 3.0)  # s from its ends


def spindles(trace: Trace) -> Detections | None:
    """Spindles of an EEG in µV: amplitude is peak to peak in 1-30 Hz, frequency in 11-16 Hz.

    `trace` may come from `resampled` already. Lacourse et al. 2018
    (doi 10.1016/j.jneumeth.2018.08.014), as YASA 0.8.1 cites and implements them: relative power of
    the band, correlation of the filtered with the whole signal, RMS in standard deviations above
    the night's mean. Its filters let 10.25-16.75 Hz pass, so that alpha of 10.5 Hz is found as
    well: those outside 11-16 Hz are dropped here, and those that do not stand out from the seconds
    around them.
    """
    trace = resampled(trace)
    if trace.rate < LOWEST_RATE or len(trace.values) < SHORTEST * trace.rate:
        return None
    with quietly() as yasa:
        found = yasa.spindles_detect(
            np.asarray(trace.values, np.float64), trace.rate, freq_sp=BAND, duration=DURATION,
            freq_broad=BROAD, thresh=THRESHOLDS, min_distance=APART_MS,
            verbose=SILENT,
        )
    if found is None:
        return none_found()
    table = found.summary()
    out = detections(*(
        table[name].to_numpy() for name in ("Start", "End", "Peak", "Amplitude", "Frequency")
    ))
    out = out.where((out.frequency >= BAND[0]) & (out.frequency <= BAND[1]))
    return out.where(_stand_out(trace, out))


def _stand_out(trace: Trace, found: Detections) -> np.ndarray:
    """Which of `found` rise above what the sigma band does around them, bool [n]."""
    rate = trace.rate
    sigma = filtered(trace, *ENVELOPE_BAND, order=3)
    envelope = np.abs(signal.hilbert(sigma, fft.next_fast_len(len(sigma))))
    envelope = ndimage.uniform_filter1d(envelope[: len(trace.values)], max(round(0.2 * rate), 1))
    near, far = (round(x * rate) for x in AROUND)
    keep = np.zeros(len(found), bool)
    for i, (onset, end) in enumerate(zip(found.onset, found.end)):
        a, b = int(onset * rate), max(int(end * rate), int(onset * rate) + 1)
        around = np.concatenate([envelope[max(a - far, 0) : max(a - near, 0)],
                                 envelope[b + near : b + far]])
        keep[i] = len(around) and np.percentile(envelope[a:b], 75) >= STANDS_OUT * np.median(around)
    return keep
