"""Agreement between two hypnograms, with what majority voting and guessing would have got.

Point figures come from scikit-learn. Intervals resample whole subjects (epochs of one person are
not independent), on per-subject confusion matrices, so a thousand resamples cost milliseconds.

Shapes: N epochs, S stages (in the order of config.STAGES), G subjects, R resamples.
"""

from __future__ import annotations

import numpy as np

from sleeplm_jax.config import STAGES

FEWEST_SUBJECTS = 5  # below this a bootstrap over subjects says nothing
RESAMPLED = ("accuracy", "balanced_accuracy", "macro_f1", "kappa")


def agreement(
    true: np.ndarray,
    predicted: np.ndarray,
    scores: np.ndarray | None = None,
    subjects: np.ndarray | None = None,
    *,
    seed: int = 0,
    resamples: int = 1000,
) -> dict:
    """Agreement of `predicted` with `true`, JSON-able; figures that are undefined are None.

    true: int [N], index into STAGES; negative (unscored, movement) epochs are left out.
    predicted: int [N]. scores: float [N, S], higher is more likely, for AUROC (one against the
    rest). subjects: [N], who each epoch belongs to, for the 95 % interval.

    `balanced_accuracy` and `macro_f1` average over the stages that occur in `true`
    (`stages_present`). `majority` is what always naming the commonest stage of `true` gets,
    `chance` what uniform guesses among all stages get, in the limit of many guesses.
    """
    from sklearn import metrics

    true, predicted = np.asarray(true), np.asarray(predicted)
    scored = true >= 0
    count = {"n": int(scored.sum()), "excluded": int((~scored).sum())}
    if not scored.any():
        return count | {"accuracy": None, "kappa": None, "why": "no scored epoch"}
    true, predicted = true[scored], predicted[scored]
    labels = np.arange(len(STAGES))
    present = np.flatnonzero(np.bincount(true, minlength=len(STAGES)))
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        true, predicted, labels=labels, zero_division=0
    )
    confusion = metrics.confusion_matrix(true, predicted, labels=labels)
    degenerate = len(present) == 1 and (predicted == true).all()
    result = count | {
        "accuracy": float(metrics.accuracy_score(true, predicted)),
        "balanced_accuracy": float(recall[present].mean()),
        "macro_f1": float(f1[present].mean()),
        # one stage in both hypnograms: observed and expected agreement are 1, kappa is 0/0
        "kappa": None if degenerate else float(
            metrics.cohen_kappa_score(true, predicted, labels=labels)
        ),
        "stages_present": [STAGES[i] for i in present],
        "per_stage": {
            STAGES[i]: {
                "n": int(support[i]),
                "f1": float(f1[i]) if support[i] else None,
                "precision": float(precision[i]) if (predicted == i).any() else None,
                "recall": float(recall[i]) if support[i] else None,
                "auroc": None if scores is None else auroc(true == i, scores[scored][:, i]),
                "prevalence": float(support[i] / len(true)),
            }
            for i in labels
        },
        "confusion": {"rows": "true", "stages": list(STAGES), "counts": confusion.tolist()},
        "majority": _majority(true),
        "chance": _chance(true),
    }
    if scores is not None:
        defined = [s["auroc"] for s in result["per_stage"].values() if s["auroc"] is not None]
        result["macro_auroc"] = float(np.mean(defined)) if defined else None
        result["chance"]["macro_auroc"] = 0.5
    if subjects is not None:
        result |= _interval(true, predicted, np.asarray(subjects)[scored], seed, resamples)
    return result


def auroc(positive: np.ndarray, score: np.ndarray) -> float | None:
    """Area under the ROC curve; None when one of the two classes is absent. Both [N]."""
    from sklearn.metrics import roc_auc_score

    if positive.all() or not positive.any():
        return None
    return float(roc_auc_score(positive, score))


def figures(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """The RESAMPLED figures from confusion matrices [..., S, S] (rows true), each [...].

    NaN where undefined. Cohen (1960) for kappa.
    """
    confusion = confusion.astype(np.float64)
    total = confusion.sum((-2, -1))
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    rows, columns = confusion.sum(-1), confusion.sum(-2)
    with np.errstate(invalid="ignore", divide="ignore"):
        expected = (rows * columns).sum(-1) / total**2
        observed = hits.sum(-1) / total
        present = rows > 0
        recall = np.where(present, hits / np.where(present, rows, 1), 0)
        f1 = np.where(present, 2 * hits / np.where(present, rows + columns, 1), 0)
        return {
            "accuracy": observed,
            "balanced_accuracy": recall.sum(-1) / present.sum(-1),
            "macro_f1": f1.sum(-1) / present.sum(-1),
            "kappa": (observed - expected) / (1 - expected),
        }


def _majority(true: np.ndarray) -> dict:
    counts = np.bincount(true, minlength=len(STAGES))
    confusion = np.zeros((len(STAGES), len(STAGES)), np.int64)
    confusion[:, counts.argmax()] = counts
    found = figures(confusion)
    return {"stage": STAGES[counts.argmax()]} | {
        name: 0.0 if name == "kappa" else float(value) for name, value in found.items()
    }


def _chance(true: np.ndarray) -> dict:
    share = np.bincount(true, minlength=len(STAGES)) / len(true)
    guess = 1 / len(STAGES)
    f1 = 2 * share * guess / (share + guess)
    return {
        "accuracy": guess,
        "balanced_accuracy": guess,
        "macro_f1": float(f1[share > 0].mean()),
        "kappa": 0.0,
    }


def _interval(
    true: np.ndarray, predicted: np.ndarray, subjects: np.ndarray, seed: int, resamples: int
) -> dict:
    names, who = np.unique(subjects, return_inverse=True)
    if len(names) < FEWEST_SUBJECTS:
        return {
            "subjects": len(names),
            "interval": None,
            "why_no_interval": f"{len(names)} subjects, fewer than {FEWEST_SUBJECTS}",
        }
    each = np.zeros((len(names), len(STAGES), len(STAGES)), np.int64)
    np.add.at(each, (who, true, predicted), 1)
    rng = np.random.default_rng([seed, len(names)])
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    found = figures(np.einsum("rg,gij->rij", drawn, each))
    interval = {}
    for name in RESAMPLED:
        values = found[name][np.isfinite(found[name])]
        low, high = np.percentile(values, [2.5, 97.5]) if len(values) else (None, None)
        interval[name] = None if low is None else [float(low), float(high)]
    return {
        "subjects": len(names),
        "interval": interval,
        "interval_is": f"95 % percentile bootstrap over subjects, {resamples} resamples",
    }
