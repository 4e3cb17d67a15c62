"""Small tables of stages: DCSM's .ids, HMC's text, WSC's .stg.txt, SleepFM's csv, STAGES' csv.

Each is a few lines of its own form over the same rows; see the functions for form and source.
"""

from __future__ import annotations

import re

from sleeplm_jax.config import UNSCORED
from sleeplm_jax.errors import RecordingError
from sleeplm_jax.recordings.clock import DAY_S, clock_seconds, unwrapped
from sleeplm_jax.recordings.plain_text import columns, length, number, rows, seconds
from sleeplm_jax.recordings.scored import Reading, Scored
from sleeplm_jax.recordings.stages import (
    EPOCH_S,
    LONGEST_S,
    N1,
    N2,
    N3,
    STAGE_4_WORDS,
    STAGE_WORDS,
    R,
    W,
    reject_codes,
    rules_of,
)

_WORDS = STAGE_WORDS | {"nan": UNSCORED, "ns": UNSCORED, "out_of_bounds": UNSCORED}


def _stage_word(text: str) -> str:
    return re.sub(r"^(sleep )?stage[ _-]*", "", text.strip().casefold())


def _close(scored: Scored, words: set[str]) -> Scored:
    scored.rules, scored.stage_4 = rules_of(words), bool(words & STAGE_4_WORDS)
    return scored


def read_ids(reading: Reading, text: str) -> Scored:
    """DCSM's `hypnogram.ids`: lines `start,duration,stage` in seconds, no header; stages W, N1,
    N2, N3, REM and UNKNOWN. Source: U-Time's reader and documentation of DCSM (perslev/U-Time);
    spaces or tabs between cells are read as well. No real file was at hand."""
    path, table = reading.path, reading.codes(_WORDS)
    scored, words, unknown = Scored("ids"), set(), set()
    for line, raw in enumerate(text.splitlines(), start=1):
        cells = [cell for cell in re.split(r"[,;\s]+", raw.strip()) if cell]
        if not cells:
            continue
        if len(cells) != 3:
            raise RecordingError(path, f"line {line} has {len(cells)} cells", "3 are needed: "
                                 "start,duration,stage")  # fmt: skip
        onset = seconds(path, line, cells[0])
        lasts = length(path, line, seconds(path, line, cells[1]))
        word = _stage_word(cells[2])
        if word in table:
            words.add(word)
            if lasts > 0:
                scored.spans.append((onset, lasts, table[word]))
        else:
            unknown.add(cells[2])
    reject_codes(path, unknown, "W, N1, N2, N3, REM, UNKNOWN")
    return _close(scored, words)


def read_hmc(reading: Reading, text: str) -> Scored:
    """HMC's `_sleepscoring.txt` (EDFbrowser's form): Date, Time, Recording onset, Duration,
    Annotation, Linked channel, with "Sleep stage N2" and marks such as "Lights off@@EEG F4-A1"
    between them. Source: public readers of the data set and their excerpts of it (the page
    https://www.physionet.org/content/hmc-sleep-staging/1.1/ does not give the columns)."""
    path, table = reading.path, reading.codes(_WORDS)
    header, *body = rows(path, text, ",")
    names = [name.casefold() for name in header]
    at = columns(path, header, "Recording onset", "Duration", "Annotation")
    channel = names.index("linked channel") if "linked channel" in names else None
    scored, words, unknown = Scored("hmc"), set(), set()
    for line, row in enumerate(body, start=2):
        if len(row) <= max(at):
            raise RecordingError(path, f"line {line} has {len(row)} cells", "correct that line")
        onset = seconds(path, line, row[at[0]])
        lasts = length(path, line, number(row[at[1]]) or 0.0)
        note, linked = row[at[2]], None
        if channel is not None and channel < len(row):
            linked = row[channel] or None
        if re.match(r"sleep\s+stage\b", note, re.IGNORECASE):
            word = _stage_word(note)
            if word in table:
                words.add(word)
                scored.spans.append((onset, lasts, table[word]))
            else:
                unknown.add(note)
        else:
            scored.events.append(reading.event(note, onset, lasts, channel=linked))
    reject_codes(path, unknown, "Sleep stage W, N1, N2, N3, R, ?")
    return _close(scored, words)


# What stands for none of them is left unscored: the page lists no further codes (unverified).
WSC_CODES = {"0": W, "1": N1, "2": N2, "3": N3, "4": N3, "5": R}


def read_wsc(reading: Reading, text: str) -> Scored:
    """WSC's `.stg.txt`: tab between cells, a header line ("Epoch", "User-Defined Stage", ...) that
    some files lack; epoch counted from 1, stage 0 W, 1, 2, 3, 5 R, anything else not scored.
    Source: public readers of the data set. That epoch 1 begins with the recording is unverified."""
    path, table = reading.path, reading.codes(WSC_CODES)
    scored, codes, others = Scored("wsc"), set(), 0
    for line, row in enumerate(rows(path, text, "\t"), start=1):
        epoch = number(row[0])
        if line == 1 and epoch is None:
            continue
        if epoch is None or len(row) < 2 or not 1 <= epoch <= LONGEST_S / EPOCH_S:
            raise RecordingError(
                path, f"line {line} has no epoch number and stage", "correct that line"
            )
        code = row[1].casefold()
        code = code[:-2] if code.endswith(".0") else code
        codes.add(code)
        others += code not in table
        scored.spans.append(((epoch - 1) * EPOCH_S, EPOCH_S, table.get(code, UNSCORED)))
    if others == len(scored.spans) and others:
        raise RecordingError(path, "no line has a known stage", "0, 1, 2, 3, 5 are needed")
    if others:
        scored.flags = (f"codes_not_scored: {others} epochs with other codes than 0, 1, 2, 3, 5",)
    scored.stage_4 = "4" in codes
    scored.rules = "R&K" if scored.stage_4 else "unknown"
    return scored


def read_sleepfm(reading: Reading, text: str) -> Scored:
    """SleepFM's csv: Start, Stop (s), StageName ("Wake", "Stage 1" or "N1", "REM"), StageNumber.
    Source: the README of zou-group/sleepfm-clinical. Lines that say the same twice are one."""
    path, table = reading.path, reading.codes(_WORDS)
    header, *body = rows(path, text, ",")
    at = columns(path, header, "Start", "Stop", "StageName")
    scored, words, unknown, seen = Scored("sleepfm"), set(), set(), set()
    for line, row in enumerate(body, start=2):
        if len(row) <= max(at):
            raise RecordingError(path, f"line {line} has {len(row)} cells", "correct that line")
        onset = seconds(path, line, row[at[0]])
        lasts = length(path, line, seconds(path, line, row[at[1]]) - onset)
        word = _stage_word(row[at[2]])
        if word not in table:
            unknown.add(row[at[2]])
        elif (onset, lasts, word) not in seen and lasts > 0:
            seen.add((onset, lasts, word))
            scored.spans.append((onset, lasts, table[word]))
            # "Stage 1" is SleepFM's name for N1 and says nothing of the rules.
            words |= {word} & STAGE_4_WORDS
    reject_codes(path, unknown, "Wake, Stage 1 to 4, N1 to N3, REM, Unknown")
    return _close(scored, words)


def read_stages_csv(reading: Reading, text: str) -> Scored:
    """The STAGES cohort's csv: Start Time (time of day, some with a date), Duration (seconds),
    Event, with stages "Wake", "Stage1", "REM", "UnknownStage" among all other events. Source:
    public readers of the data set; spelling of the stages unverified. By the clock, over
    midnight."""
    path, table = reading.path, reading.codes(_WORDS | {"unknownstage": UNSCORED})
    _, *body = rows(path, text, ",")
    found = []
    for line, row in enumerate(body, start=2):
        clock = clock_seconds(row[0])
        if clock is None or len(row) < 3:
            raise RecordingError(
                path, f"line {line} has no time of day, duration and event", "correct that line"
            )
        found.append((clock, length(path, line, seconds(path, line, row[1])), ",".join(row[2:])))
    scored, words, events = Scored("stages", clocked=True), set(), []
    for start, (_, lasts, name) in zip(unwrapped([f[0] for f in found]), found):
        word = _stage_word(name)
        if word in table:
            words.add(word)
            scored.spans.append((start, lasts, table[word]))
        else:
            events.append((name, start, lasts))
    zero = min((onset for onset, _, _ in scored.spans), default=0.0)
    scored.clock = zero % DAY_S
    scored.spans = [(onset - zero, lasts, stage) for onset, lasts, stage in scored.spans]
    scored.events = [reading.event(name, start - zero, lasts) for name, start, lasts in events]
    return _close(scored, words & STAGE_4_WORDS)
