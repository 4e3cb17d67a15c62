"""The device mesh: axes replica, data, fsdp, tensor; size-1 axes are free."""

from __future__ import annotations

import collections
import dataclasses
import math

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh

from sleeplm_jax.config import MeshConfig
from sleeplm_jax.errors import ConfigError

AXES = ("replica", "data", "fsdp", "tensor")
BATCH_AXES = ("replica", "data", "fsdp")


def mesh_shape(config: MeshConfig, devices: int) -> tuple[int, ...]:
    """Sizes of AXES for a number of devices; at most one axis may be -1 (takes what is left).

    Raises ConfigError when they do not multiply to the number of devices.
    """
    sizes = list(dataclasses.astuple(config))
    if sizes.count(-1) > 1 or any(size < 1 and size != -1 for size in sizes):
        raise ConfigError(
            "mesh", f"axes {dict(zip(AXES, sizes))}", "give positive sizes and at most one -1"
        )
    if -1 in sizes:
        sizes[sizes.index(-1)] = devices // math.prod(s for s in sizes if s != -1)
    if math.prod(sizes) != devices:
        raise ConfigError(
            "mesh", f"axes {dataclasses.asdict(config)} do not multiply to {devices} devices",
            "change one axis, or set it to -1",
        )
    return tuple(sizes)


def make_mesh(config: MeshConfig, devices: list | None = None) -> Mesh:
    """A mesh over all devices (or the given ones)."""
    devices = jax.devices() if devices is None else devices
    # Auto axes: XLA propagates shardings from the parameters and the batch. make_mesh's default
    # is Explicit since JAX 0.9, which would ask for an out_sharding at every contraction.
    return Mesh(
        arranged(mesh_shape(config, len(devices)), devices), AXES,
        axis_types=(AxisType.Auto,) * len(AXES),
    )


def arranged(shape: tuple[int, ...], devices: list) -> np.ndarray:
    """Devices in an array of `shape` (sizes of AXES), neighbours on the fast network together.

    Slices of devices (TPU slices; hosts, on GPUs) are far from one another. They are dealt out
    along the outermost axes, `replica` first: with as many replicas as slices, or a multiple, only
    that axis crosses the slow network (a sum of gradients a step, and a ring's blocks of texts).
    Where devices name no slices, the processes are taken for them if there are replicas. Raises
    ConfigError when replicas would be torn.
    """
    replicas = shape[0]
    by_slice = len({getattr(d, "slice_index", 0) for d in devices}) > 1
    key = "slice_index" if by_slice else "process_index"
    sizes = collections.Counter(getattr(d, key) for d in devices)
    # A TPU slice of many hosts is one fast network, and without replicas the order of processes
    # is as good as any.
    far = by_slice or (replicas > 1 and devices[0].platform != "tpu")
    if len(sizes) == 1 or not far:
        return mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
    named = "slices" if by_slice else "processes"
    if len(set(sizes.values())) > 1:
        raise ConfigError(
            "mesh", f"{named} have {', '.join(map(str, sorted(sizes.values())))} devices",
            f"start all {named} with as many devices each",
        )
    if replicas % len(sizes) and len(sizes) % replicas:
        raise ConfigError(
            "mesh.replica", f"{replicas} replicas do not divide over {len(sizes)} {named}",
            f"use {len(sizes)}, so that no other axis crosses the network between them, "
            "or a divisor or multiple of it",
        )
    outer, left = [], len(sizes)
    for size in shape:
        outer.append(math.gcd(size, left))
        left //= outer[-1]
    inner = tuple(size // ways for size, ways in zip(shape, outer))
    return mesh_utils.create_hybrid_device_mesh(
        inner, tuple(outer), devices, process_is_granule=not by_slice,
        allow_split_physical_axes=True,
    )
