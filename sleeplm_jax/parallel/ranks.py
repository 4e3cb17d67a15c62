"""Which of a training's processes this one is: by the launchers' variables, else by what SLURM,
Google's Kubernetes or a TPU machine tell, else the only one.

Nothing here imports JAX. JAX's own detection is not used: it takes a shell in a SLURM job for one
of its tasks, and starts no roll (processes.py).
"""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import re
import socket
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from sleeplm_jax.errors import ConfigError

TPU_PORT = 8482  # as JAX's own; libtpu's are 8471 and 8431
GOOGLE = "0x1ae0"  # PCI vendor of TPU chips, and of Google's network cards
# Devices of v2 and v3, plc, v4, v5p, v5e, v6e and 7x, as jax/_src/hardware_utils.py has them.
CHIPS = ("0x0027", "0x0056", "0x005e", "0x0062", "0x0063", "0x006f", "0x0076")
PCI = Path("/sys/bus/pci/devices")
METADATA_S = 10.0


@dataclasses.dataclass(frozen=True)
class Rank:
    """One process among those of a training."""

    coordinator: str  # host:port of rank 0
    processes: int
    process: int
    one_host: bool = False  # all of them on this machine
    told_by: str = "the launcher"


def rank_here(environment: Mapping[str, str] | None = None, pci: Path = PCI) -> Rank | None:
    """This process' rank by its environment, the first of these that is there; None for one alone.

    - `SLEEPLM_COORDINATOR` (host:port), `SLEEPLM_PROCESSES`, `SLEEPLM_PROCESS`, from launch/. The
      last two may come from SLURM or from an indexed Kubernetes job.
    - A task of a SLURM step that has several: its first node is the coordinator.
    - `JAX_COORDINATOR_ADDRESS`, `NNODES` and `NODE_RANK`, which xpk gives GPU jobs on Kubernetes.
    - `TPU_WORKER_HOSTNAMES` and `TPU_WORKER_ID`, which Google's Kubernetes gives TPU pods; of
      several slices `MEGASCALE_NUM_SLICES`, `_SLICE_ID`, `_COORDINATOR_ADDRESS`.
    - On a machine with TPU chips: what its metadata server says of the slice's workers.

    `SLEEPLM_PROCESSES=1` alone says that it is the only one, whatever else is there. Raises
    ConfigError for values that cannot be.
    """
    given = os.environ if environment is None else environment
    if given.get("SLEEPLM_PROCESSES") == "1":
        return None
    for look in (_of_launcher, _of_slurm, _of_xpk, _of_tpu_pod):
        found = look(given)
        if found is not None:
            return checked(found) if found.processes > 1 else None
    found = _of_tpu_machine(given, pci)
    return checked(found) if found is not None and found.processes > 1 else None


def checked(rank: Rank) -> Rank:
    """The rank; ConfigError where it cannot be."""
    host, _, port = rank.coordinator.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ConfigError("SLEEPLM_COORDINATOR", f"is {rank.coordinator!r}",
                          "give host:port of rank 0")
    if not 0 <= rank.process < rank.processes:
        raise ConfigError(
            "SLEEPLM_PROCESS", f"is {rank.process} of {rank.processes} processes",
            "ranks count from 0 to one less than the processes",
        )
    # Debian's hosts call themselves 127.0.1.1, by a name that leads the others to a real address.
    own = rank.process == 0 and host in (socket.gethostname(), socket.getfqdn())
    own = own and not host.startswith("localhost")
    if rank.processes > 1 and not rank.one_host and not own and is_loopback(host):
        raise ConfigError(
            "SLEEPLM_COORDINATOR", f"{rank.coordinator} is reached from its own host only",
            "give an address of rank 0 that the other hosts reach, or start all ranks on this "
            "machine by launch/local.py",
        )
    return rank


def is_loopback(host: str) -> bool:
    """Whether an address or a name leads to the machine that asks."""
    try:
        found = {info[4][0] for info in socket.getaddrinfo(host, None)}
    except OSError:  # no such name here: the connection will say so
        return False
    return all(ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in found)


def gpus_here(environment: Mapping[str, str] | None = None) -> list[int] | None:
    """This task's share of its node's GPUs, where SLURM shows all of them to each task of a node.

    Indices into CUDA_VISIBLE_DEVICES; None where there is nothing to share out. Raises ConfigError
    where they do not divide.
    """
    given = os.environ if environment is None else environment
    visible = [one for one in given.get("CUDA_VISIBLE_DEVICES", "").split(",") if one]
    tasks = _tasks_on(given.get("SLURM_STEP_TASKS_PER_NODE", ""), given.get("SLURM_NODEID", "0"))
    # Fewer than the node's are this task's own already (--gpus-per-task).
    if tasks < 2 or not visible or str(len(visible)) != given.get("SLURM_GPUS_ON_NODE"):
        return None
    if len(visible) % tasks:
        raise ConfigError("CUDA_VISIBLE_DEVICES", f"{len(visible)} GPUs do not divide over {tasks} "
                          "tasks of this node", "change --ntasks-per-node or the GPUs")
    share, local = len(visible) // tasks, int(given["SLURM_LOCALID"])
    return list(range(local * share, (local + 1) * share))


def _number(given: Mapping[str, str], *names: str) -> int:
    """The first of these variables that is there, as a number."""
    found = next((name for name in names if given.get(name)), names[0])
    value = given.get(found, "")
    if not value.isdigit():
        raise ConfigError(found, f"is {value!r}", "give a whole number, or use a launcher")
    return int(value)


def _of_launcher(given: Mapping[str, str]) -> Rank | None:
    coordinator = given.get("SLEEPLM_COORDINATOR", "")
    if not coordinator:
        return None
    return Rank(
        coordinator, _number(given, "SLEEPLM_PROCESSES", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"),
        _number(given, "SLEEPLM_PROCESS", "SLURM_PROCID", "JOB_COMPLETION_INDEX"),
        one_host=given.get("SLEEPLM_ONE_HOST") == "1",
    )


def _of_slurm(given: Mapping[str, str]) -> Rank | None:
    """A batch script and an allocation's shell have SLURM_NTASKS too, but no step."""
    if given.get("SLURM_STEP_NUM_TASKS", "1") == "1" or not given.get("SLURM_STEP_NODELIST"):
        return None
    port = 20000 + _number(given, "SLURM_JOB_ID") % 10000
    return Rank(
        f"{first_node(given['SLURM_STEP_NODELIST'])}:{port}",
        _number(given, "SLURM_STEP_NUM_TASKS"), _number(given, "SLURM_PROCID"),
        one_host=given.get("SLURM_STEP_NUM_NODES") == "1" or given.get("SLEEPLM_ONE_HOST") == "1",
        told_by="SLURM",
    )


def first_node(nodes: str) -> str:
    """The first name of SLURM's short form of several: `gpu[03-05,9],cpu1` is gpu03."""
    found = re.match(r"([^,\[]+)(?:\[(\d+)[^\]]*\]([^,\[]*))?", nodes)
    if found is None:
        raise ConfigError("SLURM_STEP_NODELIST", f"is {nodes!r}",
                          "give SLEEPLM_COORDINATOR, host:port of rank 0")
    return "".join(part or "" for part in found.groups())


def _tasks_on(per_node: str, node: str) -> int:
    """`2(x3),1` is 2, 2, 2, 1: of which the one of this node; 1 where nothing is said."""
    counts: list[int] = []
    for count, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", per_node):
        counts += [int(count)] * int(times or 1)
    index = int(node) if node.isdigit() else 0
    return counts[index] if index < len(counts) else 1


def _of_xpk(given: Mapping[str, str]) -> Rank | None:
    coordinator = given.get("JAX_COORDINATOR_ADDRESS", "")
    if not coordinator or not given.get("NNODES") or not given.get("NODE_RANK"):
        return None
    if ":" not in coordinator:
        coordinator = f"{coordinator}:{_number(given, 'JAX_COORDINATOR_PORT')}"
    return Rank(coordinator, _number(given, "NNODES"), _number(given, "NODE_RANK"), told_by="xpk")


def _of_tpu_pod(given: Mapping[str, str]) -> Rank | None:
    workers = given.get("TPU_PROCESS_ADDRESSES") or given.get("TPU_WORKER_HOSTNAMES")
    if not workers:
        return None
    return _of_slices(given, workers.split(","), lambda: _number(given, "TPU_WORKER_ID"),
                      "Kubernetes")


def _of_tpu_machine(given: Mapping[str, str], pci: Path) -> Rank | None:
    if given.get("TPU_SKIP_MDS_QUERY") or not has_tpu(pci):
        return None
    listed = _metadata(given, "worker-network-endpoints")
    if not listed:
        return None
    # Names, or, as of old, name:id:address.
    workers = [worker.split(":")[-1] for worker in listed.split(",")]
    # Lines such as MEGASCALE_NUM_SLICES: '2'
    said = dict(re.findall(r"^\s*(MEGASCALE_\w+)\s*:\s*'?([^'\n]*)'?",
                           _metadata(given, "tpu-env") or "", re.MULTILINE))
    number = {"worker": _metadata(given, "agent-worker-number") or ""}
    return _of_slices({**said, **given}, workers, lambda: _number(number, "worker"),
                      "the TPU machine")


def _of_slices(given: Mapping[str, str], workers: list[str], own, told_by: str) -> Rank:
    """Workers are listed in the order of their numbers; slices follow one another."""
    slices = _number(given, "MEGASCALE_NUM_SLICES") if given.get("MEGASCALE_NUM_SLICES") else 1
    index = _number(given, "MEGASCALE_SLICE_ID") if slices > 1 else 0
    first = given.get("MEGASCALE_COORDINATOR_ADDRESS", "") if slices > 1 else ""
    host = (first or workers[0]).split(":")[0]
    total = slices * len(workers)
    return Rank(f"{host}:{TPU_PORT}", total,
                index * len(workers) + own() if total > 1 else 0, told_by=told_by)


def has_tpu(pci: Path = PCI) -> bool:
    """Whether TPU chips are in this machine."""
    for vendor in pci.glob("*/vendor"):
        try:
            device = vendor.with_name("device").read_text().strip()
            if vendor.read_text().strip() == GOOGLE and device in CHIPS:
                return True
        except OSError:
            continue
    return False


def _metadata(given: Mapping[str, str], key: str) -> str | None:
    """What the machine's metadata server says of it; None where it does not know the key.

    Raises ConfigError when it cannot be reached: on a slice's machine nobody would come together.
    """
    host = given.get("GCE_METADATA_IP") or "metadata.google.internal"
    asked = urllib.request.Request(
        f"http://{host}/computeMetadata/v1/instance/attributes/{key}",
        headers={"Metadata-Flavor": "Google"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(asked, timeout=METADATA_S) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 404:
            return None
        reason = str(error)
    except OSError as error:
        reason = str(error)
    raise ConfigError(
        f"metadata server {host}", f"does not answer on a machine with TPU chips ({reason})",
        "give SLEEPLM_COORDINATOR, SLEEPLM_PROCESSES and SLEEPLM_PROCESS, or SLEEPLM_PROCESSES=1 "
        "for one machine alone",
    )
