"""A record in words: templates are data (templates.yaml), drawn by the caller's generator."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from importlib import resources

import numpy as np
import yaml

from sleeplm_jax.captions.record import SLEEPLM_INPUT, stated
from sleeplm_jax.config import SignalSpec
from sleeplm_jax.errors import ConfigError

STYLES = ("default",)
GROUPS = {
    "C3": "EEG", "C4": "EEG", "EOG-L": "EOG", "EOG-R": "EOG", "heart": "heart", "SpO2": "SpO2",
    "THX": "breathing", "ABD": "breathing", "AF": "breathing", "EMG": "EMG", "POS": "position",
}  # fmt: skip
WHOLE_EPOCH = [0, 30]


@functools.cache
def templates() -> dict:
    """The wordings of templates.yaml; read once, to be left unchanged."""
    text = resources.files(__package__).joinpath("templates.yaml").read_text("utf-8")
    return yaml.safe_load(text)


def render(
    record: dict,
    kind: str,
    rng: np.random.Generator,
    style: str = "default",
    spec: SignalSpec | None = SLEEPLM_INPUT,
) -> str | None:
    """The caption of `kind` for a measured record, or None when there is nothing to say.

    The sentence states `record.stated(record, kind, spec)`, all of it and nothing else; `rng`
    draws wordings and the order of channels, so that equal generators give equal captions. With
    `spec` None a caption also says what the model's input does not show. Raises ConfigError for an
    unknown style.
    """
    if style not in STYLES:
        raise ConfigError("caption style", f"{style!r} is not known", f"use {' or '.join(STYLES)}")
    content = stated(record, kind, spec)
    if content is None:
        return None
    if kind == "stage_event":
        return _stage_event(content, rng)
    return _channels(content, rng)


def _pick(rng: np.random.Generator, options: Sequence):
    return options[int(rng.integers(len(options)))]


def upper_first(text: str) -> str:
    return text[:1].upper() + text[1:]


def with_article(noun: str) -> str:
    """`noun` with a or an. Its first letter decides: none of templates.yaml is an exception."""
    return f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"


def joined(items: Sequence[str], last: str = "and") -> str:
    """English enumeration: "a", "a and b", "a, b and c"."""
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} {last} {items[-1]}"


def _stage_event(content: dict, rng: np.random.Generator) -> str:
    t, sentences = templates(), []
    if content["stage"] is not None:
        name = _pick(rng, t["stage"]["names"][content["stage"]])
        sentences.append(stage_sentence(_pick(rng, t["stage"]["texts"]), name))
    for kind, onset, end in content["events"]:
        noun = t["event"]["names"][kind]
        sentences.append(
            _pick(rng, t["event"]["texts"]).format(
                event=noun, Event=upper_first(noun), an_event=with_article(noun),
                An_event=upper_first(with_article(noun)), a=onset, b=end,
            )
        )  # fmt: skip
    if content["none_of"]:
        quiet = t["no_events"]
        singular = joined([quiet["singular"][group] for group in content["none_of"]], "or")
        plural = [quiet["plural"][group] for group in content["none_of"]]
        sentences.append(
            _pick(rng, quiet["texts"]).format(
                singular=singular, plural=joined(plural), plural_or=joined(plural, "or")
            )
        )
    return " ".join(sentences)


def stage_sentence(text: str, name: str) -> str:
    """A stage template with a stage's name in it."""
    return text.format(stage=name, Stage=upper_first(name))


def _channels(content: dict, rng: np.random.Generator) -> str:
    t = templates()
    channels = list(content["channels"])
    sentences = []
    for channel in (channels[i] for i in rng.permutation(len(channels))):
        name = _pick(rng, t["names"][channel])
        if channel in content["stand_ins"]:
            name = t["stand_in"].format(name=name)
        said, group = content["channels"][channel], GROUPS[channel]
        if group == "position":
            sentences.append(_position(said["position"], name, rng))
            continue
        frame = _pick(rng, t["statements"][group])
        items = joined(_items(frame["items"], said))
        sentences.append(frame["text"].format(name=name, Name=upper_first(name), items=items))
    if content["missing"]:
        order = rng.permutation(len(content["missing"]))
        names = joined([t["names"][content["missing"][i]][0] for i in order])
        texts = t["missing"]["one" if len(order) == 1 else "many"]
        sentences.append(_pick(rng, texts).format(names=names, Names=upper_first(names)))
    return " ".join(sentences)


def _items(phrases: dict[str, str], said: dict) -> list[str]:
    """The phrases of what is `said` of a channel, in the frame's order but times in their own."""
    out, starts, left = [], {}, dict(said)
    for features, phrase in phrases.items():
        names = features.replace("=", "+").split("+")
        if not all(name in left for name in names):
            continue
        if "=" in features and len({left[name] for name in names}) > 1:
            continue
        values = {name: left.pop(name) for name in names}
        value = values[names[0]]
        v, a, b = value if isinstance(value, list) else (value, None, None)
        if a is not None:
            starts[len(out)] = a
        out.append(phrase.format(v=v, a=a, b=b, **values))
    if left:  # a template that leaves something out would break "equal keys, equal captions"
        raise ValueError(f"no wording in templates.yaml for {sorted(left)} beside {list(phrases)}")
    in_time = [out[i] for i in sorted(starts, key=starts.get)]
    for place, text in zip(starts, in_time):
        out[place] = text
    return out


def _position(stretches: list[list], name: str, rng: np.random.Generator) -> str:
    t = templates()
    fill = {"name": name, "Name": upper_first(name)}
    if len(stretches) == 1 and stretches[0][1:] == WHOLE_EPOCH:
        frame = _pick(rng, t["statements"]["position"])
        return frame["text"].format(word=t["words"][stretches[0][0]], **fill)
    frame = _pick(rng, t["statements"]["position_change"])
    phrase = frame["items"]["position"]
    items = [phrase.format(word=t["words"][word], a=a, b=b) for word, a, b in stretches]
    return frame["text"].format(items=joined(items), **fill)
