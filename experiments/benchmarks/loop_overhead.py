"""What watching a training costs: time of a step with and without metrics, and how long the device
has nothing to do between steps.

    python experiments/benchmarks/loop_overhead.py                       # sleeplm-1m, batch 8
    python experiments/benchmarks/loop_overhead.py --preset sleeplm-base --batch 32 \
        --dtype bfloat16                                                  # on a GPU

One batch lies on the device, so loading takes no part. The ways take turns in short blocks, because
the machine's speed drifts; each block ends when its last step is done. Idle is the share of the
time in which the device had no step to do, as training.clock's thread sees it: to give it the next
one takes the host that long. Host is the processor time of the thread that trains, which other work
on the machine hardly changes. Medians of the blocks, the fastest one in brackets.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parent))
import model_sides as sides  # noqa: E402
from model_training_step import batch_of  # noqa: E402

WAYS = {
    "bare": "steps one after the other, two in flight at most",
    "silent": "the trainer's Reporter, no row due",
    "every tenth": "a row of metrics every 10 steps, TensorBoard too",
    "every step": "a row every step",
    "every step, TensorBoard": "a row every step, TensorBoard too",
    "at once": "every step's metrics read before the next step is given (not the trainer's way)",
}


def main() -> int:
    options = parse()
    import jax

    from sleeplm_jax.parallel.batches import BatchPlacer
    from sleeplm_jax.parallel.mesh import make_mesh
    from sleeplm_jax.training.step import Steps

    config = sides.configure(options.preset, options.dtype, options.small)
    config = dataclasses.replace(
        config, steps=10**9, data=dataclasses.replace(config.data, batch_size=options.batch)
    )
    mesh = make_mesh(config.mesh, jax.devices()[:1])
    deadline = time.monotonic() + options.budget
    with jax.set_mesh(mesh), tempfile.TemporaryDirectory() as folder:
        steps, batch = Steps(config, mesh), BatchPlacer(mesh, options.batch).place(batch_of(config))
        state = steps.init()
        held = {"state": state, "step": 0}
        block(steps, batch, held, config, Path(folder), "bare", 3)  # compiles
        found: dict[str, list[dict]] = {way: [] for way in WAYS}
        rounds = 0
        while rounds < options.rounds and time.monotonic() < deadline:
            for way in WAYS:
                found[way].append(
                    block(steps, batch, held, config, Path(folder), way, options.steps)
                )
            rounds += 1
    device = jax.devices()[0].device_kind
    print(f"{options.preset}, batch {options.batch}, {options.dtype}, {device}; {rounds} blocks of "
          f"{options.steps} steps each way; load {os.getloadavg()[0]:.1f}\n")
    print("| way | ms a step | host, ms a step | device idle |\n|---|---:|---:|---:|")
    for way, words in WAYS.items():
        times = [1e3 * one["s"] for one in found[way]]
        idle = median(one["idle"] for one in found[way])
        host = 1e3 * median(one["host_s"] for one in found[way])
        print(f"| {words} | {median(times):.2f} ({min(times):.2f}) | {host:.2f} | {idle:.1%} |")
    if options.json:
        options.json.write_text(json.dumps({"rounds": rounds, "ways": found}, indent=1) + "\n")
    return 0


def block(steps, batch, held: dict, config, folder: Path, way: str, count: int) -> dict:
    """`{"s", "host_s": seconds a step, "idle": share of the time}` of `count` steps in one way."""
    import jax

    from sleeplm_jax.training.clock import _Watch
    from sleeplm_jax.training.reporting import Reporter

    reported = way in ("silent", "every tenth", "every step", "every step, TensorBoard")
    config = dataclasses.replace(
        config, log_every={"silent": 10**9, "every tenth": 10}.get(way, 1),
        tensorboard=way in ("every tenth", "every step, TensorBoard"),
    )
    seen = Reporter(config, folder, held["step"], lambda line: None) if reported else None
    watch, idle = _Watch(time.monotonic), 0.0
    with seen or contextlib.nullcontext():
        flying = []
        began, host = time.monotonic(), time.thread_time()
        for number in range(count):
            since = watch.idle_since() if number else None
            if since is not None:
                idle += time.monotonic() - max(since, began)
            with seen.step(held["step"]) if seen else contextlib.nullcontext():
                held["state"], metrics = steps.train(held["state"], batch)
            held["step"] += 1
            watch.look(held["step"], metrics["loss"])
            if seen:
                seen.trained(held["step"], metrics)
                seen.read()
            elif way == "at once":
                {name: float(value) for name, value in metrics.items()}
            else:
                flying.append(metrics["loss"])
                if len(flying) > 2:
                    jax.block_until_ready(flying.pop(0))
        jax.block_until_ready(metrics["loss"])
        took, host = time.monotonic() - began, time.thread_time() - host
    watch.close()
    return {"s": took / count, "host_s": host / count, "idle": idle / took}


def parse() -> argparse.Namespace:
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    made.add_argument("--preset", default="sleeplm-1m")
    made.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    made.add_argument("--batch", type=int, default=8)
    made.add_argument("--steps", type=int, default=20, help="of a block")
    made.add_argument("--rounds", type=int, default=12)
    made.add_argument("--budget", type=float, default=400, help="seconds after which no round "
                      "begins")
    made.add_argument("--json", type=Path, help="where the figures are written")
    made.add_argument("--small", action="store_true", help=argparse.SUPPRESS)
    return made.parse_args()


if __name__ == "__main__":
    sys.exit(main())
