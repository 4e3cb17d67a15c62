"""Matrix products of a training step, counted in its trace: FLOPs, bytes, types."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter

import jax
from jax.sharding import Mesh

from sleeplm_jax.config import RunConfig
from sleeplm_jax.models.attention import LEAST
from sleeplm_jax.models.summary import abstract_batch
from sleeplm_jax.training.step import Steps


def products(config: RunConfig, mesh: Mesh) -> list[list]:
    """`[FLOPs, bytes, bytes without scores, type, ring, times]` of every kind of product of a step,
    over all devices together; `ring` are those of a ring loss. Attention is counted in full, as
    models.flops does.

    A scan's body counts as often as it runs. Bytes are of the operands and the result; "without
    scores" leaves out attention's `[.., queries, keys]` where a fused kernel would keep them in the
    core (LEAST tokens or more on both sides).
    """
    plain = dataclasses.replace(
        config, model=dataclasses.replace(config.model, attention="reference")
    )
    batch = abstract_batch(plain, plain.data.batch_size)
    batch.pop("hidden_patches", None)
    batch["valid"] = jax.ShapeDtypeStruct((plain.data.batch_size,), bool)
    with jax.set_mesh(mesh):
        steps = Steps(plain, mesh)
        traced = steps.train.trace(steps.abstract, batch)
    found: Counter = Counter()
    _walk(traced.jaxpr.jaxpr, 1, mesh.size, found, False)
    return [[*key, times] for key, times in sorted(found.items())]


def _walk(jaxpr, times: int, devices: int, found: Counter, ring: bool) -> None:
    for equation in jaxpr.eqns:
        name, given = equation.primitive.name, equation.params
        if name == "dot_general":
            found[*_product(equation), ring] += times
        elif name == "scan":
            _walk(given["jaxpr"].jaxpr, times * given["length"], devices, found, ring)
        elif name == "shard_map":  # shapes of one device
            _walk(_open(given["jaxpr"]), times * devices, devices, found, True)
        elif name == "cond":  # one branch runs: the dearest
            branches = []
            for branch in given["branches"]:
                branches.append(Counter())
                _walk(branch.jaxpr, times, devices, branches[-1], ring)
            found.update(max(branches, key=lambda one: sum(k[0] * n for k, n in one.items())))
        else:
            for inner in given.values():
                if hasattr(inner, "eqns") or hasattr(inner, "jaxpr"):
                    _walk(_open(inner), times, devices, found, ring)


def _open(jaxpr):
    return getattr(jaxpr, "jaxpr", jaxpr)


def _product(equation) -> tuple[int, int, int, str]:
    (contracted, _), (together, _) = equation.params["dimension_numbers"]
    a, b, out = (v.aval for v in (*equation.invars, *equation.outvars))
    flops = 2 * math.prod(a.shape[i] for i in contracted) * out.size
    sizes = [x.size * x.dtype.itemsize for x in (a, b, out)]
    scores = [
        size for x, size in zip((a, b, out), sizes, strict=True)
        if len(together) >= 2 and min(x.shape[-2:]) >= LEAST
    ]
    return flops, sum(sizes), sum(sizes) - sum(scores), str(a.dtype)
