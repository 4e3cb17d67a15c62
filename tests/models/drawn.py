"""Parameters drawn wide: at their start, biases are zero and positions small, and hide faults."""

import jax
import numpy as np

from sleeplm_jax.models.build import create, graph_of


def drawn(config, seed: int = 0, spread: float = 0.3):
    """Graph and float32 parameters of a small model, normal (norms' scales about 1)."""
    rng = np.random.default_rng(seed)

    def one(path, x):
        values = spread * rng.normal(size=x.shape) + (path[-1].key == "scale")
        return values.astype(np.float32)

    shapes = jax.eval_shape(lambda: create(config)[1])
    return graph_of(config), jax.tree_util.tree_map_with_path(one, shapes)
