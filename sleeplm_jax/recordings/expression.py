"""The small language of montage rows: labels, sums and differences, division by a number.

    C3-M2                a label: a minus without spaces is part of the name
    C3 - M2              a difference of two labels: operators + and - stand between spaces
    C3 - (A1 + A2)/2     brackets group; `/2` or `*0.5` scale what stands before
    [EEG Fpz-Cz]         square brackets enclose a label with spaces or round brackets
    [EOG(L)]

Every expression is linear, so it is kept as (label, factor) terms.
"""

from __future__ import annotations

import re

_TOKEN = re.compile(
    r"""\s*(?:\[(?P<quoted>[^\[\]]+)\]
        |(?P<scale>[*/]\s*[0-9]+(?:\.[0-9]+)?)
        |(?P<sign>[+-](?=\s))
        |(?P<open>\()|(?P<close>\))
        |(?P<label>[^\s\[\]()*/+]+))""",
    re.VERBOSE,
)


def parse_expression(text: str) -> tuple[tuple[str, float], ...]:
    """(label, factor) terms of a montage expression, in order of appearance.

    Raises ValueError saying what is wrong and where.
    """
    tokens, position = [], 0
    while position < len(text.rstrip()):
        match = _TOKEN.match(text, position)
        if match is None:
            raise ValueError(f"cannot read {text[position:].strip()!r} in {text!r}")
        kind = match.lastgroup
        before = text[: match.start("sign")] if kind == "sign" else ""
        if before and not before[-1].isspace():
            raise ValueError(f"put spaces on both sides of {match['sign']!r} in {text!r}")
        tokens.append((kind, match[kind]))
        position = match.end()
    terms, rest = _sum(tokens, text)
    if rest:
        raise ValueError(f"unexpected {rest[0][1]!r} in {text!r}")
    merged: dict[str, float] = {}
    for label, factor in terms:
        merged[label] = merged.get(label, 0.0) + factor
    return tuple((label, factor) for label, factor in merged.items() if factor)


def _sum(tokens, text):
    terms, rest = _product(tokens, text)
    while rest and rest[0][0] == "sign":
        sign = 1.0 if rest[0][1] == "+" else -1.0
        more, rest = _product(rest[1:], text)
        terms = terms + [(label, sign * factor) for label, factor in more]
    return terms, rest


def _product(tokens, text):
    if not tokens:
        raise ValueError(f"{text!r} ends where a label was expected")
    (kind, value), rest = tokens[0], tokens[1:]
    if kind in ("label", "quoted"):
        terms = [(value.strip(), 1.0)]
    elif kind == "open":
        terms, rest = _sum(rest, text)
        if not rest or rest[0][0] != "close":
            raise ValueError(f"a bracket is not closed in {text!r}")
        rest = rest[1:]
    else:
        raise ValueError(f"a label was expected instead of {value!r} in {text!r}")
    while rest and rest[0][0] == "scale":
        operator, number = rest[0][1][0], float(rest[0][1][1:])
        if number == 0:
            raise ValueError(f"{rest[0][1]!r} in {text!r} is not allowed")
        by = number if operator == "*" else 1.0 / number
        terms, rest = [(label, factor * by) for label, factor in terms], rest[1:]
    return terms, rest
