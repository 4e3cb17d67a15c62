"""One row of a montage: a derivation that may give a canonical channel. Keys: montage.py."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sleeplm_jax.recordings.channels import CHANNELS, MICROVOLT, POSITIONS, microvolt_scale
from sleeplm_jax.recordings.expression import parse_expression

# What a signal was measured with, where features differ by it.
TRANSDUCERS = (
    "nasal_pressure",  # cannula
    "thermal",  # thermistor or thermocouple, nasal, oral or both
    "cpap_flow",  # the flow output of a pressure device
    "pneumotachograph",
    "derived",  # computed from other signals: flow from belts, heart rate from the ECG
    "rip",  # respiratory inductance plethysmography belt
    "piezo",
    "strain_gauge",
    "impedance",
    "oximeter",
    "ecg",
    "microphone",
    "accelerometer",
)


@dataclass(frozen=True)
class Candidate:
    """One row of a montage: a derivation that may give a canonical channel."""

    expr: str
    terms: tuple[tuple[str, float], ...]  # (label, factor)
    citation: str
    unit: str | None = None
    scale: float = 1.0
    polarity: int = 1
    stand_in: bool = False
    min_rate: float = 0.0
    transducer: str | None = None
    occurrence: int | None = None  # of a label that the file holds more than once, from 1
    codes: tuple[tuple[float, int], ...] = ()
    degrees: bool = False
    upright: tuple[str, float] | None = None
    amplitude_unknown: bool = False
    unusable: str = ""  # why it is known but not read
    note: str = ""


_KEYS = frozenset(
    "expr citation unit scale polarity stand_in min_rate transducer occurrence codes degrees"
    " upright amplitude_unknown unusable note".split()
)


def parse_row(channel: str, number: int, row: dict) -> Candidate:
    """A candidate; whatever is wrong with it is a ValueError that names the row."""
    if not isinstance(row, dict) or "expr" not in row:
        raise ValueError(f"{channel}, row {number}: {row!r} has no `expr`")
    try:
        return _candidate(channel, row)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        finding = f"lacks the key {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{channel}, row {number} ({row['expr']}): {finding}") from None


def _candidate(channel: str, row: dict) -> Candidate:
    only(row, _KEYS, "")
    if not row.get("citation"):
        raise ValueError("has no citation (or `unverified`)")
    codes = []
    for position, values in (row.get("codes") or {}).items():
        if position not in POSITIONS:
            raise ValueError(f"unknown position {position!r} (allowed {', '.join(POSITIONS)})")
        for value in values if isinstance(values, list) else [values]:
            codes.append((float(value), POSITIONS.index(position)))
    if len({value for value, _ in codes}) < len(codes):
        raise ValueError("one code stands for two positions")
    if channel == "POS" and not codes and not row.get("degrees") and not row.get("unusable"):
        raise ValueError("a position needs `codes` or `degrees` (or `unusable`, saying why)")
    if (polarity := row.get("polarity", 1)) not in (1, -1):
        raise ValueError(f"polarity {polarity!r} (allowed 1, -1)")
    scale, min_rate = float(row.get("scale", 1.0)), float(row.get("min_rate", 0.0))
    if not 0 < scale < math.inf or not 0 <= min_rate < math.inf:
        raise ValueError(
            f"scale {scale:g}, min_rate {min_rate:g} (allowed above 0; polarity turns over)"
        )
    transducer = row.get("transducer")
    if transducer is not None and transducer not in TRANSDUCERS:
        raise ValueError(f"transducer {transducer!r} (allowed {', '.join(TRANSDUCERS)})")
    unit = row.get("unit")
    if unit is not None and CHANNELS[channel].unit == MICROVOLT and not microvolt_scale(str(unit)):
        raise ValueError(f"unit {unit!r} is no voltage (allowed V, mV, uV, nV)")
    occurrence = row.get("occurrence")
    terms = parse_expression(str(row["expr"]))
    if occurrence is not None and (
        not isinstance(occurrence, int) or occurrence < 1 or len(terms) > 1
    ):
        raise ValueError("`occurrence` is a whole number from 1 and goes with a single label")
    upright = row.get("upright")
    return Candidate(
        expr=str(row["expr"]),
        terms=terms,
        citation=str(row["citation"]),
        unit=None if unit is None else str(unit),
        scale=scale,
        polarity=polarity,
        stand_in=flag(row, "stand_in"),
        min_rate=min_rate,
        transducer=transducer,
        occurrence=occurrence,
        codes=tuple(codes),
        degrees=flag(row, "degrees"),
        upright=(str(upright["label"]), float(upright["above"])) if upright else None,
        amplitude_unknown=flag(row, "amplitude_unknown"),
        unusable=str(row.get("unusable") or ""),
        note=str(row.get("note", "")),
    )


def only(data: dict, allowed: frozenset, where: str) -> None:
    """Raises ValueError for a key that is not allowed."""
    if unknown := sorted(str(key) for key in set(data) - allowed):
        raise ValueError(f"{where}unknown keys {unknown} (allowed {sorted(allowed)})")


def flag(data: dict, key: str) -> bool:
    """A key that is true or false (where absent). Raises ValueError for anything else."""
    if not isinstance(value := data.get(key, False), bool):
        raise ValueError(f"{key}: {value!r} (allowed true, false)")
    return value
