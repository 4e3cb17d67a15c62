"""A wrong code map is caught, a right one passes; on a real night and on a simulated cohort."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from sleeplm_jax.config import STAGES, SignalSpec
from sleeplm_jax.physiology.artefacts import mark_artefacts
from sleeplm_jax.physiology.measure import measure_night
from sleeplm_jax.physiology.sanity import (
    LEAST_EPOCHS,
    chance_error,
    epoch_features,
    judge,
    night_evidence,
    superiority,
)
from sleeplm_jax.recordings.prepare import prepare_night

W, N1, N2, N3, R = range(5)
# UCDDB's codes (physionet.org/content/ucddb: 0 wake, 1 REM, 2-5 stages 1-4), read as UCDDB's and,
# wrongly, as NSRR's (0 wake, 1-4 stages 1-4, 5 REM).
AS_UCDDB = {0: W, 1: R, 2: N1, 3: N2, 4: N3, 5: N3}
AS_NSRR = {0: W, 1: N1, 2: N2, 3: N3, 4: N3, 5: R}


@pytest.fixture(scope="module")
def ucddb(psg):
    """(codes as in UCDDB's own file, features) of the real night."""
    path = psg / "ucddb_eeg" / "ucddb018_eeg.edf"
    table = psg / "ucddb_eeg" / "ucddb018_events.tsv"
    if not path.exists() or not table.exists():
        pytest.skip(f"{path.name} is not there")
    lines = table.read_text().splitlines()
    column = lines[0].split("\t").index("rk_code")
    codes = np.array([int(line.split("\t")[column]) for line in lines[1:]])
    night = mark_artefacts(prepare_night(path))
    assert len(codes) == len(night.stages)
    return codes, epoch_features(measure_night(night))


def read_as(codes, table):
    return np.array([table.get(int(code), -1) for code in codes])


def test_the_real_night_passes_with_its_own_codes(ucddb):
    codes, features = ucddb
    evidence = night_evidence(read_as(codes, AS_UCDDB), features)
    assert {s: evidence["stages"][s]["epochs"] for s in STAGES} == {
        "W": 328, "N1": 58, "N2": 280, "N3": 137, "R": 19,
    }  # fmt: skip
    found = judge([evidence])
    assert found["verdict"] == "plausible" and found["findings"] == []
    compared = {(r["more"], r["less"]) for r in found["order"]}
    assert ("N3", "N2") in compared
    assert not any("R" in pair for pair in compared)  # 19 epochs of REM are too few to judge


def test_the_real_night_read_with_nsrr_codes_is_flagged(ucddb):
    codes, features = ucddb
    found = judge([night_evidence(read_as(codes, AS_NSRR), features)])
    assert found["verdict"] == "doubtful"
    assert any("delta power is lower in N3 than in R" in line for line in found["findings"])
    assert any("delta power is lower in N2 than in R" in line for line in found["findings"])


def test_further_wrong_maps_of_the_real_night_are_flagged(ucddb):
    codes, features = ucddb
    right = read_as(codes, AS_UCDDB)
    for one, other in ((W, N2), (W, N3), (N1, N3), (N2, N3), (R, N3), (N1, N2)):
        swapped = np.where(right == one, other, np.where(right == other, one, right))
        assert judge([night_evidence(swapped, features)])["verdict"] == "doubtful", (one, other)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Stages and features of three simulated nights of three hours."""
    from sleeplm_jax.recordings.simulator import simulate_cohort

    folder = tmp_path_factory.mktemp("three_nights")
    simulate_cohort(folder, 3, hours=3, seed=11, workers=1, progress=False, people="healthy")
    nights = []
    for path in sorted(folder.glob("*.edf")):
        night = prepare_night(path, spec=SignalSpec(channels=("C4", "EMG")))
        night = replace(night, traces={c: night.traces[c] for c in ("C3", "C4", "EMG")})
        night = mark_artefacts(night)
        nights.append((night.stages.astype(int), epoch_features(measure_night(night))))
    return nights


def judged(nights, table=(W, N1, N2, N3, R)):
    table = np.array(table)
    return judge([
        night_evidence(np.where(s >= 0, table[np.maximum(s, 0)], s), f) for s, f in nights
    ])


def test_a_simulated_cohort_passes_as_it_is_and_fails_under_any_other_map(cohort):
    right = judged(cohort)
    assert right["verdict"] == "plausible", right["findings"]
    compared = {(r["more"], r["less"]) for r in right["order"] if r["feature"] == "delta_power"}
    assert {("N3", "R"), ("N2", "R"), ("N3", "N2")} <= compared
    passed = [
        table for table in itertools.permutations(range(5))
        if judged(cohort, table)["verdict"] != "doubtful"
    ]
    assert passed == [(W, N1, N2, N3, R)]


def drawn(counts, delta, seed=0):
    """Stages and features of a night with `counts` epochs and `delta` (mean %) of each stage."""
    rng = np.random.default_rng(seed)
    stages = np.repeat(np.arange(5), counts)
    values = np.array(delta)[stages] + 5 * rng.standard_normal(len(stages))
    return night_evidence(stages, {"delta_power": values})


RIGHT = (50, 55, 70, 90, 50)


def test_stages_of_too_few_epochs_say_nothing():
    few = (60, 60, 60, LEAST_EPOCHS - 1, 60)
    wrong = (50, 55, 70, 10, 50)  # N3 has the least delta, on 19 epochs
    assert judge([drawn(few, wrong)])["verdict"] == "plausible"
    assert judge([drawn((60, 60, 60, LEAST_EPOCHS, 60), wrong)])["verdict"] == "doubtful"
    assert judge([drawn((60, 5, 5, 5, 5), RIGHT)])["verdict"] == "cannot be judged"


def test_a_cohort_is_judged_by_most_of_its_nights():
    odd, usual = drawn((60,) * 5, (50, 55, 70, 60, 50)), drawn((60,) * 5, RIGHT)
    assert judge([odd])["verdict"] == "doubtful"
    assert judge([odd, usual, usual])["verdict"] == "plausible"
    assert judge([odd, odd, usual])["verdict"] == "doubtful"


def test_what_chance_may_do_is_no_finding():
    """Nothing tells W from N1 here, in a thousand nights of the fewest epochs that are judged."""
    rng = np.random.default_rng(4)
    stages = np.repeat([W, N1], LEAST_EPOCHS)
    nights = [
        night_evidence(stages, {"beta_power": rng.standard_normal(len(stages))})
        for _ in range(1000)
    ]
    under = np.mean([night["order"][0]["share"] < 0.4 for night in nights])
    assert 0.10 < under < 0.19  # normal law: 14 %
    flagged = np.mean([judge([night])["verdict"] == "doubtful" for night in nights])
    assert flagged < 0.04  # two standard errors: 2.3 %
    trios = [judge(nights[i : i + 3])["verdict"] == "doubtful" for i in range(0, 999, 3)]
    assert np.mean(trios) < 0.05
    # Where the order is clear, few epochs are enough.
    turned = night_evidence(stages, {"beta_power": np.where(stages == W, -1.2, 1.2)
                                     + rng.standard_normal(len(stages))})
    assert judge([turned])["verdict"] == "doubtful"


def test_the_error_by_chance_is_mann_whitneys():
    rng = np.random.default_rng(5)
    shares = [superiority(rng.random(20), rng.random(30)) for _ in range(4000)]
    assert chance_error(20, 30) == pytest.approx(np.std(shares), rel=0.05)  # 4 of its errors


def test_rem_at_sleep_onset_in_most_nights_is_flagged():
    stages = np.concatenate([[W] * 10, [R] * 30, [N2] * 60, [N3] * 30])
    night = night_evidence(stages, {"delta_power": np.full(len(stages), np.nan)})
    assert night["rem_at_onset"] is True
    assert "sleep begins with R" in judge([night])["findings"][0]
    later = night_evidence(np.roll(stages, -40), {"delta_power": np.full(len(stages), np.nan)})
    assert later["rem_at_onset"] is False


def test_superiority_is_mann_whitneys_u():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 9, 40).astype(float), rng.integers(2, 12, 55).astype(float)
    wanted = stats.mannwhitneyu(a, b).statistic / (len(a) * len(b))
    assert superiority(a, b) == pytest.approx(wanted, abs=1e-12)


def test_features_are_means_over_the_channels_of_an_epoch():
    def value(feature, channel, value):
        return {"feature": feature, "channel": channel, "value": value}

    records = [
        {"measurements": [value("delta_power", "C3", 60.0), value("delta_power", "C4", 70.0)]},
        {"measurements": [value("muscle_tone", "EMG", 120.0)]},
    ]
    found = epoch_features(records)
    np.testing.assert_array_equal(found["delta_power"], [65.0, np.nan])
    np.testing.assert_array_equal(found["muscle_tone"], [np.nan, 120.0])


def test_bands_that_qrs_complexes_fill_are_not_taken_where_the_heart_is_seen():
    def record(c3, c4):
        return {"measurements": [
            {"feature": name, "channel": channel, "value": value}
            for channel, value in (("C3", c3), ("C4", c4))
            for name in ("sigma_power", "delta_power")
        ]}

    records = [record(10.0, 20.0), record(30.0, 50.0), record(1.0, 2.0)]
    heart = {"C4": np.array([False, True, True]), "C3": np.array([False, False, True])}
    found = epoch_features(records, heart)
    np.testing.assert_array_equal(found["sigma_power"], [15.0, 30.0, np.nan])
    np.testing.assert_array_equal(found["delta_power"], [15.0, 40.0, 1.5])
