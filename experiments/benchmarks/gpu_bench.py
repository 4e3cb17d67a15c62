"""All GPU figures in one command, under 8 minutes: attention, training step, captioning.

    python experiments/benchmarks/gpu_bench.py [--out FOLDER]       # or: make gpu-bench

bfloat16, sleeplm-base. Says so in one line where there is no GPU. Each part has its own limit of
time and writes its own JSON file; one that fails does not keep the others from being run.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
BASE = ["--preset", "sleeplm-base", "--device", "gpu", "--dtype", "bfloat16", "--rounds", "1"]
# part: arguments, seconds it may take (kept by the part itself, with a little to spare here)
PARTS = {
    "attention_gpu": ([], 60),
    "model_training_step": ([*BASE, "--batch", "32", "--steps", "10", "--repeats", "4"], 230),
    "model_captioning": ([*BASE, "--epochs", "128", "--batch", "128", "--repeats", "2"], 130),
}
SPARE_S = 15


def gpu() -> str:
    """Why there is none, or nothing. Asked in a process of its own, which lets go of it again."""
    ask = "import jax; print(jax.default_backend())"
    found = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True)
    if found.returncode:
        said = [line for line in found.stderr.splitlines() if line.strip()]
        return f"JAX does not start ({said[-1][:120] if said else found.returncode})"
    backend = found.stdout.split()[-1]
    return "" if backend == "gpu" else f"JAX runs on {backend} here; install the extra cuda"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("gpu_bench"), help="folder of the figures")
    options = parser.parse_args()
    if why := gpu():
        raise SystemExit(f"no GPU: {why}")
    options.out.mkdir(parents=True, exist_ok=True)
    failed, began = [], time.monotonic()
    for part, (arguments, budget) in PARTS.items():
        print(f"---- {part}", flush=True)
        command = [sys.executable, str(HERE / f"{part}.py"), *arguments,
                   "--json", str(options.out / f"{part}.json")]
        if arguments:
            command += ["--budget", str(budget)]
        try:
            failed += [part] * bool(subprocess.run(command, timeout=budget + SPARE_S).returncode)
        except subprocess.TimeoutExpired:
            print(f"{part} took more than {budget + SPARE_S} s and was stopped")
            failed.append(part)
    print(f"{time.monotonic() - began:.0f} s; figures in {options.out}")
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
