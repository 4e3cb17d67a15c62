"""A whole drawn night measured: values, missing channels, events, form, speed."""

import json
import time
import warnings

import numpy as np
import pytest

from sleeplm_jax.captions.record import validate
from sleeplm_jax.config import CAPTION_CHANNELS, SLEEPLM_CHANNELS, SignalSpec
from sleeplm_jax.errors import ConfigError
from sleeplm_jax.physiology.measure import UNITS, measure_night
from sleeplm_jax.recordings.night import Event, Trace

from .nights import drawn_night, drawn_traces


def value(record, feature, channel):
    found = [
        m["value"]
        for m in record["measurements"]
        if (m["feature"], m["channel"]) == (feature, channel)
    ]
    assert len(found) == 1, (feature, channel, found)
    return found[0]


@pytest.fixture(scope="module")
def records():
    return measure_night(drawn_night())


def test_every_channel_gives_its_truth(records):
    for record in records[1:-1]:
        assert value(record, "alpha_power", "C3") > 95
        assert value(record, "delta_power", "C4") > 95
        assert value(record, "slow_eye_movement_power", "EOG-L") > 95
        assert value(record, "heart_rate_mean", "ECG") == pytest.approx(60, abs=0.5)
        assert value(record, "rmssd", "ECG") < 5
        for channel in ("THX", "ABD", "AF"):
            assert value(record, "respiratory_rate", channel) == pytest.approx(15, abs=0.3)
        assert value(record, "emg_median_frequency", "EMG") == pytest.approx(20, abs=1)
        assert value(record, "muscle_tone", "EMG") == pytest.approx(100, abs=5)
        assert value(record, "position", "POS") == "supine"
        assert value(record, "spo2_min", "SpO2") == 96
        assert record["missing"] == [] and record["stage"] == "N2"


def test_records_are_json_of_the_schema_and_name_known_features(records):
    for record in records:
        validate(record)
        assert json.loads(json.dumps(record, allow_nan=False)) == record
        for m in record["measurements"]:
            assert m["unit"] == UNITS[m["feature"]]
            assert 0 <= m["interval"][0] <= m["interval"][1] <= 30


@pytest.mark.parametrize("channel", SLEEPLM_CHANNELS + CAPTION_CHANNELS)
@pytest.mark.parametrize("how", ["absent", "flat", "nan", "masked"])
def test_a_lost_channel_is_missing_and_never_measured(channel, how):
    traces, mask = drawn_traces(3), None
    old = traces[channel]
    if how == "absent":
        del traces[channel]
    elif how == "masked":
        if channel in CAPTION_CHANNELS:
            pytest.skip("no mask for what is no input")
        mask = np.ones((3, 10), bool)
        mask[1, SLEEPLM_CHANNELS.index(channel)] = False
    else:
        values = old.values.copy()
        # A step channel at one value is alive: its sensor's "unknown" is what loses it.
        lost = np.nan if how == "nan" else -1 if channel in ("POS", "HR", "SpO2") else 5
        values[int(30 * old.rate) : int(60 * old.rate)] = lost
        traces[channel] = Trace(values, old.rate, old.unit)
    record = measure_night(drawn_night(3, traces=traces, mask=mask))[1]
    assert record["missing"] == [channel]
    assert channel not in {m["channel"] for m in record["measurements"]}
    if channel == "ECG":  # the heart-rate channel steps in
        assert value(record, "heart_rate_mean", "HR") == pytest.approx(60)


def test_one_lost_epoch_leaves_its_neighbours_as_they_were(records):
    traces = drawn_traces(6)
    for name in ("C3", "THX", "EMG"):
        old = traces[name]
        values = old.values.copy()
        values[int(60 * old.rate) : int(90 * old.rate)] = np.nan
        traces[name] = Trace(values, old.rate, old.unit)
    after = measure_night(drawn_night(6, traces=traces))
    assert after[2]["missing"] == ["THX", "C3", "EMG"]
    assert value(after[3], "alpha_power", "C3") == value(records[3], "alpha_power", "C3")
    for epoch in (1, 3):
        rate = value(after[epoch], "respiratory_rate", "THX")
        assert rate == pytest.approx(15, abs=0.3)


def test_events_are_clipped_ordered_and_say_where_they_go():
    events = [
        Event("hypopnea", 50.04, 25.0, "AF"),
        Event("arousal", 31.26, 4.0),
        Event("desaturation", 60.0, 30.0),
        Event("arousal", 119.98, 0.5),
    ]
    records = measure_night(drawn_night(4, events=events))
    assert records[0]["events"] == []
    assert [(e["kind"], e["onset"], e["end"]) for e in records[1]["events"]] == [
        ("arousal", 1.3, 5.3), ("hypopnea", 20.0, 30.0),
    ]  # fmt: skip
    first, second = records[1]["events"][1], records[2]["events"][0]
    assert (first["continues_from"], first["continues_into"]) == (False, True)
    assert (second["kind"], second["onset"], second["end"]) == ("hypopnea", 0.0, 15.0)
    assert (second["continues_from"], second["continues_into"]) == (True, False)
    assert [(e["kind"], e["onset"], e["end"]) for e in records[2]["events"]][1] == (
        "desaturation", 0.0, 30.0,
    )  # fmt: skip
    assert records[3]["events"] == []  # 0.02 s of an event that lies behind the night
    assert records[0]["scored"] == ["arousal", "respiratory"]
    for record in records:
        validate(record)


def test_marks_and_slivers_at_a_border_are_not_stated_as_intervals():
    events = [
        Event("arousal", 12.3, 0.0),  # a mark
        Event("hypopnea", 45.0, 15.9),  # 0.9 s of it lie in the next epoch
        Event("arousal", 89.3, 1.3),  # 0.7 s and 0.6 s: the longest part is stated
        Event("desaturation", 119.9, 10.0),  # begins 0.1 s before its epoch
        Event("arousal", 135.0, 0.5),
    ]
    records = measure_night(drawn_night(6, events=events))
    stated = [[(e["kind"], e["onset"], e["end"]) for e in r["events"]] for r in records]
    assert stated == [
        [], [("hypopnea", 15.0, 30.0)], [("arousal", 29.3, 30.0)], [],
        [("desaturation", 0.0, 9.9), ("arousal", 15.0, 15.5)], [],
    ]  # fmt: skip
    # What is scored there but not stated is not denied either.
    assert [r["scored"] for r in records] == [
        ["respiratory"], ["arousal", "respiratory"], ["arousal"], ["respiratory"],
        ["arousal", "respiratory"], ["arousal", "respiratory"],
    ]  # fmt: skip


def test_stages_unscored_movement_and_stand_ins():
    traces = drawn_traces(3)
    records = measure_night(drawn_night(3, stages=[-1, -2, 4], traces=traces, stand_ins=("C3",)))
    assert [r["stage"] for r in records] == [None, None, "R"]
    assert records[0]["stand_ins"] == ["C3"] and records[0]["scored"] == []


def test_scored_for_sleep_and_wake_only_no_stage_of_sleep_is_told():
    from dataclasses import replace

    from sleeplm_jax.recordings.night import Provenance

    night = replace(drawn_night(3, stages=[0, 2, -1]),
                    provenance=Provenance(cohort_flags=("sleep_wake_scoring_only",)))
    assert [r["stage"] for r in measure_night(night)] == ["W", None, None]


def test_samples_of_another_length_are_refused():
    from dataclasses import replace

    with pytest.raises(ConfigError, match="seconds = 300"):
        measure_night(replace(drawn_night(2), spec=SignalSpec(seconds=300)))


def test_measuring_twice_gives_the_same(records):
    assert measure_night(drawn_night()) == records


@pytest.mark.parametrize("fill", [0.0, np.nan, np.inf, "noise", "one sample"])
@pytest.mark.parametrize("epochs", [1, 4])
def test_no_trace_however_bad_raises_warns_or_gives_a_number_that_is_none(fill, epochs):
    rng = np.random.default_rng(0)
    traces = {}
    for name, trace in drawn_traces(epochs).items():
        values = np.full(len(trace.values), 0.0 if isinstance(fill, str) else fill, np.float32)
        if fill == "noise":
            values[:] = rng.standard_normal(len(values))
        traces[name] = Trace(values[:1] if fill == "one sample" else values, trace.rate, "")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        records = measure_night(drawn_night(epochs, traces=traces))
    assert len(records) == epochs
    for record in records:
        validate(record)
        json.dumps(record, allow_nan=False)
        if fill != "noise":
            assert {m["feature"] for m in record["measurements"]} <= {"position"}


@pytest.mark.slow
def test_eight_hours_take_at_most_twenty_seconds_of_one_core():
    night = drawn_night(960, traces=drawn_traces(960, rate=256.0))
    start = time.process_time()
    records = measure_night(night)
    assert len(records) == 960
    assert time.process_time() - start < 20
