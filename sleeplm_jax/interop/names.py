"""Parameters as PyTorch names and lays them out, and back: for our own torch module.

modeling_sleeplm.py bears our modules' names, so the map is a rule and no table: a kernel [in, out]
is a weight [out, in], a norm's scale is its weight, and what is stacked over the depth of a scanned
`blocks` stands once a block.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

STACKED = "blocks"


def leaves(tree: Mapping, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    """`(path, leaf)` of a nested dict, in a stable order."""
    for name in sorted(tree):
        value = tree[name]
        if isinstance(value, Mapping):
            yield from leaves(value, (*path, name))
        else:
            yield (*path, name), value


def to_torch(parameters: Mapping) -> dict[str, np.ndarray]:
    """Torch's name -> array, of our parameters (a nested dict of arrays)."""
    state = {}
    for path, value in leaves(parameters):
        value = np.asarray(value)
        *modules, leaf = path
        if leaf == "kernel":
            value = value.swapaxes(-1, -2)
        name = {"kernel": "weight", "scale": "weight"}.get(leaf, leaf)
        if STACKED in modules:
            at = modules.index(STACKED) + 1
            for i, one in enumerate(value):
                state[".".join([*modules[:at], str(i), *modules[at:], name])] = one
        else:
            state[".".join([*modules, name])] = value
    return state
