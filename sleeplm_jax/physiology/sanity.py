"""Whether stages and signals can belong together: what a wrong code map does to the EEG of a stage.

A scoring read with another cohort's codes (R taken for N1, N2 for N3) is a perfectly regular
hypnogram. What it cannot have is an EEG in the right order: slow waves grow from REM and N1 to N3,
fast activity is largest awake, the chin is slackest in REM (AASM manual: the rules themselves).
Every rule compares two stages within a night; a cohort is judged by its nights' median, since
single nights go against a rule: old and apnoeic sleepers have little N3 or REM, so a night
speaks only where both stages have LEAST_EPOCHS. It flags and never drops a night.

E epochs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sleeplm_jax.config import STAGES

LEAST_EPOCHS = 20  # of each of two stages compared
# Epochs of one stage against another's: the share of pairs in which the first has more (AUC).
# 1: all of them, 0.5: neither. What right maps give is in docs/quality.md.
AGAINST_NIGHT, AGAINST_COHORT = 0.4, 0.45
# And below 0.5 by more than chance: of 20 epochs against 20 with nothing to tell them apart, one
# night in seven has a share under 0.4.
CERTAIN = 2.0  # standard errors of Mann-Whitney's U
OF_A_MEDIAN = 1.25  # its standard error over that of a mean, for a normal distribution
# (measurement, stage with more of it, stage with less)
ORDER = (
    ("delta_power", "N3", "N2"),
    ("delta_power", "N3", "N1"),
    ("delta_power", "N3", "R"),
    ("delta_power", "N3", "W"),
    ("delta_power", "N2", "R"),
    ("delta_power", "N2", "N1"),
    ("beta_power", "W", "N2"),
    ("beta_power", "W", "N3"),
    ("beta_power", "N1", "N3"),
    ("beta_power", "R", "N3"),
    ("sigma_power", "N2", "R"),
    ("beta_power", "W", "N1"),
    ("muscle_tone", "W", "N1"),
    ("muscle_tone", "W", "N3"),
    ("muscle_tone", "W", "R"),
    ("muscle_tone", "N1", "R"),
    ("muscle_tone", "N2", "R"),
)
FEATURES = ("delta_power", "sigma_power", "beta_power", "muscle_tone")
# Where the heart is seen in an EEG, QRS complexes make up what is small there: in two of 24
# simulated nights with it in every channel, sigma seemed to fall from R to N2.
SPOILT_BY_HEART = ("sigma_power", "beta_power")
ONSET_EPOCHS = 10  # of sleep: REM within five minutes of falling asleep is rare in most people
ONSET_SHARE = 0.5  # of a cohort's nights that may begin so


def epoch_features(
    records: Sequence[dict], heart: Mapping[str, np.ndarray] | None = None
) -> dict[str, np.ndarray]:
    """{feature: [E]} of a night's records, the mean over its EEG channels; NaN where not measured.

    `delta_power` and the other bands in % of 0.5-30 Hz, `muscle_tone` in % of the night's. `heart`:
    {channel: bool [E]}, epochs in which the heart is seen in it (the artefact bit `ecg`).
    """
    heart = heart or {}
    out = {name: np.full(len(records), np.nan) for name in FEATURES}
    for epoch, record in enumerate(records):
        for name in FEATURES:
            values = [
                m["value"] for m in record["measurements"] if m["feature"] == name
                and not (name in SPOILT_BY_HEART and m["channel"] in heart
                         and heart[m["channel"]][epoch])
            ]
            if values:
                out[name][epoch] = np.mean(values)
    return out


def superiority(more: np.ndarray, less: np.ndarray) -> float:
    """Share of pairs (a, b) of `more` x `less` with a > b, ties half: the AUC, Mann-Whitney's U."""
    ordered = np.sort(less)
    below = np.searchsorted(ordered, more, side="left")
    upto = np.searchsorted(ordered, more, side="right")
    return float((below + upto).sum() / (2 * len(more) * len(less)))


def chance_error(more: int, less: int) -> float:
    """Standard deviation of `superiority` of so many values of one distribution (Mann-Whitney)."""
    return float(np.sqrt((more + less + 1) / (12 * more * less)))


def night_evidence(stages: np.ndarray, features: dict[str, np.ndarray]) -> dict:
    """What one night says, JSON-able: stages int [E], features of `epoch_features`.

    {"stages": {stage: {"epochs", feature: median}}, "order": [{"feature", "more", "less",
    "share", "error": the share's standard error by chance}], "rem_at_onset": bool or None}.
    `order` holds the rules whose two stages have at least LEAST_EPOCHS measured epochs.
    """
    stages = np.asarray(stages)
    values = {
        (name, stage): column[(stages == number) & np.isfinite(column)]
        for name, column in features.items() for number, stage in enumerate(STAGES)
    }
    by_stage = {
        stage: {"epochs": int((stages == number).sum())} | {
            name: round(float(np.median(values[name, stage])), 3)
            for name in features if len(values[name, stage])
        }
        for number, stage in enumerate(STAGES)
    }
    order = [
        {"feature": name, "more": more, "less": less,
         "share": round(superiority(values[name, more], values[name, less]), 4),
         "error": round(chance_error(len(values[name, more]), len(values[name, less])), 4)}
        for name, more, less in ORDER if name in features
        and min(len(values[name, more]), len(values[name, less])) >= LEAST_EPOCHS
    ]
    asleep = stages[stages > 0]
    rem = STAGES.index("R")
    onset = None
    if (asleep == rem).sum() >= LEAST_EPOCHS:
        onset = bool((asleep[:ONSET_EPOCHS] == rem).any())
    return {"stages": by_stage, "order": order, "rem_at_onset": onset}


def judge(nights: Sequence[dict]) -> dict:
    """The verdict on a cohort of `night_evidence`, or on one night of it; JSON-able.

    {"verdict": "plausible", "doubtful" or "cannot be judged", "nights", "order": [{"feature",
    "more", "less", "nights", "median", "against": bool}], "rem_at_onset": share or None,
    "findings": [one line each]}. Doubtful is what a wrong code map looks like, or exchanged
    channels, or scoring of another night; a cohort of unusual sleepers can look so as well.
    """
    against = AGAINST_NIGHT if len(nights) == 1 else AGAINST_COHORT
    order, findings = [], []
    for name, more, less in ORDER:
        found = [
            (rule["share"], rule["error"]) for night in nights for rule in night["order"]
            if (rule["feature"], rule["more"], rule["less"]) == (name, more, less)
        ]
        if not found:
            continue
        shares, errors = np.array(found).T
        error = np.sqrt(np.mean(errors**2) / len(found)) * (OF_A_MEDIAN if len(found) > 1 else 1)
        low = min(against, 0.5 - CERTAIN * error)
        median = float(np.median(shares))
        order.append({"feature": name, "more": more, "less": less, "nights": len(shares),
                      "median": round(median, 4), "against": bool(median < low)})
        if median < low:
            findings.append(
                f"{name.replace('_', ' ')} is lower in {more} than in {less} ({100 * median:.0f} % "
                f"of pairs of epochs in order, {len(shares)} night{'s' if len(shares) > 1 else ''})"
            )
    onsets = [night["rem_at_onset"] for night in nights if night["rem_at_onset"] is not None]
    onset = float(np.mean(onsets)) if onsets else None
    if onset is not None and onset > ONSET_SHARE:
        findings.append(
            f"sleep begins with R within {ONSET_EPOCHS} epochs in {sum(onsets)} of {len(onsets)} "
            f"night{'s' if len(onsets) > 1 else ''}"
        )
    judged = bool(order)
    return {
        "verdict": "doubtful" if findings else "plausible" if judged else "cannot be judged",
        "nights": len(nights),
        "order": order,
        "rem_at_onset": onset,
        "findings": findings,
    }
