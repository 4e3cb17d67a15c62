#!/usr/bin/env python3
"""Several processes of one training on this machine: one command for each rank, a log for each.

    python launch/local.py --processes 2 --devices 2 --logs logs -- \\
        sleeplm train experiments/small.py --data.corpus CORPUS

Each process is told its rank and the coordinator's address by environment variables that
`sleeplm train` reads. `--devices N` gives each process N CPU devices (for trying a topology
without accelerators); without it each takes its share of the GPUs of CUDA_VISIBLE_DEVICES, or of
those that `nvidia-smi` lists. Rank 0's log is shown as it grows; logs of earlier starts are kept,
a start adds to them.

Stopping this command (Ctrl-C, SIGTERM, SIGUSR1, a closed terminal) stops all, which save first;
a second Ctrl-C kills them at once. When one process fails, the others have five seconds to end by
themselves, then they are killed, with all that they started. If this command itself is killed,
the processes save and stop.

The exit status is that of the process that failed first; where several did, one that failed by
itself goes before one that only lost the others (134). A process that a signal killed counts as
128 + its number, as in a shell (137: SIGKILL, 134: abort). 124: nothing moved any more. 143:
stopped and saved, 130: by Ctrl-C.

Needs neither JAX nor this project's package: it may run on a login node.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

GRACE_S = 120.0  # after a stop was asked for, before processes are killed: a save takes a while
FAILED_GRACE_S = 5.0  # after a failure: the others cannot save without it, but say where they were
MISTAKE_GRACE_S = 2.0  # after status 2: nothing has begun
LOOK_S = 0.05
# Else two collectives of a step may meet in another order on another device: a hang, or gloo's
# "EnforceNotMet" (jaxlib 0.10, CPU).
IN_ORDER = "--xla_cpu_enable_concurrency_optimized_scheduler=false"
MISTAKE, LOST, INTERRUPTED = 2, 134, 130
STOPPED = (129, INTERRUPTED, 143)  # asked, saved
SAYS = {2: "a mistake of the input", 124: "nothing moved any more", 129: "stopped",
        130: "stopped", 134: "aborted: it lost another process", 137: "killed", 143: "stopped"}


@dataclasses.dataclass
class Rank:
    """One process, with all that it starts in its group."""

    number: int
    process: subprocess.Popen
    log: Path
    began: int  # where this start's lines begin in the log
    status: int | None = None
    killed: bool = False  # by this command, so its status tells nothing

    def look(self) -> bool:
        """Whether it has ended just now. What it left behind in its group ends with it."""
        # Not reaped before its group was swept: until then its number can be no other's.
        ended = os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is None:
            return False
        self.tell(signal.SIGKILL)
        code = self.process.wait()
        self.status = code if code >= 0 else 128 - code
        return True

    def tell(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    logs = Path(options.logs)
    logs.mkdir(parents=True, exist_ok=True)
    asked: list[int] = []
    ranks: list[Rank] = []

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, lambda number, frame: asked.append(number))
    try:
        start(options, logs, ranks)
        status = wait(ranks, asked, options)
    finally:
        for rank in ranks:
            if rank.status is None:
                rank.tell(signal.SIGKILL)
                rank.process.wait()
    for rank in ranks:
        if rank.status and not rank.killed and rank.status not in STOPPED:
            lines = rank.log.read_bytes()[rank.began :].decode(errors="replace").splitlines()
            if not (options.follow and rank.number == 0):
                complain(f"rank {rank.number}: the end of its log {rank.log}:")
                complain("\n".join(f"  {line}" for line in lines[-options.tail :]))
    return status


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", type=int, required=True, help="how many ranks")
    parser.add_argument("--devices", type=int, help="CPU devices of each process")
    parser.add_argument("--logs", default="logs", help="folder of rank-N.log")
    parser.add_argument("--follow", action=argparse.BooleanOptionalAction, default=True,
                        help="show rank 0's log as it grows")
    parser.add_argument("--port", type=int, help="of the coordinator; default: a free one")
    parser.add_argument("--tail", type=int, default=20, help="lines shown of a failed rank's log")
    parser.add_argument("--grace", type=float, default=GRACE_S,
                        help="seconds between asking all to stop and killing them")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="-- COMMAND ...")
    options = parser.parse_args(arguments)
    options.command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not options.command:
        parser.error("give the command after --, such as: -- sleeplm train FILE.py")
    if options.processes < 1 or (options.devices is not None and options.devices < 1):
        parser.error("--processes and --devices: give 1 or more")
    if shutil.which(options.command[0]) is None:
        parser.error(f"{options.command[0]}: no such command; is its environment active?")
    if options.port is not None and not is_free(options.port):
        parser.error(f"--port {options.port}: something listens there; leave it out to take a free "
                     "one")
    return options


def start(options: argparse.Namespace, logs: Path, ranks: list[Rank]) -> None:
    """One process a rank, each in a process group of its own; adds them to `ranks`."""
    port = options.port or free_port()
    gpus = [] if options.devices else visible_gpus()
    if gpus and len(gpus) % options.processes:
        raise SystemExit(f"{len(gpus)} GPUs do not divide over {options.processes} processes: "
                         "change --processes or CUDA_VISIBLE_DEVICES")
    for number in range(options.processes):
        environment = os.environ | {
            "SLEEPLM_COORDINATOR": f"127.0.0.1:{port}",
            "SLEEPLM_PROCESSES": str(options.processes),
            "SLEEPLM_PROCESS": str(number),
            "SLEEPLM_ONE_HOST": "1",  # a loopback address is right here
            "PYTHONUNBUFFERED": "1",  # a line is in the log when it is said, whatever comes
        }
        if options.devices:
            flags = os.environ.get("XLA_FLAGS", "")
            if IN_ORDER.partition("=")[0] not in flags:
                flags = f"{flags} {IN_ORDER}".strip()
            environment |= {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(options.devices),
                            "XLA_FLAGS": flags}
        elif gpus:
            share = len(gpus) // options.processes
            mine = gpus[number * share : (number + 1) * share]
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(mine)
        path = logs / f"rank-{number}.log"
        with path.open("ab") as log:
            log.write(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')}: rank {number} of "
                      f"{options.processes}\n".encode())
            log.flush()
            began = log.tell()
            process = subprocess.Popen(
                options.command, env=environment, stdout=log, stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=stop_with_launcher,
            )
        ranks.append(Rank(number, process, path, began))


def wait(ranks: list[Rank], asked: list[int], options: argparse.Namespace) -> int:
    """Until all have ended; the status to answer with. `asked` grows with the signals that come."""
    ended: list[Rank] = []
    told, grace, deadline, shown = False, None, float("inf"), ranks[0].began
    while len(ended) < len(ranks):
        time.sleep(LOOK_S)
        # Whoever ended within one look is taken together: a peer's loss may be noticed at once.
        now = [rank for rank in ranks if rank.status is None and rank.look()]
        ended += now
        left = [rank for rank in ranks if rank.status is None]
        if options.follow:
            shown = follow(ranks[0].log, shown)
        for rank in now:
            if rank.status and not rank.killed:
                complain(f"rank {rank.number} ended with status {rank.status}"
                         + (f" ({SAYS[rank.status]})" if rank.status in SAYS else ""))
        if asked and not told:
            told = True
            for rank in left:
                rank.tell(signal.SIGTERM)  # SIGINT is a terminal's, SIGTERM every command's
        before, first = grace, failed(ended)
        if first and first not in STOPPED:
            grace = MISTAKE_GRACE_S if first == MISTAKE else FAILED_GRACE_S
        elif asked or first:
            grace = options.grace
        if grace != before:
            deadline = min(deadline, time.monotonic() + grace)
        if asked.count(signal.SIGINT) > 1:
            deadline = 0
        for rank in left:
            if time.monotonic() > deadline and not rank.killed:
                complain(f"rank {rank.number} has not ended"
                         + (f" {grace:g} s later" if deadline else "") + ": killing it")
                rank.killed = True
                rank.tell(signal.SIGKILL)
    if options.follow:
        follow(ranks[0].log, shown)
    return answer(ended, asked)


def failed(ended: list[Rank]) -> int:
    """The first status that is a cause, else the first that is not 0; 0 without any."""
    found = [rank.status for rank in ended if rank.status and not rank.killed]
    causes = [status for status in found if status not in (LOST, *STOPPED)]
    lost = [status for status in found if status == LOST]
    return next(iter(causes + lost + found), 0)


def answer(ended: list[Rank], asked: list[int]) -> int:
    """This command's exit status."""
    status = failed(ended)
    if status == 0 and any(rank.killed for rank in ended):
        status = 128 + signal.SIGKILL
    if asked[:1] == [signal.SIGINT] and (status in (0, *STOPPED) or asked.count(signal.SIGINT) > 1):
        done = all(rank.status == 0 for rank in ended)
        status = 0 if done else INTERRUPTED
    return status


def follow(log: Path, shown: int) -> int:
    """Shows what the log has beyond `shown` bytes; how many it has now."""
    with log.open("rb") as file:
        file.seek(shown)
        new = file.read()
    if new:
        try:
            sys.stdout.buffer.write(new)
            sys.stdout.buffer.flush()
        except BrokenPipeError:  # the reader has enough; training goes on
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return shown + len(new)


def complain(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def stop_with_launcher() -> None:
    """In the new process: the kernel sends SIGTERM when the launcher is gone (Linux only)."""
    if LIBC is not None:
        LIBC.prctl(1, int(signal.SIGTERM))  # PR_SET_PDEATHSIG


def _libc():
    if not sys.platform.startswith("linux"):
        return None
    import ctypes

    return ctypes.CDLL(None)


LIBC = _libc()  # before any fork


def is_free(port: int) -> bool:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # not what only just closed
        try:
            taken.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


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
