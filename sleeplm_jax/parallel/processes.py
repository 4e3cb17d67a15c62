"""How the processes of one training find each other: the one caller of `jax.distributed`.

JAX ends a process with a stack trace when another one does not come in time, and cannot say which.
So the ranks call the roll first, over the coordinator's port, before JAX listens on it: every rank
learns who is missing, and where the others run.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable

from sleeplm_jax.errors import ConfigError, UserError, as_user_error
from sleeplm_jax.parallel.ranks import Rank, checked, gpus_here, is_loopback, rank_here

START_TIMEOUT_S = 300  # for all ranks to come; queues start nodes minutes apart
HEARTBEAT_S = 100  # without a sign of life from a rank, the others end (status 134)
LINE_BYTES = 4096
LOST = 128 + signal.SIGABRT  # status of a process that lost another one; JAX's own way is an abort
# How collectives and the coordinator say that a process is gone.
_LOST = re.compile(
    r"gloo|nccl|connection (reset|closed|refused)|socket closed|heartbeat|broken pipe|\bUNAVAILABLE"
    r"|barrier.*(timed out|fail)|task.*(died|disconnected|error state|not healthy|unhealthy)",
    re.IGNORECASE,
)


class MissingRanks(UserError):
    """Not all processes came in time."""


def connect(
    say: Callable[[str], None] = print,
    *,
    rank: Rank | None = None,
    start_timeout: float = START_TIMEOUT_S,
    heartbeat: int = HEARTBEAT_S,
) -> int:
    """Joins this process to the others of its training; returns its rank (0 for one alone).

    Which one it is: `rank`, else what the environment says (ranks.py), else the only one. To be
    called once, before any JAX computation. Rank 0 says who came, then each rank says a line of the
    table: host, process, devices, coordinator. Raises MissingRanks, on every rank that did come,
    and ConfigError for an environment that cannot be.
    """
    own = rank_here() if rank is None else checked(rank)
    if own is None or own.processes == 1:
        return 0
    gpus = gpus_here()
    table = roll_call(own, start_timeout)
    if own.process == 0:
        for number, row in enumerate(table):
            say(f"rank {number}: {row['host']}, process {row['pid']}")
    import jax

    jax.config.update("jax_enable_preemption_service", False)  # asked.py, in place of it
    jax.distributed.initialize(
        own.coordinator, own.processes, own.process, local_device_ids=gpus,
        cluster_detection_method="deactivate", initialization_timeout=int(start_timeout),
        heartbeat_timeout_seconds=heartbeat,
    )
    with leaving():
        say(table_row(own, jax.local_devices()))
    return own.process


def table_row(rank: Rank, devices: list) -> str:
    """`rank 1 of 2: node-2, process 4123, 8 devices (NVIDIA H100), coordinator node-1:29500 ...`"""
    count = f"{len(devices)} device{'s' if len(devices) != 1 else ''}"
    kinds = ", ".join(sorted({device.device_kind for device in devices}))
    return (f"rank {rank.process} of {rank.processes}: {socket.gethostname()}, process "
            f"{os.getpid()}, {count} ({kinds}), coordinator {rank.coordinator}, told by "
            f"{rank.told_by}")


def meet(name: str, timeout: float = START_TIMEOUT_S) -> None:
    """Waits for all processes at a point that `name` names; each name serves once.

    Raises MissingRanks when they do not all come. A barrier of the coordinator's, not of the
    devices: it has a limit of its own and says who is late.
    """
    client, _, _ = coordination()
    if client is None:
        return
    try:
        client.wait_at_barrier(name, int(timeout * 1000))
    except Exception as error:
        raise MissingRanks(
            f"barrier {name}", first_line(error)[:300], "see the missing rank's log"
        ) from error


def coordination():
    """`(client, rank, processes)` of JAX's coordination service; no client for one alone.

    The public barriers run on the devices and wait for ever; these have limits of their own.
    """
    import jax

    if jax.process_count() == 1:
        return None, 0, 1
    from jax._src import distributed

    return distributed.global_state.client, jax.process_index(), jax.process_count()


def first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]


@contextlib.contextmanager
def leaving():
    """Ends this process at once when it alone of several fails, its error said in one line.

    An ordinary exit would wait minutes for the others, who wait for this one in a collective. The
    status is 2 for what a user can mend, 134 where another process was lost, else 1. Interrupted
    is raised in all of them together and passes.
    """
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        import jax

        if jax.process_count() == 1:
            raise
        rank = f"sleeplm: rank {jax.process_index()}"
        if isinstance(error, KeyboardInterrupt):
            status, line = 130, "interrupted"
        elif (cause := lost(error)) is not None:
            status, line = LOST, f"lost another process, see its log ({first_line(cause)[:300]})"
        elif isinstance(error, (UserError, OSError, MemoryError)):
            status, line = 2, as_user_error(error)
        else:
            status, line = 1, traceback.format_exc()
        print(f"{rank}: {line}", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def lost(error: BaseException) -> BaseException | None:
    """What tells, in an error or in what caused it, that another process is gone."""
    while error is not None:
        if type(error).__name__ in ("JaxRuntimeError", "XlaRuntimeError", "BarrierTimeoutError"):
            return error if _LOST.search(str(error)) else None
        error = error.__cause__ or error.__context__
    return None


def roll_call(rank: Rank, timeout: float) -> list[dict]:
    """What every rank says of itself, in the order of ranks, known to all of them.

    Raises MissingRanks naming those that did not come within `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    own = {"rank": rank.process, "host": socket.gethostname(), "pid": os.getpid(),
           "processes": rank.processes}
    answer = _call(rank, own, deadline) if rank.process == 0 else _answer(rank, own, deadline)
    if answer.get("missing"):
        missing = ", ".join(str(rank) for rank in answer["missing"])
        raise MissingRanks(
            f"rank {missing}", f"did not come within {timeout:.0f} s "
            f"(of {rank.processes} processes, coordinator {rank.coordinator})",
            "see that rank's log; a name that does not resolve and a firewall are common",
        )
    if answer.get("conflict"):
        raise ConfigError("SLEEPLM_PROCESS", answer["conflict"], "give every process its own rank")
    return answer["table"]


def _call(rank: Rank, own: dict, deadline: float) -> dict:
    """Rank 0: hears the others, then tells all of them what it heard."""
    host, _, port = rank.coordinator.rpartition(":")
    heard, lines, conflict = {0: own}, [], None
    # As JAX binds: all addresses of the machine, whatever name the others know it by.
    near = rank.one_host and is_loopback(host)
    with _listener(near) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        address = "127.0.0.1" if near else "::" if server.family == socket.AF_INET6 else "0.0.0.0"
        try:
            server.bind((address, int(port)))
        except OSError as error:
            raise ConfigError(
                "SLEEPLM_COORDINATOR", f"port {port} cannot be listened on ({error.strerror})",
                "choose another port, or end what holds it",
            ) from error
        server.listen(rank.processes)
        while len(heard) < rank.processes and conflict is None:
            server.settimeout(max(deadline - time.monotonic(), 0.01))
            try:
                line, _ = server.accept()
            except TimeoutError:
                break
            line.settimeout(5)
            row = _read(line)
            if row is None:  # a port scanner, or a rank that was killed just then
                line.close()
                continue
            lines.append(line)
            if row["rank"] in heard or row["processes"] != rank.processes:
                first = heard.get(row["rank"], own)
                conflict = (
                    f"rank {row['rank']} of {row['processes']} on {row['host']} does not fit rank "
                    f"{first['rank']} of {first['processes']} on {first['host']}"
                )
            heard[row["rank"]] = row
        answer = {
            "missing": sorted(set(range(rank.processes)) - set(heard)) if not conflict else [],
            "conflict": conflict,
            "table": [heard[rank] for rank in sorted(heard)],
        }
        for line in lines:
            try:
                line.sendall(json.dumps(answer).encode() + b"\n")
            except OSError:
                pass  # it ended meanwhile; JAX's heartbeat notices
            line.close()
    return answer


def _listener(near: bool) -> socket.socket:
    if not near:
        with contextlib.suppress(OSError):  # a machine without IPv6
            server = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
            server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            return server
    return socket.socket(socket.AF_INET, socket.SOCK_STREAM)


def _answer(rank: Rank, own: dict, deadline: float) -> dict:
    """Another rank: says its name until rank 0 is there, then hears who came."""
    host, _, port = rank.coordinator.rpartition(":")
    while time.monotonic() < deadline:
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=5) as line:
                line.sendall(json.dumps(own).encode() + b"\n")
                # Rank 0 answers when it gives up at the latest; it may have started later.
                line.settimeout(max(deadline - time.monotonic(), 0) + 30)
                answer = _read(line)
                if answer is not None:
                    return answer
        except OSError:  # rank 0 is not listening yet, or its name is not known yet
            pass
        time.sleep(0.2)
    return {"missing": [0]}


def _read(line: socket.socket) -> dict | None:
    """One JSON line, or None for anything else."""
    received = b""
    try:
        while not received.endswith(b"\n"):
            piece = line.recv(LINE_BYTES)
            if not piece or len(received) > 1_000_000:
                return None
            received += piece
        value = json.loads(received)
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
