"""How real simulated nights look to tools that never saw them, and beside real pieces.

    python experiments/benchmarks/simulator_realism.py --psg PSG --nights 12 --hours 8 --seed 0

prints tables and writes simulator_realism.json: the agreement of YASA's stager (C4-M1, E1-M2, Chin,
age and sex; Vallat & Walker 2021, eLife 10:e70092) with the simulated hypnogram; SleepECG's R peaks
against the simulated ones (a match within 50 ms); and with --psg (see simulator_references.py) band
powers, spindles, stage transitions and event durations against real ones, how well a classifier
tells real EEG epochs from simulated ones, and how a stager learned on simulated nights reads a real
one. Some 20 s a night on one core, and two minutes for the rest.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import warnings
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

import simulator_eeg as eeg
import simulator_references as real

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


def r_peak_scores(edf: Path, truth: dict) -> dict[str, float | None]:
    """Sensitivity and positive predictive value of SleepECG's detector, matches within 50 ms.

    `clean`: away from movement by 5 s, and None where the ECG is upside down all night.
    """
    import edfio
    import sleepecg

    signal = edfio.read_edf(edf).get_signal("ECG")
    found = sleepecg.detect_heartbeats(signal.data, signal.sampling_frequency)
    found = np.asarray(found) / signal.sampling_frequency
    peaks = np.array(truth["r_peaks"])

    def near(these: np.ndarray, those: np.ndarray) -> np.ndarray:
        at = np.clip(np.searchsorted(those, these), 1, len(those) - 1)
        gap = np.minimum(np.abs(these - those[at - 1]), np.abs(these - those[at]))
        return gap <= 0.05

    def clean(times: np.ndarray) -> np.ndarray:
        keep = np.ones(len(times), bool)
        for onset, duration, _ in truth["movements"]:
            keep &= (times < onset - 5) | (times > onset + duration + 5)
        return keep

    hit, true = near(peaks, found), near(found, peaks)
    upside_down = any(
        item["kind"] == "inverted" and item["channel"] == "ECG" for item in truth["artefacts"]
    )
    return {
        "r_sensitivity": float(hit.mean()),
        "r_ppv": float(true.mean()),
        "r_sensitivity_clean": None if upside_down else float(hit[clean(peaks)].mean()),
        "r_ppv_clean": None if upside_down else float(true[clean(found)].mean()),
        "beats": len(peaks),
    }


def measure(edf: Path, heart: bool = True) -> dict:
    """All measures of one night that need no real one."""
    truth = json.loads(edf.with_suffix(".truth.json").read_text())
    person = truth["individual"]
    true = true_stages(edf.with_suffix(".xml"))
    predicted = yasa_stages(edf, person["age"], person["sex"] == "M")
    row = agreement(true, predicted) | {
        "night": edf.stem,
        "kind": person["kind"],
        "who": f"{person['kind']} {person['sex']}{person['age']}"
        + ("" if person["alpha_producer"] else ", no alpha"),
        "artefacts": sorted({item["kind"] for item in truth["truth"]["artefacts"]}),
        "true": true.tolist(),
        "predicted": predicted.tolist(),
    }
    return row | (r_peak_scores(edf, truth["truth"]) if heart else {})


def epochs_of(nights: list[Path], channel: str = "C3-M2") -> real.People:
    """{night: (epochs [E, 3840] in µV, stages [E])}."""
    import edfio

    return {
        path.stem: (
            edfio.read_edf(path).get_signal(channel).data.reshape(-1, 30 * eeg.RATE),
            true_stages(path.with_suffix(".xml")),
        )
        for path in nights
    }


def against_the_real(nights: list[Path], psg: Path) -> dict:
    """Everything that is measured beside real pieces."""
    simulated, ucddb = epochs_of(nights), real.ucddb(psg)
    whole, others = ucddb["ucddb018"], dict(ucddb)
    del others["ucddb018"]
    chosen = {str(n): (x[None], np.array([2])) for n, x in enumerate(real.dreams(psg))}
    hypnograms = real.hypnograms(psg)
    hypnograms["simulated"] = [stages for _, stages in simulated.values()]
    durations = {
        "simulated": real.event_durations([path.with_suffix(".xml") for path in nights]),
        "NSRR tutorial nights": real.event_durations(sorted((psg / "nsrr_xml").glob("*.xml"))),
    }
    return {
        "band_powers": {
            "simulated": eeg.band_powers(simulated),
            "ucddb018": eeg.band_powers({"ucddb018": whole}),
            "11 more of UCDDB": eeg.band_powers(others, (0, 3)),
            "DREAMS, 8 chosen epochs": eeg.band_powers(chosen, (2,)),
        },
        "spindles_per_minute_n2": {
            "simulated": [
                eeg.spindles_per_minute(x[stages == 2]) for x, stages in simulated.values()
            ],
            "ucddb018": eeg.spindles_per_minute(whole[0][whole[1] == 2], 150),
        },
        "architecture": {
            name: real.architecture(stages) for name, stages in sorted(hypnograms.items())
        },
        "event_durations": {
            name: {
                event: {"n": len(values), "p10_50_90": np.percentile(values, [10, 50, 90]).tolist()}
                for event, values in found.items()
                if len(values) >= 10
            }
            for name, found in durations.items()
        },
        "told_apart": {
            STAGES[stage]: eeg.told_apart(ucddb, simulated, stage) for stage in (0, 3)
        },
        "stager_from_simulation_on_ucddb018": eeg.carries_over(simulated, whole),
    }


def print_nights(rows: list[dict]) -> dict:
    stages = " ".join(f"{'F1 ' + stage:>6}" for stage in STAGES)
    print(f"{'night':10} {'simulated sleeper':26} {'acc':>5} {'kappa':>6} {stages}  R sens  R ppv")
    for row in rows:
        scores = " ".join(f"{value:6.2f}" for value in row["f1"])
        print(f"{row['night']:10} {row['who']:26} {row['accuracy']:5.2f} {row['kappa']:6.3f} "
              f"{scores}  {row['r_sensitivity']:.4f} {row['r_ppv']:.4f}  "
              + ",".join(row["artefacts"]))
    kappas = [row["kappa"] for row in rows]
    pooled = agreement(
        np.concatenate([row["true"] for row in rows]),
        np.concatenate([row["predicted"] for row in rows]),
    )
    scores = " ".join(f"{value:6.2f}" for value in pooled["f1"])
    print(f"{'pooled':37} {pooled['accuracy']:5.2f} {pooled['kappa']:6.3f} {scores}")
    clean = [row for row in rows if row["r_ppv_clean"] is not None]
    summary = {
        "nights": len(rows),
        "kappa_mean": float(np.mean(kappas)),
        "kappa_range": [min(kappas), max(kappas)],
        "pooled": pooled,
        "beats": sum(row["beats"] for row in rows),
        "r_clean_nights": len(clean),
        "r_sensitivity_clean_lowest": min(row["r_sensitivity_clean"] for row in clean),
        "r_ppv_clean_lowest": min(row["r_ppv_clean"] for row in clean),
    }
    print(f"kappa: mean {np.mean(kappas):.3f}, range {min(kappas):.3f} to {max(kappas):.3f}")
    print(f"R peaks on clean stretches, lowest of {len(clean)} nights: sensitivity "
          f"{summary['r_sensitivity_clean_lowest']:.4f}, positive predictive value "
          f"{summary['r_ppv_clean_lowest']:.4f} ({summary['beats']} beats in all)")
    print("confusion, rows simulated, columns YASA (W N1 N2 N3 R), share of the row:")
    for stage, counts in zip(STAGES, np.array(pooled["confusion"]), strict=True):
        shares = " ".join(f"{count / max(counts.sum(), 1):6.2f}" for count in counts)
        print(f"  {stage:3} {counts.sum():6d}  {shares}")
    return summary


def print_comparison(found: dict) -> None:
    print("\nshare of 0.5-20 Hz power, %: median over people of the median epoch")
    for source, stages in found["band_powers"].items():
        for stage, powers in stages.items():
            shown = " ".join(f"{band} {powers[band]:5.1f}" for band in eeg.BANDS)
            print(f"  {source:24} {stage:3} {shown}  ({powers['people']} people)")
    rates = found["spindles_per_minute_n2"]
    print(f"spindles a minute of N2 by YASA: simulated {np.median(rates['simulated']):.1f} "
          f"({min(rates['simulated']):.1f} to {max(rates['simulated']):.1f}), "
          f"ucddb018 {rates['ucddb018']:.1f}")
    print("\nfrom sleep onset to the last sleep: chance of staying an epoch more, mean bout (min)")
    for source, it in found["architecture"].items():
        stay = " ".join(f"{STAGES[s]} {it['transitions'][s][s]:.2f}" for s in range(5))
        bouts = " ".join(f"{it['bout_minutes'][s][0]:4.1f}" for s in it["bout_minutes"])
        shares = " ".join(f"{100 * share:3.0f}" for share in it["shares"])
        print(f"  {source:16} {it['nights']:4d} nights  {stay}  bouts {bouts}  "
              f"{it['shifts_per_hour']:.1f} shifts/h  shares {shares} %")
    print("\nevent durations, s: 10th, 50th, 90th percentile")
    for source, events in found["event_durations"].items():
        for event, it in sorted(events.items()):
            low, middle, high = it["p10_50_90"]
            print(f"  {source:22} {event:24} {low:5.1f} {middle:5.1f} {high:5.1f}  (n {it['n']})")
    print("\nreal or simulated? AUROC (0.5: cannot tell), cross-validated by person")
    for stage, it in found["told_apart"].items():
        print(f"  {stage:3} logistic {it['logistic']:.3f} boosting {it['boosting']:.3f}  people "
              f"{it['people'][0]} real, {it['people'][1]} simulated")
        for name, auroc, real_value, ours in it["telling"]:
            print(f"      {name:20} alone {auroc:.2f}  real {real_value:6.2f}  "
                  f"simulated {ours:6.2f}")
    it = found["stager_from_simulation_on_ucddb018"]
    scores = " ".join(f"{value:.2f}" for value in it["f1"])
    print(f"\nstager fitted to simulated epochs only, on ucddb018: kappa {it['kappa']:.2f}, "
          f"accuracy {it['accuracy']:.2f}, F1 {scores} ({it['epochs']} epochs)")


def main() -> None:
    from sleeplm_jax.recordings.simulator import simulate_cohort

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nights", type=int, default=12)
    parser.add_argument("--hours", type=float, default=8.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--psg", type=Path, help="folder of real pieces to compare with")
    parser.add_argument("--people", help="kinds of sleeper, with commas between; default: a mix")
    parser.add_argument("--out", type=Path, help="keep the nights in this folder")
    parser.add_argument("--json", type=Path, default=Path("simulator_realism.json"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        nights = simulate_cohort(
            options.out or temporary, options.nights, options.hours, options.seed,
            workers=1, progress=False, people=options.people,
        )
        rows = [measure(night) for night in nights]
        result = {"summary": print_nights(rows), "nights": rows}
        if options.psg:
            result["real"] = against_the_real(nights, options.psg)
            print_comparison(result["real"])
        else:
            print("no --psg: not compared with real pieces")
    options.json.write_text(json.dumps(result, indent=1) + "\n")
    print(f"\nfigures in {options.json}")


if __name__ == "__main__":
    main()
