"""What sentences and phrases mean: tables made of the templates, for parse.py.

Every phrase of templates*.yaml is enumerated with "#" for its numbers, so that reading one is a
look-up and a new row is read without new code. Two rows that say the same words and mean different
things are found here: `load` raises, and names them.

Words are compared in lower case with "an" as "a"; numbers stand alone ("39", not the 3 of "C3").
"""

from __future__ import annotations

import functools
import itertools
import re
import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from sleeplm_jax.captions.levels import WORDS
from sleeplm_jax.captions.render import event_sentence, quiet_sentence, stage_sentence
from sleeplm_jax.captions.wording import STYLES, WHOLE_EPOCH, Row, groups, templates

NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w]|\.\d)")
_SPACES, _BEFORE_POINT, _AN = re.compile(r"\s+"), re.compile(r" ([,.%;:])"), re.compile(r"\ban\b")
GAP = "\0"  # where items stand in a frame
MISSING = "missing"  # the group of sentences about channels without a signal


def normal(text: str) -> str:
    """`text` as it is compared."""
    return _AN.sub("a", _BEFORE_POINT.sub(r"\1", _SPACES.sub(" ", text.strip())).lower())


def number(text: str) -> int | float:
    return float(text) if "." in text else int(text)


@dataclass(frozen=True)
class Reading:
    """What a phrase says of `features`: `slots` name its numbers in their order."""

    features: tuple[str, ...]
    slots: tuple[str, ...]
    fixed: tuple[tuple[str, object], ...] = ()  # fields that the words themselves give
    timed: bool = False

    def values(self, numbers: list) -> dict[str, object]:
        """{feature: value}, a timed one's as [value, start, end]."""
        got = dict(self.fixed) | dict(zip(self.slots, numbers, strict=True))
        if self.timed:
            a, b = (got[x] if x in got else whole for x, whole in zip("ab", WHOLE_EPOCH))
            return {self.features[0]: [got["v"], a, b]}
        return {name: got[name] if name in got else got["v"] for name in self.features}


@dataclass(frozen=True)
class Frame:
    """A sentence's words around its items: whose it is, and the group its items belong to."""

    group: str
    suffix: str
    channel: str | None  # as spoken of; None: of channels that the items name
    stand_in: bool = False


@dataclass
class Grammar:
    """Tables of all styles; keys are `normal` text with "#" for numbers."""

    sentences: dict[str, tuple] = field(default_factory=dict)  # stage, event and none
    frames: dict[str, list[Frame]] = field(default_factory=dict)  # by the text before the items
    items: dict[str, dict[str, Reading]] = field(default_factory=dict)  # group -> phrase -> meaning
    channels: dict[str, str] = field(default_factory=dict)  # name -> channel, for lists of them
    lengths: tuple[int, ...] = ()
    splitter: re.Pattern = re.compile("")
    conflicts: list[str] = field(default_factory=list)

    def _meaning(self, table: dict, key: str, meaning, where: str) -> None:
        if table.setdefault(key, meaning) != meaning:
            self.conflicts.append(f"{where}: {key!r} is {table[key]} and {meaning}")


def masked(text: str) -> tuple[str, list]:
    """(text with "#" for every number, the numbers)."""
    found = NUMBER.findall(text)
    return (NUMBER.sub("#", text) if found else text), [number(n) for n in found]


def _fields(text: str) -> list[str]:
    return [name for _, name, _, _ in string.Formatter().parse(text) if name]


def _phrases(row: Row, words: Mapping[str, str]) -> Iterator[tuple[str, Reading]]:
    """Every (key, reading) of a row's phrases: words and "no" spelled out, numbers as "#"."""
    for text in (text for phrase in row.phrases for text in phrase.variants()):
        choices = []
        for name in dict.fromkeys(_fields(text)):
            if name == "word":
                choices.append([(name, spoken, ("v", code)) for code, spoken in words.items()])
            elif name == "count":
                choices.append([(name, "#", None), (name, "no", ("v", 0))])
            else:
                choices.append([(name, "#", None)])
        for chosen in itertools.product(*choices):
            said = {name: spoken for name, spoken, _ in chosen}
            fixed = [known for _, _, known in chosen if known]
            if row.word is not None:
                fixed.append(("v", row.word))
            slots = tuple(
                "v" if name == "count" else name for name in _fields(text) if said[name] == "#"
            )
            reading = Reading(row.features, slots, tuple(fixed), row.timed)
            yield normal(text.format_map(said)), reading


def _add_style(grammar: Grammar, style: str) -> None:
    t = templates(style)
    for where, stage in (("stage", t["stage"]), ("stage.held_out", t["stage"].get("held_out"))):
        for text, code in itertools.product(
            stage["texts"] if stage else (), stage["names"] if stage else ()
        ):
            for name in stage["names"][code]:
                key = normal(stage_sentence(text, name))
                grammar._meaning(grammar.sentences, key, ("stage", code), f"{style} {where}")
    for text, (kind, noun) in itertools.product(t["event"]["texts"], t["event"]["names"].items()):
        order = tuple(name for name in _fields(text) if name in ("a", "b"))
        key = normal(event_sentence(text, noun, "#", "#"))
        grammar._meaning(grammar.sentences, key, ("event", kind, order), f"{style} event")
    quiet = t["no_events"]
    for text in quiet["texts"]:
        for count in range(1, len(quiet["singular"]) + 1):
            for none_of in itertools.permutations(quiet["singular"], count):
                key = normal(quiet_sentence(text, none_of, quiet))
                meaning = ("none", tuple(sorted(none_of)))
                grammar._meaning(grammar.sentences, key, meaning, f"{style} no_events")
    for channel, names in t["names"].items():
        for name in names:
            grammar._meaning(grammar.channels, normal(name), channel, f"{style} names")
    for text in (*t["missing"]["one"], *t["missing"]["many"]):
        _add_frame(grammar, text.format(names=GAP, Names=GAP), Frame(MISSING, "", None))
    for channel, group in groups(style).items():
        spoken = [(name, False) for name in t["names"][channel]]
        spoken += [(t["stand_in"].format(name=name), True) for name, _ in spoken]
        for _, text in group.frames:
            nameless = "{name}" not in text and "{Name}" not in text
            for name, stand_in in [("", False)] if nameless else spoken:
                text_said = text.format(name=name, Name=name, items=GAP)
                _add_frame(grammar, text_said, Frame(group.name, "", channel, stand_in))
        table = grammar.items.setdefault(group.name, {})
        for rows in group.rows.values():
            for row in rows:
                for key, reading in _phrases(row, t["words"]):
                    grammar._meaning(table, key, reading, f"{style} {group.name}")


def _add_frame(grammar: Grammar, text: str, frame: Frame) -> None:
    # Around the gap, not stripped: "a: " and "a " differ.
    before, _, after = _AN.sub("a", text.lower()).partition(GAP)
    found = Frame(frame.group, after, frame.channel, frame.stand_in)
    frames = grammar.frames.setdefault(before, [])
    for other in frames:
        if other.suffix == after and other.group == found.group and other != found:
            grammar.conflicts.append(f"frame {before!r}...{after!r}: {other} and {found}")
    if found not in frames:
        frames.append(found)


def _frame_conflicts(grammar: Grammar) -> Iterator[str]:
    """Frames of which one's first words are the other's beginning, where an item makes them equal.

    Checked on the first item only: it decides, since everything before it differs.
    """
    tables = grammar.items | {MISSING: grammar.channels}
    for long in grammar.frames:
        for length in range(len(long)):
            short = long[:length]
            if short not in grammar.frames:
                continue
            rest = long[length:]
            for a, b in itertools.product(grammar.frames[short], grammar.frames[long]):
                if a.suffix != b.suffix:
                    continue
                mine, other = tables[a.group], tables[b.group]
                same_channel = (a.channel, a.stand_in) == (b.channel, b.stand_in)
                for key, meaning in other.items():
                    found = mine.get(rest + key)
                    if found is not None and not (same_channel and found == meaning):
                        yield f"frames {short!r} and {long!r} both begin {long + key!r}"


def _unsaid(grammar: Grammar, style: str) -> Iterator[str]:
    """Rows that the label form of a group lacks, and phrases that cannot be split from others."""
    for group in dict.fromkeys(g.name for g in groups(style).values()):
        made = next(g for g in groups(style).values() if g.name == group)
        rows = {form: {r.key for r in made.rows[form]} for form in made.rows}
        words = {key for form in rows for key in rows[form] if ":" in key}
        single = {f for form in made.rows for r in made.rows[form] if r.word is None
                  for f in r.features}  # fmt: skip
        label = {key.partition("@")[0] for key in rows.get("label", ())}
        for feature in sorted(single - label):
            yield f"{style} {group}: {feature} has no phrase of form label"
        for feature in sorted(single & set(WORDS)):
            for word in {w for _, w in WORDS[feature] if w} - {w.partition(":")[2] for w in words
                                                               if w.startswith(f"{feature}:")}:
                yield f"{style} {group}: {feature}:{word} has no phrase"
    for group, table in grammar.items.items():
        for key in table:
            if len(grammar.splitter.split(key)) > 1:
                yield f"{group}: {key!r} holds what separates phrases"


@functools.cache
def load() -> Grammar:
    """The grammar of all styles. Raises ValueError naming rows that can be read in two ways."""
    return compiled()


def compiled() -> Grammar:
    """`load`, made anew from the templates as they are."""
    grammar = Grammar()
    joins = {" and "}
    for style in STYLES:
        _add_style(grammar, style)
        joins |= {*templates(style)["joins"]["between"], *templates(style)["joins"]["last"]}
    grammar.lengths = tuple(sorted({len(before) for before in grammar.frames}, reverse=True))
    grammar.splitter = re.compile("|".join(map(re.escape, sorted(joins, key=len, reverse=True))))
    grammar.conflicts += _frame_conflicts(grammar)
    for style in STYLES:
        grammar.conflicts += _unsaid(grammar, style)
    if grammar.conflicts:
        found = "; ".join(dict.fromkeys(grammar.conflicts))
        raise ValueError(f"captions cannot be read back: {found}")
    return grammar
