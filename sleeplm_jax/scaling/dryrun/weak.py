"""Weak scaling: the same batch a device on 1 to 1,024 devices, from one compiled partition.

`mesh.data` grows, all else stays. What a collective moves on one device stays too, its groups
become larger and reach over more hosts; a ring loss takes as many turns as there are devices.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from sleeplm_jax.scaling.dryrun.hardware import Topology
from sleeplm_jax.scaling.dryrun.roofline import Prediction, Traffic, members

COUNTS = tuple(2**n for n in range(11))
# Chips of the largest slice (docs.cloud.google.com/tpu/docs/v5e, v6e, v5p); beyond it a network
# between slices begins, which is not reckoned with.
LARGEST_SLICE = {"v5e": 256, "v6e": 256, "v5p": 6144}


@dataclass(frozen=True)
class Point:
    """One number of devices: the prediction, or why there is none."""

    devices: int
    batch: int
    prediction: Prediction | None
    why: str = ""


def points(topology: Topology, mesh: dict[str, int], rows: list[Traffic], batch: int,
           predict) -> list[Point]:
    """A Point for each of COUNTS. `mesh`, `rows` and `batch` are of a partition that was compiled;
    `predict(rows, topology)` makes a Prediction."""
    fixed = mesh["replica"] * mesh["fsdp"] * mesh["tensor"]
    compiled = fixed * mesh["data"]
    found = []
    for count in COUNTS:
        there = topology.resized(count)
        size = batch * count // compiled
        why = ""
        if count % fixed:
            why = f"the mesh's other axes want {fixed} devices"
        elif topology.kind == "tpu" and count > LARGEST_SLICE[topology.device.name]:
            why = f"more than a slice of {LARGEST_SLICE[topology.device.name]} chips"
        if why:
            found.append(Point(count, size, None, why))
            continue
        wider = grow(rows, mesh | {"data": count // fixed}, there.host, count / compiled)
        found.append(Point(count, size, predict(wider, there)))
    return found


def grow(rows: list[Traffic], mesh: dict[str, int], host: int, times: float) -> list[Traffic]:
    """The collectives of a partition on another number of devices, `times` as many."""
    found = []
    for one in rows:
        if one.axes is not None:
            one = dataclasses.replace(one, members=members(one.axes, mesh, host))
        if one.ring:
            one = dataclasses.replace(
                one, count=round(one.count * times), starts=one.starts * times,
                bytes=one.bytes * times,
            )
        if one.members[0] > 1:
            found.append(one)
    return found
