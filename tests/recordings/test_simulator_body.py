"""Simulated eyes, chin, heart and position."""

from __future__ import annotations

import numpy as np
from scipy import signal

from tests.fixtures_simulator import (
    N2,
    N3,
    R,
    W,
    channels,
    epochs,
    nights,
    stages_of,
    truth_of,
)


def test_eyes_move_together_and_the_brain_leaks_in_phase(clean_cohort):
    for path in nights(clean_cohort):
        data, truth = channels(path), truth_of(path)["truth"]
        left, rate = data["E1-M2"]
        right, _ = data["E2-M1"]
        rapid = np.array(truth["rapid_eye_movements"])
        assert len(rapid) > 20
        pieces = [slice(int((t - 0.3) * rate), int((t + 0.7) * rate)) for t in rapid]
        opposite = [np.corrcoef(left[p], right[p])[0, 1] for p in pieces]
        assert np.median(opposite) < -0.8
        deep = np.repeat(stages_of(path) == N3, int(30 * rate))
        assert np.corrcoef(left[deep], right[deep])[0, 1] > 0.5


def test_chin_tone_is_lowest_in_rem(clean_cohort):
    for path in nights(clean_cohort):
        data, rate = channels(path)["Chin"]
        level = np.sqrt(np.median(epochs(data, rate) ** 2, axis=1))
        stages = stages_of(path)
        typical = [np.median(level[stages == stage]) for stage in range(5)]
        assert typical[W] > typical[N2] >= typical[R] * 1.1 and typical[R] == min(typical)


def test_r_peaks_are_where_the_truth_says(clean_cohort):
    for path in nights(clean_cohort):
        data, rate = channels(path)["ECG"]
        sos = signal.butter(2, [8, 40], "bandpass", fs=rate, output="sos")
        sharp = signal.sosfiltfilt(sos, data)
        found, _ = signal.find_peaks(
            sharp, 0.4 * np.percentile(sharp, 99.5), distance=int(0.35 * rate)
        )
        found = found / rate
        true = np.array(truth_of(path)["truth"]["r_peaks"])
        gap = np.abs(
            true[:, None]
            - found[np.clip(np.searchsorted(found, true)[:, None] + [-1, 0], 0, len(found) - 1)]
        )
        assert (gap.min(1) < 0.02).mean() > 0.995
        assert abs(len(found) - len(true)) < 0.01 * len(true)


def test_heart_rate_channel_follows_the_beats(clean_cohort):
    for path in nights(clean_cohort):
        monitor, _ = channels(path)["HR"]
        beats = np.array(truth_of(path)["truth"]["r_peaks"])
        rate = 60 * np.histogram(beats, np.arange(0, len(monitor) + 1, 60))[0] / 60
        shown = monitor.reshape(-1, 60).mean(1)
        assert np.abs(rate - shown)[1:-1].max() < 5
        assert 35 < monitor.min() and monitor.max() < 150


def test_breathing_follows_the_heart(clean_cohort):
    """Respiratory sinus arrhythmia: the beat-to-beat rate swings with the belt in N2 and N3."""
    for path in nights(clean_cohort):
        belt, rate = channels(path)["ABD"]
        beats = np.array(truth_of(path)["truth"]["r_peaks"])
        grid = np.arange(len(belt)) / rate
        heart = np.interp(grid, beats[1:], 60 / np.diff(beats))
        sos = signal.butter(2, [0.12, 0.5], "bandpass", fs=rate, output="sos")
        heart, belt = signal.sosfiltfilt(sos, heart), signal.sosfiltfilt(sos, belt)
        quiet = np.repeat(np.isin(stages_of(path), [N2, N3]), int(30 * rate))
        frequency, coherence = signal.coherence(
            heart[quiet], belt[quiet], rate, nperseg=int(40 * rate)
        )
        person = truth_of(path)["individual"]
        at = np.abs(frequency - person["breathing_rate"] / 60).argmin()
        assert coherence[at - 1 : at + 2].max() > 0.35


def test_more_position_changes_than_none_and_only_at_movements(clean_cohort):
    changes = 0
    for path in nights(clean_cohort):
        position, _ = channels(path)["Position"]
        moves = np.array(truth_of(path)["truth"]["movements"])
        for at in np.flatnonzero(np.diff(np.round(position))) + 1:
            assert ((moves[:, 0] - 1 <= at) & (at <= moves[:, 0] + moves[:, 1] + 1)).any()
            changes += 1
    assert changes >= 4
