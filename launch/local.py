#!/usr/bin/env python3
"""Several processes of one training on this machine: one command for each rank, a log for each.

    python launch/local.py --processes 2 --devices 2 --logs logs -- \\
        sleeplm train experiments/small.py --data.corpus CORPUS

Each process is told its rank and the coordinator's address by environment variables that
`sleeplm train` reads. `--devices N` gives each process N CPU devices (for trying a topology
without accelerators); without it each takes its share of the GPUs of CUDA_VISIBLE_DEVICES, or of
those that `nvidia-smi` lists. Stopping this command (Ctrl-C, SIGTERM) stops all, which save first;
when one process fails, the others are stopped. The exit status is the first one that was not 0.

Needs neither JAX nor this project's package: it may run on a login node.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

GRACE_S = 120.0  # after a stop was asked for, before processes are killed: a save takes a while


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    logs = Path(options.logs)
    logs.mkdir(parents=True, exist_ok=True)
    ranks = start(options, logs)
    asked = 0

    def ask(number, frame):
        nonlocal asked
        asked = number
        # To processes of one training SIGTERM means: save the same step, then end. SIGINT does not.
        tell(ranks, signal.SIGTERM)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, ask)
    try:
        status = wait(ranks, lambda: asked, options.grace)
    finally:
        kill(ranks)
    for rank, process in enumerate(ranks):
        if process.returncode:
            print(f"rank {rank}: status {process.returncode}; the end of its log "
                  f"{logs / f'rank-{rank}.log'}:", file=sys.stderr)
            lines = (logs / f"rank-{rank}.log").read_text(errors="replace").splitlines()
            print("\n".join(f"  {line}" for line in lines[-options.tail:]), file=sys.stderr)
    return status


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", type=int, required=True, help="how many ranks")
    parser.add_argument("--devices", type=int, help="CPU devices of each process")
    parser.add_argument("--logs", default="logs", help="folder of rank-N.log")
    parser.add_argument("--port", type=int, help="of the coordinator; default: a free one")
    parser.add_argument("--tail", type=int, default=20, help="lines shown of a failed rank's log")
    parser.add_argument("--grace", type=float, default=GRACE_S,
                        help="seconds between asking the others to stop and killing them")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="-- COMMAND ...")
    options = parser.parse_args(arguments)
    options.command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not options.command:
        parser.error("give the command after --, such as: -- sleeplm train FILE.py")
    if options.processes < 1 or (options.devices is not None and options.devices < 1):
        parser.error("--processes and --devices: give 1 or more")
    if shutil.which(options.command[0]) is None:
        parser.error(f"{options.command[0]}: no such command; is its environment active?")
    return options


def start(options: argparse.Namespace, logs: Path) -> list[subprocess.Popen]:
    """One process a rank, each in a process group of its own."""
    port = options.port or free_port()
    gpus = [] if options.devices else visible_gpus()
    if gpus and len(gpus) % options.processes:
        raise SystemExit(f"{len(gpus)} GPUs do not divide over {options.processes} processes: "
                         "change --processes or CUDA_VISIBLE_DEVICES")
    ranks = []
    for rank in range(options.processes):
        environment = os.environ | {
            "SLEEPLM_COORDINATOR": f"127.0.0.1:{port}",
            "SLEEPLM_PROCESSES": str(options.processes),
            "SLEEPLM_PROCESS": str(rank),
            "SLEEPLM_ONE_HOST": "1",  # a loopback address is right here
        }
        if options.devices:
            environment |= {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(options.devices)}
        elif gpus:
            share = len(gpus) // options.processes
            mine = gpus[rank * share : (rank + 1) * share]
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(mine)
        with (logs / f"rank-{rank}.log").open("w") as log:
            ranks.append(subprocess.Popen(
                options.command, env=environment, stdout=log, stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL, start_new_session=True,
            ))
    return ranks


def wait(ranks: list[subprocess.Popen], asked, grace: float) -> int:
    """Until all have ended; the first status that was not 0. One failure stops the rest."""
    status, deadline = 0, None
    while any(process.poll() is None for process in ranks):
        failed = next((p.returncode for p in ranks if p.returncode), 0)
        if failed and not status:
            status = failed
            tell(ranks, signal.SIGTERM)
        if (status or asked()) and deadline is None:
            deadline = time.monotonic() + grace
        if deadline is not None and time.monotonic() > deadline:
            kill(ranks)
        time.sleep(0.05)
    return status or next((p.returncode for p in ranks if p.returncode), 0)


def tell(ranks: list[subprocess.Popen], number: int) -> None:
    for process in ranks:
        if process.poll() is None:
            try:
                os.killpg(process.pid, number)
            except ProcessLookupError:  # it ended just now
                pass


def kill(ranks: list[subprocess.Popen]) -> None:
    """The whole group of every rank, workers that a rank left behind included."""
    for process in ranks:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def visible_gpus() -> list[str]:
    """Names of the GPUs that may be used, as CUDA_VISIBLE_DEVICES has them; [] without any."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name for name in named.split(",") if name not in ("", "-1")]
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True)
    return [str(i) for i, _ in enumerate(listed.stdout.splitlines())] if not listed.returncode \
        else []


if __name__ == "__main__":
    sys.exit(main())
