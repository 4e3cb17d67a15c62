"""The device mesh: axes replica, data, fsdp, tensor; size-1 axes are free."""

from __future__ import annotations

import dataclasses
import math

import jax
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
    return jax.make_mesh(
        mesh_shape(config, len(devices)), AXES,
        axis_types=(AxisType.Auto,) * len(AXES), devices=devices,
    )
