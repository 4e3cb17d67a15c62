"""The dry run: one config on one topology, from shapes and a compiled program to a prediction."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path

from sleeplm_jax.config import RunConfig
from sleeplm_jax.config.files import to_dict
from sleeplm_jax.errors import ConfigError
from sleeplm_jax.models.flops import training
from sleeplm_jax.parallel.mesh import mesh_shape
from sleeplm_jax.scaling.dryrun import roofline, weak
from sleeplm_jax.scaling.dryrun.asking import accounts, ask, libtpu
from sleeplm_jax.scaling.dryrun.hardware import ASSUMED, GPU_SHARE, SOURCES, Topology
from sleeplm_jax.scaling.dryrun.hlo import collectives
from sleeplm_jax.scaling.dryrun.memory import Memory, compiled_total, estimate, remedies

# So far above the estimate a partition is another one than the estimate thinks of.
PARTITION = 1.25


@dataclass(frozen=True)
class DryRun:
    """What was found. `memory` is reckoned from shapes; `needed` (see needed_bytes) is what the fit
    is judged by."""

    config: RunConfig
    topology: Topology
    mesh: dict[str, int]
    arrays: list[dict]
    memory: Memory
    needed: float
    compiled: dict
    traffic: list[roofline.Traffic]
    times: list[float | None]  # seconds of each row of `traffic`
    model_flops: int  # of a step, all devices
    device_flops: int  # with what is computed again
    traced_flops: int  # products in the step's trace
    prediction: roofline.Prediction | None
    weak: list[weak.Point]
    notes: list[str]
    calibration: dict | None = None

    @property
    def assumed(self) -> tuple[str, ...]:
        return ASSUMED[self.topology.kind]

    def as_json(self) -> dict:
        """Plain values for `--json`."""
        return {
            "config": to_dict(self.config), "topology": self.topology.name, "mesh": self.mesh,
            "arrays": self.arrays,
            "memory": dataclasses.asdict(self.memory) | {"total": self.memory.total},
            "memory_needed": self.needed, "memory_usable": self.topology.usable,
            "compiled": {k: None if isinstance(v, float) and math.isnan(v) else v
                         for k, v in self.compiled.items()},
            "collectives": [
                dataclasses.asdict(one) | {"seconds": s} for one, s in zip(self.traffic, self.times)
            ],
            "flops": {"model": self.model_flops, "device": self.device_flops,
                      "traced": self.traced_flops},
            "prediction": _prediction(self.prediction),
            "weak_scaling": [
                {"devices": p.devices, "batch": p.batch, "why": p.why,
                 "prediction": _prediction(p.prediction)} for p in self.weak
            ],
            "notes": self.notes, "assumed": list(self.assumed),
            "sources": SOURCES.get(self.topology.device.name) if self.topology.device else None,
            "calibration": self.calibration,
        }


def _prediction(one: roofline.Prediction | None) -> dict | None:
    if one is None:
        return None
    return dataclasses.asdict(one) | {
        "step_s": one.step_s, "hidden_s": one.hidden_s, "mfu": one.mfu(one.step_s),
        "mfu_hidden": one.mfu(one.hidden_s),
    }


def dry_run(config: RunConfig, topology: Topology, calibration: dict | None = None,
            scaling: bool = True) -> DryRun:
    """Compiles the step of `config` (its vocabulary known) for `topology` and adds up what it
    needs; nothing is run. `scaling` False leaves the weak-scaling table out.

    Raises ConfigError for a batch, mesh or width that the topology cannot take.
    """
    check(config, topology)
    reply = ask(config, topology)
    compiled, notes = reply.get("compiled", {}), _notes(config, topology, reply)
    mesh, text = reply["mesh"], reply.get("text", "")
    rows = _traffic(text, topology, mesh, notes)
    memory = estimate(config, reply["account"])
    if calibration:
        memory = memory.scaled(calibration["memory_factor"])
    needed = needed_bytes(config, memory, compiled)
    if compiled.get("platform") == "cpu" and topology.kind != "cpu" and needed > memory.total:
        notes.append(f"XLA's partition of this mesh keeps more than the estimate: at least "
                     f"{needed / 1e9:.1f} GB, which the fit is judged by")
    model, again = training(config)
    batch = config.data.batch_size
    device = topology.device
    prediction, points = None, []
    if device is not None:

        def predict(rows, there):
            return roofline.predict(
                reply["products"], rows, there, devices=topology.count,
                state_bytes=roofline.update_bytes(memory),
                model_flops=model * batch / topology.count,
                dtype=config.model.compute_dtype, grown=there.count / topology.count,
                slower=calibration["time_factor"] if calibration else 1.0,
            )

        if "too_large" not in compiled:
            prediction = predict(rows, topology)
        if scaling and prediction is not None:
            points = weak.points(topology, *_structure(config, topology, mesh, rows, batch, notes),
                                 predict)
    return DryRun(
        config, topology, mesh, reply["arrays"], memory, needed, compiled, rows,
        [roofline.seconds(one, topology) if device else None for one in rows],
        model * batch, again * batch, sum(p[0] * p[-1] for p in reply["products"]),
        prediction, points, notes, calibration,
    )


def check(config: RunConfig, topology: Topology) -> None:
    """ConfigError for what can be told without JAX: the mesh and the batch."""
    sizes = mesh_shape(config.mesh, topology.count)
    ways = math.prod(sizes[:3])
    if config.data.batch_size % (ways * config.micro_batches):
        of = f" in {config.micro_batches} micro-batches" if config.micro_batches > 1 else ""
        up = -(-config.data.batch_size // (ways * config.micro_batches))
        raise ConfigError(
            "data.batch_size", f"{config.data.batch_size}{of} does not divide over {ways} data "
            f"shards of {topology.name}",
            f"give --data.batch-size {up * ways * config.micro_batches}",
        )


def needed_bytes(config: RunConfig, memory: Memory, compiled: dict) -> float:
    """What a step is taken to need: a TPU compiler's figure where there is one, else the estimate.

    A partition compiled for CPU devices overrules the estimate where it keeps a quarter more even
    if all of its temporary memory were bfloat16 made float32, as that compiler makes it.
    """
    if "too_large" in compiled:
        return max(memory.total, _said(compiled["too_large"]))
    if not compiled:
        return memory.total
    if compiled["platform"] == "tpu":
        return compiled_total(compiled)
    wider = 2 if config.model.compute_dtype == "bfloat16" else 1
    least = compiled_total(compiled) - compiled["temp"] * (1 - 1 / wider)
    return least if least > PARTITION * memory.total else memory.total


def _said(message: str) -> float:
    """Bytes that a TPU's compiler says it would have used ("Used 20.54G of 15.75G hbm")."""
    found = re.search(r"[Uu]sed ([\d.]+)([KMG])", message)
    return float(found[1]) * 1024 ** (1 + "KMG".index(found[2])) if found else 0.0


def _traffic(text: str, topology: Topology, mesh, notes: list[str]) -> list[roofline.Traffic]:
    if not text or topology.count == 1:
        return []
    found, loops = collectives(text, topology.count)
    if loops:
        notes.append(f"{loops} loops with collectives are of a length that the program does not "
                     "tell: counted once each")
    return roofline.traffic(found, mesh, topology.host)


def _structure(config, topology, mesh, rows, batch, notes):
    """`(mesh, rows, batch)` of a partition with `data` in it, since that is what grows: the one at
    hand, or one of twice the devices."""
    if mesh["data"] > 1:
        return mesh, rows, batch
    twice = topology.resized(2 * topology.count)
    wider = dataclasses.replace(
        config, data=dataclasses.replace(config.data, batch_size=2 * batch),
        mesh=dataclasses.replace(config.mesh, **(mesh | {"data": 2})),
    )
    reply = ask(wider, dataclasses.replace(twice, kind="cpu") if topology.kind == "tpu" else twice)
    notes.append(f"weak scaling from a partition of {twice.count} devices (mesh.data 2)")
    return reply["mesh"], _traffic(reply["text"], twice, reply["mesh"], notes), 2 * batch


def _notes(config: RunConfig, topology: Topology, reply: dict) -> list[str]:
    notes = []
    if topology.kind == "tpu" and not libtpu():
        notes.append("libtpu is not installed (pip install 'sleeplm-jax[tpu]'): collectives are "
                     "those of a partition compiled for CPU devices, memory is the estimate")
    if topology.kind == "gpu":
        notes.append(f"memory is an estimate, not measured on a GPU; JAX takes {GPU_SHARE:.0%} of "
                     "one at its start (XLA_PYTHON_CLIENT_MEM_FRACTION)")
        notes.append("collectives as XLA's partitioner leaves them, compiled for CPU devices")
    elif topology.kind == "tpu" and libtpu():
        notes.append("compiled for the TPU with plain XLA attention: the fused kernel is tried on "
                     "the device itself")
    traced = sum(p[0] * p[-1] for p in reply["products"])
    told = training(config)[1] * config.data.batch_size
    if abs(traced / told - 1) > 0.05:
        notes.append(f"the trace has {traced / told:.2f} times the FLOPs of the count by config")
    return notes


# ---- Fit


def first_remedy(found: DryRun) -> tuple[str, float] | None:
    """`(flags, bytes needed)` of the first of memory.remedies that fits; None when none does.

    By the estimate, but one with a wider fsdp is named only when its compiled partition bears the
    estimate out, for XLA may split the work otherwise than parameters are split.
    """
    ways = remedies(found.config, found.topology.count)
    # A compiler that needed more than the estimate will do so again.
    above = max(found.needed / found.memory.total, 1.0)
    told = accounts([way.config for way in ways], found.topology)
    fsdp_helps = True
    for way, account in zip(ways, told, strict=True):
        wider = way.config.mesh.fsdp != found.config.mesh.fsdp
        if "error" in account or (wider and not fsdp_helps):
            continue
        memory = estimate(way.config, account)
        if found.calibration:
            memory = memory.scaled(found.calibration["memory_factor"])
        needed = memory.total * above
        if needed > found.topology.usable:
            continue
        if wider:
            there = dataclasses.replace(found.topology, kind="cpu")
            needed = max(needed, needed_bytes(
                way.config, memory, ask(way.config, there)["compiled"]))
        if needed <= found.topology.usable:
            return way.flags, needed
        fsdp_helps = False
    return None


def check_fit(found: DryRun) -> None:
    """ConfigError, with the first remedy that helps, when a device's memory is too small."""
    usable, why = found.topology.usable, ""
    if usable is None:
        return
    needed = found.needed
    if "too_large" in found.compiled:
        why = f" (the compiler: {found.compiled['too_large'][:160]})"
    elif needed <= usable:
        return
    remedy = first_remedy(found)
    whole = f"{found.topology.device.memory / 1e9:.0f} GB"
    of = f"{usable / 1e9:.1f} GB" + (f" of its {whole}" if found.topology.kind == "gpu" else "")
    raise ConfigError(
        "memory", f"a step needs {needed / 1e9:.1f} GB of a {found.topology.device.name}, which "
        f"has {of} to give{why}",
        f"give {remedy[0]}: {remedy[1] / 1e9:.1f} GB" if remedy else
        "take a smaller --data.batch-size or more devices: no remat, fsdp or micro-batches help",
    )


def read_calibration(path: Path, topology: Topology) -> dict:
    """What `calibrate` wrote, for a device of this kind; ConfigError otherwise."""
    try:
        found = json.loads(path.read_text())
        factors = {name: float(found[name]) for name in ("memory_factor", "time_factor")}
        kind = str(found["device"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(path, f"is no calibration ({type(error).__name__}: {error})",
                          "write one with --calibrate on the device") from error
    if not all(math.isfinite(x) and x > 0 for x in factors.values()):
        raise ConfigError(path, f"has factors {factors}", "calibrate again")
    wanted = topology.device.kind if topology.device else "cpu"
    if not (kind.startswith(wanted) or wanted.startswith(kind)):
        raise ConfigError(path, f"was taken on {kind!r}, not on {wanted!r}",
                          f"calibrate on that device, or leave it out for {topology.name}")
    return found | factors
