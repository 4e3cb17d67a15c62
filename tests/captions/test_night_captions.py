"""Captions of windows: read back exactly, every wording used, grammar, nothing said that is not."""

import re

import numpy as np
import pytest
import yaml

from sleeplm_jax.captions.night import (
    KIND,
    read_window,
    say_window,
    sentences_of,
    stated_window,
    wordings,
)
from sleeplm_jax.captions.windows import CURVES, NO_TRACE, SLEEP, UNUSABLE, validate_window
from sleeplm_jax.config import CAPTION_KINDS
from sleeplm_jax.errors import CorpusError

INDICES = tuple(wordings()["index"]["names"])
POSITIONS = ("right", "left", "supine", "prone", "upright")


def drawn_window(seed):
    """A window's record of random content: what real nights hold, and odd values of it."""
    rng = np.random.default_rng([5, seed])
    kind = ("night", "night", "sleep_cycle", "five_minutes")[seed % 4]
    onset = 0.0 if kind == "night" else float(30 * rng.integers(0, 600))
    end = onset + (300.0 if kind == "five_minutes" else float(30 * rng.integers(30, 1200)))
    cycle = kind == "sleep_cycle"
    found, unknown = [], []

    def add(feature, value, unit, channel=None, interval=None, **more):
        found.append({"feature": feature, "value": round(float(value), 3), "unit": unit,
                      "channel": channel, "interval": interval or [onset, end], **more})

    def either(feature, why):
        if rng.random() < 0.25:
            unknown.append({"feature": feature, "why": why})
            return False
        return rng.random() < 0.9

    staged = rng.random() < 0.9
    if not staged:
        unknown.append({"feature": "sleep", "why": f"the {'night' if kind == KIND else 'window'} "
                        "is not staged"})
    elif kind == "night":
        add(rng.choice(["time_in_bed", "scored_period"]), rng.uniform(0, 700), "min")
        for feature, _, unit in SLEEP:
            if either(feature, rng.choice(["no sleep", "no REM sleep scored"])):
                high = 20 if unit == "count" else 100
                value = rng.integers(0, 3) if unit == "count" else rng.uniform(0, high)
                add(feature, value, unit)
        for feature in INDICES:
            if either(feature, rng.choice([NO_TRACE, "3 desaturations have no depth"])):
                more = {"basis": "measured"} if "percent" in feature and rng.random() < 0.4 else {}
                count = int(rng.integers(0, 4) if rng.random() < 0.5 else rng.integers(400))
                add(feature, rng.uniform(0, 100), "/h", count=count, **more)
        if rng.random() < 0.3:
            add("unscored_time", rng.uniform(0, 50), "min")
            add("movement_time", rng.uniform(0, 9), "min")
    else:
        for name in ("wake", "n1", "n2", "n3", "rem", "movement", "unscored"):
            if rng.random() < 0.5:
                add(f"{name}_share", rng.uniform(0, 100), "% of window")
        for name in ("apnea", "hypopnea", "desaturation", "arousal"):
            if either(f"{name}_count", "none scored in this night"):
                add(f"{name}_count", rng.integers(0, 4), "count")
    for name, _, _, highest, unit in CURVES:
        if rng.random() < 0.3:
            unknown.append({"feature": name, "why": UNUSABLE})
            continue
        channel = "ECG" if name == "heart_rate" else "SpO2"
        add(f"{name}_known", rng.choice([100, 99.7, rng.uniform(50, 100)]), "% of window", channel)
        add(f"{name}_mean", rng.uniform(40, 100), unit, channel)
        for which in ("lowest", *(["highest"] if highest else [])):
            at = onset + 30 * float(rng.integers(0, max(1, (end - onset) // 30)))
            add(f"{name}_{which}", rng.uniform(40, 100), unit, channel, [at, at + 30])
        if rng.random() < 0.8:
            change = rng.choice([0.0, 0.04, -0.3, rng.uniform(-20, 20)])
            add(f"{name}_change", change, unit, channel)
        for hour in range(int((end - onset) // 3600) if kind == "night" else 0):
            if rng.random() < 0.8:
                add(f"{name}_hour", rng.uniform(40, 100), unit, channel,
                    [onset + 3600 * hour, onset + 3600 * (hour + 1)])
    if kind == "five_minutes" and either("heart_rate_variability", "no ECG"):
        add("lf_power", rng.uniform(0, 3000), "ms²", "ECG")
        add("hf_power", rng.uniform(0, 3000), "ms²", "ECG")
    if rng.random() < 0.7:
        of = "sleep" if kind == "night" and rng.random() < 0.8 else "window"
        for word in rng.permutation(POSITIONS)[: rng.integers(1, 6)]:
            add("position_share", rng.uniform(0, 100), f"% of {of} of known position", "POS",
                position=str(word))
    elif rng.random() < 0.5:
        unknown.append({"feature": "position", "why": UNUSABLE})
    notes = [n for n in ("lights_off_unknown", "lights_on_unknown") if rng.random() < 0.4]
    record = {
        "window": {"kind": kind, "onset": onset, "end": end,
                   "number": int(rng.integers(1, 9)) if cycle else None,
                   "complete": bool(rng.random() < 0.5) if cycle else None},
        "rules": str(rng.choice(["AASM", "R&K", "AASM 2.6", "unknown"])), "hypopnea_rule": None,
        "simulated": bool(rng.random() < 0.3), "measurements": found, "unknown": unknown,
        "notes": notes if kind == "night" else [],
    }  # fmt: skip
    validate_window(record)
    return record


@pytest.mark.parametrize("part", range(4))
def test_what_is_said_is_read_back_exactly(part):
    """2,400 captions of some 25,000 sentences."""
    for seed in range(600 * part, 600 * (part + 1)):
        record = drawn_window(seed)
        text = say_window(record, np.random.default_rng(seed))
        assert read_window(text) == stated_window(record), text


def texts():
    """Every wording of the kind `night`, as (section, text)."""
    t = wordings()
    for section in ("head", "rules", "position"):
        for group in t[section].values():
            yield from (frame["text"] if isinstance(frame, dict) else frame for frame in group)
    yield from t["notes"].values()
    yield from (*t["index"]["texts"], *t["index"]["texts_a"], *t["unknown"]["texts"])
    yield from (*t["hours"]["heart_rate_hour"], *t["hours"]["spo2_hour"])
    yield from (frame["text"] for frames in t["statements"].values() for frame in frames)


def test_every_wording_is_used():
    said = {
        sentence
        for seed in range(600)
        for sentence in sentences_of(say_window(drawn_window(seed), np.random.default_rng(seed)))
    }
    unused = []
    for text in texts():
        wanted = re.compile(".+".join(re.escape(p) for p in re.split(r"\{\w+\}", text)))
        if not any(wanted.fullmatch(sentence) for sentence in said):
            unused.append(text)
    assert not unused


def test_wordings_differ_by_seed_and_repeat_with_it():
    record = drawn_window(0)
    told = [say_window(record, np.random.default_rng(seed)) for seed in range(20)]
    assert len(set(told)) > 10
    assert told[3] == say_window(record, np.random.default_rng(3))


def test_no_index_is_bare():
    """Whatever is called AHI, ODI, arousal or PLM index says in its sentence what it counts."""
    rules = list(wordings()["index"]["rules"].values())
    names = list(wordings()["unknown"]["names"].values())
    seen = 0
    for seed in range(0, 400, 2):
        text = say_window(drawn_window(seed), np.random.default_rng(seed))
        for sentence in sentences_of(text):
            if re.search(r"AHI|ODI|[Ii]ndex", sentence):
                seen += 1
                assert any(rule in sentence for rule in rules) or any(
                    f"AHI ({rest}" in sentence or name in sentence
                    for name in names for rest in ("all", "3%", "4%")
                ), sentence  # fmt: skip
                assert not re.search(r"\bAHI (?:of )?\d[^(;]*\.$", sentence)
    assert seen > 500


def test_a_measured_fall_of_saturation_is_said_to_be_measured():
    record = drawn_window(0) | {"unknown": [], "notes": []}
    one = {"feature": "ahi_3_percent", "value": 14.48, "unit": "/h", "channel": None,
           "interval": [0, 1], "count": 107}
    scored = say_window(record | {"measurements": [one]}, np.random.default_rng(0))
    both = say_window(record | {"measurements": [one | {"basis": "measured"}]},
                      np.random.default_rng(0))
    assert "14.5" in scored and "107 events" in scored and "measured" not in scored
    assert "measured in the SpO2 trace and not scored" in both


def test_grammar():
    for seed in range(400):
        text = say_window(drawn_window(seed), np.random.default_rng(seed))
        for sentence in sentences_of(text):
            assert sentence[0].isupper() and sentence.endswith("."), sentence
            for wrong in (
                r"\b1 (?:events|arousals|apnoeas|hypopnoeas|awakenings)\b",
                r"\b(?:[02-9]|\d\d+) (?:event|arousal|apnoea|awakening)\b",
                r"\ba [aeio]|\ban [bcdfghjklmnpqrstvwxyz]|\bA [AO]|\bAn [BP]",
            ):
                assert not re.search(wrong, sentence), sentence
            assert "  " not in sentence and "{" not in sentence and "-0.0" not in sentence


def test_phrases_of_a_list_can_be_told_apart():
    """No phrase, name or word of an enumeration holds what separates its parts."""
    t = wordings()
    phrases = [
        part
        for frames in t["statements"].values() for frame in frames
        for phrase in frame["items"].values()
        for part in (phrase.values() if isinstance(phrase, dict) else [phrase])
    ]  # fmt: skip
    phrases += [*t["unknown"]["names"].values(), *t["words"].values(), t["hours"]["gap"]]
    phrases += [frame["phrase"] for frames in t["position"].values() for frame in frames]
    assert not [p for p in phrases if "," in p or " and " in p]


def test_a_changed_caption_is_read_as_changed_or_refused():
    """A digit changed is another number; a word changed is no wording."""
    changed = refused = 0
    for seed in range(150):
        record = drawn_window(seed)
        text = say_window(record, np.random.default_rng(seed))
        rng = np.random.default_rng(seed)
        digits = [m.start() for m in re.finditer(r"\d", text)]
        at = digits[int(rng.integers(len(digits)))]
        other = text[:at] + str((int(text[at]) + 1) % 10) + text[at + 1 :]
        try:
            assert read_window(other) != stated_window(record), other
            changed += 1
        except CorpusError:
            refused += 1
    assert changed > 50
    with pytest.raises(CorpusError, match="0 readings"):
        read_window("A recording of 480.0 min. The heart rate is jolly.")


def test_the_yaml_holds_each_key_once():
    class Strict(yaml.SafeLoader):
        def construct_mapping(self, node, deep=False):
            keys = [self.construct_object(key) for key, _ in node.value]
            assert len(keys) == len(set(keys)), keys
            return super().construct_mapping(node, deep)

    from importlib import resources

    text = resources.files("sleeplm_jax.captions").joinpath("night_templates.yaml").read_text()
    assert yaml.load(text, Strict) == wordings()


def test_night_is_no_kind_of_one_epoch():
    assert KIND not in CAPTION_KINDS
