"""A night's quality as one JSON-able record: what was found, how good it is, what to doubt.

It is made beside the measurements, from the traces at native rates; `docs/quality.md` explains
every entry. Nothing in it names a person or a date.

E epochs, S whole seconds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from sleeplm_jax.config import ARTEFACTS, CANONICAL_CHANNELS, MOVEMENT, STAGES, UNSCORED
from sleeplm_jax.physiology import sanity
from sleeplm_jax.physiology.artefacts import BY_SECOND, ELECTRODES, UNMEASURABLE
from sleeplm_jax.physiology.epochs import EPOCH_SECONDS
from sleeplm_jax.physiology.polarity import polarity
from sleeplm_jax.physiology.seconds import Seconds
from sleeplm_jax.physiology.statistics import night_statistics
from sleeplm_jax.recordings.channels import CHANNELS
from sleeplm_jax.recordings.night import Night, Resolution, Trace, artefact_bits

QUALITY_FORMAT = 1
MANY = 0.1  # share of epochs with an artefact that is worth a flag
# Alignment: the stages moved against the EEG by up to ten minutes; where they then explain clearly
# more of the delta power's variance, scoring and signal do not begin together.
LAGS = 20
LEAST_LAG, LEAST_GAIN = 2, 0.02
ALIGNABLE = 60  # scored and measured epochs


def quality_record(night: Night, records: Sequence[dict]) -> dict:
    """The record of `night`, already marked (`artefacts.mark_artefacts`) and measured.

    Keys: format, recording, cohort, simulated, epochs, epoch_s, duration_s, channels, polarity,
    stages, alignment, staging, statistics, provenance, trim, flags. `flags` are the night's own and
    those found here, one line each, "name: what".
    """
    features = sanity.epoch_features(records, _heart(night))
    channels = {
        name: _channel(night, name, how) if how is not None and name in night.traces else None
        for name, how in night.channels.items()
    }
    evidence = sanity.night_evidence(night.stages, features)
    aligned = alignment(np.asarray(night.stages), features["delta_power"])
    signs = polarity(night)
    verdict = sanity.judge([evidence])
    flags = list(night.flags)
    flags += [f"staging_doubtful: {finding}" for finding in verdict["findings"]]
    flags += _alignment_flags(aligned) + signs["flags"] + _channel_flags(channels)
    return {
        "format": QUALITY_FORMAT,
        "recording": night.recording,
        "cohort": night.cohort,
        "simulated": night.simulated,
        "epochs": len(night.stages),
        "epoch_s": night.spec.seconds,
        "duration_s": night.extra.get("duration_s"),
        "channels": channels,
        "polarity": {name: value for name, value in signs.items() if name != "flags"},
        "stages": _stage_mix(night.stages),
        "alignment": aligned,
        "staging": {**evidence, "verdict": verdict["verdict"]},
        "statistics": (
            _undefined(night_statistics(night)) if night.spec.seconds == EPOCH_SECONDS else None
        ),
        "provenance": dataclasses.asdict(night.provenance),
        "trim": night.extra.get("trim"),
        "flags": flags,
    }


def _heart(night: Night) -> dict[str, np.ndarray]:
    """{channel: epochs in which the heart is seen in it}, bool [E]."""
    if night.artefacts is None:
        return {}
    seen = (night.artefacts & artefact_bits(("ecg",))) != 0
    return {name: seen[:, column] for column, name in enumerate(CANONICAL_CHANNELS)}


def _undefined(found: object) -> object:
    """Statistics without their definitions: these are the same every night."""
    if isinstance(found, dict):
        return {name: _undefined(value) for name, value in found.items() if name != "definition"}
    return [_undefined(value) for value in found] if isinstance(found, list) else found


def _stage_mix(stages: np.ndarray) -> dict[str, int]:
    names = {**dict(enumerate(STAGES)), UNSCORED: "unscored", MOVEMENT: "movement"}
    return {name: int((np.asarray(stages) == code).sum()) for code, name in names.items()}


def _channel(night: Night, name: str, how: Resolution) -> dict:
    """How a channel was found, how large it is, and what of it is lost."""
    trace, kind = night.traces[name], CHANNELS[name].kind
    made: Seconds | None = night.extra.get(BY_SECOND, {}).get(name)
    out = {
        "source": how.source, "labels": list(how.labels), "unit": trace.unit,
        "file_unit": how.file_unit, "rate": round(trace.rate, 6), "scale": how.scale,
        "stand_in": how.stand_in, "transducer": how.transducer,
        "turned_over": how.polarity == -1, "amplitude_unknown": how.amplitude_unknown,
        "artefacts": {}, "unmeasured": 0.0,
    }
    if night.artefacts is not None:
        column = night.artefacts[:, CANONICAL_CHANNELS.index(name)]
        out["artefacts"] = {
            reason: round(float(np.mean((column >> bit) & 1)), 5)
            for bit, reason in enumerate(ARTEFACTS) if ((column >> bit) & 1).any()
        }
        bits = artefact_bits(UNMEASURABLE.get(kind, ("dropout",)))
        out["unmeasured"] = round(float(np.mean((column & bits) != 0)), 5)
    if made is not None and len(made):
        moving = made.range[~made.still]
        out["range"] = float(f"{np.median(moving):.4g}") if len(moving) else 0.0
        out["flat"] = _stretches(made.still & (made.lost == 0))
        out["missing"] = _stretches(made.lost > 0)
        if made.mains and kind in ELECTRODES:
            own = made.wide if kind == "emg" else made.body
            out["mains"] = {
                str(line): round(float(np.median(power / np.maximum(power + own, 1e-30))), 4)
                for line, power in made.mains.items()
            }
    else:
        values = np.asarray(trace.values)
        good = values[np.isfinite(values)]
        if len(good):
            out["values"] = {"5%": round(float(np.quantile(good, 0.05)), 3),
                             "median": round(float(np.median(good)), 3),
                             "95%": round(float(np.quantile(good, 0.95)), 3)}
        out["missing"] = _stretches(_bad_seconds(trace))
    if trace.railed is not None:
        out["clipped"] = _stretches(np.asarray(trace.railed) > 0)
    return out


def _bad_seconds(trace: Trace) -> np.ndarray:
    bad = ~np.isfinite(np.asarray(trace.values))
    if not bad.any():
        return np.zeros(0, bool)
    seconds = np.flatnonzero(bad) / trace.rate
    return np.bincount(seconds.astype(int), minlength=int(len(bad) / trace.rate) + 1) > 0


def _stretches(where: np.ndarray) -> dict:
    """{"stretches", "seconds", "longest_s"} of bool [S], one a second."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], np.asarray(where, np.int8), [0]])))
    lengths = edges[1::2] - edges[::2]
    return {"stretches": len(lengths), "seconds": int(lengths.sum()),
            "longest_s": int(lengths.max()) if len(lengths) else 0}


def explained(stages: np.ndarray, values: np.ndarray) -> float:
    """Share of the variance of `values` [E] that lies between stages [E]: eta squared."""
    good = (stages >= 0) & np.isfinite(values)
    stages, values = stages[good], values[good]
    total = float(((values - values.mean()) ** 2).sum()) if len(values) else 0.0
    if total == 0:
        return 0.0
    between = 0.0
    for stage in np.unique(stages):
        part = values[stages == stage]
        between += len(part) * float((part.mean() - values.mean()) ** 2)
    return between / total


def alignment(stages: np.ndarray, delta: np.ndarray) -> dict:
    """Whether stages and EEG begin together: stages int [E], delta shares [E] with NaN.

    {"scored", "first_scored", "last_scored", "lag_epochs", "explained", "explained_at_lag"}:
    `lag_epochs` by which the stages would have to be moved (later, if positive) to explain most;
    None where too little is scored and measured, or stages explain nothing.
    """
    scored = np.flatnonzero(stages != UNSCORED)
    out = {
        "scored": len(scored),
        "first_scored": int(scored[0]) if len(scored) else None,
        "last_scored": int(scored[-1]) if len(scored) else None,
        "lag_epochs": None, "explained": None, "explained_at_lag": None,
    }
    if ((stages >= 0) & np.isfinite(delta)).sum() < ALIGNABLE or len(set(stages[stages >= 0])) < 2:
        return out
    found = {}
    for lag in range(-LAGS, LAGS + 1):
        moved = np.full(len(stages), UNSCORED, int)
        if lag >= 0:
            moved[lag:] = stages[: len(stages) - lag]
        else:
            moved[:lag] = stages[-lag:]
        found[lag] = explained(moved, delta)
    best = max(found, key=lambda lag: (round(found[lag], 4), -abs(lag)))
    return out | {"lag_epochs": best, "explained": round(found[0], 4),
                  "explained_at_lag": round(found[best], 4)}


def _alignment_flags(aligned: dict) -> list[str]:
    lag = aligned["lag_epochs"]
    if lag is None or abs(lag) < LEAST_LAG:
        return []
    if aligned["explained_at_lag"] < aligned["explained"] + LEAST_GAIN:
        return []
    way = "later" if lag > 0 else "earlier"
    return [
        f"alignment_doubtful: the stages fit the EEG better {abs(lag)} epochs {way} (they explain "
        f"{100 * aligned['explained_at_lag']:.0f} % of the delta power's variance, now "
        f"{100 * aligned['explained']:.0f} %)"
    ]


def _channel_flags(channels: dict[str, dict | None]) -> list[str]:
    flags = []
    for name, about in channels.items():
        if about is None:
            continue
        for reason, share in about["artefacts"].items():
            if share > MANY:
                flags.append(f"many_{reason}: {name} in {100 * share:.0f} % of epochs")
    return flags
