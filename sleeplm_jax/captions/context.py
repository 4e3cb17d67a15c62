"""Captions of the kind `context`: an epoch among its neighbours, which its own signals do not show.

Stages before and after, transitions, time since sleep onset. This kind is none of
config.CAPTION_KINDS: no loader draws it, and no evaluation of staging or retrieval reads it, since
a model that is told the neighbours' stages has been told most of the answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from sleeplm_jax.captions.night import NUMBER, number, pattern, sentences_of, wordings
from sleeplm_jax.captions.wording import joined, upper_first
from sleeplm_jax.config import STAGES, UNSCORED
from sleeplm_jax.errors import CorpusError
from sleeplm_jax.physiology.epochs import EPOCH_SECONDS

KIND = "context"
REACH = 2  # epochs told on either side


def measure_context(stages: np.ndarray, epoch: int, staged: bool = True) -> dict:
    """The record of epoch `epoch` of `stages` int8 [E] among its neighbours (context.schema.json).

    {"measurements": [{"feature", "value", "unit", "channel": None, "interval"}]}, intervals in s
    from the epoch's begin. Features: `stage` of the epoch and of up to REACH scored epochs in a row
    on either side; `stage_duration`, min of this stage up to the epoch's end (only where its begin
    is scored); `time_since_sleep_onset`, min from the begin of the first epoch asleep to that of
    this one, negative before it (only where what comes before sleep is scored); `sleep`, "none",
    where the recording holds none. Nothing is said of unscored neighbours, and of a
    night that is not `staged` (scored for sleep and wake only) nothing but the time since sleep
    onset. Raises IndexError for an epoch that is not there.
    """
    stages = np.asarray(stages, int)
    if not 0 <= epoch < len(stages):
        raise IndexError(f"epoch {epoch} of {len(stages)}")
    out: list[dict] = []

    def add(feature, value, unit, begin=0, end=1) -> None:
        interval = [begin * EPOCH_SECONDS, end * EPOCH_SECONDS]
        out.append({"feature": feature, "value": value, "unit": unit, "channel": None,
                    "interval": interval})  # fmt: skip

    told = stages if staged else np.full(len(stages), UNSCORED)
    before = _scored_run(told[:epoch][::-1])[::-1]
    for place, stage in zip(range(-len(before), 0), before):
        add("stage", STAGES[stage], "stage", place, place + 1)
    if told[epoch] >= 0:
        add("stage", STAGES[told[epoch]], "stage")
    for place, stage in enumerate(_scored_run(told[epoch + 1 :]), 1):
        add("stage", STAGES[stage], "stage", place, place + 1)
    if told[epoch] >= 0:
        first = epoch
        while first > 0 and told[first - 1] == told[epoch]:
            first -= 1
        if first > 0 and told[first - 1] >= 0:
            minutes = (epoch + 1 - first) * EPOCH_SECONDS / 60
            add("stage_duration", minutes, "min", first - epoch, 1)
    asleep = np.flatnonzero(stages > 0)
    if len(asleep):
        first = int(asleep[0])
        if first == 0 or stages[first - 1] == UNSCORED:
            return {"measurements": out}  # already asleep, or nobody says since when
        onset = first - epoch
        span = sorted((onset, 0))
        add("time_since_sleep_onset", -onset * EPOCH_SECONDS / 60, "min", *span)
    elif (stages >= 0).any():
        add("sleep", "none", "word", -epoch, len(stages) - epoch)
    return {"measurements": out}


def _scored_run(stages: np.ndarray) -> list[int]:
    """The first stages, up to REACH of them, as long as they are scored."""
    out = []
    for stage in stages[:REACH].tolist():
        if stage < 0:
            break
        out.append(stage)
    return out


def stated_context(record: dict) -> dict:
    """What a caption of the kind `context` states: {"here", "before", "after", "run", "onset"}."""
    out: dict = {"here": None, "before": [], "after": [], "run": None, "onset": None}
    for m in record["measurements"]:
        begin = m["interval"][0]
        if m["feature"] == "stage":
            if begin == 0:
                out["here"] = m["value"]
            else:
                out["before" if begin < 0 else "after"].append(m["value"])
        elif m["feature"] == "stage_duration":
            out["run"] = m["value"]
        elif m["feature"] == "time_since_sleep_onset":
            out["onset"] = m["value"]
        elif m["feature"] == "sleep":
            out["onset"] = "none"
    return out


def say_context(record: dict, rng: np.random.Generator) -> str | None:
    """The caption of a context record, all of `stated_context`; None where nothing is known."""
    said = stated_context(record)
    t = wordings()["context"]
    names, texts = t["names"], t["texts"]
    out: list[str] = []

    def say(which: str, **fields) -> None:
        options = texts[which]
        out.append(options[int(rng.integers(len(options)))].format(**fields))

    here, before, after = said["here"], said["before"], said["after"]
    if here is not None:
        say("here", stage=names[here])
    for which, stages in (("before", before), ("after", after)):
        if stages:
            say(which, stages=_runs([names[s] for s in stages]))
    if here is not None and before and before[-1] != here:
        say("entered", stage=names[before[-1]], other=names[here])
    if here is not None and after and after[0] != here:
        say("left", stage=names[here], other=names[after[0]])
    if said["run"] is not None:
        say("run", v=said["run"])
    if said["onset"] == "none":
        say("no_sleep")
    elif said["onset"] is not None:
        onset = said["onset"]
        which = "at_onset" if onset == 0 else "since_onset" if onset > 0 else "until_onset"
        say(which, v=abs(onset))
    return " ".join(upper_first(sentence) for sentence in out) or None


def _runs(names: list[str]) -> str:
    """"N1 and N2", "N2 (2 epochs)": equal neighbours are counted."""
    runs: list[list[str]] = []
    for name in names:
        if runs and runs[-1][0] == name:
            runs[-1].append(name)
        else:
            runs.append([name])
    said = [run[0] if len(run) == 1 else f"{run[0]} ({len(run)} epochs)" for run in runs]
    return joined(said)


def read_context(text: str) -> dict:
    """What a caption that `say_context` wrote states, as `stated_context` gives it.

    Raises CorpusError for a sentence that no wording can have made, and for a transition that
    contradicts the stages beside it.
    """
    out: dict = {"here": None, "before": [], "after": [], "run": None, "onset": None}
    changes = {}
    for sentence in sentences_of(text):
        readings = list(_readings(sentence))
        if len(readings) != 1:
            raise CorpusError(
                "caption", f"{sentence!r} has {len(readings)} readings",
                "give a caption of the kind context, as this version writes it",
            )
        which, value = readings[0]
        (changes if which in ("entered", "left") else out)[which] = value
    here, before, after = out["here"], out["before"], out["after"]
    wanted = {}
    if here and before and before[-1] != here:
        wanted["entered"] = (before[-1], here)
    if here and after and after[0] != here:
        wanted["left"] = (here, after[0])
    if changes != wanted:
        raise CorpusError(
            "caption", f"its transitions {changes} do not fit its stages", "correct the caption"
        )
    return out


def _readings(sentence: str) -> Iterator[tuple]:
    t = wordings()["context"]
    back = {name: stage for stage, name in t["names"].items()}
    one = "|".join(back)
    run = rf"(?:{one})(?: \(\d+ epochs\))?"
    fields = (
        ("stage", one), ("other", one), ("v", NUMBER), ("stages", f"{run}(?:(?:, | and ){run})*"),
    )
    signs = {"since_onset": 1, "until_onset": -1}
    for which, texts in t["texts"].items():
        for text in texts:
            match = pattern(text, fields).fullmatch(sentence)
            if match is None:
                continue
            got = match.groupdict()
            if which in ("before", "after"):
                runs = re.findall(rf"({one})(?: \((\d+) epochs\))?", got["stages"])
                yield which, [back[name] for name, count in runs for _ in range(int(count or 1))]
            elif which == "here":
                yield which, back[got["stage"]]
            elif which in ("entered", "left"):
                yield which, (back[got["stage"]], back[got["other"]])
            elif which == "run":
                yield which, number(got["v"])
            elif which in signs:
                yield "onset", signs[which] * number(got["v"])
            else:
                yield "onset", 0.0 if which == "at_onset" else "none"
