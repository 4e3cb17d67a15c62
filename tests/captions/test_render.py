"""Captions say what the record says, all of it, nothing else, in good English."""

import re

import numpy as np
import pytest

from sleeplm_jax.captions.check import facts
from sleeplm_jax.captions.parse import parse
from sleeplm_jax.captions.record import DECIMALS, SIGNED, TIMED, caption_keys, stated, validate
from sleeplm_jax.captions.render import render
from sleeplm_jax.captions.wording import STYLES, groups, templates, with_article
from sleeplm_jax.config import CAPTION_KINDS, SignalSpec
from sleeplm_jax.errors import ConfigError
from sleeplm_jax.physiology.measure import UNITS

from .drawing import drawn_record, measurement

FULL = SignalSpec(channels=SignalSpec().channels + ("HR", "SpO2"))
SPECS = {"default": SignalSpec(), "with SpO2": FULL, "ungrounded": None}


def read(caption, kind):
    found = parse(caption)
    assert not found.unread and set(found.contents) == {kind}, (caption, found)
    return found[kind]


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
        assert len(seen[kind]) > 12, kind  # fresh wording every pass
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
                statements = len(list(facts(stated(record, kind), kind)))
                assert len(caption.split()) <= 8 + 8 * statements, caption


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


UNIT_WORDS = {  # how a unit is written; bpm of breaths is the published model's
    "%": "%", "bpm": " bpm", "ms": " ms", "s": " s", "Hz": " Hz", "µV": " µV", "% of night": "%",
    "% of epoch": "%", "degrees": " degrees", "points": " point",
    "/min": "( breaths?)?(/min| a minute| bpm)",
}  # fmt: skip


@pytest.mark.parametrize("style", STYLES)
def test_every_number_is_followed_by_its_unit(style):
    seen = set()
    phrases = [
        (feature, text)
        for group in groups(style).values() for rows in group.rows.values() for row in rows
        if row.word is None and not row.throughout
        for phrase in row.phrases for text in phrase.variants() for feature in row.features
    ]  # fmt: skip
    for feature, text in phrases:
        seen.add(feature)
        whole = next((f for f, two in SIGNED.items() if feature in two), feature)
        unit = UNIT_WORDS.get(UNITS[whole], "")
        own = next(f"{{{f}}}" for f in (feature, "v", "count", "word") if f"{{{f}}}" in text)
        after = re.sub(r"^( to |-)\{\w+\}", "", text.partition(own)[2])  # a range's first
        assert re.match(unit, after), (feature, text)
        if not unit:  # a ratio or a count has none that belongs to another
            assert not re.match(r"%| (bpm|ms|s|Hz|µV)\b", after), text
    said = {f for feature in DECIMALS for f in SIGNED.get(feature, (feature,))}
    assert seen == said | {"position"}
    for frame in [text for g in groups(style).values() for _, text in g.frames]:
        assert not re.search(r"\d", re.sub(r"\{\w+\}", "", frame)), frame


def test_one_is_singular_and_several_are_plural():
    def caption(rate, seed):
        record = {**drawn_record(0), "missing": [], "stand_ins": []}
        record["measurements"] = [measurement("respiratory_rate", rate, "AF")]
        return render(record, "respiratory", np.random.default_rng(seed))

    one, two = ({caption(rate, seed) for seed in range(200)} for rate in (1, 2))
    assert any("1 breath/min" in text for text in one)
    assert not any("breaths" in text for text in one) and any("2 breaths" in text for text in two)
    assert not any("breath/" in text or "breath a" in text for text in two)


@pytest.mark.parametrize("style", STYLES)
def test_there_are_enough_wordings_of_everything(style):
    t = templates(style)
    for section in ("stage", "event"):
        assert len(set(t[section]["texts"])) >= 6
    assert all(len(names) >= 2 for names in t["stage"]["names"].values())
    for channel in groups(style):
        features = drawn_features(channel)
        said = {
            render({**EMPTY, "measurements": features}, kind, np.random.default_rng(seed), style,
                   spec=None)
            for seed in range(150) for kind in CAPTION_KINDS
        } - {None}  # fmt: skip
        assert len(said) >= 6, (style, channel, said)


def test_an_article_fits_the_noun_that_follows():
    for style in STYLES:
        for seed in range(150):
            for kind in CAPTION_KINDS:
                caption = render(drawn_record(seed), kind, np.random.default_rng(seed), style, None)
                for article, word in re.findall(r"\b([Aa]n?) (\w+)", caption or ""):
                    vowel = word[0].lower() in "aeiou" or re.match(r"[NR]\d|RMSSD", word)
                    vowel = vowel and not word.startswith("usual")  # checked by ear
                    assert (article.lower() == "an") == bool(vowel), caption


EMPTY = {
    "stage": None, "events": [], "measurements": [], "missing": [], "scored": [], "stand_ins": [],
}  # fmt: skip


def drawn_features(channel):
    """Two features of a channel (as spoken of), measured."""
    source = "ECG" if channel == "heart" else channel
    found = [m for seed in range(20) for m in drawn_record(seed)["measurements"]
             if m["channel"] == source and not isinstance(m["value"], str) and m["value"] > 3
             and m["feature"] not in TIMED]  # fmt: skip
    by_feature = {m["feature"]: m for m in found}
    positions = [measurement("position", "supine", "POS")] if channel == "POS" else []
    return list(by_feature.values())[:2] + positions
