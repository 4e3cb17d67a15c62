"""Captions of the kind `night`: a window's record in words, and the words read back.

`stated_window` is what a caption states, rounded; `say_window` says all of it and nothing else,
`read_window` reads it out of the sentences again, exactly. Wordings: night_templates.yaml.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from importlib import resources

import numpy as np
import yaml

from sleeplm_jax.captions.wording import joined, upper_first
from sleeplm_jax.errors import CorpusError

KIND = "night"  # of a caption; config.CAPTION_KINDS are those of one epoch

NUMBER = r"-?\d+(?:\.\d+)?"
# Decimals as said; what is not named here is a whole number.
DECIMALS = {
    **dict.fromkeys(
        ("time_in_bed", "scored_period", "total_sleep_time", "sleep_onset_latency", "n3_latency",
         "rem_latency", "wake_after_sleep_onset", "unscored_time", "movement_time", "spo2_mean",
         "spo2_change", "spo2_hour"), 1,
    )
}  # fmt: skip
INDEX_DECIMALS = 1
AT = ("heart_rate_lowest", "heart_rate_highest", "spo2_lowest")  # said with their minute
HOURS = {"heart_rate_hour": "heart_rate", "spo2_hour": "spo2"}
HOUR_S = 3600


@functools.cache
def wordings() -> dict:
    """The wordings of night_templates.yaml; read once, to be left unchanged."""
    text = resources.files(__package__).joinpath("night_templates.yaml").read_text("utf-8")
    return yaml.safe_load(text)


def _rounded(value: float, decimals: int) -> float | int:
    value = round(float(value), decimals) + 0.0
    return int(value) if decimals <= 0 else value


def _minutes(seconds: float) -> float:
    return _rounded(seconds / 60, 1)


def stated_window(record: dict) -> dict:
    """What a caption of a window's `record` states: {feature: what is said of it}, canonical.

    "window": [kind, number, complete, begin, end] (min); an index: [per hour, events, basis]; an
    extreme: [value, minute of the recording]; hours: one value an hour, None where not
    known; positions: ["sleep" or "window", {word: share}]; "unknown": {why: features}; "notes";
    "rules", for the night.
    """
    window = record["window"]
    begin = window["onset"]
    out: dict = {
        "window": [window["kind"], window["number"], window["complete"],
                   _minutes(begin), _minutes(window["end"])],
    }
    index = wordings()["index"]["names"]
    hours: dict[str, dict[int, float]] = {}
    for m in record["measurements"]:
        feature = m["feature"]
        value = _rounded(m["value"], DECIMALS.get(feature, 0))
        if feature in index:
            basis = m.get("basis", "scored")
            out[feature] = [_rounded(m["value"], INDEX_DECIMALS), m["count"], basis]
        elif feature in AT:
            out[feature] = [value, _minutes(m["interval"][0])]
        elif feature in HOURS:
            hours.setdefault(feature, {})[int((m["interval"][0] - begin) // HOUR_S)] = value
        elif feature == "position_share":
            of = "sleep" if m["unit"].startswith("% of sleep") else "window"
            out.setdefault("position", [of, {}])[1][m["position"]] = value
        elif feature.endswith("_known") and value == 100:
            continue  # measured throughout: not worth a word
        else:
            out[feature] = value
    for feature, found in hours.items():
        out[feature] = [found.get(hour) for hour in range(max(found) + 1)]
    if window["kind"] == "night" and not any(u["feature"] == "sleep" for u in record["unknown"]):
        out["rules"] = record["rules"]
    why: dict[str, list[str]] = {}
    for lack in record["unknown"]:
        why.setdefault(lack["why"], []).append(lack["feature"])
    out["unknown"] = {reason: _listed(features) for reason, features in why.items()}
    simulated = ["simulated"] if record["simulated"] and window["kind"] == "night" else []
    out["notes"] = sorted({*record["notes"], *simulated})
    return out


def _listed(features: Iterable[str]) -> list[str]:
    """Unknown features in the order of saying."""
    return sorted(features, key=list(wordings()["unknown"]["names"]).index)


def say_window(record: dict, rng: np.random.Generator) -> str:
    """The caption of a window: `stated_window(record)` in wordings that `rng` draws."""
    said = stated_window(record)
    return " ".join(_sentences(said, rng))


def _pick(rng: np.random.Generator, options):
    return options[int(rng.integers(len(options)))]


def _sentences(said: dict, rng: np.random.Generator) -> Iterator[str]:
    t = wordings()
    yield _pick(rng, t["head"][_head_name(said["window"])]).format(**_head_fields(said["window"]))
    if "rules" in said:
        known = "unknown" if said["rules"] == "unknown" else "known"
        yield _pick(rng, t["rules"][known]).format(rules=said["rules"])
    left = {f: v for f, v in said.items() if f not in ("window", "rules", "unknown", "notes")}
    for name, frames in t["statements"].items():
        if name == "index":
            for feature in [f for f in t["index"]["names"] if f in left]:
                yield _index_sentence(feature, left.pop(feature), rng)
        elif name == "hours":
            for feature in [f for f in HOURS if f in left]:
                gap = t["hours"]["gap"]
                values = [gap if v is None else str(v) for v in left.pop(feature)]
                yield _pick(rng, t["hours"][feature]).format(hours=joined(values))
        elif name == "position":
            if "position" in left:
                of, shares = left.pop("position")
                frame = _pick(rng, t["position"][of])
                items = [frame["phrase"].format(v=v, word=t["words"][w])
                         for w, v in shares.items()]
                yield frame["text"].format(items=joined(items))
        else:
            fitting = [
                frame for frame in frames
                if {*frame.get("needs", ())} <= {*left} and {*left} & {*frame["items"]}
            ]
            if fitting:
                frame = _pick(rng, fitting)
                items = [
                    _phrase(feature, phrase, left.pop(feature))
                    for feature, phrase in frame["items"].items() if feature in left
                ]
                yield frame["text"].format(items=joined(items))
    if left:
        raise ValueError(f"no wording in night_templates.yaml for {sorted(left)}")
    for why, features in said["unknown"].items():
        names = joined([t["unknown"]["names"][feature] for feature in features])
        yield _pick(rng, t["unknown"]["texts"]).format(names=names, why=why)
    for note in said["notes"]:
        yield t["notes"][note]


def _head_name(window: list) -> str:
    kind, _, complete, _, _ = window
    if kind != "sleep_cycle":
        return kind
    return f"{kind}_{'complete' if complete else 'incomplete'}"


def _head_fields(window: list) -> dict:
    _, number, _, a, b = window
    return {"number": number, "a": a, "b": b, "length": round(b - a, 1)}


def _noun(name: str, count: int) -> str:
    one, many = wordings()["nouns"][name]
    return one if count == 1 else many


def _index_sentence(feature: str, said: list, rng: np.random.Generator) -> str:
    value, count, basis = said
    t = wordings()["index"]
    name = t["names"][feature]
    texts = t["texts" if name[0].lower() in "aeiou" else "texts_a"]
    rule = t["rules"][feature] + (t["measured"] if basis == "measured" else "")
    events = f"{count} {_noun('events', count)}"
    return _pick(rng, texts).format(
        name=name, Name=upper_first(name), v=value, events=events, rule=rule
    )


def _phrase(feature: str, phrase: str | dict, value) -> str:
    if isinstance(phrase, dict):
        which = "rise" if value > 0 else "fall" if value < 0 else "level"
        return phrase[which].format(v=abs(value))
    if feature in AT:
        return phrase.format(v=value[0], m=value[1])
    if "{noun}" in phrase:
        return phrase.format(v=value or "no", noun=_noun(feature, value))
    return phrase.format(v=value)


# The inverse.


@functools.cache
def pattern(text: str, fields: tuple[tuple[str, str], ...]) -> re.Pattern:
    """A template as a regular expression whose {fields} are themselves regular expressions."""
    known = dict(fields)
    parts = re.split(r"\{(\w+)\}", text)
    out = re.escape(parts[0])
    seen = set()
    for field, rest in zip(parts[1::2], parts[2::2]):
        out += f"(?P={field})" if field in seen else f"(?P<{field}>{known[field]})"
        seen.add(field)
        out += re.escape(rest)
    return re.compile(out)


def sentences_of(text: str) -> list[str]:
    """A caption's sentences: a decimal point ends none."""
    return re.split(r"(?<=\.) (?=[A-Z])", text)


def number(text: str) -> float | int:
    return float(text) if "." in text else int(text)


def _pieces(items: str) -> list[str]:
    return re.split(r", | and ", items)


def read_window(text: str) -> dict:
    """What a caption that `say_window` wrote states, as `stated_window` gives it.

    Raises CorpusError naming the sentence that no wording, or more than one, can have made.
    """
    out: dict = {"unknown": {}, "notes": []}
    for sentence in sentences_of(text):
        readings = {repr(r): r for r in _readings(sentence)}
        if len(readings) != 1:
            raise CorpusError(
                "caption", f"{sentence!r} has {len(readings)} readings",
                "give a caption of the kind night, as this version writes it",
            )
        (found,) = readings.values()
        for key, value in found.items():
            if key == "notes":
                out["notes"] = sorted([*out["notes"], *value])
            elif key == "unknown":
                out["unknown"] |= value
            elif key in out:
                raise CorpusError("caption", f"{key} is stated twice", "give one caption")
            else:
                out[key] = value
    return out


def _readings(sentence: str) -> Iterator[dict]:
    t = wordings()
    yield from _read_head(sentence)
    for note, text in t["notes"].items():
        if sentence == text:
            yield {"notes": [note]}
    for text in t["rules"]["known"]:
        if match := pattern(text, (("rules", ".+"),)).fullmatch(sentence):
            yield {"rules": match["rules"]}
    if sentence in t["rules"]["unknown"]:
        yield {"rules": "unknown"}
    yield from _read_index(sentence)
    names = {name: feature for feature, name in t["unknown"]["names"].items()}
    one = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    fields = (("names", f"(?:{one})(?:(?:, | and )(?:{one}))*"), ("why", ".+"))
    for text in t["unknown"]["texts"]:
        if match := pattern(text, fields).fullmatch(sentence):
            features = _listed(names[name] for name in _pieces(match["names"]))
            yield {"unknown": {match["why"]: features}}
    for frames in t["statements"].values():
        for frame in frames:
            if match := pattern(frame["text"], (("items", ".+"),)).fullmatch(sentence):
                found = _read_items(frame["items"], match["items"])
                if found is not None:
                    yield found
    for feature in HOURS:
        for text in t["hours"][feature]:
            if match := pattern(text, (("hours", ".+"),)).fullmatch(sentence):
                gap = t["hours"]["gap"]
                yield {feature: [None if p == gap else number(p) for p in _pieces(match["hours"])]}
    yield from _read_positions(sentence)


def _read_head(sentence: str) -> Iterator[dict]:
    fields = tuple((name, NUMBER) for name in ("number", "a", "b", "length"))
    for name, texts in wordings()["head"].items():
        for text in texts:
            if match := pattern(text, fields).fullmatch(sentence):
                got = match.groupdict()
                complete = None
                if name.startswith("sleep_cycle"):
                    complete = name.endswith("_complete")
                count = number(got["number"]) if "number" in got else None
                a = number(got["a"]) if "a" in got else 0.0  # a night begins with its recording
                b = number(got["b"]) if "b" in got else number(got["length"])
                kind = "sleep_cycle" if complete is not None else name
                if "length" in got and number(got["length"]) != round(b - a, 1):
                    continue  # it contradicts itself
                yield {"window": [kind, count, complete, a, b]}


def _read_index(sentence: str) -> Iterator[dict]:
    t = wordings()["index"]
    for feature, name in t["names"].items():
        rule = re.escape(t["rules"][feature])
        fields = (
            ("name", re.escape(name)), ("Name", re.escape(upper_first(name))), ("v", NUMBER),
            ("events", r"\d+ \w+"), ("rule", f"{rule}(?:{re.escape(t['measured'])})?"),
        )
        for text in t["texts" if name[0].lower() in "aeiou" else "texts_a"]:
            if match := pattern(text, fields).fullmatch(sentence):
                count, noun = match["events"].split()
                if noun == _noun("events", int(count)):
                    basis = "measured" if match["rule"].endswith(t["measured"]) else "scored"
                    yield {feature: [number(match["v"]), int(count), basis]}


def _read_items(phrases: dict, text: str) -> dict | None:
    """{feature: value} of an enumeration; None where a piece fits no phrase, or two."""
    out: dict = {}
    for piece in _pieces(text):
        hits = [hit for f, phrase in phrases.items() for hit in _read_phrase(f, phrase, piece)]
        if len(hits) != 1 or hits[0][0] in out:
            return None
        out[hits[0][0]] = hits[0][1]
    return out


def _read_phrase(feature: str, phrase: str | dict, piece: str) -> Iterator[tuple]:
    if isinstance(phrase, dict):
        for which, sign in (("rise", 1), ("fall", -1)):
            if match := pattern(phrase[which], (("v", NUMBER),)).fullmatch(piece):
                yield feature, sign * number(match["v"])
        if piece == phrase["level"]:
            yield feature, _rounded(0, DECIMALS.get(feature, 0))
        return
    fields = (("v", f"{NUMBER}|no"), ("m", NUMBER), ("noun", r"\w+"))
    match = pattern(phrase, fields).fullmatch(piece)
    if match is None:
        return
    got = match.groupdict()
    value = 0 if got["v"] == "no" else number(got["v"])
    if "noun" in got and got["noun"] != _noun(feature, value):
        return
    yield feature, [value, number(got["m"])] if "m" in got else value


def _read_positions(sentence: str) -> Iterator[dict]:
    t = wordings()
    back = {spoken: word for word, spoken in t["words"].items()}
    fields = (("v", NUMBER), ("word", "|".join(map(re.escape, back))))
    for of, frames in t["position"].items():
        for frame in frames:
            match = pattern(frame["text"], (("items", ".+"),)).fullmatch(sentence)
            found = match and [
                pattern(frame["phrase"], fields).fullmatch(p) for p in _pieces(match["items"])
            ]
            if found and all(found):
                yield {"position": [of, {back[m["word"]]: number(m["v"]) for m in found}]}
