"""Captions are read back into exactly what they state, and a model's words as far as they go."""

import random
import re
import time

import numpy as np
import pytest

from sleeplm_jax.captions import grammar
from sleeplm_jax.captions.check import facts
from sleeplm_jax.captions.levels import LEVELS
from sleeplm_jax.captions.parse import parse
from sleeplm_jax.captions.record import stated
from sleeplm_jax.captions.render import render
from sleeplm_jax.captions.wording import STYLES, templates
from sleeplm_jax.config import CAPTION_KINDS, SignalSpec

from .drawing import drawn_record

# Written by hand, of both styles: the parser is held against these, not against the renderer.
BY_HAND = [
    ("stage_event", "Scoring: stage N2 sleep.", {"stage": "N2", "events": [], "none_of": []}),
    (
        "stage_event",
        "This epoch is REM sleep. From 2.0 to 12.5 s there is a hypopnoea. "
        "An arousal runs from 0.0 to 3.1 s.",
        {"stage": "R", "none_of": [],
         "events": [["arousal", 0.0, 3.1], ["hypopnea", 2.0, 12.5]]},
    ),
    (
        "stage_event", "Staging gives wake here. There are no arousals or respiratory events.",
        {"stage": "W", "events": [], "none_of": ["arousal", "respiratory"]},
    ),
    (
        "stage_event",
        "Sleep staging reveals Deep Sleep (N3) for this epoch. "
        "An obstructive apnea event is found between 4.5 and 30.0 seconds.",
        {"stage": "N3", "events": [["obstructive_apnea", 4.5, 30.0]], "none_of": []},
    ),
    (
        "brain",
        "C4: delta 86%, theta 7% and sigma 1%. The left EOG (stand-in) has 40% slow. "
        "C3 and right EOG are not usable.",
        {"channels": {"C4": {"delta_power": 86, "theta_power": 7, "sigma_power": 1},
                      "EOG-L": {"slow_eye_movement_power": 40}},
         "missing": ["C3", "EOG-R"], "stand_ins": ["EOG-L"]},
    ),
    (
        "heart",
        "Heart rate averages 56 bpm, ranges from 52 to 60 bpm, rises by 5 bpm from 1 to 4 s "
        "and falls by 7 bpm from 5 to 27 s.",
        {"channels": {"heart": {"heart_rate_mean": 56, "heart_rate_min": 52,
                                "heart_rate_max": 60, "heart_rate_rise": [[5, 1, 4]],
                                "heart_rate_fall": [[7, 5, 27]]}},
         "missing": [], "stand_ins": []},
    ),
    (
        "heart", "Heart rate keeps to 61 bpm.",
        {"channels": {"heart": {"heart_rate_min": 61, "heart_rate_max": 61}},
         "missing": [], "stand_ins": []},
    ),
    (
        "respiratory",
        "Air flow: rate at 14 bpm, and interval variability of 0.3 s. "
        "Chest respiration not usable.",
        {"channels": {"AF": {"respiratory_rate": 14, "breath_interval_variability": 0.3}},
         "missing": ["THX"], "stand_ins": []},
    ),
    (
        "respiratory", "The chest belt: slow, regular and shallow breathing.",
        {"channels": {"THX": {"respiratory_rate": "low", "breath_interval_variability": "low",
                              "breath_amplitude": "low"}},
         "missing": [], "stand_ins": []},
    ),
    (
        "position_muscle",
        "The patient is supine from 0 to 12 s and on the left side from 12 to 30 s. "
        "Chin EMG: tone 80% of usual and burst ratio 1.3.",
        {"channels": {"EMG": {"muscle_tone": 80, "burst_ratio": 1.3},
                      "POS": {"position": [["supine", 0, 12], ["left", 12, 30]]}},
         "missing": [], "stand_ins": []},
    ),
    (
        "position_muscle", "The whole epoch is spent prone.",
        {"channels": {"POS": {"position": [["prone", 0, 30]]}}, "missing": [], "stand_ins": []},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "text", "content"), BY_HAND)
def test_sentences_written_by_hand(kind, text, content):
    found = parse(text)
    assert found.contents == {kind: content} and found.unread == []


def captions(sentences, seed=0):
    """(caption, kind, content) of drawn records in every style, level and input until enough."""
    said = number = 0
    specs = (SignalSpec(), SignalSpec(channels=SignalSpec().channels + ("HR", "SpO2")), None)
    while said < sentences:
        record, rng = drawn_record(100_000 * seed + number), np.random.default_rng([seed, number])
        for style in STYLES:
            level = (None, None, *LEVELS)[number % 5]
            for kind in CAPTION_KINDS:
                spec = specs[number % 3]
                caption = render(record, kind, rng, style, spec, level)
                if caption is not None:
                    said += caption.count(". ") + 1
                    yield caption, kind, stated(record, kind, spec, level)
        number += 1


def round_trip(sentences, seed):
    seen = set()
    for caption, kind, content in captions(sentences, seed):
        found = parse(caption)
        assert found.contents == {kind: content} and not found.unread, (caption, found)
        seen |= {feature for feature, _, _ in facts(content, kind)}
    return seen


def test_every_number_unit_interval_and_event_comes_back():
    seen = round_trip(3_000, seed=1)
    assert len(seen) > 35


@pytest.mark.slow
def test_a_hundred_thousand_sentences_come_back():
    round_trip(100_000, seed=2)


def every_wording():
    """(style, the wording, its place in the templates), of what is enumerated by hand here."""
    for style in STYLES:
        t = templates(style)
        for section in ("stage", "event", "no_events"):
            for text in t[section]["texts"]:
                yield style, section, text
        for name, group in t["groups"].items():
            for form, texts in group["frames"].items():
                for text in texts:
                    yield style, f"{name} {form}", text


def test_drawn_captions_reach_every_wording_of_the_templates():
    """So that the round trip is over all templates: every frame and every phrase occurs."""
    left = {}
    for style, where, text in every_wording():
        parts = [grammar.normal(p) for p in re.split(r"\{\w+\}", text) if p.strip(" .:,")]
        left[style, where, text] = parts
    for group, phrases in grammar.load().items.items():
        left |= {(group, phrase): [phrase] for phrase in phrases}
    for caption, _, _ in captions(100_000, seed=3):
        said = grammar.masked(grammar.normal(caption))[0]
        left = {key: parts for key, parts in left.items() if not all(p in said for p in parts)}
        if not left:
            break
    assert not left


def test_several_captions_in_one_text_are_told_apart():
    record = {**drawn_record(3), "stage": "N2"}
    texts, contents = [], {}
    for kind in CAPTION_KINDS:
        texts.append(render(record, kind, np.random.default_rng(0), spec=None))
        contents[kind] = stated(record, kind, None)
    assert parse(" ".join(texts)).contents == contents


def test_what_is_not_understood_is_listed_and_the_rest_is_read():
    found = parse(
        "This epoch is N2 sleep. The moon is full. C3: delta 86%, swagger 3% and theta 9%. "
        "C3: delta 12%. Airflow: 13 breaths/mi"
    )
    assert found["stage_event"]["stage"] == "N2"
    assert found["brain"]["channels"] == {"C3": {"delta_power": 86, "theta_power": 9}}
    assert found["respiratory"] is None
    assert found.unread == ["The moon is full.", "c3: ... swagger 3%",
                            "C3: another delta_power: 12", "Airflow: 13 breaths/mi"]  # fmt: skip


@pytest.mark.parametrize(
    "text", ["", " ", ".", "...", "C3", "C3:", "C3: .", "%", "# # #", "\0", "C3: delta #%.",
             "From 1 to 2 s there is", "N2", "Apnoea between and s.", "delta -3e9999%", "é" * 50]
)  # fmt: skip
def test_odd_texts_are_no_error(text):
    found = parse(text)
    assert all(kind in CAPTION_KINDS for kind in found.contents)


def test_scrambled_captions_are_no_error():
    rng = random.Random(5)
    for caption, _, _ in captions(300, seed=4):
        words = caption.split(" ")
        rng.shuffle(words)
        parse(" ".join(words))
        cut = rng.randrange(len(caption))
        parse(caption[:cut])
        parse(caption[:cut] + rng.choice("%.,: 7#\0é") + caption[cut:])


def test_spelling_case_and_spaces_do_not_matter():
    found = parse("a  OBSTRUCTIVE apnoea runs from 1.0 to 9.5 S .  an hypopnoea spans 2 to 3 s")
    assert found["stage_event"]["events"] == [
        ["obstructive_apnea", 1.0, 9.5], ["hypopnea", 2, 3]]  # fmt: skip


def test_held_out_stage_wordings_are_read_too():
    assert parse("One would call it slow-wave sleep N3.")["stage_event"]["stage"] == "N3"


@pytest.mark.parametrize(
    ("group", "feature", "phrases", "finding"),
    [
        ("EEG", "theta_power", ["delta {v}%"], "delta #%"),
        ("EEG", "theta_power", ["theta {v}%, all told"], "separates phrases"),
        ("EEG", "new_feature", None, "new_feature has no phrase of form label"),
        ("breathing", "respiratory_rate:low", [], "respiratory_rate:low has no phrase"),
    ],
)
def test_templates_that_could_be_misread_are_refused(
    group, feature, phrases, finding, monkeypatch
):
    import copy

    changed = copy.deepcopy(templates())
    features = changed["groups"][group]["features"]
    if phrases is None:
        features[feature] = {"noun": ["{v} new"]}
    elif phrases:
        features[feature] = {**features[feature], "label": phrases}
    else:
        del features[feature]
    originals = {style: templates(style) for style in STYLES}
    monkeypatch.setattr(
        grammar, "templates", lambda style="default": {**originals, "default": changed}[style]
    )
    from sleeplm_jax.captions import wording

    wording.groups.cache_clear()
    monkeypatch.setattr(wording, "templates", grammar.templates)
    try:
        with pytest.raises(ValueError, match=finding):
            grammar.compiled()
    finally:
        monkeypatch.undo()
        wording.groups.cache_clear()
    assert grammar.compiled().conflicts == []


def test_thousands_of_sentences_a_second():
    texts = [caption for caption, _, _ in captions(2_000, seed=6)]
    sentences = sum(text.count(". ") + 1 for text in texts)
    start = time.process_time()
    for text in texts:
        parse(text)
    assert sentences / (time.process_time() - start) > 2_000  # measured: 30,000
