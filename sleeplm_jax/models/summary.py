"""What a model is made of and what it costs, without allocating any of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from sleeplm_jax.config import CAPTION_KINDS, PREFIX_LENGTH, RunConfig
from sleeplm_jax.models.build import bind, create, graph_of, parameter_count
from sleeplm_jax.models.flops import Work, forward


@dataclass(frozen=True)
class Module:
    """One row of a summary; `path` has one or two names, `arrays` its parameters' shapes."""

    path: str
    parameters: int
    work: Work | None
    arrays: dict[str, tuple[int, ...]]


def abstract_batch(config: RunConfig, size: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of a loader's batch of `size` samples (what the model reads of it)."""
    spec, of = config.model.spec, jax.ShapeDtypeStruct
    encoder, objective = config.model.encoder, config.objective
    batch = {
        "signal": of((size, *spec.shape), jnp.float32),
        "channel_mask": of((size, len(spec.channels)), bool),
        "text": of((size, config.data.text_length), jnp.int32),
        "prefix": of((size, PREFIX_LENGTH), jnp.int32),
        "keys": of((size, len(CAPTION_KINDS)), jnp.int32),
        "kinds": of((size, len(CAPTION_KINDS)), bool),
    }
    if objective.reconstruction > 0 and objective.reconstruction_form == "masked":
        rows = len(spec.channels) // encoder.patch_channels
        batch["hidden_patches"] = of((size, rows, spec.samples // encoder.patch_samples), bool)
    return batch


def modules(config: RunConfig) -> list[Module]:
    """Modules of the model in order, each with its parameters and the FLOPs of one sample."""
    shapes = jax.eval_shape(lambda: create(config)[1])
    groups: dict[str, dict[str, tuple[int, ...]]] = {}
    for key_path, leaf in jax.tree_util.tree_leaves_with_path(shapes):
        names = jax.tree_util.keystr(key_path, simple=True, separator="/").split("/")
        deep = names[0] in ("encoder", "decoder", "text") and len(names) > 2
        groups.setdefault("/".join(names[: 2 if deep else 1]), {})["/".join(names)] = leaf.shape
    work = forward(config)
    order = ("encoder", "signal_projection", "text", "text_projection", "logit_scale", "logit_bias",
             "to_decoder", "decoder", "reconstruction")
    return [
        Module(path, sum(map(math.prod, arrays.values())), work.get(path), arrays)
        for path, arrays in sorted(
            groups.items(), key=lambda one: (order.index(one[0].split("/")[0]), one[0])
        )
    ]


def parameters_of(config: RunConfig) -> int:
    """The model's parameters, counted from shapes."""
    return parameter_count(jax.eval_shape(lambda: create(config)[1]))


def activation_bytes(config: RunConfig) -> int:
    """Bytes that one more sample of a batch keeps from the forward to the backward pass.

    The residuals of autodiff under the config's remat policy and compute type, and with the
    attention kernel of this machine, taken from shapes alone; logits are not among them (the loss
    makes them in chunks). XLA may keep fewer, by computing cheap ones again, and needs scratch
    space besides.
    """
    graph = graph_of(config)
    shapes = jax.eval_shape(lambda: create(config)[1])

    def kept(size: int) -> int:
        def residuals(parameters, batch):
            return jax.vjp(lambda p: _wanted(bind(graph, p)(batch)), parameters)[1]

        leaves = jax.tree.leaves(jax.eval_shape(residuals, shapes, abstract_batch(config, size)))
        return sum(x.size * x.dtype.itemsize for x in leaves)

    return kept(3) - kept(2)  # what does not grow with the batch (parameters) cancels


def _wanted(outputs: dict) -> dict:
    """Outputs that a loss reads."""
    return {name: x for name, x in outputs.items() if name != "logits_kernel"}
