"""A record in words: templates are data (templates*.yaml), drawn by the caller's generator."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from sleeplm_jax.captions.grounding import grounded_for
from sleeplm_jax.captions.record import KIND_CHANNELS, SLEEPLM_INPUT, stated
from sleeplm_jax.captions.wording import (
    STYLES,
    THROUGHOUT,
    WHOLE_EPOCH,
    Row,
    groups,
    joined,
    templates,
    upper_first,
    with_article,
)
from sleeplm_jax.config import SignalSpec
from sleeplm_jax.errors import ConfigError


def render(
    record: dict,
    kind: str,
    rng: np.random.Generator,
    style: str = "default",
    spec: SignalSpec | None = SLEEPLM_INPUT,
    level: str | None = None,
) -> str | None:
    """The caption of `kind` for a measured record, or None when there is nothing to say.

    The sentence states `record.stated(record, kind, spec, level)`, all of it and nothing else;
    `rng` draws wordings and the order of channels, so that equal generators give equal captions.
    With `spec` None a caption also says what the model's input does not show. `level`:
    "statistical", "structural" or "semantic" (captions/levels.py); None says everything but the
    semantic level's words. Raises ConfigError for an unknown style, ValueError for another kind or
    level.
    """
    if style not in STYLES:
        raise ConfigError("caption style", f"{style!r} is not known", f"use {' or '.join(STYLES)}")
    content = stated(record, kind, spec, level)
    if content is None:
        return None
    return say(content, kind, rng, style)


def say(content: dict, kind: str, rng: np.random.Generator, style: str = "default") -> str:
    """The sentences for what `record.stated` gave."""
    if kind == "stage_event":
        return _stage_event(content, rng, templates(style))
    return _channels(content, rng, style)


def _pick(rng: np.random.Generator, options: Sequence):
    return options[int(rng.integers(len(options)))]


def say_missing(
    record: dict, kind: str, rng: np.random.Generator, style: str = "default",
    spec: SignalSpec | None = SLEEPLM_INPUT,
) -> str | None:
    """That no channel of `kind` is usable, where that is why `render` says nothing of it.

    For a person who reads an epoch's captions; no model is trained on it.
    """
    if kind not in KIND_CHANNELS or stated(record, kind, spec) is not None:
        return None
    if spec is not None:
        record = grounded_for(record, spec.channels, spec.rate)
    names = [c for c in KIND_CHANNELS[kind] if c in record["missing"] and c != "HR"]
    content = {"channels": {}, "missing": sorted(names), "stand_ins": []}
    return _channels(content, rng, style) if names else None


def _next(draw: int, options: Sequence) -> tuple[int, object]:
    """(what is left of a draw, the option that it picks)."""
    draw, place = divmod(draw, len(options))
    return draw, options[place]


def _stage_event(content: dict, rng: np.random.Generator, t: dict) -> str:
    sentences = []
    if content["stage"] is not None:
        name = _pick(rng, t["stage"]["names"][content["stage"]])
        sentences.append(stage_sentence(_pick(rng, t["stage"]["texts"]), name))
    for kind, onset, end in content["events"]:
        text = _pick(rng, t["event"]["texts"])
        sentences.append(event_sentence(text, t["event"]["names"][kind], onset, end))
    if content["none_of"]:
        quiet = t["no_events"]
        sentences.append(quiet_sentence(_pick(rng, quiet["texts"]), content["none_of"], quiet))
    return " ".join(sentences)


def stage_sentence(text: str, name: str) -> str:
    """A stage template with a stage's name in it."""
    return text.format(
        stage=name, Stage=upper_first(name), A_stage=upper_first(with_article(name))
    )


def event_sentence(text: str, noun: str, a: object, b: object) -> str:
    """An event template with the event's name, onset and end in it."""
    an_event = with_article(noun)
    return text.format(
        event=noun, Event=upper_first(noun), an_event=an_event, An_event=upper_first(an_event),
        a=a, b=b,
    )  # fmt: skip


def quiet_sentence(text: str, none_of: Sequence[str], quiet: dict) -> str:
    """A template that denies events, with the groups `none_of` in it."""
    plural = [quiet["plural"][group] for group in none_of]
    return text.format(
        singular=joined([quiet["singular"][group] for group in none_of], " or "),
        plural=joined(plural), plural_or=joined(plural, " or "),
    )  # fmt: skip


def _channels(content: dict, rng: np.random.Generator, style: str) -> str:
    t, sentences = templates(style), []
    channels, joins = list(content["channels"]), t["joins"]
    for channel in (channels[i] for i in rng.permutation(len(channels))):
        # One draw for the sentence, used up choice by choice: a draw costs as much as a phrase.
        draw = int(rng.integers(1 << 62))
        draw, name = _next(draw, t["names"][channel])
        named, said = channel in content["stand_ins"], content["channels"][channel]
        if named:
            name = t["stand_in"].format(name=name)
        draw, (text, rows) = _next(draw, _plans(style, channel, _keys(said), named))
        draw, last = _next(draw, joins["last"])
        draw, between = _next(draw, joins["between"])
        items = joined(_items(rows, said, draw, t["words"]), last, between)
        sentences.append(text.format(name=name, Name=upper_first(name), items=items))
    if content["missing"]:
        order = rng.permutation(len(content["missing"]))
        names = joined([t["names"][content["missing"][i]][0] for i in order])
        texts = t["missing"]["one" if len(order) == 1 else "many"]
        sentences.append(_pick(rng, texts).format(names=names, Names=upper_first(names)))
    return " ".join(sentences)


def _keys(said: dict) -> tuple[str, ...]:
    """The rows of the templates that what is `said` of a channel needs."""
    keys = []
    for feature, value in said.items():
        if isinstance(value, str):
            keys.append(f"{feature}:{value}")
        elif isinstance(value, list):
            whole = {stretch[1:] == WHOLE_EPOCH for stretch in value}
            keys += [feature + THROUGHOUT * is_whole for is_whole in sorted(whole)]
        else:
            keys.append(feature)
    return tuple(keys)


@functools.lru_cache(maxsize=4096)
def _plans(style: str, channel: str, keys: tuple[str, ...], named: bool):
    """Frames that can say `keys` of a channel, each with the rows of its form that may be used."""
    group = groups(style)[channel]
    features = {key.removesuffix(THROUGHOUT).partition(":")[0] for key in keys}

    def usable(row: Row) -> bool:
        return features.issuperset(row.features) and (row.word is None or row.key in keys)

    return tuple(
        (text, tuple(filter(usable, group.rows[form])))
        for form, text in group.covering(keys, named)
    )


def _items(rows: Sequence[Row], said: dict, draw: int, words: dict) -> list[str]:
    """The phrases of what is `said` of a channel, in the rows' order but times in their own."""
    out: list[str] = []
    starts: dict[int, float] = {}
    left = dict(said)
    stretches = {f: list(v) for f, v in said.items() if isinstance(v, list)}
    for row in rows:
        names = row.features
        if not all(name in left for name in names):
            continue
        phrase = row.phrases[draw % len(row.phrases)]
        if names[0] in stretches:
            # A feature's row for the whole epoch, where the form has one, takes those stretches.
            apart = any(r.throughout and r.features == names for r in rows)
            for stretch in [
                s for s in stretches[names[0]]
                if not apart or row.throughout == (s[1:] == WHOLE_EPOCH)
            ]:  # fmt: skip
                value, a, b = stretch
                starts[len(out)] = a
                out.append(phrase.say(_fields(value, words, a=a, b=b)))
                stretches[names[0]].remove(stretch)
            if not stretches[names[0]]:
                del left[names[0]]
            continue
        values = {name: left[name] for name in names}
        if row.when_equal and len(set(values.values())) > 1:
            continue
        for name in names:
            del left[name]
        out.append(phrase.say(_fields(values[names[0]], words, **values)))
    if left:  # a template that leaves something out would break "equal keys, equal captions"
        raise ValueError(f"no wording in the templates for {sorted(left)}")
    in_time = [out[i] for i in sorted(starts, key=starts.get)]
    for place, text in zip(starts, in_time, strict=True):
        out[place] = text
    return out


def _fields(value, words: dict, **more) -> dict:
    word = words.get(value, "") if isinstance(value, str) else ""
    return {"v": value, "count": value or "no", "word": word, **more}
