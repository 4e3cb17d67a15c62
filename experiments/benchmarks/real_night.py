"""One whole real night, staged by a model that never saw it, beside YASA on the same epochs.

    python experiments/benchmarks/real_night.py --psg PSG --out real_night

PSG is a folder with `ucddb_eeg/` (one whole EEG night of the UCD sleep apnoea database, ucddb018,
and wake and N3 epochs of eleven more of its people; PhysioNet UCDDB, ODC-By 1.0). Two models
are trained: on simulated nights alone, and on these with the eleven people. N1, N2 and REM are
known from simulation only, and nothing of ucddb018 enters training, tokenizer, normalisation or
the choice of a checkpoint.

Every step is a `sleeplm` command and keeps what an earlier call finished. Needs `yasa`.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
NIGHT = "ucddb018"
HELD_OUT = ("ucddb010", "ucddb021")  # chooses the checkpoint, with some simulated people
RK_WORDS = {0: "W", 4: "N3", 5: "N3"}


def sleeplm(*arguments: object) -> None:
    print("$ sleeplm", *arguments, flush=True)
    subprocess.run([sys.executable, "-m", "sleeplm_jax.cli", *map(str, arguments)], check=True)


def write_people(psg: Path, out: Path) -> list[str]:
    """The eleven people's epochs as EDF at their places in the night, flat where there is none
    (flat epochs are masked and dropped), with a BIDS scoring file."""
    import edfio

    out.mkdir(parents=True, exist_ok=True)
    names = []
    for path in sorted((psg / "epochs").glob("ucddb*.npz")):
        names.append(path.stem)
        edf = out / f"{path.stem}_eeg.edf"
        if edf.exists():
            continue
        with np.load(path, allow_pickle=False) as file:
            rate, samples = int(file["sfreq"]), file["x"].shape[1]
            night = np.zeros((int(file["n_epochs_night"]), samples))
            night[file["epoch_index"]] = file["x"] * float(file["scale"])
            rows = list(zip(file["epoch_index"].tolist(), file["stage_rk"].tolist()))
        with (out / f"{path.stem}_events.tsv").open("w", newline="") as file:
            writer = csv.writer(file, delimiter="\t")
            writer.writerow(["onset", "duration", "trial_type"])
            writer.writerows([30 * epoch, 30, RK_WORDS[code]] for epoch, code in rows)
        signal = edfio.EdfSignal(night.ravel(), rate, label="EEG", physical_dimension="mV")
        edfio.Edf([signal]).write(edf)
    return names


def copy_night(psg: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for suffix in ("_eeg.edf", "_hypnogram.edf"):
        shutil.copyfile(psg / f"{NIGHT}{suffix}", out / f"{NIGHT}{suffix}")


def yasa_probabilities(edf: Path) -> np.ndarray:
    """YASA's EEG-only probabilities `[E, 5]` in the order W, N1, N2, N3, R."""
    import mne
    import yasa

    raw = mne.io.read_raw_edf(edf, preload=True, verbose="error")
    # One unit of this file behaves like about 150 µV (its montage says so); YASA wants volts.
    raw.apply_function(lambda x: x * 1e3 * 150e-6)
    return yasa.SleepStaging(raw, eeg_name=raw.ch_names[0]).predict().proba[
        ["WAKE", "N1", "N2", "N3", "REM"]
    ].to_numpy()


def figures(true: np.ndarray, scores: np.ndarray) -> dict:
    """Five-class agreement, and wake against N3 on the epochs that are either."""
    from sklearn.metrics import accuracy_score, cohen_kappa_score, f1_score, roc_auc_score

    guess = scores.argmax(1)
    pair = (true == 0) | (true == 3)
    deep = scores[pair, 3] - scores[pair, 0]
    return {
        "epochs": len(true),
        "accuracy": accuracy_score(true, guess),
        "kappa": cohen_kappa_score(true, guess),
        "f1": dict(zip(("W", "N1", "N2", "N3", "R"),
                       f1_score(true, guess, average=None, labels=range(5), zero_division=0))),
        "wake_n3_epochs": int(pair.sum()),
        "wake_n3_kappa": cohen_kappa_score(true[pair] == 3, deep > 0),
        "wake_n3_auroc": roc_auc_score(true[pair] == 3, deep),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--psg", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("real_night"))
    parser.add_argument("--simulated", type=int, default=40, help="simulated nights")
    parser.add_argument("--hours", type=float, default=6.0)
    parser.add_argument("--steps", type=int, default=None)
    args = parser.parse_args()
    psg, out = args.psg / "ucddb_eeg", args.out

    people = write_people(psg, out / "people")
    copy_night(psg, out / "night")
    sleeplm("simulate", "--out", out / "simulated", "--nights", args.simulated,
            "--hours", args.hours, "--seed", 18)
    splits = out / "splits.csv"
    with splits.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["subject", "split"])
        writer.writerows([name, "val" if name in HELD_OUT else "train"] for name in people)
    night_split = out / "night_split.csv"
    night_split.write_text(f"subject,split\n{NIGHT},test\n")
    sleeplm("prepare", "--recordings", out / "night", "--out", out / "night_corpus",
            "--channels", "C3", "--splits", night_split)
    result = {"night": NIGHT}
    for name, recordings, more in (
        ("simulated", (out / "simulated",), ()),
        ("simulated_and_people", (out / "simulated", out / "people"), ("--splits", splits)),
    ):
        corpus = out / f"corpus_{name}"
        sleeplm("prepare", "--recordings", *recordings, "--out", corpus, "--channels", "C3", *more)
        sleeplm("tokenizer", "--corpus", corpus, "--vocab-size", 1024)
        sleeplm("train", HERE.parent / "one_eeg.py", "--out", out / "runs", "--name", name,
                "--data.corpus", corpus, *(("--steps", args.steps) if args.steps else ()))
        result[name] = stage_night(out / "runs" / name, out)
    print(json.dumps(result, indent=1))
    (out / "real_night.json").write_text(json.dumps(result, indent=1) + "\n")


def stage_night(run: Path, out: Path) -> dict:
    """Figures of one run on the night beside YASA's on the same epochs; writes its report."""
    from sleeplm_jax.captions.prompts import stage_prompts
    from sleeplm_jax.corpus.manifest import Corpus
    from sleeplm_jax.corpus.nightfile import dequantise
    from sleeplm_jax.evaluation.staging import stage_directions
    from sleeplm_jax.inference.run import Model
    from sleeplm_jax.physiology.measure import measure_night
    from sleeplm_jax.recordings.prepare import prepare_night
    from sleeplm_jax.reports.night import describe_night

    model = Model.load(run)
    for names in model.about["corpus"]["subjects"].values():
        assert not any(NIGHT in name for name in names), "the night was trained on"
    edf = out / "night" / f"{NIGHT}_eeg.edf"
    corpus = Corpus.open(out / "night_corpus")
    corpus.refuse_baseline("YASA")
    source = corpus.source("test")
    samples = [source[i] for i in range(len(source))]
    true = np.array([s["stage"] for s in samples])
    signal = dequantise(np.stack([s["signal"] for s in samples]), corpus.spec.channels)
    mask = np.stack([s["mask"] for s in samples])
    ours = model.embed_signals(signal, mask) @ stage_directions(model, stage_prompts()).T
    yasa_night = yasa_probabilities(edf)
    theirs = yasa_night[[s["epoch"] for s in samples]]
    scored = true >= 0
    night = prepare_night(edf, spec=model.spec)
    describe_night(model, night, measure_night(night), out / f"report_{run.name}.html",
                   others={"YASA": yasa_night.argmax(1)})
    return {
        "step": model.step,
        "prompted staging": figures(true[scored], ours[scored]),
        "YASA, EEG only": figures(true[scored], theirs[scored]),
    }


if __name__ == "__main__":
    main()
