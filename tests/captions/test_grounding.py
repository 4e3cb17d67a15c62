"""No sentence claims what the model's input cannot show."""

import re

import numpy as np
import pytest

from sleeplm_jax.captions.grounding import EVENTS, FEATURES, grounded_for
from sleeplm_jax.captions.record import (
    DECIMALS,
    KIND_CHANNELS,
    caption_keys,
    stated,
    validate,
)
from sleeplm_jax.captions.render import render
from sleeplm_jax.captions.wording import templates
from sleeplm_jax.config import CAPTION_KINDS, SLEEPLM_CHANNELS, SignalSpec
from sleeplm_jax.errors import CorpusError
from sleeplm_jax.physiology.measure import UNITS

from .drawing import drawn_record, measurement


def captions_of(record, spec, seed):
    found = [render(record, kind, np.random.default_rng(seed), spec=spec) for kind in CAPTION_KINDS]
    return " ".join(caption for caption in found if caption)


def test_the_table_covers_every_feature_and_event():
    assert set(FEATURES) == set(UNITS)
    assert set(DECIMALS) == set(UNITS) - {"position"}
    assert set(EVENTS) == set(templates()["event"]["names"])
    described = {c for channels in KIND_CHANNELS.values() for c in channels}
    assert {c for needs in FEATURES.values() for need in needs for c in need.channels} == described


def test_saturation_and_desaturation_are_silent_unless_spo2_is_an_input():
    spoken = 0
    for seed in range(100):
        record = drawn_record(seed)
        text = captions_of(record, SignalSpec(), seed)
        assert not re.search(r"SpO2|saturation|limb|artefact|unclassified", text), text
        wide = SignalSpec(channels=SLEEPLM_CHANNELS + ("SpO2",))
        spoken += bool(re.search(r"SpO2|saturation", captions_of(record, wide, seed)))
    assert spoken > 50


@pytest.mark.parametrize("channel", SLEEPLM_CHANNELS)
def test_no_sentence_speaks_of_a_dropped_channel(channel):
    """Fault injection: a dropped channel is neither described nor needed by what is said."""
    left = tuple(c for c in SLEEPLM_CHANNELS if c != channel)
    spec = SignalSpec(channels=left)
    spoken = "heart" if channel == "ECG" else channel
    names = [name.lower() for name in templates()["names"][spoken]]
    for seed in range(60):
        record = drawn_record(seed)
        text = captions_of(record, spec, seed).lower()
        assert not any(re.search(rf"{re.escape(name)}(?!\w)", text) for name in names), text
        assert all(m["channel"] != channel for m in grounded_for(record, left, 64)["measurements"])


def test_a_missing_channel_is_said_to_be_missing_and_not_described():
    for seed in range(60):
        record = drawn_record(seed)
        for kind, mine in KIND_CHANNELS.items():
            content = stated(record, kind)
            if content is None:
                continue
            assert not set(content["missing"]) & set(content["channels"])
            for channel in set(mine) & set(record["missing"]) & set(SLEEPLM_CHANNELS):
                assert channel in content["missing"]


def test_events_need_the_channels_they_are_scored_on():
    def kinds(channels, missing=()):
        record = {**drawn_record(0), "missing": list(missing)}
        record["events"] = [
            {"kind": kind, "onset": 0.0, "end": 9.0, "continues_from": False,
             "continues_into": False, "channel": None}
            for kind in EVENTS
        ]  # fmt: skip
        record["scored"] = ["arousal", "respiratory"]
        out = grounded_for(record, channels, 64)
        quiet = grounded_for({**record, "events": []}, channels, 64)
        return {e["kind"] for e in out["events"]}, quiet["scored"]

    assert kinds(SLEEPLM_CHANNELS) == (
        {"obstructive_apnea", "central_apnea", "mixed_apnea", "hypopnea", "rera", "arousal"},
        ["arousal", "respiratory"],
    )
    assert kinds(("C3",)) == ({"arousal"}, ["arousal"])
    assert kinds(("AF",)) == ({"hypopnea"}, [])
    assert kinds(SLEEPLM_CHANNELS, missing=("C3", "C4"))[1] == ["respiratory"]
    assert kinds(("SpO2",))[0] == {"desaturation"}


def test_a_slow_input_loses_what_lies_above_its_band():
    record = {**drawn_record(4), "missing": []}
    features = {m["feature"] for m in grounded_for(record, SLEEPLM_CHANNELS, 32)["measurements"]}
    assert not features & {"delta_power", "muscle_tone", "slow_eye_movement_power", "rmssd"}
    assert "respiratory_rate" in features


def test_a_stage_needs_a_signal():
    record = {**drawn_record(0), "stage": "N3", "missing": []}
    assert grounded_for(record, ("POS",), 64)["stage"] is None
    assert grounded_for(record, ("POS", "C3"), 64)["stage"] == "N3"


def test_grounding_twice_is_grounding_once_and_leaves_the_record_alone():
    for seed in range(20):
        record = drawn_record(seed)
        before = repr(record)
        once = grounded_for(record, SLEEPLM_CHANNELS, 64)
        assert repr(record) == before
        assert grounded_for(once, SLEEPLM_CHANNELS, 64) == once
        validate(once)


def test_the_schema_refuses_other_forms_with_the_field():
    record = drawn_record(0)
    with pytest.raises(CorpusError, match="stage.*'S2'"):
        validate({**record, "stage": "S2"})
    with pytest.raises(CorpusError, match="extra"):
        validate({**record, "extra": 1})
    with pytest.raises(CorpusError, match="interval"):
        measurements = [{**record["measurements"][0], "interval": [0, 31]}]
        validate({**record, "measurements": measurements})


def scored_with(kind, channels=SLEEPLM_CHANNELS, missing=()):
    """A record of N2 with one scored event, as an input of `channels` shows it."""
    event = {"kind": kind, "onset": 3.0, "end": 15.0, "continues_from": False,
             "continues_into": False, "channel": None}  # fmt: skip
    record = {
        "stage": "N2", "events": [event], "measurements": [], "missing": list(missing),
        "scored": ["arousal", "respiratory"], "stand_ins": [],
    }  # fmt: skip
    return record, grounded_for(record, channels, 64)


def test_no_event_is_not_said_of_an_epoch_whose_event_the_input_hides():
    """A RERA without EEG is dropped; "no respiratory event is scored" would be untrue."""
    record, grounded = scored_with("rera", missing=("C3", "C4"))
    assert grounded["events"] == [] and grounded["scored"] == []
    assert stated(record, "stage_event")["none_of"] == []
    for seed in range(40):
        text = render(record, "stage_event", np.random.default_rng(seed))
        assert not re.search(r"respiratory|arousal|event", text), text
    assert scored_with("hypopnea", channels=("C3", "EMG"))[1]["scored"] == ["arousal"]
    assert scored_with("rera")[1]["scored"] == ["arousal", "respiratory"]  # shown, so it is said
    assert scored_with("limb_movement")[1]["scored"] == ["arousal", "respiratory"]


def test_an_unclassified_event_silences_every_finding_of_none():
    record, grounded = scored_with("other")
    assert grounded["events"] == [] and grounded["scored"] == []
    assert grounded_for(grounded, SLEEPLM_CHANNELS, 64) == grounded
    without = {**record, "events": []}
    assert stated(without, "stage_event")["none_of"] == ["arousal", "respiratory"]
    key = CAPTION_KINDS.index("stage_event")
    assert caption_keys(record)[key] != caption_keys(without)[key]


def test_unusable_channels_are_not_called_absent():
    """`missing` holds channels that are there but disturbed, too."""
    for texts in templates()["missing"].values():
        assert len(set(texts)) >= 3
        for text in texts:
            assert "usable" in text and not re.search("missing|absent|lack", text), text


@pytest.mark.parametrize(
    ("kind", "channel", "feature"),
    [("respiratory", "THX", "breath_amplitude"), ("position_muscle", "EMG", "muscle_tone")],
)
def test_ratios_to_the_night_are_said_in_tens(kind, channel, feature):
    def record(value):
        measured = [measurement(feature, value, channel)]
        return {**drawn_record(0), "missing": [], "stand_ins": [], "measurements": measured}

    assert stated(record(143.6), kind)["channels"][channel] == {feature: 140}
    assert "140%" in render(record(143.6), kind, np.random.default_rng(0))
    place = CAPTION_KINDS.index(kind)
    keys = [int(caption_keys(record(value))[place]) for value in (136.0, 144.0, 146.0)]
    assert keys[0] == keys[1] != keys[2]
