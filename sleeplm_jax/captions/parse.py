"""Captions back into what they state: the inverse of render.py, lenient with a model's words."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from sleeplm_jax.captions.grammar import MISSING, Grammar, load, masked, normal
from sleeplm_jax.captions.record import KIND_CHANNELS, spoken_as

_SENTENCES = re.compile(r"(?<=\.)\s+")
KIND_OF_CHANNEL = {
    name: kind for kind, channels in KIND_CHANNELS.items()
    for channel in channels for name in (channel, spoken_as(channel))
}  # fmt: skip


@dataclass
class Parsed:
    """What a text states, by caption kind in the form of `record.stated`, and what was not read."""

    contents: dict[str, dict] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)

    def __getitem__(self, kind: str) -> dict | None:
        return self.contents.get(kind)


def parse(text: str) -> Parsed:
    """Read a caption, or several in one text, of any style, level and channel order.

    Takes what the templates could have said and lists the rest in `unread`: sentences, phrases
    (after their sentence's first words) and repetitions that contradict. Never raises on text.
    `parse(render(record, kind, rng, ...))[kind] == stated(record, kind, ...)`.
    """
    grammar, out = load(), Parsed()
    for sentence in _SENTENCES.split(str(text).strip()):
        said = normal(sentence).replace("#", "")  # which stands for numbers in the grammar
        if said and not _read(said, grammar, out):
            out.unread.append(sentence.strip())
    for kind, content in out.contents.items():
        _put_in_order(kind, content)
    return out


def _stage_event(out: Parsed) -> dict:
    return out.contents.setdefault("stage_event", {"stage": None, "events": [], "none_of": []})


def _channels(out: Parsed, channel: str) -> dict:
    kind = KIND_OF_CHANNEL[channel]
    empty = {"channels": {}, "missing": [], "stand_ins": []}
    return out.contents.setdefault(kind, empty)


def _read(said: str, grammar: Grammar, out: Parsed) -> bool:
    """Reads one sentence into `out`; whether anything of it could be read."""
    said = said if said.endswith(".") else f"{said}."  # a text cut off at its end
    key, numbers = masked(said)
    meaning = grammar.sentences.get(key)
    if meaning is None:
        return _read_frame(said, grammar, out)
    content = _stage_event(out)
    if meaning[0] == "stage":
        if content["stage"] not in (None, meaning[1]):
            out.unread.append(f"another stage: {said}")
        content["stage"] = content["stage"] or meaning[1]
    elif meaning[0] == "event":
        times = dict(zip(meaning[2], numbers, strict=True))
        content["events"].append([meaning[1], times["a"], times["b"]])
    else:
        content["none_of"] += meaning[1]
    return True


def _read_frame(said: str, grammar: Grammar, out: Parsed) -> bool:
    """Reads a sentence about channels in the frame that leaves the fewest phrases unread."""
    best = None
    for length in grammar.lengths:
        for frame in grammar.frames.get(said[:length], ()):
            end = len(said) - len(frame.suffix)
            if end <= length or not said.endswith(frame.suffix):
                continue
            readings, unread = _items(said[length:end], frame.group, grammar)
            if readings and (best is None or len(unread) < len(best[2])):
                best = frame, readings, unread, said[:length]
            if best is not None and not best[2]:
                return _take(*best, out)
    return best is not None and _take(*best, out)


def _items(text: str, group: str, grammar: Grammar) -> tuple[list, list[str]]:
    readings, unread = [], []
    table = grammar.channels if group == MISSING else grammar.items[group]
    for item in grammar.splitter.split(text):
        key, numbers = masked(item)
        found = table.get(key)
        if found is None:
            unread.append(item)
        else:
            readings.append(found if group == MISSING else found.values(numbers))
    return readings, unread


def _take(frame, readings: list, unread: list[str], before: str, out: Parsed) -> bool:
    out.unread += [f"{before.strip()} ... {item}" for item in unread]
    if frame.group == MISSING:
        for channel in readings:
            _channels(out, channel)["missing"].append(channel)
        return True
    content = _channels(out, frame.channel)
    said = content["channels"].setdefault(frame.channel, {})
    if frame.stand_in:
        content["stand_ins"].append(frame.channel)
    for values in readings:
        for feature, value in values.items():
            if isinstance(value, list):
                said.setdefault(feature, []).append(value)
            elif said.setdefault(feature, value) != value:
                out.unread.append(f"{frame.channel}: another {feature}: {value}")
    return True


def _put_in_order(kind: str, content: dict) -> None:
    """The canonical order of `record.stated`."""
    if kind == "stage_event":
        content["events"].sort(key=lambda event: (*event[1:], event[0]))
        content["none_of"] = sorted(set(content["none_of"]))
        return
    content["channels"] = dict(sorted(content["channels"].items()))
    for said in content["channels"].values():
        for value in said.values():
            if isinstance(value, list):
                value.sort(key=lambda stretch: stretch[1:])
    content["missing"] = sorted(set(content["missing"]))
    content["stand_ins"] = sorted(set(content["stand_ins"]))
