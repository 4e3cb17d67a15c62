"""From a config to a model's graph and parameters; the rest of the project sees pytrees.

`create` runs NNX once; afterwards a model is a static `graph` and a plain nested dict of arrays,
applied by `apply`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
from flax import nnx

from sleeplm_jax.config import RunConfig
from sleeplm_jax.models.recoca import ReCoCa

Graph = Any  # nnx.GraphDef


def with_vocabulary(config: RunConfig, vocab_size: int) -> RunConfig:
    """`config` with the tokenizer's vocabulary, rounded up to a multiple of 128 so that the
    logits shard evenly; the extra rows are never a label."""
    rounded = -(-vocab_size // 128) * 128
    return dataclasses.replace(
        config, model=dataclasses.replace(config.model, vocab_size=rounded)
    )


def create(config: RunConfig, seed: int | jax.Array = 0) -> tuple[Graph, dict]:
    """The model's graph and freshly drawn parameters (traceable, the seed too: wrap in jit or
    eval_shape)."""
    model = ReCoCa(
        config.model, config.objective, config.data.text_length,
        rngs=nnx.Rngs(params=jax.random.key(seed)),
    )
    graph, parameters = nnx.split(model, nnx.Param)
    return graph, nnx.to_pure_dict(parameters)


def graph_of(config: RunConfig) -> Graph:
    """The model's graph without allocating parameters."""
    model = nnx.eval_shape(
        lambda: ReCoCa(
            config.model, config.objective, config.data.text_length, rngs=nnx.Rngs(params=0)
        )
    )
    return nnx.split(model, nnx.Param)[0]


def bind(graph: Graph, parameters: dict) -> ReCoCa:
    """The callable module for these parameters (cheap; use inside a jitted function)."""
    return nnx.merge(graph, parameters)


def parameter_count(parameters: dict) -> int:
    return sum(x.size for x in jax.tree.leaves(parameters))


def amplitude_channels(config: RunConfig) -> tuple[bool, ...]:
    """Which input channels carry amplitudes; body position is a code."""
    return tuple(channel != "POS" for channel in config.model.spec.channels)
