"""Simulated EEG: spectra by stage, alpha, spindles, slow waves, two sides."""

from __future__ import annotations

import numpy as np
from scipy import signal

from tests.fixtures_simulator import (
    N2,
    N3,
    R,
    W,
    band,
    channels,
    epochs,
    nights,
    spectrum,
    stages_of,
    truth_of,
)


def test_alpha_peak_with_closed_eyes_of_alpha_producers(clean_cohort):
    contrasts = []
    for path in nights(clean_cohort):
        truth = truth_of(path)
        person = truth["individual"]
        data, rate = channels(path)["C4-M1"]
        closed = np.zeros(len(data) // int(rate), bool)
        for state, first, length in truth["truth"]["state_bouts"]:
            if truth["truth"]["states"][state] == "W_closed":
                closed[first + 2 : first + length - 2] = True
        frames = data.reshape(-1, int(4 * rate))[
            closed[: len(closed) // 4 * 4].reshape(-1, 4).all(1)
        ]
        frequency, density = spectrum(frames, rate)
        relative = density * frequency**1.3  # without the 1/f background
        at = (frequency >= 6) & (frequency <= 14)
        top = frequency[at][relative[at].argmax()]
        contrast = relative[at].max() / np.median(relative[at])
        if person["alpha_producer"]:
            assert abs(top - person["alpha_hz"]) < 1.0 and contrast > 1.4  # some make little
            contrasts.append(contrast)
        else:
            assert contrast < 4
    assert np.median(contrasts) > 2.5


def test_spectra_by_stage(clean_cohort):
    for path in nights(clean_cohort):
        data, rate = channels(path)["C3-M2"]
        stages = stages_of(path)
        share = {}
        for stage in range(5):
            frequency, density = spectrum(epochs(data, rate)[stages == stage], rate)
            total = band(frequency, density, 0.5, 30)
            share[stage] = {
                "delta": band(frequency, density, 0.5, 4) / total,
                "beta": band(frequency, density, 16, 30) / total,
            }
        assert share[N3]["delta"] > share[N2]["delta"] > share[R]["delta"]
        assert share[W]["beta"] > share[N2]["beta"] > share[N3]["beta"]


def test_spindle_peak_in_n2_and_not_in_rem(clean_cohort):
    for path in nights(clean_cohort):
        data, rate = channels(path)["C3-M2"]
        stages, hertz = stages_of(path), truth_of(path)["individual"]["spindle_hz"]

        def above_background(stage, data=data, rate=rate, stages=stages, hertz=hertz):
            frequency, density = signal.welch(
                epochs(data, rate)[stages == stage], rate, nperseg=int(4 * rate)
            )
            density = density.mean(0)
            inside = np.abs(frequency - hertz) < 1
            around = ((frequency > 8) & (frequency < 10)) | ((frequency > 18) & (frequency < 21))
            return density[inside].mean() / np.exp(np.log(density[around]).mean())

        assert above_background(N2) > 1.5 * above_background(R)


def test_spindles_lie_where_the_truth_says(clean_cohort):
    path = nights(clean_cohort)[0]
    data, rate = channels(path)["C3-M2"]
    sos = signal.butter(4, [11, 16], "bandpass", fs=rate, output="sos")
    envelope = np.abs(signal.hilbert(signal.sosfiltfilt(sos, data)))
    spindles = truth_of(path)["truth"]["spindles"]
    assert len(spindles) > 30
    middle = [int((onset + duration / 2) * rate) for onset, duration, *_ in spindles]
    n2 = np.repeat(stages_of(path) == N2, int(30 * rate))
    assert np.median(envelope[middle]) > 3 * np.median(envelope[n2])


def test_n3_meets_the_slow_wave_rule(clean_cohort):
    """20 % of the epoch in waves above 75 µV peak to peak (AASM), counted by zero crossings."""
    for path in nights(clean_cohort):
        data, rate = channels(path)["C4-M1"]
        sos = signal.butter(2, [0.3, 4], "bandpass", fs=rate, output="sos")
        slow = signal.sosfiltfilt(sos, data)
        falls = np.flatnonzero((slow[:-1] >= 0) & (slow[1:] < 0))
        inside = np.zeros(len(slow), bool)
        for a, b in zip(falls[:-1], falls[1:]):
            if 0.5 <= (b - a) / rate <= 2.0 and np.ptp(slow[a:b]) > 75:
                inside[a:b] = True
        share = epochs(inside, rate).mean(1)
        stages = stages_of(path)
        assert np.median(share[stages == N3]) > 0.2
        assert np.median(share[stages == R]) == 0 and np.median(share[stages == N2]) < 0.2


def test_the_two_central_derivations_are_related_but_not_the_same(clean_cohort):
    for path in nights(clean_cohort):
        data = channels(path)
        related = np.corrcoef(data["C3-M2"][0], data["C4-M1"][0])[0, 1]
        assert 0.5 < related < 0.97
