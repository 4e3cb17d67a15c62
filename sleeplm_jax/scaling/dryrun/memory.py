"""Memory of one device, added up from shapes: an estimate, for compilers place buffers otherwise.

worker.py has taken the bytes from shapes and shardings; no JAX runs here. What is exact:
parameters, moments, running mean, gradients, batch. What is reckoned: activations (all that
autodiff keeps, as if XLA computed none of it again) and the temporary part.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from sleeplm_jax.config import RunConfig
from sleeplm_jax.parallel.mesh import BATCH_AXES, mesh_shape

BATCHES = 3  # on a device at once: two steps in flight (training.reporting), one being brought


@dataclass(frozen=True)
class Memory:
    """Bytes on one device."""

    parameters: float
    optimizer: float  # moments, counts
    ema: float
    gradients: float
    activations: float
    batch: float
    temporary: float

    @property
    def total(self) -> float:
        return sum(dataclasses.astuple(self))

    def scaled(self, factor: float) -> Memory:
        """With what is reckoned times `factor`, as a calibration found it."""
        return dataclasses.replace(
            self, activations=self.activations * factor, temporary=self.temporary * factor
        )


def estimate(config: RunConfig, account: dict) -> Memory:
    """Memory of a step from worker.account's bytes.

    Temporary is the larger of two moments: the loss over the vocabulary (a chunk's logits, their
    exponentials and their gradient, float32) and one layer's backward pass (what it keeps or makes
    again, and the gradient of each); with `fsdp`, the largest kernel gathered besides.
    """
    mesh = account["mesh"]
    ways, tensor = 1, mesh["tensor"]
    for axis in BATCH_AXES:
        ways *= mesh[axis]
    rows = config.data.batch_size / ways / config.micro_batches
    kept = account["kept_whole"] + account["kept_split"] / tensor
    logits = 0.0
    if config.objective.caption > 0:
        chunk = min(config.model.vocab_size, config.objective.vocabulary_chunk)
        logits = 3 * 4 * rows * (config.data.text_length - 1) * chunk / tensor
    parameters = account["parameters"]
    return Memory(
        parameters=parameters, optimizer=account["optimizer"], ema=account["ema"],
        # Micro-batches: the sum so far, and the one that is added to it.
        gradients=parameters * (2 if config.micro_batches > 1 else 1),
        activations=rows * kept, batch=BATCHES * account["batch"],
        temporary=max(logits, rows * account["layer"]) + account["gathered"],
    )


def compiled_total(compiled: dict) -> int:
    """Bytes of one device that a compiled step wants at once."""
    return (compiled["argument"] + compiled["output"] - compiled["alias"] + compiled["temp"])


# ---- What would make it fit


@dataclass(frozen=True)
class Remedy:
    """A changed config and the flags that change it."""

    config: RunConfig
    flags: str


def remedies(config: RunConfig, devices: int) -> list[Remedy]:
    """Ways to need less memory, in the order in which they are tried: what costs least speed first.

    Each alone: `remat` dots, then full; `fsdp` by powers of two; micro-batches by powers of two.
    Then together: full with fsdp, full with micro-batches, full with the widest fsdp and
    micro-batches.
    """
    remats = {"none": ("dots", "full"), "dots": ("full",), "full": ()}[config.model.remat]
    sizes = dict(zip(("replica", "data", "fsdp", "tensor"), mesh_shape(config.mesh, devices)))
    share = devices // sizes["replica"] // sizes["tensor"]
    splits = [n for n in _doubled(2 * sizes["fsdp"], share) if share % n == 0]
    rows = config.data.batch_size // (share * sizes["replica"])
    pieces = [n for n in _doubled(2 * config.micro_batches, rows) if rows % n == 0]
    full = ("full",) if remats else (None,)
    wanted = [(r, None, None) for r in remats]
    wanted += [(None, f, None) for f in splits] + [(None, None, m) for m in pieces]
    wanted += [(r, f, None) for r in full for f in splits]
    wanted += [(r, None, m) for r in full for m in pieces]
    wanted += [(r, splits[-1], m) for r in full for m in pieces if splits]
    return [_remedy(config, *one) for one in dict.fromkeys(wanted)]


def _doubled(start: int, limit: int) -> list[int]:
    found = []
    while start <= limit:
        found.append(start)
        start *= 2
    return found


def _remedy(config: RunConfig, remat, fsdp, pieces) -> Remedy:
    flags = []
    if remat:
        flags.append(f"--model.remat {remat}")
        config = dataclasses.replace(config, model=dataclasses.replace(config.model, remat=remat))
    if fsdp:
        flags.append(f"--mesh.fsdp {fsdp}")
        if config.mesh.data != -1:
            flags.append("--mesh.data -1")
        config = dataclasses.replace(
            config, mesh=dataclasses.replace(config.mesh, fsdp=fsdp, data=-1)
        )
    if pieces:
        flags.append(f"--micro-batches {pieces}")
        config = dataclasses.replace(config, micro_batches=pieces)
    return Remedy(config, " ".join(flags))
