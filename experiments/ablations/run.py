"""Runs the ablations: everything that the ledger does not hold yet, one run at a time.

    python experiments/ablations/run.py --work ablations            # all variants, seeds 0, 1, 2
    python experiments/ablations/run.py --work ablations --list     # what is there, what is missing
    python experiments/ablations/report.py                          # the table of docs/ablations.md

Stop it whenever you like and give the same command again, on another day or several at once: rows
that are in the ledger are never made anew, and a run that was cut off goes on from its checkpoint.
A row is another one when its recipe, code, corpus or tokenizer changed. After a change of code the
base's first seed is run again: where all its figures are the old ones, the old rows stand, else all
are made anew.

WORK holds the simulated nights, the corpus and the runs; keep it, for another corpus means other
rows. Hardware: 2 CPU cores, 3 GB of memory; time: recipe.py.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time
from pathlib import Path

from ledger import Ledger, equal_codes
from one import CLAIMED, HERE, key_for
from recipe import CHANNELS, HOURS, SEED, SPLITS, VOCABULARY, sweep

from sleeplm_jax.errors import UserError

sys.path.insert(1, str(HERE.parent))
from reference.simulated import Nights, environment, make_corpus  # noqa: E402

LEDGER = HERE / "ledger.jsonl"


def compiled(work: Path) -> dict[str, str]:
    """A folder for what XLA compiles: most variants differ in numbers, not in programs."""
    return {
        "JAX_COMPILATION_CACHE_DIR": str(work / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
    }


def make_row(variant: str, seed: int, args, corpus: Path) -> int:
    """Exit status of one.py for this row; a signal to this process is handed on to it."""
    log = args.work / "logs" / f"{variant.replace(' ', '_')}-{seed}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        child = subprocess.Popen(
            [sys.executable, str(HERE / "one.py"), "--variant", variant, "--seed", str(seed),
             "--corpus", str(corpus), "--ledger", str(args.ledger), "--runs",
             str(args.work / "runs")],
            stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
            env=environment() | compiled(args.work),
        )

        def stop(number, frame):
            child.send_signal(signal.SIGTERM)
            child.wait()
            raise SystemExit(128 + number)

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)
        return child.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("ablations"))
    parser.add_argument("--ledger", type=Path, default=LEDGER)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", default=list(sweep()), choices=list(sweep()),
                        metavar="VARIANT")
    parser.add_argument("--minutes", type=float, help="start no run after this time")
    parser.add_argument("--list", action="store_true", help="say what is there and run nothing")
    args = parser.parse_args()
    try:
        return run(args)
    except UserError as error:
        print(f"ablations: {error}", file=sys.stderr)
        return 2


def run(args) -> int:
    from sleeplm_jax.corpus.manifest import Corpus

    args.work, args.ledger = args.work.resolve(), args.ledger.resolve()
    corpus = make_corpus(args.work, Nights(SPLITS, HOURS, SEED, CHANNELS, VOCABULARY))
    opened, ledger = Corpus.open(corpus), Ledger(args.ledger)
    keys = {(variant, seed): key_for(variant, seed, opened)
            for seed in args.seeds for variant in args.only}
    first = next(iter(keys))  # proves or disproves the rows of other code

    def there(row: tuple[str, int]) -> bool:
        codes = () if row == first else equal_codes(ledger.rows(), keys[row]["code"])
        return ledger.holds(keys[row], codes)

    missing = [row for row in keys if not there(row)]
    print(f"{len(keys) - len(missing)} of {len(keys)} rows are in {args.ledger}", flush=True)
    if args.list:
        for variant, seed in missing:
            print(f"missing: {variant}, seed {seed}")
        return 0
    start, failed = time.monotonic(), 0
    for variant, seed in missing:
        if args.minutes is not None and time.monotonic() - start > 60 * args.minutes:
            break
        if there((variant, seed)):  # made meanwhile, or proved by the first
            continue
        began = time.monotonic()
        status = make_row(variant, seed, args, corpus)
        failed += status not in (0, CLAIMED)
        words = {0: "done", CLAIMED: "is being made by another process"}.get(
            status, f"failed with status {status}, see {args.work}/logs")
        print(f"{variant}, seed {seed}: {words} ({time.monotonic() - began:.0f} s)", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
