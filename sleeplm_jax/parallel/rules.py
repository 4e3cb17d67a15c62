"""How every parameter is sharded: one table of path rules, full coverage asserted.

A rule gives the spec of a parameter's last dimensions; leading ones (the stacked layers) are
never split. The first rule whose pattern matches the whole path holds.
"""

from __future__ import annotations

import re

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

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
    (r"(signal_projection|text_projection|to_decoder)/kernel", ("fsdp", None)),
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

    Raises ValueError when no rule covers the path or a dimension does not divide by its axes:
    a silently replicated parameter costs its whole memory on every device.
    """
    for pattern, tail in RULES:  # noqa: B007 (the first match is used below)
        if re.fullmatch(pattern, path):
            break
    else:
        raise ValueError(f"no sharding rule covers {path} {shape}; add one to RULES")
    spec = (None,) * (len(shape) - len(tail)) + tuple(tail)
    for size, axes in zip(shape, spec):
        axes = (axes,) if isinstance(axes, str) else (axes or ())
        ways = 1
        for axis in axes:
            ways *= mesh.shape[axis]
        if size % ways:
            raise ValueError(
                f"{path} {shape}: {size} does not divide over {ways} devices of {axes}; "
                "choose a width or mesh that divides"
            )
    return PartitionSpec(*spec)


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
