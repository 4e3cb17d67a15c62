"""Random measured records, and a reader of captions that knows templates.yaml only."""

import functools
import re

import numpy as np

from sleeplm_jax.captions.wording import templates

EEG = ("delta_power", "theta_power", "alpha_power", "sigma_power", "beta_power")
EOG = ("slow_eye_movement_power", "rapid_eye_movement_power")
BREATH = ("respiratory_rate", "breath_interval_variability", "breath_amplitude")
CHIN = ("emg_median_frequency", "burst_ratio", "muscle_tone")
RANGES = {
    **{name: (0, 100) for name in EEG + EOG},
    "heart_rate_min": (40, 60), "heart_rate_max": (60, 110), "heart_rate_mean": (58, 62),
    "rmssd": (0, 120), "spo2_min": (70, 95), "spo2_mean": (80, 99),
    "respiratory_rate": (6, 40), "breath_interval_variability": (0, 4),
    "breath_amplitude": (0, 300), "emg_median_frequency": (12, 28), "burst_ratio": (1, 9),
    "muscle_tone": (5, 900),
}  # fmt: skip
CHANNEL_FEATURES = {
    "C3": EEG, "C4": EEG, "EOG-L": EOG, "EOG-R": EOG, "THX": BREATH, "ABD": BREATH, "AF": BREATH,
    "EMG": CHIN, "SpO2": ("spo2_min", "spo2_mean"),
    "ECG": ("heart_rate_min", "heart_rate_max", "heart_rate_mean", "rmssd"),
}  # fmt: skip
EVENTS = (
    "obstructive_apnea", "central_apnea", "mixed_apnea", "hypopnea", "rera", "desaturation",
    "arousal", "limb_movement", "periodic_limb_movement", "artefact", "other",
)  # fmt: skip


def measurement(feature, value, channel, interval=(0.0, 30.0)):
    return {
        "feature": feature, "value": value, "unit": "", "channel": channel,
        "interval": [float(t) for t in interval],
    }  # fmt: skip


def drawn_record(seed):
    """A record with channels lost, features unmeasured, events and changes of position."""
    rng = np.random.default_rng([77, seed])
    lost = [c for c in (*CHANNEL_FEATURES, "POS", "HR") if rng.random() < 0.2]
    found = []
    for channel, features in CHANNEL_FEATURES.items():
        for feature in features:
            if channel not in lost and rng.random() < 0.9:
                found.append(measurement(feature, rng.uniform(*RANGES[feature]), channel))
    if "ECG" not in lost and rng.random() < 0.6:
        found.append(measurement("heart_rate_trend", rng.uniform(5, 30), "ECG", (2.4, 9.7)))
    if "ECG" not in lost and rng.random() < 0.6:
        found.append(measurement("heart_rate_trend", -rng.uniform(5, 30), "ECG", (12.2, 29.8)))
    if "POS" not in lost:
        cuts = [0.0, *sorted(rng.choice(np.arange(2, 29), rng.integers(0, 3), False)), 30.0]
        words = rng.choice(["right", "left", "supine", "prone", "upright"], len(cuts), False)
        for word, a, b in zip(words, cuts[:-1], cuts[1:]):
            found.append(measurement("position", str(word), "POS", (a, b)))
    events = []
    for _ in range(rng.integers(0, 4)):
        a, b = np.sort(rng.uniform(0, 30, 2).round(1))
        events.append(
            {"kind": str(rng.choice(EVENTS)), "onset": float(a), "end": float(b),
             "continues_from": False, "continues_into": False, "channel": None}
        )  # fmt: skip
    events.sort(key=lambda e: e["onset"])
    return {
        "stage": [None, "W", "N1", "N2", "N3", "R"][rng.integers(6)],
        "events": events,
        "measurements": found,
        "missing": lost,
        "scored": [["arousal", "respiratory"], ["arousal"], []][rng.integers(3)],
        "stand_ins": [c for c in ("C3", "THX") if c not in lost and rng.random() < 0.3],
    }


def _pattern(text, fields):
    """A regex of a template whose {fields} are regexes."""
    return _compiled(text, tuple(sorted(fields.items())))


@functools.cache
def _compiled(text, fields):
    fields = dict(fields)
    parts = re.split(r"\{(\w+)\}", text)
    out = re.escape(parts[0])
    for field, rest in zip(parts[1::2], parts[2::2]):
        out += f"(?P<{field}>{fields[field]})" + re.escape(rest)
    return re.compile(out)


def _capitals(names):
    return "|".join(re.escape(n) for name in names for n in {name, name[:1].upper() + name[1:]})


NUMBER = r"\d+(?:\.\d+)?"


def _number(text):
    return float(text) if "." in text else int(text)


def _split(items):
    return re.split(r", | and ", items)


def _read_items(phrases, text):
    """{feature: value or [value, a, b]} of an enumeration, or None if a piece fits no phrase."""
    said = {}
    for piece in _split(text):
        hits = []
        for features, phrase in phrases.items():
            names = features.replace("=", "+").split("+")
            fields = {n: NUMBER for n in ("v", "a", "b", *names)}
            fields["word"] = _capitals(templates()["words"].values())
            match = _pattern(phrase, fields).fullmatch(piece)
            if match:
                hits.append((names, match.groupdict()))
        if len(hits) != 1:
            return None
        names, got = hits[0]
        if "word" in got:
            back = {word: code for code, word in templates()["words"].items()}
            stretch = [back[got["word"]], _number(got["a"]), _number(got["b"])]
            said.setdefault(names[0], []).append(stretch)
            continue
        for name in names:
            value = _number(got.get(name) or got["v"])
            said[name] = [value, _number(got["a"]), _number(got["b"])] if "a" in got else value
    return said


def _spoken(name):
    """Channel and whether it is a stand-in, from a name as spoken."""
    stand_in = name.endswith(" (stand-in)")
    bare = name.removesuffix(" (stand-in)").lower()
    hits = {c for c, names in templates()["names"].items() if bare in [n.lower() for n in names]}
    assert len(hits) <= 1, name
    return (hits.pop() if hits else None), stand_in


def _readings(sentence, groups):
    """Every way to read one sentence about a channel."""
    t, out = templates(), []
    for texts in t["missing"].values():
        for text in texts:
            match = _pattern(text, {"names": ".+", "Names": ".+"}).fullmatch(sentence)
            if match:
                names = [_spoken(n)[0] for n in _split(match[1])]
                if all(names):
                    out.append(("missing", tuple(sorted(names))))
    for group, frames in t["statements"].items():
        for frame in frames:
            names = _capitals([n for names in t["names"].values() for n in names])
            name = rf"(?:{names})(?: \(stand-in\))?"
            fields = {"name": name, "Name": name, "items": ".+"}
            fields["word"] = _capitals(t["words"].values())
            match = _pattern(frame["text"], fields).fullmatch(sentence)
            if not match:
                continue
            got = match.groupdict()
            name = got.get("name") or got.get("Name")
            channel, stand_in = _spoken(name) if name else ("POS", False)
            if channel is None or groups.get(channel) != group.removesuffix("_change"):
                continue
            if "items" in got:
                said = _read_items(frame["items"], got["items"])
            else:
                back = {word: code for code, word in t["words"].items()}
                said = {"position": [[back[got["word"]], 0, 30]]}
            if said is not None:
                out.append(("said", channel, stand_in, said))
    return out


def read_channels(caption, groups):
    """The content of a caption of channels, as record.stated gives it (floats for decimals)."""
    channels, missing, stand_ins = {}, [], []
    for sentence in re.split(r"(?<=\.) ", caption):
        readings = {repr(r): r for r in _readings(sentence, groups)}
        assert len(readings) == 1, (sentence, list(readings))
        (reading,) = readings.values()
        if reading[0] == "missing":
            missing += reading[1]
        else:
            _, channel, stand_in, said = reading
            assert channel not in channels
            channels[channel] = said
            stand_ins += [channel] if stand_in else []
    return {
        "channels": dict(sorted(channels.items())),
        "missing": sorted(missing),
        "stand_ins": sorted(stand_ins),
    }


def read_stage_event(caption):
    """The content of a stage_event caption, as record.stated gives it."""
    t = templates()
    out = {"stage": None, "events": [], "none_of": []}
    nouns = {noun: kind for kind, noun in t["event"]["names"].items()}
    stages = {n.lower(): code for code, names in t["stage"]["names"].items() for n in names}
    quiet = t["no_events"]
    for sentence in re.split(r"(?<=\.) ", caption):
        found = []
        for text in t["stage"]["texts"]:
            match = _pattern(text, {k: _capitals(stages) + "|.+" for k in ("stage", "Stage")})
            match = match.fullmatch(sentence)
            if match and match[1].lower() in stages:
                found.append(("stage", stages[match[1].lower()]))
        for text in t["event"]["texts"]:
            fields = {k: ".+?" for k in ("event", "Event", "an_event", "An_event")}
            match = _pattern(text, {**fields, "a": NUMBER, "b": NUMBER}).fullmatch(sentence)
            if match:
                got = match.groupdict()
                noun = next(v for k, v in got.items() if k.lower().endswith("event")).lower()
                if "an_event" in got or "An_event" in got:
                    article, noun = noun.split(" ", 1)
                    assert article == ("an" if noun[0] in "aeiou" else "a"), sentence
                if noun in nouns:
                    event = (nouns[noun], _number(got["a"]), _number(got["b"]))
                    found.append(("event", event))
        for text in quiet["texts"]:
            fields = {k: ".+" for k in ("singular", "plural", "plural_or")}
            match = _pattern(text, fields).fullmatch(sentence)
            if match:
                words = re.split(r" or | and ", match[1])
                names = {w: g for form in ("singular", "plural") for g, w in quiet[form].items()}
                if all(w in names for w in words):
                    found.append(("none", tuple(sorted(names[w] for w in words))))
        assert len(set(found)) == 1, (sentence, found)
        what, value = found[0]
        if what == "stage":
            assert out["stage"] is None
            out["stage"] = value
        elif what == "event":
            out["events"].append(list(value))
        else:
            out["none_of"] = list(value)
    return out
