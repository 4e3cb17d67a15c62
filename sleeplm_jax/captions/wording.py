"""The wordings of captions: templates*.yaml compiled into tables that render.py and parse.py share.

Everything about a feature's words is a row of those files; nothing here knows a feature by name.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

import yaml

STYLES = {"default": "templates.yaml", "sleeplm": "templates_sleeplm.yaml"}
WHOLE_EPOCH = [0, 30]
THROUGHOUT = "@throughout"
LABEL = "label"  # the form that has a phrase for everything
_PLURAL = re.compile(r"\{([^{}|]*)\|([^{}|]*)\}")
_SPOKEN_LETTER = re.compile(r"[AEFHILMNORSX]\d")  # "an N2": read as the letter's name


@functools.cache
def templates(style: str = "default") -> dict:
    """The rows of a style; sections that its file leaves out are those of the default style.

    Read once, to be left unchanged.
    """
    text = resources.files(__package__).joinpath(STYLES[style]).read_text("utf-8")
    rows = yaml.safe_load(text)
    return rows if style == "default" else templates() | rows


def upper_first(text: str) -> str:
    return text[:1].upper() + text[1:]


def with_article(noun: str) -> str:
    """`noun` with a or an, by its first letter: no noun of the templates is an exception."""
    an = noun[0].lower() in "aeiou" or _SPOKEN_LETTER.match(noun)
    return f"{'an' if an else 'a'} {noun}"


def joined(items: Sequence[str], last: str = " and ", between: str = ", ") -> str:
    """English enumeration: "a", "a and b", "a, b and c"."""
    if len(items) < 2:
        return "".join(items)
    return f"{between.join(items[:-1])}{last}{items[-1]}"


@dataclass(frozen=True)
class Phrase:
    """What is said of one row: a wording for one thing and one for several of it."""

    text: str

    @functools.cached_property
    def _forms(self) -> tuple[str, str]:
        return _PLURAL.sub(r"\1", self.text), _PLURAL.sub(r"\2", self.text)

    def say(self, fields: Mapping) -> str:
        """The phrase with its fields filled in; `fields["v"]` decides between one and several."""
        one, many = self._forms
        return (one if fields["v"] == 1 else many).format_map(fields)

    def variants(self) -> tuple[str, ...]:
        """Its wordings before fields are filled in."""
        return tuple(dict.fromkeys(self._forms))


@dataclass(frozen=True)
class Row:
    """A row of a form: the features it says together, or one feature's word, and its phrases."""

    key: str
    phrases: tuple[Phrase, ...]

    @functools.cached_property
    def features(self) -> tuple[str, ...]:
        bare = self.key.removesuffix(THROUGHOUT).partition(":")[0]
        return tuple(bare.replace("=", "+").split("+"))

    @functools.cached_property
    def word(self) -> str | None:
        """The word that a `feature:word` row is about."""
        return self.key.partition(":")[2] or None

    @property
    def when_equal(self) -> bool:
        return "=" in self.key

    @property
    def throughout(self) -> bool:
        return self.key.endswith(THROUGHOUT)

    @functools.cached_property
    def timed(self) -> bool:
        """Whether it speaks of an interval."""
        return self.throughout or "{a}" in self.phrases[0].text


@dataclass(frozen=True)
class Group:
    """The frames and rows of a group of channels in one style."""

    name: str
    channels: tuple[str, ...]
    frames: tuple[tuple[str, str], ...]  # (form, sentence)
    rows: Mapping[str, tuple[Row, ...]]  # form -> rows, in the order of saying

    def covering(self, keys: Iterable[str], named: bool) -> tuple[tuple[str, str], ...]:
        """The frames whose form has a phrase for each of `keys`; with `named`, that name a channel.

        Raises ValueError where there is none: what is stated must be said.
        """
        keys = set(keys)
        able = {
            form for form, rows in self.rows.items()
            if all(k in (have := {r.key for r in rows}) or k.removesuffix(THROUGHOUT) in have
                   for k in keys)
        }  # fmt: skip
        found = tuple(
            (form, text) for form, text in self.frames
            if form in able and ("{name}" in text or "{Name}" in text or not named)
        )  # fmt: skip
        if not found:
            raise ValueError(f"no form of {self.name} in the templates has {sorted(keys)}")
        return found


@functools.cache
def groups(style: str = "default") -> dict[str, Group]:
    """{channel as spoken of: its group}."""
    out = {}
    for name, rows in templates(style)["groups"].items():
        forms = {form: [] for form in rows["frames"]}
        for key, phrases in rows["features"].items():
            for form, texts in phrases.items():
                forms[form].append(Row(key, tuple(Phrase(text) for text in texts)))
        frames = tuple((form, text) for form, texts in rows["frames"].items() for text in texts)
        made = Group(name, tuple(rows["channels"]), frames,
                     {form: tuple(rows) for form, rows in forms.items()})
        out |= dict.fromkeys(made.channels, made)
    return out
