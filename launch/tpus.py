"""TPU slices by name, for gke.py and tpu_vm.py: what Google calls them, how many hosts they have.

Sources: the labels of Google Kubernetes Engine and the chips of a host as xpk (Apache-2.0) has them
in src/xpk/core/system_characteristics.py, June 2026; software versions as the "TPU software
versions" page of Cloud TPU's documentation lists them for JAX.
"""

from __future__ import annotations

import dataclasses
import math
import re


@dataclasses.dataclass(frozen=True)
class Kind:
    label: str  # of GKE's nodes
    accelerator: str  # in a slice's name: v5p-128
    cores: int  # of a chip; a slice's name counts them
    dimensions: int
    software: str


KINDS = {
    "v4": Kind("tpu-v4-podslice", "v4", 2, 3, "tpu-ubuntu2204-base"),
    "v5e": Kind("tpu-v5-lite-podslice", "v5litepod", 1, 2, "v2-alpha-tpuv5-lite"),
    "v5p": Kind("tpu-v5p-slice", "v5p", 2, 3, "v2-alpha-tpuv5"),
    "v6e": Kind("tpu-v6e-slice", "v6e", 1, 2, "v2-alpha-tpuv6e"),
}
CHIPS_OF_HOST = 4  # of every slice of several hosts
# Cloud TPU's documentation: docs.cloud.google.com/tpu/docs/v5p lists most, not all, of the 3-D ones
# and the largest; the 2-D ones are all of v5e's and v6e's (unverified).
SHAPES = {
    2: ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16"),
    3: ("2x2x1", "2x2x2", "2x2x4", "2x4x4"),
}
LARGEST = {"v4": 4096, "v5p": 6144}  # chips of one slice (v4's unverified)


@dataclasses.dataclass(frozen=True)
class Slice:
    """`v5p:4x4x4`: a kind of TPU and how its chips lie."""

    name: str
    kind: Kind
    topology: str

    @property
    def chips(self) -> int:
        return math.prod(map(int, self.topology.split("x")))

    @property
    def chips_of_host(self) -> int:
        return min(self.chips, CHIPS_OF_HOST)

    @property
    def hosts(self) -> int:
        return self.chips // self.chips_of_host

    @property
    def accelerator(self) -> str:
        """As gcloud and xpk name it: v5p-128 (cores), v5litepod-16 (chips)."""
        return f"{self.kind.accelerator}-{self.chips * self.kind.cores}"


def slice_of(text: str) -> Slice:
    """The slice that `v5p:4x4x4` names. Raises ValueError with one line that says what is wrong."""
    name, _, topology = text.partition(":")
    if name not in KINDS:
        raise ValueError(f"{name!r} is no TPU known here: give one of {', '.join(KINDS)}")
    kind = KINDS[name]
    example = {2: "4x4", 3: "2x2x4"}[kind.dimensions]
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)+", topology) or \
            topology.count("x") != kind.dimensions - 1:
        raise ValueError(f"{text!r}: give {name}'s topology with {kind.dimensions} numbers, such "
                         f"as {name}:{example}")
    found = Slice(name, kind, topology)
    if topology not in SHAPES.get(kind.dimensions, ()):
        if kind.dimensions == 2:
            raise ValueError(f"{text!r}: there is no such slice; {name} has "
                             + ", ".join(SHAPES[2]))
        sides = [int(side) for side in topology.split("x")]
        if sides != sorted(sides) or any(side % 4 for side in sides):
            raise ValueError(f"{text!r}: there is no such slice; {name} has "
                             f"{', '.join(SHAPES[3])}, and multiples of 4, smallest first")
        if found.chips > LARGEST[name]:
            raise ValueError(f"{text!r}: is {found.chips} chips; {name}'s largest slice has "
                             f"{LARGEST[name]}")
    return found
