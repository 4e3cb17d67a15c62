"""One run of the ablations: trains a variant with a seed, measures it, adds its row to the ledger.

    python experiments/ablations/one.py --variant V --seed S --corpus CORPUS --ledger L --runs DIR

Called by run.py, a process for each row. Exit status 0: the row is in the ledger; 3: another
process is making it. A run that was stopped goes on from its checkpoint.
"""

from __future__ import annotations

import argparse
import functools
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

from figures import measure, metrics_of
from ledger import Ledger, code_hash, hash_of, imported
from recipe import NO_RESULT, get_config, sweep

from sleeplm_jax.config import RunConfig
from sleeplm_jax.config.files import flatten, from_dict, to_dict
from sleeplm_jax.config.validation import validate

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
# What decides a row's figures: all that training and measuring import, and the captions' words.
# What a corpus is made by is in its own hash.
STARTS = ("sleeplm_jax/training/loop.py", "sleeplm_jax/evaluation/suite.py",
          "sleeplm_jax/inference/run.py")
WORDS = ("sleeplm_jax/captions", "experiments/ablations/figures.py")
CLAIMED = 3


def configured(variant: str, seed: int, corpus: Path, runs: Path) -> RunConfig:
    """The base's config with the variant's fields; raises ConfigError where they do not fit."""
    values = to_dict(get_config())
    changes = sweep()[variant] | {
        "seed": seed, "data.corpus": str(corpus), "out": str(runs),
        "name": f"{variant.replace(' ', '_')}-{seed}",
    }
    for path, value in changes.items():
        *parents, name = path.split(".")
        place = values
        for parent in parents:
            place = place[parent]
        if name not in place:
            raise KeyError(path)
        place[name] = value
    return validate(from_dict(RunConfig, values))


def recipe_hash(config: RunConfig) -> str:
    """Of the fields that differ from their defaults, so that a field added later, at a default that
    changes nothing, makes no row anew."""
    plain = flatten(RunConfig())
    return hash_of({
        name: value for name, value in flatten(config).items()
        if value != plain[name] and name not in (*NO_RESULT, "seed")
    })


def key_for(variant: str, seed: int, corpus) -> dict:
    """The row's key; corpus: an opened `Corpus`."""
    config = configured(variant, seed, Path("corpus"), Path("runs"))
    return {
        "variant": variant, "seed": seed, "recipe": recipe_hash(config),
        "code": code(), "corpus": corpus.hash[:16],
        "tokenizer": corpus.tokenizer().hash[:16],
    }


@functools.cache
def code() -> str:
    """As this process found it when it first asked."""
    return code_hash(ROOT, {*imported(ROOT, "sleeplm_jax", STARTS), *WORDS})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variant", required=True, choices=sweep())
    parser.add_argument("--seed", type=int, required=True)
    for name in ("corpus", "ledger", "runs"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    args = parser.parse_args()
    from sleeplm_jax.corpus.manifest import Corpus
    from sleeplm_jax.errors import Interrupted, UserError

    ledger = Ledger(args.ledger)
    try:
        corpus = Corpus.open(args.corpus)
        key = key_for(args.variant, args.seed, corpus)
        with ledger.claim(key) as mine:
            if not mine:
                return CLAIMED
            if not ledger.holds(key):
                ledger.add(made(key, args, corpus))
    except Interrupted as stopped:
        return stopped.status
    except UserError as error:
        print(f"ablations: {error}", file=sys.stderr)
        return 2
    return 0


def made(key: dict, args, corpus) -> dict:
    """Trains (or goes on training) and measures; the row."""
    from sleeplm_jax.training.loop import train

    start, load = time.monotonic(), os.getloadavg()[0]
    runs = args.runs / hash_of([key["recipe"], key["code"], key["corpus"], key["tokenizer"]])[:8]
    config = configured(args.variant, args.seed, args.corpus, runs)
    resumed = Path(config.folder).exists()
    run = train(config, lambda line: print(line, flush=True))
    trained = _cpu()
    result = measure(run, corpus)
    return key | {
        "metrics": metrics_of(result),
        "test": {name: result[name] for name in ("subjects", "epochs", "simulated")},
        "cost": {
            "cpu_s": round(_cpu(), 1), "training_cpu_s": round(trained, 1),
            "wall_s": round(time.monotonic() - start, 1), "load_at_start": round(load, 1),
            "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            "resumed": resumed,
        },
        "versions": _versions(),
    }


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _versions() -> dict:
    import jax

    commit = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True
    )
    changed = subprocess.run(
        ["git", "-C", str(ROOT), "status", "--porcelain", "sleeplm_jax", *WORDS],
        capture_output=True, text=True,
    )
    return {
        "jax": jax.__version__, "python": platform.python_version(),
        "commit": commit.stdout.strip() + ("+changes" if changed.stdout.strip() else ""),
    }


if __name__ == "__main__":
    sys.exit(main())
