"""Devices that are planned for: what they hold, how fast they are, how they are joined. JAX-free.

`topology("v5p:4x4x4")` is a Topology. Every figure is a public one of the maker's, read where
SOURCES says; what is assumed beside them, without a source, is in ASSUMED.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from sleeplm_jax.errors import ConfigError
from sleeplm_jax.parallel.peaks import peak_flops

GB = 1e9
SOURCES = {
    "h100": "glennklockwood.com/garden/processors/h100 (80 GB, 3.35 TB/s, NVLink 900 GB/s both "
            "ways, TF32 494.7 TFLOP/s), which names NVIDIA's white paper; a ConnectX-7 for each "
            "GPU: DGX H100 User Guide, table 6; its 400 Gb/s: "
            "ubytelink.com/blog/what-is-nvidia-h100-interconnect-a-technical-deep-dive.html",
    "h200": "as h100, with 141 GB and 4.8 TB/s: inferenceengineering.tech/cheat-sheets/hardware",
    "v5e": "docs.cloud.google.com/tpu/docs/v5e (197 TFLOP/s, 16 GB, 819 GB/s, 400 GB/s both ways "
           "over 4 ports)",
    "v5p": "docs.cloud.google.com/tpu/docs/v5p (459 TFLOP/s, 95 GiB, 2575 GiB/s, 1200 GB/s both "
           "ways; a 3D torus has 6 ports)",
    "v6e": "docs.cloud.google.com/tpu/docs/v6e (918 TFLOP/s, 32 GB, 1600 GB/s, 800 GB/s both ways "
           "over 4 ports)",
}
ASSUMED = {
    "gpu": (
        "hosts of 8, every GPU with a network card of its own; a collective over hosts runs within "
        "each host first, so that a card carries an eighth (NCCL's hierarchy, with its rails)",
        "10 us to start a collective, one start for all of a kind that stand together",
        "float32 products run as TF32 (JAX's default precision)",
    ),
    "tpu": (
        "rings use both directions of one axis of the torus, or of all where a group is the whole "
        "slice; axes are closed in v5e and v6e from 16 on, in v5p where all are multiples of 4",
        "one slice: no data-centre network",
        "10 us to start a collective, one start for all of a kind that stand together",
        "float32 products run as bfloat16 (JAX's default precision)",
    ),
    "cpu": (),
}
LATENCY_S = 10e-6
HOST = 8  # GPUs
GPU_SHARE = 0.75  # of a GPU's memory is what JAX takes at the start, unless it is told otherwise


@dataclass(frozen=True)
class Device:
    """One device: bytes, bytes/s, FLOP/s. `link` is one way: of a GPU its NVLinks together, of a
    TPU one port; `network` a GPU's card, one way; `axes` of a TPU's torus."""

    name: str
    kind: str  # as JAX calls it
    memory: float
    bandwidth: float
    float32: float
    link: float
    network: float = 0.0
    axes: int = 0

    def peak(self, dtype: str) -> float:
        """FLOP/s of products of this type (a CPU takes bfloat16 ones as float32)."""
        return peak_flops(self.kind, dtype) or self.float32


DEVICES = {
    "h100": Device("h100", "NVIDIA H100 80GB HBM3", 80 * GB, 3.35e12, 494.7e12, 450e9, 50e9),
    "h200": Device("h200", "NVIDIA H200", 141 * GB, 4.8e12, 494.7e12, 450e9, 50e9),
    "v5e": Device("v5e", "TPU v5 lite", 16 * GB, 819e9, 197e12, 50e9, axes=2),
    "v5p": Device("v5p", "TPU v5p", 95 * 2**30, 2575 * 2**30, 459e12, 100e9, axes=3),
    "v6e": Device("v6e", "TPU v6 lite", 32 * GB, 1600e9, 918e12, 100e9, axes=2),
}
GPUS = tuple(name for name, device in DEVICES.items() if not device.axes)
TPUS = tuple(name for name, device in DEVICES.items() if device.axes)
FORMS = (f"cpu:8, gpu:h100x64 (one of {', '.join(GPUS)}), v5e:4x4, v6e:16x16 or v5p:2x2x4 "
         "(chips of each axis)")


@dataclass(frozen=True)
class Topology:
    """`name` as it was given; `device` is None on CPUs, of which nothing is known beforehand."""

    name: str
    kind: Literal["cpu", "gpu", "tpu"]
    count: int
    device: Device | None
    shape: tuple[int, ...] = ()  # chips of each axis of a TPU slice

    @property
    def host(self) -> int:
        """Devices that are joined by the fast network: a GPU's host, all of a TPU slice."""
        return min(HOST, self.count) if self.kind == "gpu" else self.count

    @property
    def usable(self) -> float | None:
        """Bytes of a device's memory that a step may fill."""
        if self.device is None:
            return None
        return self.device.memory * (GPU_SHARE if self.kind == "gpu" else 1.0)

    def closed(self) -> bool:
        """Whether the torus' axes are rings."""
        if self.device.name == "v5p":
            return all(size % 4 == 0 for size in self.shape)
        return all(size % 16 == 0 for size in self.shape if size > 1)

    def resized(self, count: int) -> Topology:
        """The same kind of device, `count` of them; a slice as near to a cube as it goes."""
        if self.kind != "tpu":
            device = f"gpu:{self.device.name}x" if self.kind == "gpu" else "cpu:"
            return Topology(f"{device}{count}", self.kind, count, self.device)
        shape = nearly_square(count, self.device.axes)
        return Topology(f"{self.device.name}:{'x'.join(map(str, shape))}", "tpu", count,
                        self.device, shape)


def nearly_square(count: int, axes: int) -> tuple[int, ...]:
    """`count` as a product of `axes` factors that are as alike as they can be, smallest first."""
    if axes == 1:
        return (count,)
    first = max(n for n in range(1, round(count ** (1 / axes)) + 2)
                if count % n == 0 and n**axes <= count)
    return first, *nearly_square(count // first, axes - 1)


def topology(name: str) -> Topology:
    """What is meant by "cpu:8", "gpu:h100x64", "v5e:4x4" or "v5p:2x2x4".

    Raises ConfigError for anything else.
    """
    given = name.strip().lower()
    if found := re.fullmatch(r"cpu:(\d+)", given):
        return Topology(given, "cpu", _count(name, int(found[1])), None)
    if found := re.fullmatch(r"gpu:([a-z0-9]+?)x(\d+)", given):
        if found[1] in GPUS:
            return Topology(given, "gpu", _count(name, int(found[2])), DEVICES[found[1]])
    elif found := re.fullmatch(r"([a-z0-9]+):(\d+(?:x\d+)+)", given):
        if found[1] in TPUS:
            shape = tuple(map(int, found[2].split("x")))
            device = DEVICES[found[1]]
            if len(shape) != device.axes:
                raise ConfigError(
                    "--topology", f"{name!r} has {len(shape)} axes, a {found[1]} slice has "
                    f"{device.axes}", f"give such as {found[1]}:{'x'.join('4' * device.axes)}",
                )
            if not _exists(shape):
                raise ConfigError("--topology", f"{name!r}: there is no such slice", "give "
                                  f"{' or '.join(map(repr, _like(device)))}, or another that "
                                  "Cloud TPU's documentation lists")
            return Topology(given, "tpu", _count(name, math.prod(shape)), device, shape)
    raise ConfigError("--topology", f"{name!r} is none that is known", f"give {FORMS}")


def _exists(shape: tuple[int, ...]) -> bool:
    """Whether slices have that shape (docs.cloud.google.com/tpu/docs/v5p and launch/tpus.py)."""
    if list(shape) != sorted(shape) and shape != (2, 2, 1):
        return False
    if len(shape) == 2:
        small, large = shape
        return shape == (1, 1) or small in (2, 4, 8, 16) and large in (small, 2 * small) and (
            large <= 16)
    return shape in ((2, 2, 1), (2, 2, 2), (2, 2, 4), (2, 4, 4)) or (
        all(side % 4 == 0 for side in shape) and math.prod(shape) <= 6144)


def _like(device: Device) -> tuple[str, ...]:
    shapes = ("4x4", "16x16") if device.axes == 2 else ("2x2x4", "4x4x8")
    return tuple(f"{device.name}:{shape}" for shape in shapes)


def _count(name: str, count: int) -> int:
    if not 1 <= count <= 6144:
        raise ConfigError("--topology", f"{name!r} is {count} devices", "give 1 to 6144")
    return count
