"""Captions say what the record says, all of it, nothing else, in good English."""

import re

import numpy as np
import pytest

from sleeplm_jax.captions.record import caption_keys, stated, validate
from sleeplm_jax.captions.render import GROUPS, render, templates, with_article
from sleeplm_jax.config import CAPTION_KINDS, SignalSpec
from sleeplm_jax.errors import ConfigError

from .drawing import drawn_record, measurement, read_channels, read_stage_event

FULL = SignalSpec(channels=SignalSpec().channels + ("HR", "SpO2"))
SPECS = {"default": SignalSpec(), "with SpO2": FULL, "ungrounded": None}


def read(caption, kind):
    return read_stage_event(caption) if kind == "stage_event" else read_channels(caption, GROUPS)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("kind", CAPTION_KINDS)
def test_a_caption_parses_back_to_what_is_stated(kind, spec):
    said = 0
    for seed in range(60):
        record = drawn_record(seed)
        validate(record)
        content = stated(record, kind, spec)
        caption = render(record, kind, np.random.default_rng(seed), spec=spec)
        assert (caption is None) == (content is None)
        if caption is not None:
            said += 1
            assert read(caption, kind) == content, caption
    assert said > 30


def test_every_wording_is_reached_and_parses():
    seen = {kind: set() for kind in CAPTION_KINDS}
    record = drawn_record(3)
    for kind in CAPTION_KINDS:
        for seed in range(200):
            seen[kind].add(render(record, kind, np.random.default_rng(seed), spec=None))
        assert len(seen[kind]) > 20, kind  # fresh wording every pass
        content = stated(record, kind, None)
        assert all(read(caption, kind) == content for caption in seen[kind])


@pytest.mark.parametrize("kind", CAPTION_KINDS)
def test_equal_keys_are_equal_contents(kind):
    place = CAPTION_KINDS.index(kind)
    by_key = {}
    for seed in range(400):
        record = drawn_record(seed % 200)  # each twice
        key = int(caption_keys(record)[place])
        content = stated(record, kind)
        assert (key == 0) == (content is None)
        by_key.setdefault(key, set()).add(repr(content))
    assert all(len(contents) == 1 for contents in by_key.values())
    contents = [next(iter(c)) for c in by_key.values()]
    assert len(set(contents)) == len(contents)
    assert len(contents) > 60


def test_keys_ignore_what_rounding_and_captions_do_not_say():
    record = drawn_record(5)
    record["measurements"] = [measurement("delta_power", 43.2, "C3")]
    close = {**record, "measurements": [measurement("delta_power", 42.8, "C3")]}
    far = {**record, "measurements": [measurement("delta_power", 43.8, "C3")]}
    brain = CAPTION_KINDS.index("brain")
    assert caption_keys(record)[brain] == caption_keys(close)[brain] != caption_keys(far)[brain]
    assert caption_keys(record).dtype == np.int32


def test_keys_do_not_depend_on_the_process():
    record = {
        "stage": "N2", "events": [], "measurements": [], "missing": [], "scored": ["arousal"],
        "stand_ins": [],
    }  # fmt: skip
    assert caption_keys(record).tolist() == [0, 0, 0, 0, -1425373811]


def test_equal_generators_give_equal_captions_and_others_differ():
    record = drawn_record(8)
    one, same, other = (render(record, "brain", np.random.default_rng(s)) for s in (1, 1, 2))
    assert one == same != other


def test_stage_captions_name_the_stage_of_the_aasm():
    names = {"W": "wake|W", "N1": "N1", "N2": "N2", "N3": "N3", "R": "REM"}
    for stage, name in names.items():
        record = {**drawn_record(0), "stage": stage, "missing": []}
        for seed in range(100):
            caption = render(record, "stage_event", np.random.default_rng(seed))
            assert re.search(rf"\b({name})", caption, re.IGNORECASE), caption


def test_nothing_to_say_is_none():
    record = {
        "stage": None, "events": [], "measurements": [], "missing": ["C3"], "scored": ["arousal"],
        "stand_ins": [],
    }  # fmt: skip
    for kind in CAPTION_KINDS:
        assert render(record, kind, np.random.default_rng(0)) is None


def test_an_unscored_epoch_gets_no_stage_but_its_events():
    record = {**drawn_record(1), "stage": None, "missing": []}
    record["events"] = [
        {"kind": "arousal", "onset": 1.0, "end": 4.5, "continues_from": False,
         "continues_into": False, "channel": None}
    ]  # fmt: skip
    caption = render(record, "stage_event", np.random.default_rng(0))
    assert "arousal" in caption and "1.0" in caption and "4.5" in caption
    assert len(re.findall(r"\.(?: |$)", caption)) == 1


def test_captions_stay_short():
    for seed in range(60):
        record = {**drawn_record(seed), "missing": [], "events": []}
        for kind in CAPTION_KINDS:
            caption = render(record, kind, np.random.default_rng(seed))
            if caption is not None:
                assert len(caption.split()) <= (25 if kind == "stage_event" else 52), caption


def test_sentences_are_capitalised_end_in_a_point_and_hold_no_braces_or_double_spaces():
    for seed in range(60):
        for kind in CAPTION_KINDS:
            caption = render(drawn_record(seed), kind, np.random.default_rng(seed), spec=None)
            if caption is None:
                continue
            assert not re.search(r"[{}]|  |\.\.|nan|None", caption), caption
            for sentence in re.split(r"(?<=\.) ", caption):
                assert sentence[0].isupper() and sentence.endswith("."), sentence


def test_articles():
    assert with_article("obstructive apnoea") == "an obstructive apnoea"
    assert with_article("hypopnoea") == "a hypopnoea"
    for noun in templates()["event"]["names"].values():
        assert noun[0] not in "hu" or noun in ("hypopnoea", "unclassified event")  # checked by ear


def test_stretches_are_told_in_order_of_time():
    record = {**drawn_record(0), "missing": [], "stand_ins": []}
    fall = measurement("heart_rate_trend", -9.0, "ECG", (2.0, 8.0))
    record["measurements"] = [measurement("heart_rate_trend", 7.0, "ECG", (14.0, 20.0)), fall]
    for seed in range(20):
        caption = render(record, "heart", np.random.default_rng(seed))
        assert caption.index("2 to 8 s") < caption.index("14 to 20 s"), caption


def test_a_steady_rate_is_not_called_a_range():
    features = ("heart_rate_min", "heart_rate_max", "heart_rate_mean")
    record = {**drawn_record(0), "missing": [], "stand_ins": []}
    record["measurements"] = [measurement(f, 60.2, "ECG") for f in features]
    for seed in range(30):
        caption = render(record, "heart", np.random.default_rng(seed))
        assert "60 to 60" not in caption
        assert read(caption, "heart") == stated(record, "heart")


def test_an_unknown_style_or_kind_is_refused():
    with pytest.raises(ConfigError, match="'poem'"):
        render(drawn_record(0), "brain", np.random.default_rng(0), style="poem")
    with pytest.raises(ValueError, match="'poem'"):
        render(drawn_record(0), "poem", np.random.default_rng(0))
