"""Asks JAX about a step in a process of its own, with as many devices as are planned for.

No JAX here: a process whose JAX already runs on other devices can ask too.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from sleeplm_jax.config import RunConfig
from sleeplm_jax.config.files import to_dict
from sleeplm_jax.errors import ConfigError
from sleeplm_jax.scaling.dryrun.hardware import Topology

# The program is looked at, never run, so LLVM need not make it fast (measured: a third of the
# time; the memory it plans is the same).
QUICK = ("--xla_backend_optimization_level=0", "--xla_llvm_disable_expensive_passes=true")


def libtpu() -> bool:
    """Whether TPU programs can be compiled here."""
    return importlib.util.find_spec("libtpu") is not None


def ask(config: RunConfig, topology: Topology, *, compile_it: bool = True) -> dict:
    """worker.py's reply for a config (its vocabulary known), with the compiled program's `text`.

    Raises ConfigError for what the step refuses (batch, mesh, widths) and where the compiler fails.
    """
    how = "tpu" if topology.kind == "tpu" and libtpu() else "cpu"
    return _asked(topology, {
        "config": to_dict(config), "topology": topology.name, "compile": how if compile_it else "",
    })


def accounts(candidates: list[RunConfig], topology: Topology) -> list[dict]:
    """Memory accounts of ways to run, in order; `{"error": why}` of one that cannot be run."""
    return _asked(topology, {"candidates": [to_dict(one) for one in candidates]})["accounts"]


def _asked(topology: Topology, request: dict) -> dict:
    with tempfile.TemporaryDirectory(prefix="sleeplm-dryrun-") as folder:
        place = Path(folder)
        request |= {"text": str(place / "program.txt"), "dumped": str(place / "dumped")}
        (place / "request.json").write_text(json.dumps(request))
        done = subprocess.run(
            [sys.executable, "-m", "sleeplm_jax.scaling.dryrun.worker",
             str(place / "request.json"), str(place / "reply.json")],
            capture_output=True, text=True,
            env=_environment(topology, place, request.get("compile") == "cpu"),
        )
        if done.returncode or not (place / "reply.json").exists():
            raise ConfigError("dryrun", *_reason(done))
        reply = json.loads((place / "reply.json").read_text())
        if "error" in reply:
            raise ConfigError(*reply["error"])
        if (place / "program.txt").exists():
            reply["text"] = (place / "program.txt").read_text()
        return reply


def _environment(topology: Topology, place: Path, dump: bool) -> dict[str, str]:
    flags = [f"--xla_force_host_platform_device_count={topology.count}", *QUICK]
    if dump:
        flags += [f"--xla_dump_to={place / 'dumped'}", "--xla_dump_hlo_as_text",
                  "--xla_dump_hlo_pass_re=spmd-partitioning",
                  "--xla_dump_hlo_module_re=jit__train"]
    return os.environ | {
        "JAX_PLATFORMS": "cpu", "XLA_FLAGS": " ".join(flags), "TF_CPP_MIN_LOG_LEVEL": "2",
        # What lies in a cache would not be dumped.
        "JAX_ENABLE_COMPILATION_CACHE": "false",
        # Without a TPU there is no metadata server to ask, and none to wait for.
        "TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost", "TPU_WORKER_ID": "0",
    }


def _reason(done: subprocess.CompletedProcess) -> tuple[str, str]:
    if done.returncode < 0:
        return (f"the process that compiles was killed (signal {-done.returncode})",
                "give it more memory, or a topology of fewer devices")
    said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    last = next((line for line in reversed(said) if "rror" in line), said[-1] if said else "")
    if "libtpu" in last.lower() and "lock" in last.lower():
        return f"libtpu is in use by another process ({last[:160]})", "wait for it to end"
    return f"JAX cannot make this step ({last[:300]})", "correct the config or the topology"
