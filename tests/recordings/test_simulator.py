"""Simulated nights: the same bytes, whole files, and physiology that can be measured."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from pathlib import Path

import defusedxml.ElementTree
import edfio
import numpy as np
import pytest
from scipy import signal

from sleeplm_jax.config import STAGES
from sleeplm_jax.errors import ConfigError
from sleeplm_jax.recordings.scoring import read_scoring
from sleeplm_jax.recordings.simulator import cohort, simulate_cohort, simulate_night
from sleeplm_jax.recordings.simulator.hypnogram import draw_bouts, epochs_of, states_of
from sleeplm_jax.recordings.simulator.individual import draw_individual

LABELS = {  # label: unit
    "ECG": "uV",
    "ABD": "",
    "THX": "",
    "AF": "",
    "E1-M2": "uV",
    "E2-M1": "uV",
    "C3-M2": "uV",
    "C4-M1": "uV",
    "Chin": "uV",
    "Position": "",
    "HR": "bpm",
    "SpO2": "%",
}
SEED, NIGHTS, HOURS = 11, 4, 2.0
W, N1, N2, N3, R = range(5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("cohort")
    simulate_cohort(out, NIGHTS, HOURS, SEED, workers=2, progress=False)
    return out


@pytest.fixture(scope="module")
def apnoeic(tmp_path_factory) -> Path:
    """A night of someone with severe apnoea."""
    index = next(
        i for i in range(60) if draw_individual(np.random.default_rng([SEED, i, 0])).ahi > 35
    )
    return simulate_night(tmp_path_factory.mktemp("apnoea"), index, 3.0, SEED, artefacts=False)


def channels(path: Path) -> dict[str, tuple[np.ndarray, float]]:
    return {s.label: (s.data, s.sampling_frequency) for s in edfio.read_edf(path).signals}


def truth_of(path: Path) -> dict:
    return json.loads(path.with_suffix(".truth.json").read_text())


def stages_of(path: Path) -> np.ndarray:
    return read_scoring(path.with_suffix(".xml"), None).stages


def nights(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.edf"))


def digests(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


def spectrum(values: np.ndarray, rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Median over epochs of each epoch's PSD, [bins]."""
    frequency, density = signal.welch(values, rate, nperseg=int(4 * rate), axis=-1)
    return frequency, np.median(density, axis=0)


def epochs(values: np.ndarray, rate: float) -> np.ndarray:
    return values.reshape(-1, int(30 * rate))


def band(frequency, density, low, high) -> float:
    return float(density[(frequency >= low) & (frequency < high)].sum())


# --- files -----------------------------------------------------------------------------------


def test_same_bytes_whatever_the_number_of_workers(folder, tmp_path):
    simulate_cohort(tmp_path, NIGHTS, HOURS, SEED, workers=1, progress=False)
    assert digests(tmp_path) == digests(folder)
    alone = tmp_path / "alone"
    simulate_night(alone, 2, HOURS, SEED)
    name = f"sim-{SEED}-0002.edf"
    assert digests(alone)[name] == digests(folder)[name]


def test_seed_and_index_make_other_nights(folder, tmp_path):
    simulate_night(tmp_path, 0, HOURS, SEED + 1)
    found = digests(folder)
    ours = [found[f"sim-{SEED}-{index:04d}.edf"] for index in range(2)]
    assert len({*ours, digests(tmp_path)[f"sim-{SEED + 1}-0000.edf"]}) == 3


def test_whole_nights_are_kept_and_broken_or_other_ones_made_again(tmp_path):
    path = simulate_night(tmp_path, 0, 0.5, 1)
    before, made = digests(tmp_path), os.stat(path).st_mtime_ns
    assert simulate_night(tmp_path, 0, 0.5, 1) == path
    assert os.stat(path).st_mtime_ns == made

    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    simulate_night(tmp_path, 0, 0.5, 1)
    assert digests(tmp_path) == before

    simulate_night(tmp_path, 0, 0.6, 1)
    assert digests(tmp_path)["sim-1-0000.edf"] != before["sim-1-0000.edf"]


def test_nights_of_other_code_are_made_again(tmp_path, monkeypatch):
    path = simulate_night(tmp_path, 0, 0.5, 1)
    made = os.stat(path).st_mtime_ns
    monkeypatch.setattr(cohort, "code_version", lambda: "another")
    simulate_night(tmp_path, 0, 0.5, 1)
    assert os.stat(path).st_mtime_ns != made


def test_an_interrupted_night_is_not_taken_for_whole(tmp_path, monkeypatch):
    write = cohort.write_atomic

    def stop_at_xml(path, content):
        if path.suffix == ".xml":
            raise KeyboardInterrupt
        write(path, content)

    monkeypatch.setattr(cohort, "write_atomic", stop_at_xml)
    with pytest.raises(KeyboardInterrupt):
        simulate_night(tmp_path, 0, 0.5, 1)
    assert not (tmp_path / "sim-1-0000.truth.json").exists()
    monkeypatch.setattr(cohort, "write_atomic", write)
    simulate_night(tmp_path, 0, 0.5, 1)
    assert {p.name for p in tmp_path.iterdir()} == {
        "sim-1-0000.edf",
        "sim-1-0000.xml",
        "sim-1-0000.truth.json",
    }


def test_edf_header(folder):
    for path in nights(folder):
        edf = edfio.read_edf(path)
        assert edf.reserved == "EDF+C" and edf.duration == HOURS * 3600
        assert {s.label: s.physical_dimension for s in edf.signals} == LABELS
        assert "simulated" in edf.local_recording_identification
        assert edf.patient.name == "simulated" and edf.patient.sex == "X"
        for s in edf.signals:
            assert s.data.min() >= s.physical_min and s.data.max() <= s.physical_max
            assert s.data.std() > 0 or s.label in {"Position", "SpO2"}
        for label in ("Position", "HR", "SpO2"):
            values = edf.get_signal(label).data
            assert np.allclose(values, np.round(values), atol=1e-9)
        assert set(np.unique(np.round(edf.get_signal("Position").data))) <= {0, 1, 2, 3, 4}


def test_mne_reads_the_same_microvolts(folder):
    import mne

    path = nights(folder)[0]
    raw = mne.io.read_raw_edf(path, include=["C3-M2"], verbose="error")
    edf = edfio.read_edf(path).get_signal("C3-M2")
    assert raw.info["sfreq"] == edf.sampling_frequency
    np.testing.assert_allclose(raw.get_data(units="uV")[0], edf.data, atol=0.01)


def test_scoring_xml_by_hand_and_by_our_reader(folder):
    for path in nights(folder):
        root = defusedxml.ElementTree.parse(path.with_suffix(".xml")).getroot()
        assert root.tag == "CMPStudyConfig" and root.findtext("EpochLength") == "30"
        codes = [stage.text for stage in root.find("SleepStages")]
        assert len(codes) == HOURS * 120 and set(codes) <= {"0", "1", "2", "3", "5"}
        scoring = read_scoring(path.with_suffix(".xml"), HOURS * 3600)
        assert [{"0": 0, "1": 1, "2": 2, "3": 3, "5": 4}[code] for code in codes] == list(
            scoring.stages
        )
        kinds = {event.kind for event in scoring.events}
        assert "arousal" in kinds and "other" not in kinds
        assert len(scoring.events) == len(root.find("ScoredEvents"))


def test_cohort_says_simulated(folder):
    found = json.loads((folder / "cohort.json").read_text())
    assert found["simulated"] is True and found["cohort"] == "simulated"
    assert [row["recording"] for row in found["nights"]] == [p.stem for p in nights(folder)]
    for path in nights(folder):
        truth = truth_of(path)
        assert truth["simulated"] is True
        counts = np.bincount(stages_of(path), minlength=5)
        assert truth["stages"] == dict(zip(STAGES, counts.tolist()))


@pytest.mark.parametrize("hours", [0.1, 20.0, float("nan")])
def test_impossible_hours(tmp_path, hours):
    with pytest.raises(ConfigError, match="hours"):
        simulate_night(tmp_path, 0, hours, 0)


def test_impossible_numbers(tmp_path):
    with pytest.raises(ConfigError, match="nights: 1000000000 nights"):
        simulate_cohort(tmp_path, 10**9)
    with pytest.raises(ConfigError, match="nights"):
        simulate_cohort(tmp_path, 0)
    with pytest.raises(ConfigError, match="workers"):
        simulate_cohort(tmp_path, 1, workers=0)
    with pytest.raises(ConfigError, match="seed"):
        simulate_night(tmp_path, 0, 1.0, -1)


# --- sleep -----------------------------------------------------------------------------------


@pytest.mark.parametrize("hours", [1.0, 2.0, 3.0, 8.0])
def test_every_stage_in_a_plausible_share(hours):
    shares = []
    for index in range(40):
        person = draw_individual(np.random.default_rng([SEED, index, 0]))
        seconds = int(hours * 3600)
        bouts = draw_bouts(person, seconds, np.random.default_rng([SEED, index, 1]))
        stages = epochs_of(states_of(bouts, seconds))
        assert len(stages) == seconds // 30
        shares.append(np.bincount(stages, minlength=5) / len(stages))
    shares = np.array(shares)
    assert (shares > 0.01).all()  # every stage in every night
    typical = np.median(shares, axis=0)
    low, high = [0.05, 0.03, 0.35, 0.07, 0.12], [0.25, 0.18, 0.58, 0.28, 0.28]
    assert (typical > low).all() and (typical < high).all(), typical


def test_n3_is_early_and_rem_late():
    early, late = np.zeros(5), np.zeros(5)
    for index in range(30):
        person = draw_individual(np.random.default_rng([SEED, index, 0]))
        bouts = draw_bouts(person, 28800, np.random.default_rng([SEED, index, 1]))
        stages = epochs_of(states_of(bouts, 28800))
        half = len(stages) // 2
        early += np.bincount(stages[:half], minlength=5)
        late += np.bincount(stages[half:], minlength=5)
    assert early[N3] > 2 * late[N3] and late[R] > 1.5 * early[R]
    assert stages[0] == W


def test_an_epoch_is_what_most_of_it_is():
    states = np.array([0] * 14 + [2] * 16 + [3] * 16 + [4] * 14 + [5] * 30 + [1] * 7)
    assert epochs_of(states).tolist() == [N1, N2, R]


def test_people_differ_and_slow_waves_fall_with_age():
    people = [draw_individual(np.random.default_rng([SEED, i, 0])) for i in range(300)]
    assert {p.severity for p in people} == {"none", "mild", "moderate", "severe"}
    assert 0.05 < np.mean([not p.alpha_producer for p in people]) < 0.3
    age = [p.age for p in people]
    assert np.corrcoef(age, [p.slow_wave_uv for p in people])[0, 1] < -0.5
    assert np.corrcoef(age, [p.spindles_per_minute for p in people])[0, 1] < -0.4
    assert np.corrcoef(age, [p.n3_share for p in people])[0, 1] < -0.4


# --- signals ---------------------------------------------------------------------------------


def test_alpha_peak_with_closed_eyes_of_alpha_producers(folder):
    checked = 0
    for path in nights(folder):
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
            assert abs(top - person["alpha_hz"]) < 1.0 and contrast > 2.5
            checked += 1
        else:
            assert contrast < 4
    assert checked


def test_spectra_by_stage(folder):
    for path in nights(folder):
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


def test_spindle_peak_in_n2_and_not_in_rem(folder):
    for path in nights(folder):
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


def test_spindles_lie_where_the_truth_says(folder):
    path = nights(folder)[0]
    data, rate = channels(path)["C3-M2"]
    sos = signal.butter(4, [11, 16], "bandpass", fs=rate, output="sos")
    envelope = np.abs(signal.hilbert(signal.sosfiltfilt(sos, data)))
    spindles = truth_of(path)["truth"]["spindles"]
    assert len(spindles) > 30
    middle = [int((onset + duration / 2) * rate) for onset, duration, *_ in spindles]
    n2 = np.repeat(stages_of(path) == N2, int(30 * rate))
    assert np.median(envelope[middle]) > 3 * np.median(envelope[n2])


def test_n3_meets_the_slow_wave_rule(folder):
    """20 % of the epoch in waves above 75 µV peak to peak (AASM), counted by zero crossings."""
    for path in nights(folder):
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


def test_the_two_central_derivations_are_related_but_not_the_same(folder):
    for path in nights(folder):
        data = channels(path)
        related = np.corrcoef(data["C3-M2"][0], data["C4-M1"][0])[0, 1]
        assert 0.5 < related < 0.97


def test_eyes_move_together_and_the_brain_leaks_in_phase(folder):
    for path in nights(folder):
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


def test_chin_tone_is_lowest_in_rem(folder):
    for path in nights(folder):
        data, rate = channels(path)["Chin"]
        level = np.sqrt(np.median(epochs(data, rate) ** 2, axis=1))
        stages = stages_of(path)
        typical = [np.median(level[stages == stage]) for stage in range(5)]
        assert typical[W] > typical[N2] >= typical[R] * 1.1 and typical[R] == min(typical)


def test_r_peaks_are_where_the_truth_says(folder):
    for path in nights(folder):
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


def test_heart_rate_channel_follows_the_beats(folder):
    for path in nights(folder):
        monitor, _ = channels(path)["HR"]
        beats = np.array(truth_of(path)["truth"]["r_peaks"])
        rate = 60 * np.histogram(beats, np.arange(0, len(monitor) + 1, 60))[0] / 60
        shown = monitor.reshape(-1, 60).mean(1)
        assert np.abs(rate - shown)[1:-1].max() < 5
        assert 35 < monitor.min() and monitor.max() < 150


def test_breathing_follows_the_heart(folder):
    """Respiratory sinus arrhythmia: the beat-to-beat rate swings with the belt in N2 and N3."""
    for path in nights(folder):
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


# --- breathing events ------------------------------------------------------------------------


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


def test_more_position_changes_than_none_and_only_at_movements(tmp_path):
    changes = 0
    for index in range(3):
        path = simulate_night(tmp_path, index, 4.0, SEED)
        position, _ = channels(path)["Position"]
        moves = np.array(truth_of(path)["truth"]["movements"])
        for at in np.flatnonzero(np.diff(np.round(position))) + 1:
            assert ((moves[:, 0] - 1 <= at) & (at <= moves[:, 0] + moves[:, 1] + 1)).any()
            changes += 1
    assert changes >= 6


# --- realism ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_yasa_and_sleepecg_agree_with_simulated_nights(tmp_path):
    """Tools that never saw the simulator; five whole nights of a seed it was not tuned on."""
    pytest.importorskip("yasa")
    script = Path(__file__).parents[2] / "experiments/benchmarks/simulator_realism.py"
    spec = importlib.util.spec_from_file_location("simulator_realism", script)
    realism = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(realism)
    rows = [realism.measure(p) for p in simulate_cohort(tmp_path, 5, 8.0, 0, progress=False)]
    assert np.mean([row["kappa"] for row in rows]) >= 0.70
    assert min(row["kappa"] for row in rows) >= 0.55
    assert np.mean([row["r_sensitivity"] for row in rows]) >= 0.99
    assert np.mean([row["r_ppv"] for row in rows]) >= 0.99
