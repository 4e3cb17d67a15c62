"""The quality record of nights whose truth is known; a real one besides."""

import json
from dataclasses import replace

import numpy as np
import pytest

from sleeplm_jax.physiology.artefacts import mark_artefacts
from sleeplm_jax.physiology.measure import measure_night
from sleeplm_jax.physiology.polarity import polarity
from sleeplm_jax.physiology.quality import alignment, explained, quality_record
from sleeplm_jax.recordings.night import Event, Provenance, Trace
from sleeplm_jax.recordings.prepare import prepare_night
from tests.physiology.nights import drawn_night
from tests.physiology.test_artefacts import EPOCHS, changed, traces


def record_of(night):
    night = mark_artefacts(night)
    return quality_record(night, measure_night(night))


def test_channels_are_described_with_what_is_lost_of_them():
    made = traces()
    made["C3"] = changed(made["C3"], 2, 14, lambda x, t: np.full_like(x, x[0]))
    made["EMG"] = changed(made["EMG"], 0, 30, lambda x, t: x + 40 * np.sin(2 * np.pi * 50 * t))
    night = drawn_night(
        EPOCHS, traces=made, stages=[0] * 4 + [2] * 8,
        events=(Event("arousal", 40.0, 5.0),),
    )
    night = replace(night, provenance=Provenance(rules="AASM 2.6", age=50.0))
    record = json.loads(json.dumps(record_of(night), allow_nan=False))
    c3 = record["channels"]["C3"]
    assert c3["artefacts"] == {"flat": round(1 / EPOCHS, 5)} and c3["unmeasured"] == 0.08333
    assert c3["flat"] == {"stretches": 1, "seconds": 12, "longest_s": 12}
    assert c3["missing"] == {"stretches": 0, "seconds": 0, "longest_s": 0}
    assert c3["rate"] == 200.0 and c3["source"] == "C3"
    assert record["channels"]["EMG"]["artefacts"] == {"mains": round(1 / EPOCHS, 5)}
    assert record["channels"]["SpO2"]["values"] == {"5%": 96.0, "median": 96.0, "95%": 96.0}
    assert record["stages"] == {
        "W": 4, "N1": 0, "N2": 8, "N3": 0, "R": 0, "unscored": 0, "movement": 0,
    }  # fmt: skip
    assert record["provenance"]["rules"] == "AASM 2.6"
    assert record["statistics"]["sleep"]["measures"]["TST"]["value"] == 4.0
    assert record["epochs"] == EPOCHS and record["epoch_s"] == 30


def test_many_artefacts_of_a_channel_are_a_flag():
    made = traces()
    values = made["C4"].values.copy()
    values[: 4 * 6000] = np.nan
    made["C4"] = replace(made["C4"], values=values)
    flags = record_of(drawn_night(EPOCHS, traces=made))["flags"]
    assert flags == ["many_dropout: C4 in 33 % of epochs"]


def test_mains_are_given_as_a_share_at_both_frequencies():
    made = traces()
    power = float(made["C3"].values.var())
    time = np.arange(len(made["C3"].values)) / 200
    line = np.sqrt(2 * power / 4) * np.sin(2 * np.pi * 60 * time)  # a quarter of the EEG's power
    made["C3"] = replace(made["C3"], values=(made["C3"].values + line).astype(np.float32))
    found = record_of(drawn_night(EPOCHS, traces=made))["channels"]["C3"]["mains"]
    assert found["50"] < 0.01
    # 1/5 of line and EEG together; a second's 1-35 Hz lacks what is slower or faster.
    assert found["60"] == pytest.approx(0.2, abs=0.08)


# ---- Alignment


def test_explained_variance_is_that_of_an_analysis_of_variance():
    rng = np.random.default_rng(0)
    stages = rng.integers(-1, 5, 300)
    values = stages * 2.0 + rng.standard_normal(300)
    values[::17] = np.nan
    good = (stages >= 0) & np.isfinite(values)
    groups = [values[good & (stages == s)] for s in range(5)]
    whole = np.concatenate(groups)
    within = sum(((g - g.mean()) ** 2).sum() for g in groups)
    wanted = 1 - within / ((whole - whole.mean()) ** 2).sum()
    assert explained(stages, values) == pytest.approx(wanted)


def drawn_stages(epochs=400, seed=0):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(4, 25, 100)
    return np.repeat(rng.integers(0, 5, 100), lengths)[:epochs].astype(int)


@pytest.mark.parametrize("shift", [0, 3, -8])
def test_a_shifted_scoring_is_found_with_its_lag(shift):
    stages = drawn_stages()
    rng = np.random.default_rng(1)
    delta = np.array([50.0, 55, 70, 90, 52])[stages] + 4 * rng.standard_normal(len(stages))
    moved = np.roll(stages, -shift)  # the scoring runs ahead by `shift`
    if shift > 0:
        moved[-shift:] = -1
    elif shift < 0:
        moved[:-shift] = -1
    assert alignment(moved, delta)["lag_epochs"] == shift


def test_too_little_scoring_says_nothing_of_alignment():
    stages = np.full(300, -1)
    stages[:30] = 2
    found = alignment(stages, np.full(300, 50.0))
    assert found["lag_epochs"] is None and found["scored"] == 30


def test_the_real_night_is_aligned_and_moved_by_ten_epochs_is_flagged(psg):
    path = psg / "ucddb_eeg" / "ucddb018_eeg.edf"
    if not path.exists():
        pytest.skip(f"{path.name} is not there")
    night = mark_artefacts(prepare_night(path))
    records = measure_night(night)
    flags = quality_record(night, records)["flags"]
    assert not [f for f in flags if f.startswith(("alignment", "staging"))]
    late = replace(night, stages=np.roll(night.stages, 10))
    record = quality_record(late, records)
    assert [f for f in record["flags"] if f.startswith("alignment_doubtful")]
    assert record["alignment"]["lag_epochs"] == pytest.approx(-10, abs=2)


# ---- Polarity


def test_the_r_wave_tells_which_way_up_the_ecg_is():
    made = traces(24)
    assert polarity(drawn_night(24, traces=made))["ecg"] == "up"
    made["ECG"] = replace(made["ECG"], values=-made["ECG"].values)
    found = polarity(drawn_night(24, traces=made))
    assert found["ecg"] == "down"
    assert [f.split(":")[0] for f in found["flags"]] == ["ecg_inverted"]


def breathing(turned=(), epochs=40, left_out=()):
    """Thorax, abdomen and their rate of change as flow, `turned` over."""
    rng = np.random.default_rng(0)
    time = np.arange(epochs * 30 * 16) / 16
    phase = 2 * np.pi * np.cumsum(0.25 + 0.03 * np.sin(2 * np.pi * 0.003 * time)) / 16
    made = {}
    for name, wave in (("THX", np.sin(phase)), ("ABD", np.sin(phase - 0.4)),
                       ("AF", np.cos(phase))):  # fmt: skip
        sign = -1 if name in turned else 1
        values = sign * wave + 0.1 * rng.standard_normal(len(time))
        made[name] = Trace(values.astype(np.float32), 16.0, "")
    return drawn_night(epochs, traces={k: v for k, v in made.items() if k not in left_out})


def test_breathing_signals_that_agree():
    found = polarity(breathing())
    assert found["odd"] is None and found["flags"] == []
    for name in ("belts", "thorax_flow", "abdomen_flow"):
        assert found[name]["correlation"] > 0.8


@pytest.mark.parametrize("channel", ["THX", "ABD", "AF"])
def test_one_of_three_that_is_turned_over_is_named(channel):
    found = polarity(breathing((channel,)))
    assert found["odd"] == channel
    assert found["flags"] == [
        f"inverted_breathing: {channel} goes against the two other breathing signals"
    ]
    others = tuple({"THX", "ABD", "AF"} - {channel})
    assert polarity(breathing(others))["odd"] == channel  # the same relation: it cannot be told


def test_all_turned_over_shows_in_nothing():
    assert polarity(breathing(("THX", "ABD", "AF")))["flags"] == []


def test_two_signals_say_that_they_are_opposed_but_not_which_one_is_wrong():
    belts = polarity(breathing(("THX",), left_out=("AF",)))
    assert belts["odd"] is None and belts["flags"][0].startswith("belts_opposed")
    flow = polarity(breathing(("AF",), left_out=("ABD",)))
    assert flow["odd"] is None and flow["flags"][0].startswith("flow_opposed")


def test_belts_are_compared_outside_of_scored_events():
    night = breathing(("THX",), left_out=("AF",))
    events = (Event("obstructive_apnea", 0.0, 40 * 30.0 - 60),)
    found = polarity(replace(night, events=events))
    assert found["belts"] is None and found["flags"] == []


def test_nothing_of_a_header_enters_the_record(psg):
    path = psg / "rsleep_nox" / "subject1.edf"
    if not path.exists():
        pytest.skip(f"{path.name} is not there")
    record = record_of(prepare_night(path))
    head = path.read_bytes()[8:168].decode("latin-1")
    text = json.dumps(record)
    for word in head.split():
        if len(word) > 3 and word not in ("Startdate",):
            assert word not in text
    ecg = prepare_night(path).traces["ECG"].values
    ecg = ecg[: len(ecg) // 400 * 400].reshape(-1, 400)  # 2 s hold a beat or more
    middle = np.median(ecg, axis=1)
    up = np.median(ecg.max(axis=1) - middle) > np.median(middle - ecg.min(axis=1))
    assert record["polarity"]["ecg"] == ("up" if up else "down")
