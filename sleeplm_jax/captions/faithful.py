"""Whether a rewritten caption still says what the template sentence says: numbers, units, words.

Compared are the numbers with their units (as multisets: none lost, none new), number words, the
vocabulary of stages, events, channels, positions and features, what is denied, and which number
stands with which word of a channel. The check errs on the side of refusing: a refused answer costs
a wording, an accepted wrong one a false label.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from decimal import Decimal

from sleeplm_jax.captions.wording import STYLES, templates

# Spelled-out quantities: a rewriting that brings or drops one changes a number.
NUMBER_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety "
    "hundred thousand half halves quarter quarters third thirds fifth twice thrice double doubled "
    "triple tripled dozen pair couple several few many most majority nearly almost about "
    "approximately around roughly exceeding elevated reduced high low normal abnormal severe mild "
    "moderate"
).split()
# What a rewriting may be made of, besides the words of its original and of the templates' frames.
# All other words are refused: a finding that nobody made ("restless", "fibrillation") is one.
PLAIN_WORDS = frozenset((
    "a an the this that these those it its they their there here he she his her which who whose "
    "is are was were be been being has have had do does did can could may will would "
    "and or but nor while whereas with without as at by for from in into of on onto out over "
    "per through throughout to until up down within between during across among along after "
    "before then when where than both each either neither all any every some other another only "
    "also again still not no none never too so plus together "
    "first next last later earlier same different respective respectively "
    "epoch segment period window interval recording signal signals trace traces channel channels "
    "lead leads electrode electrodes sensor patient sleeper person subject sleep asleep sleeping "
    "stage staged staging stages scored scoring scorer score event events marked marks mark noted "
    "note notes seen see sees shown show shows showing found find finds present presents observed "
    "observe recorded records record reported reports report detected detects measured measures "
    "measure registered registers registered indicates indicating indicate corresponds "
    "corresponding reads read gives give given giving holds hold holding contains contain "
    "containing includes including include exhibits exhibit displays display reveals reveal "
    "has having reaches reaching reach ranges ranging range spans spanning span lasts lasting last "
    "begins beginning begin began starts starting start ends ending end ended occurs occurring "
    "occur occurred lies lying lie stays staying stay remains remaining remain runs running run "
    "takes taking take makes making make comes coming come stands standing stand sits counted "
    "counts count value values rate power share activity band bands level measurement measurements "
    "breath breaths breathing beats beat cardiac heart respiratory respiration oxygen saturation "
    "eeg eye eyes muscle body "
    "time times part whole entire side back free absent absence usual usually"
).split())
_UNITS = {
    "%": ("%", "percent", "per cent"),
    "bpm": ("bpm", "beats per minute", "beats/min", "beats a minute"),
    "/min": ("breaths/min", "breath/min", "breath per minute", "breath a minute",
              "breaths per minute", "breaths a minute", "/min", "per minute"),
    "/h": ("/h", "/hour", "per hour", "an hour"),
    "ms": ("ms", "milliseconds", "millisecond"),
    "s": ("s", "sec", "secs", "second", "seconds"),
    "min": ("min", "mins", "minute", "minutes"),
    "h": ("h", "hour", "hours"),
    "Hz": ("hz", "hertz"),
    "µV": ("µv", "μv", "uv", "microvolt", "microvolts"),
    "degrees": ("degrees", "degree", "°"),
    "points": ("points", "percentage points"),
}
_NUMBER = r"(?<![\w.])[-−]?\d+(?:[.,]\d+)*"
_NAME = re.compile(  # digits in here are part of a name
    r"\b(?:N[123]|[CFO]z?[1-4z]|[CFOA][1-4]-[AM][12]|[AME][12]|SpO2|O2)\b|SpO₂", re.IGNORECASE
)
_NO_QUANTITY = re.compile(r"\bhalf[- ]minute\b", re.IGNORECASE)
# Words that a rewriting may exchange for one another; each stands for one meaning. What is not
# here and not in templates.yaml is free.
_TERMS: dict[str, tuple[str, ...]] = {
    "W": ("wake", "wakefulness", "awake", "waking", "stage w"),
    "N1": ("n1", "light sleep"), "N2": ("n2",),
    "N3": ("n3", "deep sleep", "slow-wave sleep", "slow wave sleep"),
    "R": ("rem", "rem sleep", "stage r", "rapid eye movement sleep"),
    "obstructive apnoea": ("obstructive apnoea", "obstructive apnea"),
    "central apnoea": ("central apnoea", "central apnea"),
    "mixed apnoea": ("mixed apnoea", "mixed apnea"),
    "apnoea": ("apnoea", "apnea"),
    "hypopnoea": ("hypopnoea", "hypopnea"),
    "rera": ("respiratory effort-related arousal", "respiratory effort related arousal", "rera"),
    "desaturation": ("oxygen desaturation", "desaturation"),
    "arousal": ("arousal",),
    "respiratory event": ("respiratory event",),
    "periodic limb movement": ("periodic limb movement", "periodic leg movement"),
    "limb movement": ("limb movement", "leg movement"),
    "artefact": ("artefact", "artifact"),
    "unclassified event": ("unclassified event",),
    "usable": ("usable", "unusable", "unavailable", "available"),
    "left EOG": ("left eog", "left eye movement"), "right EOG": ("right eog", "right eye movement"),
    "EOG": ("eye movements", "both eogs", "the two eogs", "two eogs", "eog"),
    "heart rate": ("heart rate", "cardiac rate"),
    "SpO2": ("spo2", "spo₂", "oxygen saturation", "blood oxygen"),
    "thorax": ("thoracic effort", "chest belt", "thorax", "thoracic", "chest"),
    "abdomen": ("abdominal effort", "abdominal belt", "abdomen", "abdominal"),
    "belts": ("chest against abdomen", "the two belts", "two belts", "both belts", "belt"),
    "airflow": ("airflow", "air flow"),
    "chin EMG": ("chin emg", "submental emg", "chin muscle activity", "emg"), "ECG": ("ecg", "ekg"),
    "position": ("body position",), "stand-in": ("stand-in", "stand in"),
    "right side": ("on the right side", "right side", "lying right"),
    "left side": ("on the left side", "left side", "lying left"),
    "supine": ("supine", "on the back"), "prone": ("prone",), "upright": ("upright",),
    "delta": ("delta",), "theta": ("theta",), "alpha": ("alpha",), "sigma": ("sigma",),
    "beta": ("beta",), "slow": ("slow",), "rapid": ("rapid",), "RMSSD": ("rmssd",),
    "mean": ("mean", "averages", "average", "averaging", "averaged"),
    "minimum": ("minimum", "lowest", "goes down to"),
    "maximum": ("maximum", "highest", "goes up to"),
    "rise": ("rises", "rise", "rising", "climbs", "increases", "increase", "increasing",
             "speeds up"),
    "fall": ("falls", "fall", "falling", "drops", "drop", "decreases", "decrease", "decreasing",
             "slows by", "slows down"),
    "tone": ("tone",), "median frequency": ("median frequency",), "burst ratio": ("burst ratio",),
    "amplitude": ("amplitude",), "variability": ("variability", "varying"), "usual": ("usual",),
    "spindle": ("sleep spindle", "spindle"), "K-complex": ("k-complex", "k complex"),
    "slow wave": ("slow wave",), "sawtooth wave": ("sawtooth wave", "sawtooth"),
    "vertex wave": ("vertex sharp wave", "vertex wave"), "blink": ("eye blink", "blink"),
    "rapid eye movement": ("rapid eye movement", "rapid movements"),
    "slow eye movement": ("slow eye movement", "slow movements"),
    "paradox": ("paradoxical breathing", "thoracoabdominal paradox", "paradox", "paradoxical"),
    "flatness": ("flow flatness", "flatness", "flattening"), "snoring": ("snoring", "snore"),
    "C3": ("c3",), "C4": ("c4",), "F3": ("f3",), "F4": ("f4",), "O1": ("o1",), "O2": ("o2",),
}  # fmt: skip
_STAGES = ("W", "N1", "N2", "N3", "R")
_EVENTS = (
    "obstructive apnoea", "central apnoea", "mixed apnoea", "apnoea", "hypopnoea", "rera",
    "desaturation", "arousal", "respiratory event", "periodic limb movement", "limb movement",
    "artefact", "unclassified event",
)  # fmt: skip
_CHANNELS = (
    "C3", "C4", "F3", "F4", "O1", "O2", "left EOG", "right EOG", "EOG", "heart rate", "SpO2",
    "thorax", "abdomen", "belts", "airflow", "chin EMG", "ECG", "position",
)  # fmt: skip
_POSITIONS = ("right side", "left side", "supine", "prone", "upright")
# What a number may stand with.
_FEATURES = (
    "delta", "theta", "alpha", "sigma", "beta", "slow", "rapid", "RMSSD", "mean", "minimum",
    "maximum", "rise", "fall", "tone", "median frequency", "burst ratio", "amplitude",
    "variability", "spindle", "K-complex", "slow wave", "sawtooth wave", "vertex wave", "blink",
    "rapid eye movement", "slow eye movement", "paradox", "flatness", "snoring",
)  # fmt: skip
_NEGATION = re.compile(
    r"\b(?:no|not|without|free of|absent|absence of|none|neither|nor|never|cannot|lacks?|lacking|"
    r"devoid of|unusable|unavailable)\b|n't\b", re.IGNORECASE
)
_UP, _DOWN = (  # "up 5 bpm", and not "makes up 86%"
    re.compile(rf"(?<!makes )(?<!make )\b{word}(?= (?:by )?\d)", re.IGNORECASE)
    for word in ("up", "down")
)
_SENTENCE = re.compile(r"(?<=[.!?;])\s+")
_BETWEEN = re.compile(r"\bbetween (\d[\d.]*)(?: s)? and (\d[\d.]*)", re.IGNORECASE)
_RANGE = re.compile(r"(\d+(?:\.\d+)?)(?: ?[a-z]+)? ?(?:to|and|-|–) ?(\d+(?:\.\d+)?)\b")
_PART = re.compile(
    r";|\bbut\b|\bwhile\b|\bwith\b|(?=\bwithout\b)|, and\b|\band (?=shows|has|is|are|there|no\b)",
    re.IGNORECASE,
)
_CLAUSE = re.compile(
    r",(?! (?:over by|until|to|ending)\b)|;|:(?=\s\d)|\band\b|\bwhile\b|\bbut\b|\bwith\b|"
    r"(?=\bwithout\b)",
    re.IGNORECASE,
)


@functools.cache
def _term_pattern() -> tuple[re.Pattern, dict[str, str]]:
    """A pattern of all spellings, the longest first, and what each stands for."""
    meaning = {}
    for term, spellings in _TERMS.items():
        for spelling in spellings:
            meaning[spelling] = term
    longest = sorted(meaning, key=len, reverse=True)
    joined = "|".join(re.escape(spelling) for spelling in longest)
    return re.compile(rf"(?<!\w)({joined})(?:s|es)?(?!\w)", re.IGNORECASE), meaning


def terms(text: str) -> list[str]:
    """The words of the vocabulary in a text, in order, each by its meaning."""
    found, meaning = _term_pattern()
    text = _DOWN.sub("falls", _UP.sub("rises", text.replace("speeds up", "rises")))
    return [meaning[match[1].lower()] for match in found.finditer(text)]


@functools.cache
def _unit_pattern() -> tuple[re.Pattern, dict[str, str]]:
    meaning = {spelling: unit for unit, all_ in _UNITS.items() for spelling in all_}
    longest = sorted(meaning, key=len, reverse=True)
    joined = "|".join(re.escape(spelling) for spelling in longest)
    chain = rf"(?:\s*(?:to|and|or|-|–|—)\s*{_NUMBER}\s*)?"
    pattern = rf"({_NUMBER})(?={chain}\s*({joined})(?![\w]))?"
    return re.compile(pattern, re.IGNORECASE), meaning


def quantities(text: str) -> list[tuple[Decimal, str | None]]:
    """The numbers of a text with their units, in order; digits of names (N2, C3) are none.

    In "0.8 to 30.0 s" both numbers are seconds.
    """
    found, meaning = _unit_pattern()
    bare = _NAME.sub(lambda match: " " * len(match[0]), text)
    out = []
    for match in found.finditer(bare):
        value = Decimal(match[1].replace("−", "-").replace(",", ".").rstrip("."))
        out.append((value, meaning[match[2].lower()] if match[2] else None))
    return out


def differences(original: str, rewritten: str) -> list[str]:
    """What the rewritten text loses, invents or confuses, one line each; empty: it is faithful."""
    out = []
    try:
        before, after = quantities(original), quantities(rewritten)
    except ArithmeticError:  # "1.2.3": no number at all
        return ["a number that cannot be read"]
    a, b = Counter(value for value, _ in before), Counter(value for value, _ in after)
    out += [f"number {n} lost" for n in (a - b)] + [f"number {n} invented" for n in (b - a)]
    if not out:
        out += _unit_differences(before, after)
    words = [
        Counter(re.findall(r"[a-z]+", _without_terms(text).lower()))
        for text in (original, rewritten)
    ]
    out += [f"word of quantity {w!r} invented" for w in NUMBER_WORDS if words[1][w] > words[0][w]]
    new = words[1].keys() - words[0].keys() - PLAIN_WORDS - _frame_words()
    out += [f"word {w!r} is none of a caption's" for w in sorted(new) if len(w) > 1]
    out += [
        "a sentence without anything of the original"
        for sentence in _sentences(rewritten) if not (quantities(sentence) or terms(sentence))
    ]
    found = Counter(terms(original)), Counter(terms(rewritten))
    for term in sorted({*found[0], *found[1]}):
        repeatable = term in _STAGES or term in _CHANNELS or term in ("usual", "stand-in", "usable")
        one, two = found[0][term], found[1][term]
        if term == "position" and found[0].keys() & set(_POSITIONS):
            continue  # "supine" says that it is one
        if repeatable:  # a name may be said again, or once for all
            one, two = bool(one), bool(two)
        if one != two:
            out.append(f"{term!r} {'lost' if two < one else 'invented'}")
    if not out:
        out += [f"{term!r} denied or no longer" for term in _denied(original) ^ _denied(rewritten)]
    if not out:
        out += _confused(original, rewritten)
    return out


@functools.cache
def _frame_words() -> frozenset[str]:
    """Words of the templates' sentences, without those that stand for a measured value."""
    texts: list[str] = []
    for style in STYLES:
        t = templates(style)
        texts += [*t["stage"]["texts"], *t["event"]["texts"], *t["no_events"]["texts"]]
        texts += [text for group in t["missing"].values() for text in group]
        for group in t["groups"].values():
            texts += [text for frames in group["frames"].values() for text in frames]
            for forms in group["features"].values():  # `described` are words for values
                texts += [x for form, some in forms.items() if form != "described" for x in some]
    texts += [name for names in (*_UNITS.values(), *_TERMS.values()) for name in names]
    plain = (re.sub(r"\{.*?\}", " ", text).lower() for text in texts)
    return frozenset(word for text in plain for word in re.findall(r"[a-z]+", text))


def _without_terms(text: str) -> str:
    return _term_pattern()[0].sub(" ", _NO_QUANTITY.sub(" ", text))


def _unit_differences(before: list, after: list) -> list[str]:
    """A number keeps its unit; one without may take a unit of the original, as of its neighbour."""
    said = {unit for _, unit in before if unit}
    left = Counter(before)
    loose = []
    for quantity in after:
        if left[quantity] > 0:
            left[quantity] -= 1
        else:
            loose.append(quantity)
    for value, unit in loose:
        bare = (value, None)
        if unit in said and left[bare] > 0:
            left[bare] -= 1
        else:
            return [f"unit of {value} is {unit or 'lost'}"]
    return []


def _sentences(text: str) -> list[str]:
    return _SENTENCE.split(text)


def _denied(text: str) -> set[str]:
    """The stages, events and channels of denied clauses, and "usable".

    Where a sentence holds numbers each clause stands for itself; in one without, a denial reaches
    as far as the next "with", "but" or new verb: "C3 and C4 give no usable signal".
    """
    out: set[str] = set()
    for sentence in _sentences(text):
        numbers = bool(quantities(sentence))
        for clause in (_CLAUSE if numbers else _PART).split(sentence):
            if _NEGATION.search(clause):
                found = terms(clause)
                out.update(t for t in found if t in (*_EVENTS, *_STAGES, *_FEATURES, "usable"))
                if "usable" in found:  # "no spindle at C4" denies nothing of C4
                    out.update(t for t in found if t in _CHANNELS)
    return out


def _pairs(text: str) -> dict[tuple[str, str], Counter]:
    """{(channel last named, feature or event): Counter of the number tuples beside it}."""
    out: dict[tuple[str, str], Counter] = {}
    channel = ""
    for sentence in _sentences(_BETWEEN.sub(r"from \1 to \2", text)):
        alone = {term for term in terms(sentence) if term in _CHANNELS}
        for clause in _CLAUSE.split(sentence):
            found = terms(clause)
            named = [*alone] if len(alone) == 1 else [t for t in found if t in _CHANNELS]
            channel = named[-1] if named else channel
            found_here = quantities(clause)
            numbers = tuple(value for value, _ in found_here)
            if not numbers:
                continue
            for value, unit in found_here:
                if unit is not None:
                    out.setdefault((channel, f"in {unit}"), Counter())[(value,)] += 1
            for term in found:
                if term in _EVENTS or term in _FEATURES or term in _POSITIONS:
                    scope = "" if term in _EVENTS or term in _POSITIONS else channel
                    out.setdefault((scope, term), Counter())[numbers] += 1
    return out


def _ranges(text: str) -> Counter:
    """The "A to B" of a text, each way round once."""
    bare = _NAME.sub(lambda match: " " * len(match[0]), text)
    return Counter((Decimal(a), Decimal(b)) for a, b in _RANGE.findall(bare))


def _confused(original: str, rewritten: str) -> list[str]:
    """Words that stand with other numbers than before, where both texts pair them at all."""
    turned = _ranges(rewritten) & Counter({r[::-1]: n for r, n in _ranges(original).items()})
    out = [f"from {a} to {b} turned round" for a, b in turned if (a, b) not in _ranges(original)]
    before, after = _pairs(original), _pairs(rewritten)
    for key in before.keys() & after.keys():
        one, two = before[key], after[key]
        if {len(n) for n in one} == {len(n) for n in two}:
            same = one == two
        else:  # clauses cut elsewhere: no number in common is still wrong
            same = bool({v for n in one for v in n} & {v for n in two for v in n})
        if not same:
            out.append(f"numbers of {' '.join(key).strip()!r} exchanged")
    scopes = {scope for scope, _ in before} - {""}, {scope for scope, _ in after} - {""}
    if not out and len(scopes[0]) > 1 and scopes[0] == scopes[1]:
        lost = [k for k in before if k[0] and k not in after]
        if lost and any(k[0] and k not in before for k in after):
            out.append(f"{' '.join(lost[0])!r} told of another channel")
    return out


def known_words() -> set[str]:
    """Every name that templates.yaml gives a stage, event or channel, in lower case."""
    t = templates()
    names = [n for group in t["stage"]["names"].values() for n in group]
    names += list(t["event"]["names"].values())
    names += [n for group in t["names"].values() for n in group]
    return {name.lower() for name in names}
