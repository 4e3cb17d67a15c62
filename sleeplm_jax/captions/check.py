"""Captions held against measurements: the pipeline's own, exactly; a model's, by their errors.

Both read the sentences back with parse.py, so that a number is compared as a number.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sleeplm_jax.captions.levels import LEVELS
from sleeplm_jax.captions.parse import parse
from sleeplm_jax.captions.record import (
    DECIMALS,
    SIGNED,
    SLEEPLM_INPUT,
    spoken_as,
    stated,
    validate,
)
from sleeplm_jax.captions.render import render
from sleeplm_jax.captions.wording import STYLES
from sleeplm_jax.config import CAPTION_KINDS, SignalSpec

# (feature or event kind, channel or None, value); a stretch is (value, start, end), an event's
# value (onset, end).
Fact = tuple[str, str | None, object]
STAGE, NONE_OF, MISSING, STAND_IN = "stage", "no event", "missing", "stand-in"


def facts(content: dict | None, kind: str) -> Iterator[Fact]:
    """Every single statement of what `record.stated` or `parse` gave."""
    if content is None:
        return
    if kind == "stage_event":
        if content["stage"] is not None:
            yield STAGE, None, content["stage"]
        yield from ((event, None, (a, b)) for event, a, b in content["events"])
        yield from ((NONE_OF, None, group) for group in content["none_of"])
        return
    for channel, said in content["channels"].items():
        for feature, value in said.items():
            if isinstance(value, list):
                yield from ((feature, channel, tuple(stretch)) for stretch in value)
            else:
                yield feature, channel, value
    yield from ((MISSING, channel, True) for channel in content["missing"])
    yield from ((STAND_IN, channel, True) for channel in content["stand_ins"])


@dataclass
class Line:
    """How often a feature was stated in captions of a kind, and how well it came back."""

    kind: str
    feature: str
    stated: int = 0
    agreed: int = 0
    worst: float | None = None  # greatest difference from the measurement, numbers only
    allowed: float | None = None  # half of the last digit that is said


@dataclass
class Checked:
    """What `check_captions` found; `findings` is empty where every caption came back exactly."""

    lines: list[Line]
    records: int = 0
    captions: int = 0
    findings: list[str] | None = None


def check_captions(
    records: Iterable[tuple[str, dict]], spec: SignalSpec = SLEEPLM_INPUT, seed: int = 0
) -> Checked:
    """Render every (name, record) in every style and level, read it back, and compare.

    Each caption is of the measured record as an input of `spec` shows it, and again of the whole.
    Agreement is exact: what is read is what `record.stated` gives, no more and no less; and every
    number read lies within half its last digit of the measurement itself. A finding is one line
    per kind and feature, of the first caption that differs. Raises CorpusError for a record that
    does not have the form of record.schema.json.
    """
    lines: dict[tuple[str, str], Line] = {}
    findings: dict[tuple[str, str], str] = {}
    done = Checked([], findings=[])
    variants = list(itertools.product(CAPTION_KINDS, (spec, None), (None, *LEVELS), STYLES))
    for number, (name, record) in enumerate(records):
        validate(record, name)
        done.records += 1
        rng = np.random.default_rng([seed, number])
        measured = _measured(record)
        for kind, shown, level, style in variants:
            caption = render(record, kind, rng, style, shown, level)
            if caption is None:
                continue
            done.captions += 1
            wanted = Counter(facts(stated(record, kind, shown, level), kind))
            found = parse(caption)
            got = Counter(facts(found[kind], kind))
            wrong = {(f, "is lost") for f in wanted - got} | {(f, "is added") for f in got - wanted}
            for fact, count in wanted.items():
                line = lines.setdefault((kind, fact[0]), Line(kind, fact[0]))
                line.stated += count
                line.agreed += min(count, got[fact])
                if fact in got and not _near(line, fact, measured):
                    wrong.add((fact, "is not what was measured"))
            if found.unread or set(found.contents) - {kind}:
                wrong.add((("(sentence)", None, None), f"cannot be read: {found.unread}"))
            for (feature, channel, value), what in sorted(wrong, key=str):
                where = f"{kind} {feature}" + (f" of {channel}" if channel else "")
                findings.setdefault(
                    (kind, feature), f"{name}: {where} {value!r} {what} in {caption!r}"
                )
    done.lines = [lines[key] for key in sorted(lines)]
    done.findings = list(findings.values())
    return done


def _measured(record: dict) -> dict[tuple[str, str], list[tuple]]:
    """{(feature, channel) as stated: [(value, start, end) as measured]}."""
    out: dict[tuple[str, str], list[tuple]] = {}
    for m in record["measurements"]:
        feature, value = m["feature"], m["value"]
        if feature in SIGNED:
            feature, value = SIGNED[feature][value > 0], abs(value)
        out.setdefault((feature, spoken_as(m["channel"])), []).append((value, *m["interval"]))
    for event in record["events"]:
        out.setdefault((event["kind"], None), []).append((event["onset"], event["end"]))
    return out


_UNSIGNED = {said: feature for feature, pair in SIGNED.items() for said in pair}


def _near(line: Line, fact: Fact, measured: dict) -> bool:
    """Whether the numbers of a fact are those of one measurement, to the digits that are said."""
    feature, channel, value = fact
    if (feature, channel) not in measured or isinstance(value, str):
        return True  # a stage, a channel, a word of the semantic level
    decimals = DECIMALS.get(_UNSIGNED.get(feature, feature))
    if not isinstance(value, tuple):
        said, allowed = (value,), (decimals,)
    elif channel is None:
        said, allowed = value, (1, 1)  # an event's times
    else:
        said, allowed = value, (decimals, 0, 0)
    allowed = [None if d is None else 0.5 * 10.0 ** -d for d in allowed]
    offs = []
    for candidate in measured[feature, channel]:
        pairs = list(zip(said, candidate, allowed))
        if any(isinstance(s, str) and s != m for s, m, _ in pairs):
            continue
        offs.append([(abs(s - m), a) for s, m, a in pairs if not isinstance(s, str)])
    if not offs:
        return False
    best = min(offs, key=lambda off: max(d for d, _ in off))
    if best[0][1] is not None and decimals is not None:
        line.worst = max(line.worst or 0.0, best[0][0])
        line.allowed = best[0][1]
    return all(d <= a + 1e-9 for d, a in best)


# ---- A model's captions


def grade(
    texts: Sequence[str],
    records: Sequence[dict],
    kind: str,
    spec: SignalSpec | None = SLEEPLM_INPUT,
    level: str | None = None,
) -> dict:
    """How far generated captions of a kind state what was measured; JSON-able.

    texts and records: one pair an epoch. Compared with `record.stated(record, kind, spec, level)`.
    {"n", "unread": share of texts that hold words which say nothing that captions say, "features":
    {feature: {"n": measured values, "stated": share of them that the text gives a value for,
    "invented": share of the text's values for which there is none, "mae": mean absolute error,
    "time_mae": the same of starts and ends in s; of words "agreement": share that is right}}}.
    stage_event besides: "stage": {"n", "stated", "agreement"}, a stage not stated being wrong, and
    "events": {"n", "exact": share of texts whose events have exactly the record's kinds and times,
    "kinds": share that names exactly the record's kinds}. A share or mean of nothing is None.
    Values of one channel and feature are paired in order of time. Raises ValueError where texts
    and records differ in number.
    """
    if len(texts) != len(records):
        raise ValueError(f"{len(texts)} texts for {len(records)} records")
    pairs: dict[str, _Pairs] = {}
    stages: list[tuple] = []
    exact, kinds, unread = [], [], []
    for text, record in zip(texts, records):
        found, wanted = parse(text), stated(record, kind, spec, level)
        unread.append(bool(found.unread))
        got = found[kind]
        for feature, channel_pairs in _paired(wanted, got, kind).items():
            pairs.setdefault(feature, _Pairs()).add(channel_pairs)
        if kind == "stage_event":
            wanted_events = wanted["events"] if wanted else []
            got_events = got["events"] if got else []
            stages.append((wanted and wanted["stage"], got and got["stage"]))
            exact.append(got_events == wanted_events)
            kinds.append(sorted(e[0] for e in got_events) == sorted(e[0] for e in wanted_events))
    result = {
        "n": len(texts),
        "unread": _mean(unread),
        "features": {feature: pairs[feature].result() for feature in sorted(pairs)},
    }
    if kind == "stage_event":
        scored = [pair for pair in stages if pair[0] is not None]
        result["stage"] = {
            "n": len(scored),
            "stated": _mean([said is not None for _, said in scored]),
            "agreement": _mean([true == said for true, said in scored]),
        }
        result["events"] = {"n": len(texts), "exact": _mean(exact), "kinds": _mean(kinds)}
    return result


class _Pairs:
    """Values measured and values said of one feature."""

    def __init__(self):
        self.true, self.said, self.both = 0, 0, 0
        self.errors: list[float] = []
        self.times: list[float] = []
        self.right: list[bool] = []

    def add(self, found: list[tuple]) -> None:
        for true, said in found:
            self.true += true is not None
            self.said += said is not None
            if true is None or said is None:
                continue
            self.both += 1
            # A value, a value with times, or an event's times alone.
            true, said = (v if isinstance(v, tuple) else (v,) for v in (true, said))
            values, times = (slice(0, 1), slice(1, None)) if len(true) != 2 else (
                slice(0), slice(0, None))
            for a, b in zip(true[values], said[values]):
                if isinstance(a, str) or isinstance(b, str):
                    self.right.append(a == b)
                else:
                    self.errors.append(abs(a - b))
            self.times += [abs(a - b) for a, b in zip(true[times], said[times])]

    def result(self) -> dict:
        out = {
            "n": self.true,
            "stated": self.both / self.true if self.true else None,
            "said": self.said,
            "invented": 1 - self.both / self.said if self.said else None,
        }
        for name, found in (("mae", self.errors), ("time_mae", self.times),
                            ("agreement", self.right)):
            if found:
                out[name] = _mean(found)
        return out


def _paired(wanted: dict | None, got: dict | None, kind: str) -> dict[str, list[tuple]]:
    """{feature: [(measured or None, said or None)]}, stage and stand-ins left out."""
    table: dict[tuple, tuple[list, list]] = {}
    for side, content in enumerate((wanted, got)):
        for feature, channel, value in facts(content, kind):
            if feature in (STAGE, STAND_IN):
                continue
            # What is said to be missing or absent is true or not; a value of it would say nothing.
            key = (feature, channel, value if feature == NONE_OF else None)
            table.setdefault(key, ([], []))[side].append(value)
    out: dict[str, list[tuple]] = {}
    for (feature, *_), (true, said) in table.items():
        timed = [v for v in true + said if isinstance(v, tuple)]
        if timed:
            true.sort(key=lambda v: v[-2:])
            said.sort(key=lambda v: v[-2:])
        out.setdefault(feature, []).extend(itertools.zip_longest(true, said))
    for feature in (MISSING, NONE_OF):
        if feature in out:
            out[feature] = [tuple(v and ("yes",) for v in pair) for pair in out[feature]]
    return out


def _mean(values: Sequence) -> float | None:
    return float(np.mean(values)) if len(values) else None
