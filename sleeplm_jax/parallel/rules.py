"""How every parameter is sharded: one table of path rules, full coverage asserted.

A rule gives the spec of a parameter's last dimensions; leading ones (the stacked layers) are
never split. The first rule whose pattern matches the whole path holds.
"""

from __future__ import annotations

import math
import re

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sleeplm_jax.errors import ConfigError

# Elements above which a parameter must be split: one that is not costs its size, its gradient's and
# its moments' on every device (4 MiB of float32 each).
LARGE = 2**20

# Column-parallel in, row-parallel out (Megatron): one all-reduce a block along `tensor`;
# `fsdp` splits the other side of every matrix.
RULES: tuple[tuple[str, tuple], ...] = (
    (r".*/(q|k|v|up|gate)/kernel", ("fsdp", "tensor")),
    (r".*/(q|k|v|up|gate)/bias", ("tensor",)),
    (r".*/(out|down)/kernel", ("tensor", "fsdp")),
    (r".*/stem/filters", ("fsdp", "tensor")),
    (r".*/stem/mix/kernel", ("tensor", "fsdp")),
    (r"encoder/filters/kernel", (None, "tensor")),
    (r"encoder/project/kernel", ("tensor", "fsdp")),
    (r"text/token_embedding", ("tensor", "fsdp")),
    (r"decoder/logits/kernel", ("fsdp", "tensor")),
    (r"reconstruction/(bottleneck|to_patch|to_position)/kernel", ("fsdp", None)),
    (r"reconstruction/to_signal/kernel", (None, ("fsdp", "tensor"))),
    (r"reconstruction/to_signal/bias", (("fsdp", "tensor"),)),
    (r"(signal_projection|text_projection|to_decoder)/kernel", ("fsdp", None)),
    # As long as the window or the text.
    (r".*(time|position)_embedding", ("fsdp",)),
    # Small vectors and tables stay whole on every device.
    (r".*/(bias|scale)", ()),
    (r".*(queries|_embedding|_frequencies|summary_token|mask_token)", ()),
    (r"logit_(scale|bias)", ()),
)


def path_of(key_path) -> str:
    """`encoder/stack/blocks/mlp/up/kernel` from a JAX key path."""
    return jax.tree_util.keystr(key_path, simple=True, separator="/")


def spec_for(path: str, shape: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
    """The rule's spec for one parameter.

    `mesh` may be an AbstractMesh. Raises ValueError when no rule covers the path, ConfigError when
    a dimension does not divide by its axes: a silently replicated parameter costs its whole memory
    on every device.
    """
    for pattern, tail in RULES:  # noqa: B007 (the first match is used below)
        if re.fullmatch(pattern, path):
            break
    else:
        raise ValueError(f"no sharding rule covers {path} {shape}; add one to RULES")
    spec = (None,) * (len(shape) - len(tail)) + tuple(tail)
    for dimension, (size, axes) in enumerate(zip(shape, spec)):
        ways = _ways(axes, mesh)
        if size % ways:
            named = " and ".join(f"mesh.{axis} {mesh.shape[axis]}" for axis in _names(axes))
            raise ConfigError(
                path, f"dimension {dimension} of {shape} does not divide over {named}",
                f"choose a width that is a multiple of {ways}, or a mesh that divides {size}",
            )
    return PartitionSpec(*spec)


def _names(axes) -> tuple[str, ...]:
    return (axes,) if isinstance(axes, str) else (axes or ())


def _ways(axes, mesh: Mesh) -> int:
    return math.prod(mesh.shape[axis] for axis in _names(axes))


def shardings(tree, mesh: Mesh):
    """NamedShardings for a tree of parameters (arrays or shapes)."""
    return jax.tree_util.tree_map_with_path(
        lambda path, x: NamedSharding(mesh, spec_for(path_of(path), x.shape, mesh)), tree
    )


def state_shardings(state, mesh: Mesh):
    """Shardings of a training state: optimizer moments follow their parameter.

    `state` is `{"parameters": ..., "optimizer": ..., ...}`; a leaf of the optimizer whose path
    ends in a parameter's path and has its shape is sharded like it, all else is replicated.
    """
    known = {
        path_of(path): (x.shape, spec_for(path_of(path), x.shape, mesh))
        for path, x in jax.tree_util.tree_leaves_with_path(state["parameters"])
    }

    def one(key_path, x):
        parts = path_of(key_path).split("/")
        for start in range(len(parts)):
            shape, spec = known.get("/".join(parts[start:]), (None, None))
            if shape == x.shape:
                return NamedSharding(mesh, spec)
        return NamedSharding(mesh, PartitionSpec())

    return jax.tree_util.tree_map_with_path(one, state)


def check_split(state, mesh: Mesh) -> None:
    """ConfigError naming the first large array of a state that is not split as the table says.

    Looks at where the arrays really are, drawn or restored: parameters, the optimiser's moments,
    a running mean. One that the table itself leaves whole though the mesh splits parameters is an
    error too: a new kind of parameter, or a moment that found no parameter of its path and shape.
    """
    if mesh.shape["fsdp"] * mesh.shape["tensor"] == 1:
        return
    wanted = state_shardings(state, mesh)
    for (key_path, x), sharding in zip(
        jax.tree_util.tree_leaves_with_path(state), jax.tree.leaves(wanted), strict=True
    ):
        if x.size < LARGE:
            continue
        path, axes = path_of(key_path), [axis for part in sharding.spec for axis in _names(part)]
        if not axes:
            raise ConfigError(
                path, f"{x.shape} is whole on every device: the table of sharding rules names no "
                "axis for it", "give it a rule in parallel/rules.py that splits it",
            )
        if not x.sharding.is_equivalent_to(sharding, x.ndim):
            raise ConfigError(
                path, f"{x.shape} should be split over {' and '.join(axes)}, and a device holds "
                f"{x.sharding.shard_shape(x.shape)} of it", "restore it under the run's own mesh",
            )
