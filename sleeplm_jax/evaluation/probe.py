"""A supervised linear head on the same frozen encoder: what its features hold, given labels.

Beside prompted staging it tells apart two failures: features that lack the stages (both low) and
words that miss the features (head high, prompts low).

Shapes: N epochs, F features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sleeplm_jax.config import STAGES
from sleeplm_jax.evaluation.agreement import agreement

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # C of sklearn's LogisticRegression
UNTUNED = 1e-2  # taken when no validation epochs are scored


@dataclass(frozen=True)
class LinearHead:
    """Standardisation and logistic regression, fitted on training subjects."""

    pipeline: object  # sklearn Pipeline
    strength: float  # the C chosen
    validation: dict  # C -> kappa on the validation split
    trained_on: int  # epochs

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Probabilities [N, S]; 0 for a stage that training never held."""
        found = np.zeros((len(features), len(STAGES)))
        found[:, self.pipeline.classes_] = self.pipeline.predict_proba(features)
        return found


def fit_head(
    train: tuple[np.ndarray, np.ndarray],
    val: tuple[np.ndarray, np.ndarray] | None,
    strengths: tuple[float, ...] = STRENGTHS,
) -> LinearHead | None:
    """Fits a head per C on `train`, keeps the one with the best kappa on `val` (smallest C wins).

    train, val: (features [N, F], stages int [N]); negative stages are left out. None when the
    training epochs hold fewer than two stages.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    features, stages = _scored(*train)
    if len(np.unique(stages)) < 2:
        return None
    val = _scored(*val) if val is not None else None
    tune = val is not None and len(np.unique(val[1])) >= 2
    best, kappas = None, {}
    for strength in strengths if tune else (UNTUNED,):
        head = make_pipeline(
            StandardScaler(),
            LogisticRegression(C=strength, class_weight="balanced", max_iter=400, tol=1e-3),
        ).fit(features, stages)
        if not tune:
            return LinearHead(head, strength, {}, len(stages))
        kappa = agreement(val[1], head.predict(val[0]))["kappa"]
        kappas[strength] = kappa
        if best is None or kappa > kappas[best.strength]:
            best = LinearHead(head, strength, kappas, len(stages))
    return best


def probe(
    train: tuple[np.ndarray, np.ndarray],
    val: tuple[np.ndarray, np.ndarray] | None,
    test: tuple[np.ndarray, np.ndarray],
    subjects: np.ndarray,
    *,
    seed: int = 0,
) -> dict:
    """`agreement` of the linear head on `test`, with how it was fitted. JSON-able.

    train, val, test: (pooled frozen features [N, F], stages [N]); subjects: [N of test].
    """
    head = fit_head(train, val)
    if head is None:
        return {"n": 0, "why": "the training epochs hold fewer than two scored stages"}
    scores = head.scores(test[0])
    result = agreement(test[1], scores.argmax(-1), scores, subjects, seed=seed)
    seen = np.unique(_scored(*train)[1])
    return result | {
        "C": head.strength,
        "validation_kappa": {f"{c:g}": k for c, k in head.validation.items()},
        "trained_on": head.trained_on,
        "stages_never_trained": [s for i, s in enumerate(STAGES) if i not in seen],
        "features": int(test[0].shape[1]),
    }


def _scored(features: np.ndarray, stages: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    keep = np.asarray(stages) >= 0
    return np.asarray(features)[keep], np.asarray(stages)[keep]
