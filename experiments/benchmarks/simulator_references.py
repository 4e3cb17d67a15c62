"""The real pieces that simulated nights are held against; simulator_realism.py uses them.

PSG is a folder with `ucddb_eeg/` (PhysioNet UCDDB, ODC-By 1.0), `dreams_epochs/`,
`physionet2018_arousals/`, `dreem_dod_scorers/`, `openneuro_ds005555_boas/` and `nsrr_xml/`.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections import defaultdict
from pathlib import Path

import numpy as np

RATE = 128  # Hz: UCDDB's and the simulator's EEG
RK = {0: 0, 1: 4, 2: 1, 3: 2, 4: 3, 5: 3}  # UCDDB's codes -> W N1 N2 N3 R
People = dict[str, tuple[np.ndarray, np.ndarray]]  # epochs [E, 3840], stages [E]


def ucddb(psg: Path) -> People:
    """One whole night (ucddb018) and wake and N3 of eleven more people. The amplitude is unknown,
    and every recording has a steady line at 22 Hz and a notch at 50 Hz from its recorder."""
    import edfio

    people: People = {}
    for path in sorted((psg / "ucddb_eeg/epochs").glob("ucddb*.npz")):
        with np.load(path, allow_pickle=False) as file:
            stages = np.array([RK.get(int(code), -1) for code in file["stage_rk"]])
            people[path.stem] = file["x"] * float(file["scale"]), stages
    whole = edfio.read_edf(psg / "ucddb_eeg/ucddb018_eeg.edf").signals[0].data
    with (psg / "ucddb_eeg/ucddb018_events.tsv").open(newline="") as file:
        codes = [int(row["rk_code"]) for row in csv.DictReader(file, delimiter="\t")]
    stages = np.array([RK.get(code, -1) for code in codes])
    people["ucddb018"] = whole.reshape(-1, 30 * RATE)[: len(stages)], stages
    return people


def dreams(psg: Path) -> np.ndarray:
    """Eight epochs of N2, each chosen by its publisher for a spindle or a K complex, [8, 3840]."""
    from scipy import io, signal

    paths = sorted((psg / "dreams_epochs").glob("*.mat"))
    raw = [io.loadmat(path)["x_in"].ravel() for path in paths]
    return np.array([signal.resample_poly(x, 16, 25) for x in raw])


def hypnograms(psg: Path) -> dict[str, list[np.ndarray]]:
    """Stages 0-4 per 30-s epoch, -1 else, by cohort (DOD: one a night and scorer)."""

    def clean(codes) -> np.ndarray:
        codes = np.array([int(float(code)) if code not in ("n/a", "") else -1 for code in codes])
        return np.where((codes >= 0) & (codes <= 4), codes, -1)

    found: dict[str, list[np.ndarray]] = defaultdict(list)
    with gzip.open(psg / "physionet2018_arousals/hypnograms_arousals_994.jsonl.gz", "rt") as file:
        for line in file:
            found["PhysioNet 2018"].append(clean(json.loads(line)["stages"]))
    for group in ("dodh", "dodo"):
        for path in sorted((psg / f"dreem_dod_scorers/scorers/{group}").glob("*/*.json")):
            found[f"DOD-{group[-1].upper()}"].append(clean(json.loads(path.read_text())))
    for path in sorted((psg / "openneuro_ds005555_boas").glob("**/*acq-psg_events.tsv")):
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        found["BOAS"].append(clean([row["stage_hum"] for row in rows]))
    return dict(found)


def event_durations(paths: list[Path]) -> dict[str, np.ndarray]:
    """Durations in s by event name, pooled over Profusion XML files."""
    import defusedxml.ElementTree

    found: dict[str, list[float]] = defaultdict(list)
    for path in paths:
        for event in defusedxml.ElementTree.parse(path).getroot().iter("ScoredEvent"):
            found[event.findtext("Name")].append(float(event.findtext("Duration")))
    return {name: np.array(values) for name, values in found.items()}


def architecture(nights: list[np.ndarray]) -> dict:
    """Between sleep onset and the last sleep: shares, shifts an hour, the chance of the next
    epoch's stage, and bout durations (min)."""
    moves, bouts, shifts, shares = np.zeros((5, 5)), defaultdict(list), [], []
    for stages in nights:
        asleep = np.flatnonzero(stages > 0)
        if len(asleep) < 60:
            continue
        inside = stages[asleep[0] : asleep[-1] + 1]
        for a, b in zip(inside[:-1], inside[1:], strict=True):
            if a >= 0 and b >= 0:
                moves[a, b] += 1
        first = np.flatnonzero(np.diff(inside, prepend=-9))
        for stage, length in zip(inside[first], np.diff(np.append(first, len(inside)))):
            bouts[int(stage)].append(length / 2)
        shifts.append((np.diff(inside) != 0).sum() / (len(inside) / 120))
        shares.append(np.bincount(inside[inside >= 0], minlength=5) / (inside >= 0).sum())
    return {
        "nights": len(shares),
        "shares": np.median(shares, 0).tolist(),
        "shifts_per_hour": float(np.median(shifts)),
        "transitions": (moves / np.maximum(moves.sum(1, keepdims=True), 1)).tolist(),
        "bout_minutes": {
            stage: [float(np.mean(bouts[stage])), *np.percentile(bouts[stage], [50, 90]).tolist()]
            for stage in range(5)
            if bouts[stage]
        },
    }
