"""Sleep statistics of a night by the AASM manual's definitions, each with its unit and definition.

TRT total recording time, TST total sleep time, SOL sleep onset latency, WASO wake after sleep
onset. How lights, unscored time and R&K movement epochs enter, and where YASA's statistics differ:
docs/sleep_statistics.md.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from sleeplm_jax.config import MOVEMENT, STAGES, UNSCORED
from sleeplm_jax.errors import ConfigError
from sleeplm_jax.physiology.epochs import EPOCH_SECONDS
from sleeplm_jax.physiology.event_indices import event_indices
from sleeplm_jax.physiology.respiratory_events import SHHS, Windows, ahi_by_rule
from sleeplm_jax.physiology.sleep_time import SleepTime, sleep_time
from sleeplm_jax.recordings.night import Night

# Ten minutes, as trials of hypnotics and Luna define persistent sleep
# (https://zzz.bwh.harvard.edu/luna/ref/hypnograms/).
PERSISTENT_EPOCHS = 20
_W, _REM = STAGES.index("W"), STAGES.index("R")
SLEEP_WAKE_ONLY = "sleep_wake_scoring_only"  # a cohort flag: stages of sleep mean nothing
MOST_UNSCORED_MIN = 1.0  # unscored minutes in bed that are worth a flag


def night_statistics(night: Night, windows: Windows = SHHS) -> dict:
    """Everything that can be said of a prepared night in numbers, JSON-able.

    {"scoring_rules", "hypopnea_rule", "simulated", "sleep": of `sleep_statistics`, "ahi": of
    `ahi_by_rule`, "indices": of `event_indices`}; without the last two where nothing is scored.
    Lights come from `night.provenance`, position and SpO2 from its traces. Raises ConfigError where
    a sample of the night's spec is no 30-s epoch.
    """
    if night.spec.seconds != EPOCH_SECONDS:
        raise ConfigError(
            "signal spec",
            f"seconds = {night.spec.seconds:g}, and sleep is scored per 30-s epoch",
            "prepare with seconds = 30",
        )
    about = night.provenance
    time = sleep_time(
        night.stages, about.lights_off_s, about.lights_on_s, night.traces.get("POS")
    )
    out = {
        "scoring_rules": night.rules,
        "hypopnea_rule": about.hypopnea_rule,
        "simulated": night.simulated,
        "sleep": sleep_statistics(time, about.cohort_flags),
    }
    if (np.asarray(night.stages) != UNSCORED).any():
        out["ahi"] = ahi_by_rule(night.events, time, windows, night.traces.get("SpO2"))
        out["indices"] = event_indices(night.events, time)
    return out


def sleep_statistics(time: SleepTime, cohort_flags: Iterable[str] = ()) -> dict:
    """{"lights", "measures": {name: {"value", "unit", "definition"}}, "flags"}, JSON-able.

    `value` is None where it is not defined: latencies and WASO without sleep, REM latency without
    REM, stages of a night scored for sleep and wake only (`cohort_flags`). Always
    SOL + WASO + TST = TRT where there is sleep. Epochs cut by lights off or on enter with the
    seconds that lie in bed.
    """
    stages, seconds = time.stages, time.seconds
    asleep = time.asleep
    minutes = {
        code: float(seconds[stages == code].sum() / 60)
        for code in (*range(len(STAGES)), UNSCORED, MOVEMENT)
    }
    trt = (time.on - time.off) / 60
    # With what lies in bed but outside the hypnogram.
    minutes[UNSCORED] = max(0.0, trt - sum(minutes[c] for c in minutes if c != UNSCORED))
    tst = float(seconds[asleep].sum() / 60)
    staged = SLEEP_WAKE_ONLY not in set(cohort_flags)
    sleeping = np.flatnonzero(asleep)
    onset = max(sleeping[0] * EPOCH_SECONDS, time.off) if len(sleeping) else None
    end = min((sleeping[-1] + 1) * EPOCH_SECONDS, time.on) if len(sleeping) else None
    sol = (onset - time.off) / 60 if onset is not None else None
    after = np.arange(len(stages)) * EPOCH_SECONDS >= onset - 1e-6 if onset is not None else asleep
    wake_after = float(seconds[(stages == _W) & after].sum() / 60)

    measures: dict[str, dict] = {}

    def add(name: str, value: float | None, unit: str, definition: str) -> None:
        value = None if value is None else round(float(value), 4) + 0.0  # never -0.0
        measures[name] = {"value": value, "unit": unit, "definition": definition}

    add("TRT", trt, "min", "total recording time: lights off to lights on (time in bed)")
    add("TST", tst, "min", "total sleep time: epochs scored N1, N2, N3 or R")
    add("SE", 100 * tst / trt if trt > 0 else None, "%", "sleep efficiency: TST / TRT")
    add("SOL", sol, "min", "lights off to the first epoch of any sleep")
    add("WASO", trt - sol - tst if sol is not None else None, "min",
        "TRT less SOL less TST: all time not asleep from sleep onset to lights on")
    add("WASO_scored_W", wake_after if onset is not None else None, "min",
        "the part of WASO that is scored W")
    add("SPT", (end - onset) / 60 if onset is not None else None, "min",
        "sleep period: sleep onset to the end of the last epoch asleep")
    add("SME", 100 * tst / ((end - onset) / 60) if onset is not None else None, "%",
        "sleep maintenance efficiency: TST / SPT")
    add("persistent_sleep_latency", _persistent(time), "min",
        "lights off to the first 10 min of unbroken sleep")
    for name, code in (("N2", 2), ("N3", 3), ("REM", _REM)):
        found = np.flatnonzero((stages == code) & (seconds > 0))
        known = len(found) and staged
        value = (max(found[0] * EPOCH_SECONDS, time.off) - onset) / 60 if known else None
        add(f"{name}_latency", value, "min",
            f"sleep onset to the first epoch of {name}, the wake between with it")
    add("W", minutes[_W], "min", "scored W between lights off and on")
    for code, stage in enumerate(STAGES[1:], start=1):
        name = "REM" if code == _REM else stage
        add(name, minutes[code] if staged else None, "min", f"scored {name}")
        share = 100 * minutes[code] / tst if staged and tst > 0 else None
        add(f"{name}_percent", share, "% of TST", f"{name} / TST")
    add("movement", minutes[MOVEMENT], "min", "R&K movement time: neither sleep nor W")
    add("unscored", minutes[UNSCORED], "min", "not scored between lights off and on")
    shifts, awakenings = _shifts(time, onset)
    add("stage_shifts", shifts if staged else None, "count",
        "changes between scored stages from sleep onset to lights on, W among them")
    add("awakenings", awakenings, "count",
        "changes from sleep to W from sleep onset to lights on, the last one among them")
    return {
        "lights": {
            "off_s": round(time.off, 3),
            "on_s": round(time.on, 3),
            "off": "stated" if time.off_known else "unknown: begin of the first scored epoch",
            "on": "stated" if time.on_known else "unknown: end of the last scored epoch",
        },
        "measures": measures,
        "flags": _flags(time, minutes, staged, tst),
    }


def _flags(time: SleepTime, minutes: dict[int, float], staged: bool, tst: float) -> list[str]:
    flags = []
    unknown = [n for n, known in (("off", time.off_known), ("on", time.on_known)) if not known]
    if unknown:
        flags.append(
            f"lights_unknown: {' and '.join(unknown)}; SOL, SE and WASO depend on when the scoring "
            "begins and ends"
        )
    if not tst:
        flags.append("no_sleep: latencies and WASO are not defined")
    if minutes[UNSCORED] >= MOST_UNSCORED_MIN:
        flags.append(
            f"unscored_in_bed: {minutes[UNSCORED]:g} min are neither sleep nor W; they are in TRT, "
            "and in SOL or WASO"
        )
    if minutes[MOVEMENT]:
        flags.append(f"movement_time: {minutes[MOVEMENT]:g} min are in TRT, and in SOL or WASO")
    if not staged:
        flags.append("sleep_wake_only: scored for sleep and wake, stages are not given")
    return flags


def _persistent(time: SleepTime) -> float | None:
    """Minutes from lights off to the first PERSISTENT_EPOCHS epochs of sleep in a row, or None."""
    run = 0
    for epoch, asleep in enumerate(time.asleep):
        run = run + 1 if asleep else 0
        if run == PERSISTENT_EPOCHS:
            begin = (epoch - PERSISTENT_EPOCHS + 1) * EPOCH_SECONDS
            return (max(begin, time.off) - time.off) / 60
    return None


def _shifts(time: SleepTime, onset: float | None) -> tuple[int, int]:
    """Changes of stage, and those from sleep to W, from sleep onset on.

    A movement epoch is no stage: what lies before and after it are neighbours. Across an unscored
    epoch nothing is known, and nothing counted.
    """
    if onset is None:
        return 0, 0
    kept = time.stages[int(onset // EPOCH_SECONDS) :]
    kept = kept[time.seconds[int(onset // EPOCH_SECONDS) :] > 0]
    kept = kept[kept != MOVEMENT]
    before, behind = kept[:-1], kept[1:]
    scored = (before >= 0) & (behind >= 0)
    shifts = int((scored & (before != behind)).sum())
    return shifts, int((scored & (before > 0) & (behind == _W)).sum())
