"""How long a step takes at most speed: products, memory traffic, update, collectives.

A roofline (Williams, Waterman & Patterson 2009, doi 10.1145/1498765.1498785) of each matrix product
by itself: the longer of its FLOPs at the device's peak and of its bytes at the memory's bandwidth.
Between two products a fused pass reads one's results and writes the next one's operands: the same
bytes once more. The update reads and writes parameters, moments and gradients. Then come the
collectives, one after the other and hidden behind nothing; `hidden_s` is the other extreme. Kernels
reach less than this: `calibrate` says how much less.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

from sleeplm_jax.parallel.mesh import AXES
from sleeplm_jax.scaling.dryrun.hardware import LATENCY_S, Topology
from sleeplm_jax.scaling.dryrun.hlo import Collective


@dataclass(frozen=True)
class Traffic:
    """Collectives of one kind over the same axes, in one step of one device. `axes` are None where
    a group is no set of whole axes; then `members` says how many it has and how many of a host."""

    kind: str
    axes: tuple[str, ...] | None
    members: tuple[int, int]
    ring: bool
    count: int
    starts: float
    bytes: float  # of all of them

    @property
    def named(self) -> str:
        return "+".join(self.axes) if self.axes else f"groups of {self.members[0]}"


@dataclass(frozen=True)
class Prediction:
    """Seconds of a step: `step_s` with nothing overlapped, `hidden_s` with all collectives behind
    the rest."""

    products_s: float
    passes_s: float
    update_s: float
    collectives_s: float
    model_flops: float  # of a device
    peak: float

    @property
    def own_s(self) -> float:
        return self.products_s + self.passes_s + self.update_s

    @property
    def step_s(self) -> float:
        return self.own_s + self.collectives_s

    @property
    def hidden_s(self) -> float:
        return max(self.own_s, self.collectives_s)

    def mfu(self, seconds: float) -> float:
        return self.model_flops / seconds / self.peak


def traffic(collectives: list[Collective], mesh: dict[str, int], host: int) -> list[Traffic]:
    """Collectives by kind and by the mesh axes that their groups lie along."""
    found: dict[tuple, list[float]] = defaultdict(lambda: [0, 0.0, 0.0])
    for one in collectives:
        axes = axes_of(one.groups, mesh, pairs=one.kind == "collective-permute")
        size = (
            members(axes, mesh, host) if axes
            else (len(one.groups[0]), sum(n // host == one.groups[0][0] // host
                                          for n in one.groups[0]))
        )
        if size[0] == 1:
            continue  # nobody else is in the group
        sums = found[one.kind, axes, size, one.ring]
        sums[0] += one.count
        sums[1] += one.starts
        sums[2] += one.bytes * one.count
    return sorted(
        (Traffic(*key, *sums) for key, sums in found.items()), key=lambda one: -one.bytes
    )


def axes_of(groups, mesh: dict[str, int], *, pairs: bool = False) -> tuple[str, ...] | None:
    """Axes that a collective's groups vary along; None where they are not all of those axes."""
    sizes = [mesh[axis] for axis in AXES]

    def place(number: int) -> tuple[int, ...]:
        found = []
        for size in reversed(sizes):
            number, rest = divmod(number, size)
            found.append(rest)
        return tuple(reversed(found))

    along = set()
    for group in groups if pairs else groups[:1]:
        places = [place(n) for n in group]
        along |= {i for i in range(len(AXES)) if len({p[i] for p in places}) > 1}
    axes = tuple(AXES[i] for i in sorted(along))
    if not pairs and math.prod(mesh[axis] for axis in axes) != len(groups[0]):
        return None
    return axes or None


def members(axes: tuple[str, ...], mesh: dict[str, int], host: int) -> tuple[int, int]:
    """Devices of a group along `axes`, and how many of them stand in one host; devices are
    numbered along the mesh, `tensor` fastest."""
    numbers = [0]
    stride = 1
    for axis in reversed(AXES):
        if axis in axes:
            numbers = [n + k * stride for n in numbers for k in range(mesh[axis])]
        stride *= mesh[axis]
    return len(numbers), sum(n < host for n in numbers)


def seconds(one: Traffic, topology: Topology) -> float:
    """Time of one row of `traffic`: bytes over the links, and a latency for every start."""
    ways, near = one.members
    hosts = max(ways // max(near, 1), 1)
    device = topology.device
    if topology.kind == "tpu":
        axes = 1 if ways < topology.count else sum(n > 1 for n in topology.shape)
        link = device.link * axes * (2 if topology.closed() else 1)
        wire = one.bytes * _share(one.kind, ways) / link
    else:
        inner = one.bytes * _share(one.kind, near) / device.link
        outer = 0.0
        if hosts > 1:
            part = one.bytes / near if one.kind != "collective-permute" else one.bytes
            if one.kind == "all-to-all":
                part = one.bytes
            outer = part * _share(one.kind, hosts) / device.network
        wire = inner + outer if one.kind != "collective-permute" else max(inner, outer)
    return wire + one.starts * LATENCY_S


def _share(kind: str, ways: int) -> float:
    """Of the bytes, what a device sends in a ring of so many."""
    if ways == 1:
        return 0.0
    if kind == "collective-permute":
        return 1.0
    return (2 if kind == "all-reduce" else 1) * (ways - 1) / ways


def predict(
    products: list[list], rows: list[Traffic], topology: Topology, *, devices: int,
    state_bytes: float, model_flops: float, dtype: str, slower: float = 1.0, grown: float = 1.0,
) -> Prediction:
    """The step of one device. `products` are worker's, of `devices` together; `state_bytes` what
    the update moves; `model_flops` a device's; `slower` a calibration's factor on all but
    collectives; `grown` by how much a ring loss' products have grown (weak scaling)."""
    device = topology.device
    bandwidth, whole, passes = device.bandwidth, 0.0, 0.0
    for flops, _, moved, kind, ring, times in products:
        times = times / devices * (grown if ring else 1.0)
        whole += times * max(flops / device.peak(kind), moved / bandwidth)
        passes += times * moved / bandwidth
    return Prediction(
        whole * slower, passes * slower, state_bytes / bandwidth * slower,
        sum(seconds(one, topology) for one in rows), model_flops, device.peak(dtype),
    )


def update_bytes(memory) -> float:
    """Read and written by an update: parameters, moments and running mean both ways, gradients
    written, read for their norm, and read."""
    return 2 * (memory.parameters + memory.optimizer + memory.ema) + 3 * memory.gradients
