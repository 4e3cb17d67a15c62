"""Sleep statistics: hypnograms whose numbers follow by hand, invariants, and YASA beside them."""

import dataclasses
import json

import numpy as np
import pytest

from sleeplm_jax.config import MOVEMENT, UNSCORED, SignalSpec
from sleeplm_jax.errors import ConfigError, RecordingError
from sleeplm_jax.physiology.sleep_time import sleep_time
from sleeplm_jax.physiology.statistics import night_statistics, sleep_statistics
from sleeplm_jax.recordings.night import Event, Provenance, Trace
from sleeplm_jax.recordings.scoring import read_scoring
from tests.physiology.nights import drawn_night, drawn_traces

W, N1, N2, N3, R = range(5)


def hypnogram(*runs):
    """int8 [E] from (stage, epochs) runs."""
    return np.concatenate([np.full(count, stage, np.int8) for stage, count in runs])


def values(stages, off=None, on=None, flags=()):
    found = sleep_statistics(sleep_time(stages, off, on), flags)
    return {name: measure["value"] for name, measure in found["measures"].items()}


def test_a_night_by_hand():
    """10 min W | 5 N1, 20 N2, 5 W, 20 N3, 10 N2, 30 R | 8 W, in minutes, all in bed."""
    stages = hypnogram((W, 20), (N1, 10), (N2, 40), (W, 10), (N3, 40), (N2, 20), (R, 60), (W, 16))
    found = values(stages, 0, 30 * len(stages))
    assert found["TRT"] == 108
    assert found["TST"] == 85
    assert found["SE"] == pytest.approx(100 * 85 / 108, abs=1e-4)
    assert found["SOL"] == 10
    assert found["WASO"] == found["WASO_scored_W"] == 13  # with the 8 min before lights on
    assert found["SPT"] == 90 and found["SME"] == pytest.approx(100 * 85 / 90, abs=1e-4)
    assert found["N2_latency"] == 5 and found["N3_latency"] == 30
    assert found["REM_latency"] == 60  # from sleep onset, the W between with it
    assert (found["W"], found["N1"], found["N2"], found["N3"], found["REM"]) == (23, 5, 30, 20, 30)
    assert found["N3_percent"] == pytest.approx(100 * 20 / 85, abs=1e-4)
    assert found["persistent_sleep_latency"] == 10
    assert found["stage_shifts"] == 6 and found["awakenings"] == 2
    assert found["movement"] == found["unscored"] == 0


def test_persistent_sleep_is_ten_unbroken_minutes():
    stages = hypnogram((W, 4), (N1, 19), (W, 1), (N2, 20), (W, 2))
    found = values(stages)
    assert found["SOL"] == 2 and found["persistent_sleep_latency"] == 12
    assert values(stages[:40])["persistent_sleep_latency"] is None  # 16 epochs of it


def test_lights_within_epochs_count_their_seconds():
    """Off 10 s into the second epoch, on 20 s into the last: SOL from there, partial epochs too."""
    stages = hypnogram((W, 4), (N2, 10), (W, 2))
    found = values(stages, 40, 30 * 15 + 20)
    assert found["TRT"] == pytest.approx(430 / 60, abs=1e-4)
    assert found["SOL"] == pytest.approx(80 / 60, abs=1e-4)
    assert found["TST"] == 5
    assert found["WASO"] == pytest.approx(50 / 60, abs=1e-4)
    asleep_already = values(stages, 130, 480)  # 10 s into the first epoch of sleep
    assert asleep_already["SOL"] == 0
    assert asleep_already["TST"] == pytest.approx(290 / 60, abs=1e-4)


def test_unscored_and_movement_time_is_named():
    stages = hypnogram((UNSCORED, 6), (W, 4), (N2, 10), (MOVEMENT, 2), (N2, 10), (UNSCORED, 4),
                       (N2, 2), (W, 2), (UNSCORED, 60))
    found = sleep_statistics(sleep_time(stages))  # lights unknown: the scored part
    measures = {name: one["value"] for name, one in found["measures"].items()}
    assert found["lights"]["off_s"] == 180 and found["lights"]["on_s"] == 30 * 40
    assert found["lights"]["off"].startswith("unknown")
    assert measures["TRT"] == 17 and measures["SOL"] == 2 and measures["TST"] == 11
    assert measures["WASO"] == 4 and measures["WASO_scored_W"] == 1
    assert (measures["movement"], measures["unscored"]) == (1, 2)
    assert measures["awakenings"] == 1  # not across the unscored stretch, nor by movement
    assert measures["stage_shifts"] == 1
    flags = " ".join(found["flags"])
    assert all(word in flags for word in ("lights_unknown", "unscored_in_bed", "movement_time"))
    whole = sleep_statistics(sleep_time(stages, 0, 30 * len(stages)))
    assert whole["measures"]["unscored"]["value"] == 35
    assert not any("lights_unknown" in flag for flag in whole["flags"])


def test_without_sleep_latencies_are_not_numbers():
    found = values(hypnogram((W, 40)))
    assert found["TRT"] == 20 and found["TST"] == 0 and found["SE"] == 0
    for name in ("SOL", "WASO", "SPT", "SME", "REM_latency", "N1_percent",
                 "persistent_sleep_latency"):
        assert found[name] is None, name
    nothing = sleep_statistics(sleep_time(hypnogram((UNSCORED, 40))))
    assert nothing["measures"]["TST"]["value"] == 0
    assert any("no_sleep" in flag for flag in nothing["flags"])


def test_sleep_wake_scoring_has_no_stages():
    found = values(hypnogram((W, 4), (N2, 40), (W, 4)), flags=("sleep_wake_scoring_only",))
    assert found["TST"] == 20 and found["WASO"] == 2 and found["awakenings"] == 1
    for name in ("N2", "N2_percent", "REM_latency", "N3_latency", "stage_shifts"):
        assert found[name] is None, name


def test_lights_that_contradict_are_refused():
    with pytest.raises(RecordingError, match="give lights on after lights off"):
        sleep_time(hypnogram((N2, 10)), 200, 100)


def random_hypnogram(rng):
    """Simulated: runs of any stage, unscored and movement among them, of any length."""
    runs = rng.integers(1, 60)
    stages = rng.choice([W, N1, N2, N3, R, UNSCORED, MOVEMENT], runs,
                        p=[0.25, 0.1, 0.3, 0.1, 0.15, 0.05, 0.05])
    return hypnogram(*zip(stages, rng.integers(1, 40, runs)))


def test_invariants_of_any_hypnogram():
    """300 seeded hypnograms, lights anywhere, on and off the epoch grid."""
    rng = np.random.default_rng(3)
    for case in range(300):
        stages = random_hypnogram(rng)
        end = 30 * len(stages)
        off, on = sorted(rng.uniform(0, end, 2)) if case % 3 else (None, None)
        if case % 3 == 1:
            off, on = 30 * np.floor(off / 30), 30 * np.ceil(on / 30)
        found = sleep_statistics(sleep_time(stages, off, on))
        json.dumps(found, allow_nan=False)
        m = {name: measure["value"] for name, measure in found["measures"].items()}
        whole = sum(m[k] for k in ("W", "N1", "N2", "N3", "REM", "movement", "unscored"))
        assert m["TRT"] == pytest.approx(whole, abs=1e-3), case  # values have four decimals
        assert m["TST"] == pytest.approx(sum(m[k] for k in ("N1", "N2", "N3", "REM")), abs=1e-3)
        assert 0 <= m["TST"] <= m["TRT"] + 1e-3
        if m["SOL"] is None:
            assert m["TST"] == 0
            continue
        assert m["SOL"] + m["WASO"] + m["TST"] == pytest.approx(m["TRT"], abs=1e-3), case
        assert m["SOL"] >= 0 and -1e-3 <= m["WASO_scored_W"] <= m["WASO"] + 1e-3
        assert m["SE"] <= m["SME"] + 1e-3
        assert m["TST"] <= m["SPT"] + 1e-3
        percent = sum(m[f"{k}_percent"] for k in ("N1", "N2", "N3", "REM"))
        assert percent == pytest.approx(100, abs=1e-2)
        if m["REM_latency"] is not None:
            assert m["REM_latency"] >= 0
            assert (m["REM_latency"] == 0) == (stages[sleep_time(stages, off, on).asleep][0] == R)
        if m["persistent_sleep_latency"] is not None:
            assert m["persistent_sleep_latency"] >= m["SOL"] - 1e-3
        assert m["awakenings"] <= m["stage_shifts"]


def test_padding_with_unscored_changes_nothing():
    rng = np.random.default_rng(4)
    for _ in range(50):
        stages = hypnogram((W, 5), *zip(rng.integers(0, 5, 20), rng.integers(1, 30, 20)), (W, 3))
        padded = hypnogram((UNSCORED, 30), *[(s, 1) for s in stages], (UNSCORED, 50))
        assert values(padded) == values(stages)
        assert values(padded, 900, 900 + 30 * len(stages)) == values(stages)


# --- YASA ---------------------------------------------------------------------------------------
SAME = {  # ours: theirs
    "TRT": "TIB", "TST": "TST", "SE": "SE", "SOL": "SOL", "SPT": "SPT", "SME": "SME", "W": "WAKE",
    "N1": "N1", "N2": "N2", "N3": "N3", "REM": "REM", "N1_percent": "%N1", "N2_percent": "%N2",
    "N3_percent": "%N3", "REM_percent": "%REM",
}


def yasa_statistics(stages):
    yasa = pytest.importorskip("yasa")
    words = {0: "WAKE", 1: "N1", 2: "N2", 3: "N3", 4: "REM", UNSCORED: "UNS", MOVEMENT: "ART"}
    return yasa.Hypnogram([words[int(s)] for s in stages], freq="30s").sleep_statistics()


def compare(stages):
    """Ours and YASA's where both mean the same; returns both."""
    ours = sleep_statistics(sleep_time(stages, 0, 30 * len(stages)))["measures"]
    ours = {name: measure["value"] for name, measure in ours.items()}
    theirs = yasa_statistics(stages)
    for name, other in SAME.items():
        assert ours[name] == pytest.approx(theirs[other], abs=2e-4), name
    return ours, theirs


@pytest.mark.filterwarnings("ignore")  # YASA's imports warn of their own
def test_where_yasa_agrees_and_where_it_differs(psg):
    """On real hypnograms: two of YASA's own nights, cut to time in bed as its statistics presume.

    Different: WASO (YASA ends it with the last epoch asleep, the manual with lights on) and REM
    latency (YASA counts from the beginning of the hypnogram, as its documentation says).
    """
    seen = 0
    for name in ("sub-02_hypno_30s.txt", "data_full_6hrs_100Hz_hypno_30s.txt"):
        lines = (psg / "yasa" / name).read_text().splitlines()
        words = [line.strip() for line in lines if line.strip() and line[0] != "#"]
        codes = {"W": W, "0": W, "N1": N1, "1": N1, "N2": N2, "2": N2, "N3": N3, "3": N3,
                 "R": R, "4": R}
        stages = np.array([codes[word] for word in words], np.int8)
        last = np.flatnonzero(stages > 0)[-1]
        stages = np.concatenate([stages, np.zeros(10, np.int8)])  # awake before lights on
        ours, theirs = compare(stages)
        before_lights_on = (len(stages) - 1 - last) / 2
        assert before_lights_on >= 5
        assert ours["WASO"] == pytest.approx(theirs["WASO"] + before_lights_on, abs=2e-4)
        assert ours["SOL"] > 0  # so that the REM latencies do differ
        if ours["REM_latency"] is None:
            assert R not in stages and np.isnan(theirs["Lat_REM"])
            continue
        assert ours["REM_latency"] == pytest.approx(theirs["Lat_REM"] - theirs["SOL"], abs=2e-4)
        seen += 1
    assert seen


@pytest.mark.filterwarnings("ignore")
def test_yasa_on_simulated_hypnograms():
    """Movement and unscored epochs: in our WASO (TRT less SOL less TST), in none of YASA's."""
    rng = np.random.default_rng(5)
    for _ in range(20):
        middle = [(stage, 5) for stage in random_hypnogram(rng)[:200:7]]
        stages = hypnogram((W, 5), *middle, (N2, 3), (W, 9))
        ours, theirs = compare(stages)
        assert ours["WASO_scored_W"] == pytest.approx(theirs["WASO"] + 4.5, abs=2e-4)
        onset = int(2 * ours["SOL"])
        neither = float((stages[onset:] < 0).sum() / 2)
        assert ours["WASO"] == pytest.approx(ours["WASO_scored_W"] + neither, abs=2e-4)


# --- a night ------------------------------------------------------------------------------------
def test_a_prepared_night_in_numbers():
    stages = hypnogram((W, 2), (N2, 6), (R, 4))
    events = (Event("hypopnea", 90, 20), Event("hypopnea", 270, 20), Event("arousal", 111, 4))
    traces = drawn_traces(12)
    spo2 = np.full(360, 97.0)
    spo2[115:125] = 93
    traces["SpO2"] = Trace(spo2.astype(np.float32), 1.0, "%")
    night = drawn_night(12, stages, events, traces)
    night = dataclasses.replace(
        night, rules="AASM", provenance=Provenance(lights_off_s=30.0, lights_on_s=360.0)
    )
    found = night_statistics(night)
    json.dumps(found, allow_nan=False)
    assert found["scoring_rules"] == "AASM" and found["sleep"]["lights"]["off"] == "stated"
    assert found["sleep"]["measures"]["SOL"]["value"] == 0.5
    assert found["sleep"]["measures"]["TRT"]["unit"] == "min"
    ahi = found["ahi"]
    assert "ahi" not in ahi  # never without a rule
    assert ahi["all_events"]["events"] == 2
    assert ahi["4_percent"]["events"] == 1 and ahi["4_percent"]["desaturations"] == "measured"
    assert ahi["all_events"]["splits"]["supine"]["events"] == 2  # the drawn position: supine
    assert found["indices"]["arousal_index_in_bed"]["events"] == 1
    with pytest.raises(ConfigError, match="seconds = 30"):
        night_statistics(dataclasses.replace(night, spec=SignalSpec(seconds=60)))


def test_an_unscored_night_has_no_indices():
    found = night_statistics(drawn_night(4, np.full(4, UNSCORED)))
    assert "ahi" not in found and "indices" not in found
    assert found["sleep"]["measures"]["TST"]["value"] == 0


def test_tutorial_nights_sleep(psg):
    """TST of the three NSRR nights: scored epochs counted in the file's text."""
    for number in (1, 2, 3):
        path = psg / "nsrr_xml" / f"learn-nsrr0{number}.xml"
        text = path.read_text()
        counts = [text.count(f"<SleepStage>{code}</SleepStage>") for code in range(6)]
        found = values(read_scoring(path, None).stages)
        assert found["TST"] == sum(counts[1:]) / 2
        assert (found["W"], found["N3"]) == (counts[0] / 2, (counts[3] + counts[4]) / 2)
        assert found["REM"] == counts[5] / 2
