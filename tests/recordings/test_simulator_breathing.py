"""Simulated respiratory events: flow, effort, saturation, arousal."""

from __future__ import annotations

import numpy as np
from scipy import signal

from sleeplm_jax.recordings.scoring import read_scoring
from sleeplm_jax.recordings.simulator.course import draw_course
from tests.fixtures_simulator import SEED, W, channels, stages_of, truth_of


def test_severe_apnoea_is_scored_as_such(apnoeic):
    scoring = read_scoring(apnoeic.with_suffix(".xml"), None)
    events = [e for e in scoring.events if e.kind.endswith("apnoea") or "apnea" in e.kind]
    events += [e for e in scoring.events if e.kind == "hypopnea"]
    index = len(events) / ((scoring.stages > W).sum() / 120)
    assert 20 < index < 90
    assert all(10 <= e.duration <= 90 for e in events)


def test_flow_falls_in_apnoeas_and_effort_goes_on_in_obstructive_ones(apnoeic):
    data = channels(apnoeic)
    flow, rate = data["AF"]
    sos = signal.butter(2, 0.12, "highpass", fs=rate, output="sos")
    abdomen = signal.sosfiltfilt(sos, data["ABD"][0])  # belts drift

    def swing(values, a, b):
        piece = values[int(a * rate) : int(b * rate)]
        return np.percentile(piece, 97) - np.percentile(piece, 3)

    residual = {}
    for event in truth_of(apnoeic)["truth"]["respiratory_events"]:
        a, b = event["onset"] + 1.5, event["onset"] + event["duration"] - 1.5
        before = swing(flow, event["onset"] - 9, event["onset"] - 1)
        left = swing(flow, a, b) / before
        belt = swing(abdomen, a, b) / swing(abdomen, a - 11, a - 3)
        residual.setdefault(event["kind"], []).append((left, belt))
    obstructive = np.median(residual["obstructive_apnea"], axis=0)
    assert obstructive[0] < 0.2 and obstructive[1] > 0.3
    hypopnoea = np.median(residual["hypopnea"], axis=0)
    assert 0.2 < hypopnoea[0] < 0.75
    if "central_apnea" in residual:
        assert np.median(residual["central_apnea"], axis=0)[1] < 0.4


def test_paradox_in_obstructive_apnoeas(apnoeic):
    data = channels(apnoeic)
    (thorax, rate), (abdomen, _) = data["THX"], data["ABD"]
    sos = signal.butter(2, 0.12, "highpass", fs=rate, output="sos")
    thorax, abdomen = signal.sosfiltfilt(sos, thorax), signal.sosfiltfilt(sos, abdomen)
    during, before = [], []
    for event in truth_of(apnoeic)["truth"]["respiratory_events"]:
        if event["kind"] != "obstructive_apnea":
            continue
        a, b = (
            int((event["onset"] + 2) * rate),
            int((event["onset"] + event["duration"] - 2) * rate),
        )
        during.append(np.corrcoef(thorax[a:b], abdomen[a:b])[0, 1])
        a, b = int((event["onset"] - 9) * rate), int((event["onset"] - 1) * rate)
        before.append(np.corrcoef(thorax[a:b], abdomen[a:b])[0, 1])
    assert np.median(during) < -0.2 and np.median(before) > 0.7


def test_desaturations_follow_events_and_agree_with_the_oximeter(apnoeic):
    scoring = read_scoring(apnoeic.with_suffix(".xml"), None)
    spo2, _ = channels(apnoeic)["SpO2"]
    breathing = truth_of(apnoeic)["truth"]["respiratory_events"]
    falls = [e for e in scoring.events if e.kind == "desaturation"]
    assert len(falls) > 20
    delays = []
    for fall in falls:
        window = np.round(spo2[int(fall.onset) : int(fall.end) + 1])
        assert window.min() == fall.value and window[0] - window.min() >= 3
        nadir = int(fall.onset) + window.argmin()
        cause = [e for e in breathing if e["onset"] - 1 <= fall.onset][-1]
        delays.append((fall.onset - cause["onset"], nadir - (cause["onset"] + cause["duration"])))
    begins, lowest = np.array(delays).T
    assert 5 < np.median(begins) < 40 and begins.min() >= -1
    assert 5 < np.median(lowest) < 30 and lowest.max() < 45


def test_arousals_end_most_obstructive_events_and_raise_the_heart_rate(apnoeic):
    truth = truth_of(apnoeic)["truth"]
    woke = np.array([arousal[0] for arousal in truth["arousals"]])
    ended = [
        np.abs(woke - (e["onset"] + e["duration"])).min() < 3
        for e in truth["respiratory_events"]
        if e["kind"] == "obstructive_apnea"
    ]
    assert np.mean(ended) > 0.5
    beats = np.array(truth["r_peaks"])
    rate = np.interp(np.arange(0, beats[-1]), beats[1:], 60 / np.diff(beats))
    inside = woke[(woke > 20) & (woke < len(rate) - 20)].astype(int)
    rise = [rate[t + 2 : t + 8].mean() - rate[t - 10 : t - 2].mean() for t in inside]
    assert np.median(rise) > 2


def test_reras_end_in_an_arousal_without_a_desaturation():
    """AASM: 10 s or more of growing effort that wakes the sleeper, and no hypopnoea."""
    found = 0
    for index in range(6):
        course = draw_course(index, 4 * 3600, SEED, ("apnoea-mild",))
        woke = np.array([arousal.onset for arousal in course.arousals])
        for event in course.events:
            if event.kind == "rera" and event.scored:
                assert event.duration >= 10 and event.residual > 0.7
                assert np.abs(woke - event.end).min() < 3 or np.any(
                    (woke > event.onset + 5) & (woke < event.end)
                )
                found += 1
    assert found > 5


def test_snoring_stops_in_apnoeas(apnoeic):
    data, rate = channels(apnoeic)["Snore"]
    level = np.abs(data[: len(data) // int(rate) * int(rate)]).reshape(-1, int(rate)).mean(1)
    inside = np.zeros(len(level), bool)
    for event in truth_of(apnoeic)["truth"]["respiratory_events"]:
        if event["kind"].endswith("apnea"):
            inside[int(event["onset"]) + 2 : int(event["onset"] + event["duration"]) - 1] = True
    asleep = np.repeat(stages_of(apnoeic) > W, 30)[: len(level)]
    assert np.mean(level[inside & asleep]) < 0.7 * np.mean(level[~inside & asleep])
