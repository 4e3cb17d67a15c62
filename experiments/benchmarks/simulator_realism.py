"""How real simulated nights look to tools that never saw them.

    python experiments/benchmarks/simulator_realism.py --nights 5 --hours 8 --seed 0

prints, per night and pooled, the agreement of YASA's stager (C4-M1, E1-M2, Chin, age and sex;
Vallat & Walker 2021, eLife 10:e70092) with the simulated hypnogram, and SleepECG's R peaks against
the simulated ones (a match within 50 ms). Some 20 s a night on one core.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import warnings
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from sleeplm_jax.config import STAGES

_PROFUSION = {"0": 0, "1": 1, "2": 2, "3": 3, "5": 4}
_YASA = {"WAKE": 0, "W": 0, "N1": 1, "N2": 2, "N3": 3, "REM": 4, "R": 4}


def yasa_stages(edf: Path, age: int, male: bool, eeg: str = "C4-M1") -> np.ndarray:
    """YASA's stage of every epoch, int8 [epochs]."""
    import mne
    import yasa

    names = [eeg, "E1-M2", "Chin"]
    raw = mne.io.read_raw_edf(edf, include=names, preload=True, verbose="error")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the bundled models were pickled by an older scikit-learn
        stager = yasa.SleepStaging(
            raw,
            eeg_name=eeg,
            eog_name="E1-M2",
            emg_name="Chin",
            metadata={"age": age, "male": male},
        )
        predicted = stager.predict()
    return np.array([_YASA[str(stage)] for stage in predicted.hypno], np.int8)


def true_stages(xml: Path) -> np.ndarray:
    """Stages of a Profusion file, int8 [epochs]."""
    import defusedxml.ElementTree

    root: Element = defusedxml.ElementTree.parse(xml).getroot()
    codes = [stage.text for stage in root.find("SleepStages")]
    return np.array([_PROFUSION[code] for code in codes], np.int8)


def agreement(true: np.ndarray, predicted: np.ndarray) -> dict:
    """Accuracy, Cohen's kappa, F1 per stage and the confusion matrix (rows true)."""
    from sklearn.metrics import cohen_kappa_score, confusion_matrix, f1_score

    n = min(len(true), len(predicted))
    true, predicted = true[:n], predicted[:n]
    labels = list(range(5))
    return {
        "epochs": n,
        "accuracy": float((true == predicted).mean()),
        "kappa": float(cohen_kappa_score(true, predicted, labels=labels)),
        "f1": f1_score(true, predicted, labels=labels, average=None, zero_division=0).tolist(),
        "confusion": confusion_matrix(true, predicted, labels=labels).tolist(),
    }


def r_peak_scores(edf: Path, peaks: np.ndarray) -> tuple[float, float]:
    """Sensitivity and positive predictive value of SleepECG's detector, matches within 50 ms."""
    import edfio
    import sleepecg

    signal = edfio.read_edf(edf).get_signal("ECG")
    found = sleepecg.detect_heartbeats(signal.data, signal.sampling_frequency)
    found = np.asarray(found) / signal.sampling_frequency

    def near(these: np.ndarray, those: np.ndarray) -> float:
        at = np.clip(np.searchsorted(those, these), 1, len(those) - 1)
        gap = np.minimum(np.abs(these - those[at - 1]), np.abs(these - those[at]))
        return float((gap <= 0.05).mean())

    return near(peaks, found), near(found, peaks)


def measure(edf: Path, heart: bool = True) -> dict:
    """All measures of one night."""
    truth = json.loads(edf.with_suffix(".truth.json").read_text())
    person = truth["individual"]
    true = true_stages(edf.with_suffix(".xml"))
    predicted = yasa_stages(edf, person["age"], person["sex"] == "M")
    row = agreement(true, predicted) | {
        "night": edf.stem,
        "who": f"{person['sex']}{person['age']} AHI {person['ahi']:.0f}"
        + ("" if person["alpha_producer"] else " no alpha"),
        "true": true,
        "predicted": predicted,
    }
    if heart:
        row["r_sensitivity"], row["r_ppv"] = r_peak_scores(edf, np.array(truth["truth"]["r_peaks"]))
    return row


def main() -> None:
    from sleeplm_jax.recordings.simulator import simulate_cohort

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nights", type=int, default=5)
    parser.add_argument("--hours", type=float, default=8.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="keep the nights in this folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        nights = simulate_cohort(
            options.out or temporary, options.nights, options.hours, options.seed, progress=False
        )
        rows = []
        stages = " ".join(f"{'F1 ' + stage:>6}" for stage in STAGES)
        who = "simulated sleeper"
        print(f"{'night':9} {who:22} {'acc':>5} {'kappa':>6} {stages}  R sens  R ppv")
        for night in nights:
            row = measure(night)
            rows.append(row)
            scores = " ".join(f"{value:6.2f}" for value in row["f1"])
            print(
                f"{row['night']:9} {row['who']:22} {row['accuracy']:5.2f} {row['kappa']:6.3f} "
                f"{scores}  {row['r_sensitivity']:.4f} {row['r_ppv']:.4f}",
                flush=True,
            )
    kappas = [row["kappa"] for row in rows]
    pooled = agreement(
        np.concatenate([row["true"] for row in rows]),
        np.concatenate([row["predicted"] for row in rows]),
    )
    scores = " ".join(f"{value:6.2f}" for value in pooled["f1"])
    print(f"{'pooled':32} {pooled['accuracy']:5.2f} {pooled['kappa']:6.3f} {scores}")
    print(f"mean kappa {np.mean(kappas):.3f}, range {min(kappas):.3f} to {max(kappas):.3f}")
    print("confusion, rows simulated, columns YASA (W N1 N2 N3 R), share of the row:")
    for stage, counts in zip(STAGES, np.array(pooled["confusion"]), strict=True):
        shares = " ".join(f"{count / max(counts.sum(), 1):6.2f}" for count in counts)
        print(f"  {stage:3} {counts.sum():6d}  {shares}")


if __name__ == "__main__":
    main()
