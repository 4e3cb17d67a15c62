"""What JAX says of a training step without running it; a process of its own.

    python -m sleeplm_jax.scaling.dryrun.worker REQUEST.json REPLY.json

The number of devices and the platform are fixed when JAX starts, so `asking.py` starts this anew
for each question. Shapes alone are made, nothing is drawn and no step runs.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import os
import sys
import time
from pathlib import Path

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sleeplm_jax.config import DataConfig, RunConfig
from sleeplm_jax.config.files import from_dict
from sleeplm_jax.errors import UserError
from sleeplm_jax.models.build import bind, create, graph_of
from sleeplm_jax.models.summary import abstract_batch
from sleeplm_jax.parallel.batches import BatchPlacer
from sleeplm_jax.parallel.mesh import BATCH_AXES, make_mesh
from sleeplm_jax.parallel.rules import path_of
from sleeplm_jax.scaling.dryrun.products import products
from sleeplm_jax.training.step import Steps


def main(request_path: str, reply_path: str) -> None:
    request = json.loads(Path(request_path).read_text())
    try:
        if "candidates" in request:
            reply = {"accounts": [_account_of(values) for values in request["candidates"]]}
        else:
            reply = _whole(request)
    except UserError as error:
        reply = {"error": [error.where, error.finding, error.remedy]}
    Path(reply_path).write_text(json.dumps(reply))


def _account_of(values: dict) -> dict:
    """The account of one way to run, or why it cannot be run so."""
    config = from_dict(RunConfig, values)
    try:
        return account(config, *_steps(config, make_mesh(config.mesh)))
    except UserError as error:
        return {"error": str(error)}


def _whole(request: dict) -> dict:
    config = from_dict(RunConfig, request["config"])
    mesh = make_mesh(config.mesh)
    steps, batch = _steps(config, mesh)
    reply = {
        "jax": jax.__version__,
        "mesh": dict(mesh.shape),
        "arrays": arrays(steps),
        "account": account(config, steps, batch),
        "products": products(config, mesh),
    }
    if request["compile"] == "tpu":
        mesh = tpu_mesh(request["topology"], config)
        steps, batch = _steps(config, mesh)
    if request["compile"]:
        reply["compiled"] = compiled(steps, batch, mesh, request)
    return reply


def _steps(config: RunConfig, mesh: Mesh):
    """The step and the shapes of its batch, each array with its sharding."""
    BatchPlacer(mesh, config.data.batch_size)  # refuses a batch that does not divide
    where = NamedSharding(mesh, PartitionSpec(BATCH_AXES))
    size = config.data.batch_size
    batch = {
        name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where)
        for name, x in abstract_batch(config, size).items() if name != "hidden_patches"
    }
    batch["valid"] = jax.ShapeDtypeStruct((size,), bool, sharding=where)
    with jax.set_mesh(mesh):
        return Steps(config, mesh), batch


def _sharded(steps: Steps):
    return jax.tree.map(
        lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where),
        steps.abstract, steps.shardings,
    )


def _held(tree) -> int:
    """Bytes of a tree on one device."""
    return sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize
               for x in jax.tree.leaves(tree))


# ---- What is there before anything is compiled


def arrays(steps: Steps) -> list[dict]:
    """Every parameter: path, shape, axes that split each dimension, shape on one device."""
    return [
        {
            "path": path_of(key), "shape": list(x.shape), "dtype": str(x.dtype),
            "spec": [list(a) if isinstance(a, tuple) else a for a in x.sharding.spec],
            "local": list(x.sharding.shard_shape(x.shape)),
        }
        for key, x in jax.tree_util.tree_leaves_with_path(_sharded(steps)["parameters"])
    ]


def account(config: RunConfig, steps: Steps, batch: dict) -> dict:
    """Bytes that memory.py adds up: of one device where sharding tells, else of one sample."""
    state = _sharded(steps)
    whole, split = residuals(_shape_of(config))
    return {
        "parameters": _held(state["parameters"]),
        "optimizer": _held({k: x for k, x in state.items() if k not in ("parameters", "ema")}),
        "ema": _held(state.get("ema", {})),
        "batch": _held(batch),
        "gathered": _gathered(state["parameters"]) if steps.mesh.shape["fsdp"] > 1 else 0,
        "kept_whole": whole, "kept_split": split,
        "layer": layer(_shape_of(config)),
        "mesh": dict(steps.mesh.shape),
    }


def _gathered(parameters) -> int:
    """Bytes of the largest array that a layer reads, whole along fsdp, in the parameters' type;
    of a stack that is one layer's."""
    sizes = []
    for key, x in jax.tree_util.tree_leaves_with_path(parameters):
        layers = x.shape[0] if "/stack/blocks/" in path_of(key) else 1
        sizes.append(x.size * x.dtype.itemsize // layers)
    return max(sizes)


def _shape_of(config: RunConfig) -> RunConfig:
    """What of a config decides a sample's bytes; the rest as it is by default."""
    return RunConfig(data=DataConfig(text_length=config.data.text_length), model=config.model,
                     objective=config.objective)


@functools.cache
def layer(config: RunConfig) -> int:
    """Bytes a sample keeps of one layer of the stack whose layers keep most, without remat: what
    its backward pass needs at once, kept or made again. By one more layer's difference."""
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, remat="none"))
    model, before, found = config.model, sum(residuals(config)), [0]
    for part, name in (("encoder", "depth"), ("text", "depth"), ("text", "decoder_depth")):
        old = getattr(model, part)
        deeper = dataclasses.replace(old, **{name: getattr(old, name) + 1})
        found.append(sum(residuals(dataclasses.replace(
            config, model=dataclasses.replace(model, **{part: deeper})))) - before)
    return max(found)


@functools.cache
def residuals(config: RunConfig) -> tuple[int, int]:
    """Bytes a sample keeps from the forward to the backward pass, dropout's draws among them:
    `(what every device along tensor holds, what they share)`.

    Shared are heads and hidden units, by shape; the residual stream is not. As
    models.summary.activation_bytes, which tells neither dropout nor these parts.
    """
    graph, shapes = graph_of(config), jax.eval_shape(lambda: create(config)[1])
    drops = config.model.encoder.dropout > 0

    def kept(size: int):
        def run(parameters, batch):
            keys = jax.random.split(jax.random.key(0), size) if drops else None

            def outputs(p):
                found = bind(graph, p)(batch, keys)
                return {name: x for name, x in found.items() if name != "logits_kernel"}

            return jax.vjp(outputs, parameters)[1]

        return jax.tree.leaves(jax.eval_shape(run, shapes, abstract_batch(config, size)))

    whole = split = 0
    parts = (config.model.encoder, config.model.text)
    for three, two in zip(kept(3), kept(2), strict=True):
        size = three.size * three.dtype.itemsize - two.size * two.dtype.itemsize
        if any(_shared(three.shape, part) for part in parts):
            split += size
        else:
            whole += size
    return whole, split


def _shared(shape: tuple[int, ...], part) -> bool:
    heads, width = part.heads, part.width
    hidden = int(width * part.mlp_ratio)
    return (
        shape[-2:] == (heads, width // heads) or (len(shape) > 3 and shape[-3] == heads)
        or (hidden != width and shape[-1:] == (hidden,))
    )


# ---- What the compiler says


def tpu_mesh(name: str, config: RunConfig) -> Mesh:
    """A mesh over the chips of a slice that is not here (libtpu knows them)."""
    from jax.experimental import topologies

    return make_mesh(
        config.mesh, list(topologies.get_topology_desc(topology_name=name, platform="tpu").devices)
    )


def compiled(steps: Steps, batch: dict, mesh: Mesh, request: dict) -> dict:
    """Memory and the program's text (written to `request["text"]`) of the compiled step; a
    program that does not fit a TPU's memory gives `{"too_large": what the compiler says}`."""
    with jax.set_mesh(mesh):
        lowered = steps.train.lower(_sharded(steps), batch)
        began = time.perf_counter()
        try:
            program = lowered.compile()
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            said = [line.strip() for line in str(error).splitlines() if "hbm" in line.lower()]
            return {"too_large": said[0] if said else str(error).splitlines()[0]}
    seconds = time.perf_counter() - began
    memory, cost = program.memory_analysis(), program.cost_analysis() or {}
    if request["compile"] == "cpu" and mesh.size > 1:
        text = _partition(Path(request["dumped"]))
    else:
        text = program.as_text()
    Path(request["text"]).write_text(text)
    fields = ("argument", "output", "alias", "temp")
    return {
        "seconds": seconds, "platform": mesh.devices.flat[0].platform,
        "cost_flops": float(cost.get("flops", math.nan)),
        **{name: int(getattr(memory, f"{name}_size_in_bytes")) for name in fields},
    }


def _partition(folder: Path) -> str:
    """The step's program straight after XLA's partitioner: later passes of the CPU's compiler turn
    bfloat16 into float32, which no GPU does."""
    found = sorted(folder.glob("*jit__train*after_spmd-partitioning*.txt"))
    if not found:
        raise RuntimeError(f"XLA wrote no partition of the step to {folder}")
    return found[-1].read_text()


if __name__ == "__main__":
    main(*sys.argv[1:])
    sys.stdout.flush()
    os._exit(0)  # libtpu's threads are not waited for
