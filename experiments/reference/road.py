"""The road of a reference experiment: simulate, prepare, train and measure, and a table at the end.

Called by reference_cpu.py and reference_gpu.py. Each step is a `sleeplm` command, and keeps what an
earlier call finished.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from reference.pieces import NIGHT, SHORT, bring, folder_of_pieces
from reference.simulated import people, sleeplm, write_splits
from reference.sizing import say


@dataclass(frozen=True)
class Cohort:
    """Simulated nights, a person each, and how many of them train, choose and are measured."""

    hours: float
    train: int
    val: int
    test: int
    seed: int

    @property
    def nights(self) -> int:
        return self.train + self.val + self.test


def main(experiment: Path, cohort: Cohort, peak: float, mfu: float, vocabulary: int = 2048) -> int:
    """Runs `experiment` for each seed asked for; writes OUT/reference.json.

    peak, mfu: FLOP/s of the hardware and the share of them that `--size` reckons with.
    """
    from sleeplm_jax.errors import UserError

    parser = argparse.ArgumentParser(prog=experiment.name)
    parser.add_argument("--out", type=Path, default=Path(experiment.stem))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the training")
    parser.add_argument("--no-real", action="store_true", help="leave real recordings aside")
    parser.add_argument("--size", action="store_true", help="say what it costs and run nothing")
    args, overrides = parser.parse_known_args()
    if args.size:
        say(experiment, vocabulary, peak, mfu)
        return 0
    spent = Spent()
    try:
        real = make_corpora(args.out, cohort, vocabulary, spent, args.no_real)
        found = {}
        for seed in args.seeds:
            name = f"{experiment.stem}-{seed}"
            sleeplm("train", experiment, "--out", args.out / "runs", "--name", name, "--seed", seed,
                    "--data.corpus", args.out / "corpus", *overrides)
            spent.lap(f"train, seed {seed}")
            found[seed] = measure(args.out / "runs" / name, args.out, real)
            spent.lap(f"measure, seed {seed}")
            write(args.out, experiment, found, spent, real)
    except UserError as error:
        print(f"{experiment.stem}: {error}", file=sys.stderr)
        return 2
    print((args.out / "reference.txt").read_text())
    return 0


def make_corpora(out: Path, cohort: Cohort, vocabulary: int, spent: Spent, alone: bool) -> bool:
    """OUT/corpus, and of real recordings OUT/corpus_night and OUT/corpus_short; whether there are
    any."""
    sleeplm("simulate", "--out", out / "simulated", "--nights", cohort.nights,
            "--hours", cohort.hours, "--seed", cohort.seed)
    spent.lap("simulate")
    psg = None if alone else folder_of_pieces()
    recordings, train = [out / "simulated"], []
    if psg is None:
        print("No real recordings are used" + ("." if alone else (
            ": name their folder by SLEEPLM_PSG, or put it at ../shared/psg.")), flush=True)
    else:
        folders = bring(psg, out / "real")
        train = sorted(path.stem.split("_")[0] for path in folders["unscored"].glob("*.edf"))
        recordings.append(folders["unscored"])
        print(f"Real recordings from {psg}: {len(train)} people to train on, without their stages; "
              f"{NIGHT} and {len(list(folders['short'].iterdir()))} short ones to measure on.",
              flush=True)
        for name, subjects in (("night", [NIGHT]), ("short", SHORT.values())):
            write_splits(out / f"splits_{name}.csv", dict.fromkeys(subjects, "test"))
            sleeplm("prepare", "--recordings", folders[name], "--out", out / f"corpus_{name}",
                    "--splits", out / f"splits_{name}.csv")
    splits = {"train": cohort.train, "val": cohort.val, "test": cohort.test}
    write_splits(out / "splits.csv",
                 people(splits, cohort.seed) | dict.fromkeys(train, "train"))
    sleeplm("prepare", "--recordings", *recordings, "--out", out / "corpus", "--splits",
            out / "splits.csv")
    sleeplm("tokenizer", "--corpus", out / "corpus", "--vocab-size", vocabulary)
    spent.lap("prepare")
    return psg is not None


def measure(run: Path, out: Path, real: bool) -> dict[str, dict]:
    """`evaluation.suite.evaluate` on the simulated test people and on each real corpus."""
    from sleeplm_jax.corpus.manifest import Corpus
    from sleeplm_jax.evaluation.suite import evaluate
    from sleeplm_jax.inference.run import Model

    model = Model.load(run)
    places = {"simulated": out / "corpus"}
    if real:
        places |= {name: out / f"corpus_{name}" for name in ("night", "short")}
    return {
        name: evaluate(model, Corpus.open(corpus), "test", run / f"evaluation-{name}.json",
                       progress=False)
        for name, corpus in places.items()
    }


def summary(result: dict) -> dict[str, float | None]:
    """The figures of a header, of what `evaluate` gave; None where there is none."""
    def at(*path):
        found = result
        for name in path:
            found = found.get(name) if isinstance(found, dict) else None
        return found

    gain = None
    if at("captions", "total", "other_signal"):
        gain = at("captions", "total", "other_signal", "loss") - at("captions", "total", "loss")
    stage = ("captions", "kinds", "stage_event", "generated", "stage", "agreement")
    return {
        "prompted staging, kappa": at("prompted_staging", "in_template", "kappa"),
        "held-out wordings, kappa": at("prompted_staging", "held_out", "kappa"),
        "linear head, kappa": at("linear_head", "kappa"),
        "retrieval of 100, text to signal, R@1": at("retrieval", "all_kinds", "text_to_signal",
                                                    "R@1"),
        "retrieval of 100, text to signal, R@10": at("retrieval", "all_kinds", "text_to_signal",
                                                     "R@10"),
        "caption loss, nats/token": at("captions", "total", "loss"),
        "  lost with another epoch's signal": gain,
        "captions with the right stage": at(*stage),
    }


def write(out: Path, experiment: Path, found: dict, spent: Spent, real: bool) -> None:
    """OUT/reference.json, and OUT/reference.txt for people."""
    figures = {
        place: {seed: summary(results[place]) for seed, results in found.items()}
        for place in next(iter(found.values()))
    }
    titles = {
        "simulated": "SIMULATED people never trained on",
        "night": f"one real night ({NIGHT}, UCDDB, one EEG), its person never trained on",
        "short": "eight minutes of three real people: too few epochs for any claim",
    }
    lines = []
    for place, seeds in figures.items():
        first = found[next(iter(found))][place]
        lines.append(f"{titles[place]}: {first['subjects']} people, {first['epochs']:,} epochs")
        for name in next(iter(seeds.values())):
            values = [seeds[seed][name] for seed in seeds]
            if None not in values:
                lines.append(f"  {name:<42}" + "  ".join(f"{value:6.3f}" for value in values))
    lines.append(f"CPU-seconds: {', '.join(f'{n} {s:.0f}' for n, s in spent.cpu.items())}; by the "
                 f"clock {sum(spent.wall.values()):.0f} s at a load of {os.getloadavg()[0]:.1f}")
    (out / "reference.txt").write_text("\n".join(lines) + "\n")
    (out / "reference.json").write_text(json.dumps({
        "experiment": experiment.name, "real": real, "figures": figures, "cpu_s": spent.cpu,
        "wall_s": spent.wall, "cores": os.cpu_count(),
    }, indent=1) + "\n")


class Spent:
    """CPU-seconds and seconds of each step, this process and its children together."""

    def __init__(self):
        self.cpu, self.wall = {}, {}
        self._cpu, self._wall = self._now()

    def _now(self) -> tuple[float, float]:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF,
                                                    resource.RUSAGE_CHILDREN)]
        return sum(u.ru_utime + u.ru_stime for u in used), time.monotonic()

    def lap(self, name: str) -> None:
        cpu, wall = self._now()
        self.cpu[name], self.wall[name] = round(cpu - self._cpu, 1), round(wall - self._wall, 1)
        self._cpu, self._wall = cpu, wall
