"""Can a classifier tell real EEG epochs from simulated ones, and does a stager carry over?

Every epoch is filtered to 0.5-20 Hz (UCDDB's recorder adds a line at 22 Hz, by which anything would
tell), divided by its person's typical amplitude and turned so that N3 is skewed downwards (UCDDB's
polarity is not known). Shared with simulator_realism.py.
"""

from __future__ import annotations

import numpy as np

RATE = 128  # Hz
EDGES = (0.5, 1, 2, 4, 6, 8, 10, 12, 14, 16, 20)  # Hz
BANDS = {"delta": (0.5, 4), "theta": (4, 8), "alpha": (8, 12), "sigma": (12, 16), "beta": (16, 20)}


def filtered(epochs: np.ndarray) -> np.ndarray:
    from scipy import signal

    sos = signal.butter(4, [0.5, 20], "bandpass", fs=RATE, output="sos")
    return signal.sosfiltfilt(sos, epochs, axis=-1)


def standard(epochs: np.ndarray, stages: np.ndarray, by_stage: bool = True) -> np.ndarray:
    """Filtered epochs in units of the person's median RMS in N3 (`by_stage`) or of the night."""
    from scipy import stats

    epochs = filtered(epochs)
    level = epochs.std(1)
    chosen = stages == 3 if by_stage else level > 0
    sign = -np.sign(np.median(stats.skew(epochs[stages == 3], axis=1))) if by_stage else 1
    return sign * epochs / np.median(level[chosen])


def features(epochs: np.ndarray) -> dict[str, np.ndarray]:
    """Relative band powers (log), amplitude and shape of each filtered epoch, {name: [E]}."""
    from scipy import signal, stats

    f, density = signal.welch(epochs, RATE, nperseg=2 * RATE, axis=-1)
    total = density[:, (f >= EDGES[0]) & (f < EDGES[-1])].sum(1)
    rows = {
        f"power {low:g}-{high:g} Hz": np.log(density[:, (f >= low) & (f < high)].sum(1) / total)
        for low, high in zip(EDGES[:-1], EDGES[1:])
    }
    rows["log RMS"] = np.log(epochs.std(1))
    z = (epochs - epochs.mean(1, keepdims=True)) / epochs.std(1, keepdims=True)
    first = np.diff(z, axis=1)
    second = np.diff(first, axis=1)
    rows["kurtosis"], rows["skewness"] = stats.kurtosis(z, axis=1), stats.skew(z, axis=1)
    rows["mobility"] = np.log(first.std(1))
    rows["complexity"] = np.log(second.std(1) / first.std(1) ** 2)
    rows["zero crossings"] = (np.diff(np.sign(z), axis=1) != 0).mean(1)
    rows["peak to peak"] = np.log(np.ptp(z, axis=1))
    rows["slope kurtosis"] = np.log1p(np.clip(stats.kurtosis(first, axis=1) + 1, 0, None))
    rows["curve kurtosis"] = np.log1p(np.clip(stats.kurtosis(second, axis=1) + 1, 0, None))
    rows["slope skewness"] = stats.skew(first, axis=1)
    for name, edges in BANDS.items():
        sos = signal.butter(3, edges, "bandpass", fs=RATE, output="sos")
        envelope = np.abs(signal.hilbert(signal.sosfiltfilt(sos, z, axis=-1), axis=-1))[:, 64:-64]
        rows[f"{name} burstiness"] = np.log(envelope.std(1) / envelope.mean(1))
        slow = np.log(envelope[:, : 28 * RATE].reshape(len(z), 28, RATE).mean(2))
        slow = slow - slow.mean(1, keepdims=True)
        rows[f"{name} drift"] = slow.std(1)
        rows[f"{name} persistence"] = (slow[:, 1:] * slow[:, :-1]).mean(1) / (slow**2).mean(1)
    return rows


def table(people: dict, stages: tuple[int, ...], most: int = 100, by_stage: bool = True):
    """Features [n, F], stage [n], person [n], names; at most `most` epochs a stage and person."""
    rng = np.random.default_rng(0)
    rows, which, who, names = [], [], [], []
    for person, (epochs, scored) in people.items():
        x = standard(epochs, scored, by_stage)
        alive = x.std(1) > 0.01
        for stage in stages:
            at = np.flatnonzero((scored == stage) & alive)
            at = rng.choice(at, most, replace=False) if len(at) > most else at
            if len(at):
                made = features(x[at])
                names = list(made)
                rows.append(np.stack(list(made.values()), 1))
                which += [stage] * len(at)
                who += [person] * len(at)
    return np.concatenate(rows), np.array(which), np.array(who), names


def told_apart(real: dict, simulated: dict, stage: int) -> dict:
    """AUROC of real against simulated epochs of a stage, by four-fold cross-validation grouped by
    person, every person of the same weight; and the features that tell most."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    xr, _, pr, names = table(real, (stage,))
    xs, _, ps, _ = table(simulated, (stage,))
    x, who = np.concatenate([xr, xs]), np.concatenate([pr, ps])
    y = np.r_[np.ones(len(xr)), np.zeros(len(xs))]
    _, index, counts = np.unique(who, return_inverse=True, return_counts=True)
    weight = 1 / counts[index]
    for kind in (0, 1):
        weight[y == kind] *= len(y) / weight[y == kind].sum()
    result = {"people": [len(set(pr)), len(set(ps))], "epochs": [len(xr), len(xs)]}
    for name in ("logistic", "boosting"):
        score = np.zeros(len(y))
        folds = StratifiedGroupKFold(4, shuffle=True, random_state=0)
        for train, test in folds.split(x, y, who):
            if name == "logistic":
                scaler = StandardScaler().fit(x[train])
                model = LogisticRegression(C=0.1, max_iter=2000)
                model.fit(scaler.transform(x[train]), y[train], sample_weight=weight[train])
                score[test] = model.decision_function(scaler.transform(x[test]))
            else:
                model = HistGradientBoostingClassifier(max_iter=80, random_state=0)
                with threadpool_limits(1):  # threads that wait for one another on a busy machine
                    model.fit(x[train], y[train], sample_weight=weight[train])
                    score[test] = model.decision_function(x[test])
        result[name] = float(roc_auc_score(y, score, sample_weight=weight))
    single = [float(roc_auc_score(y, x[:, j], sample_weight=weight)) for j in range(len(names))]
    order = np.argsort(-np.abs(np.array(single) - 0.5))[:6]
    result["telling"] = [
        [names[j], single[j], float(np.median(xr[:, j])), float(np.median(xs[:, j]))] for j in order
    ]
    return result


def carries_over(simulated: dict, night: tuple[np.ndarray, np.ndarray]) -> dict:
    """A stager fitted to simulated epochs alone, read on a real night: kappa and F1 by stage.

    Without amplitude: the night's unit is not known.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import accuracy_score, cohen_kappa_score, f1_score
    from threadpoolctl import threadpool_limits

    x, stage, _, names = table(simulated, (0, 1, 2, 3, 4), most=120, by_stage=False)
    shape = [j for j, name in enumerate(names) if name != "log RMS"]
    model = HistGradientBoostingClassifier(max_iter=150, class_weight="balanced", random_state=0)
    with threadpool_limits(1):
        model.fit(x[:, shape], stage)
    epochs, true = night
    keep = true >= 0
    real = np.stack(list(features(standard(epochs, true, False)[keep]).values()), 1)
    guess = model.predict(real[:, shape])
    return {
        "epochs": int(keep.sum()),
        "kappa": float(cohen_kappa_score(true[keep], guess)),
        "accuracy": float(accuracy_score(true[keep], guess)),
        "f1": f1_score(true[keep], guess, average=None, labels=range(5), zero_division=0).tolist(),
    }


def band_powers(people: dict, stages=(0, 1, 2, 3, 4)) -> dict[str, dict[str, float]]:
    """Median over people of each person's median share of power (%) by stage and band."""
    from scipy import signal

    found: dict[str, dict[str, float]] = {}
    for stage in stages:
        rows = []
        for epochs, scored in people.values():
            if (scored == stage).sum() == 0:
                continue
            f, density = signal.welch(filtered(epochs[scored == stage]), RATE, nperseg=2 * RATE)
            total = density[:, (f >= 0.5) & (f < 20)].sum(1)
            share = [
                np.median(density[:, (f >= low) & (f < high)].sum(1) / total)
                for low, high in BANDS.values()
            ]
            rows.append(share)
        if rows:
            found["W N1 N2 N3 R".split()[stage]] = {
                band: round(100 * float(value), 1)
                for band, value in zip(BANDS, np.median(rows, 0), strict=True)
            } | {"people": len(rows)}
    return found


def spindles_per_minute(epochs: np.ndarray, microvolt: float = 1.0) -> float:
    """YASA's spindles a minute over the given (N2) epochs, each on its own."""
    import logging

    import yasa

    logging.getLogger("yasa").setLevel(logging.CRITICAL)
    found = yasa.spindles_detect(epochs.ravel() * microvolt, RATE, verbose="critical")
    return 0.0 if found is None else len(found.summary()) / (len(epochs) / 2)
