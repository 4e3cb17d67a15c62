"""Loss and gradients of a batch, at once or in micro-batches.

A contrastive loss compares every sample with every other, so its micro-batches are no sum: it is
taken in two passes (GradCache: Gao et al. 2021, arXiv 2101.06983). The first keeps all embeddings
and nothing else, and the loss of the whole batch gives their gradients; the second encodes each
micro-batch again, by the same random draws, and pulls these back to the parameters. All other
losses are sums over samples, divided by the whole batch's counts.

Legend: B batch, N micro-batches, W devices along the batch axes, R patch rows, P patches.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sleeplm_jax.config import RunConfig
from sleeplm_jax.errors import ConfigError
from sleeplm_jax.models.build import amplitude_channels, bind, graph_of
from sleeplm_jax.objectives.reconstruction import draw_hidden
from sleeplm_jax.objectives.total import (
    contrastive_loss,
    counts_of,
    losses_of_samples,
    total_loss,
    weighted,
)
from sleeplm_jax.parallel.mesh import BATCH_AXES
from sleeplm_jax.parallel.rules import shardings

Parts = dict[str, jax.Array]


class Losses:
    """What parameters lose on a batch of the loader, and the gradients of it (all traceable).

    Raises ConfigError when the batch's micro-batches do not divide over the mesh's batch axes.
    """

    def __init__(self, config: RunConfig, mesh: Mesh):
        self.config, self.mesh, self.graph = config, mesh, graph_of(config)
        self.objective, self.amplitudes = config.objective, amplitude_channels(config)
        self.pieces = config.micro_batches
        self.ways = math.prod(mesh.shape[axis] for axis in BATCH_AXES)
        if config.data.batch_size % (self.pieces * self.ways) and self.pieces > 1:
            raise ConfigError(
                "micro_batches", f"{self.pieces} of data.batch_size {config.data.batch_size} do "
                f"not divide over {self.ways} data shards",
                f"make the batch a multiple of {self.pieces * self.ways}",
            )

    def __call__(self, parameters, batch) -> tuple[jax.Array, Parts]:
        """`(loss, parts)` of an evaluation: no dropout. Patches are hidden, the same every time,
        from the reconstruction alone: the other losses are those of the model in use."""
        batch = with_hidden(batch, self.config)
        if self.pieces == 1:
            outputs = self._seen_whole(parameters, batch)
            return total_loss(outputs, batch, self.objective, self.amplitudes)
        counts = counts_of(batch, self.objective, self.amplitudes)

        def add(sums, piece):
            outputs = self._seen_whole(parameters, piece)
            parts = losses_of_samples(outputs, piece, self.objective, self.amplitudes, counts)
            return jax.tree.map(jnp.add, sums, parts), _pair(outputs)

        parts, pair = jax.lax.scan(add, _nothing(counts), self._cut(batch))
        if pair:
            parts["contrastive"] = contrastive_loss(
                self._joined(pair), _head(parameters), batch, self.objective
            )
        return weighted(parts, self.objective), parts

    def _seen_whole(self, parameters, batch) -> dict[str, jax.Array]:
        """Outputs for a batch of which nothing is hidden but from the heads that tell it."""
        model = bind(self.graph, parameters)
        outputs = model({name: x for name, x in batch.items() if name != "hidden_patches"})
        if "hidden_patches" in batch:
            hidden = model(batch)
            outputs |= {n: hidden[n] for n in ("patches", "position_logits") if n in hidden}
        return outputs

    def gradients(self, parameters, batch, key) -> tuple[tuple[jax.Array, Parts], dict]:
        """`((loss, parts), gradients)` of training; `key` draws dropout and hidden patches, for
        each row of the batch apart, so that micro-batches draw what the whole batch does."""
        if _masked(self.config):
            hiding, key = jax.random.split(key)
            batch = with_hidden(batch, self.config, hiding)
        draws = _row_keys(key, batch) if self.config.model.encoder.dropout > 0 else None
        if self.pieces > 1:
            return self._in_pieces(parameters, batch, draws)

        def loss(parameters):
            outputs = bind(self.graph, parameters)(batch, draws)
            return total_loss(outputs, batch, self.objective, self.amplitudes)

        return jax.value_and_grad(loss, has_aux=True)(parameters)

    # ---- Micro-batches

    def _in_pieces(self, parameters, batch, draws):
        pieces = self._cut((batch, draws))
        parts, to_pair, to_head = {}, (), {}
        if self.objective.contrastive > 0:

            def embed(_, piece):
                return None, bind(self.graph, parameters).embeddings(*piece)

            pair = self._joined(jax.lax.scan(embed, None, pieces)[1])
            parts["contrastive"], (to_pair, to_head) = jax.value_and_grad(
                lambda pair, head: contrastive_loss(pair, head, batch, self.objective), (0, 1)
            )(pair, _head(parameters))
            # Weighted here, once, as the other parts are in `shares`.
            to_pair, to_head = jax.tree.map(
                lambda x: self.objective.contrastive * x, (to_pair, to_head)
            )
        counts = counts_of(batch, self.objective, self.amplitudes)

        def add(sums, piece):
            (batch, draws), slopes = piece

            def shares(parameters):
                outputs = bind(self.graph, parameters)(batch, draws)
                parts = losses_of_samples(
                    outputs, batch, self.objective, self.amplitudes, counts
                )
                return (_pair(outputs), weighted(parts, self.objective)), parts

            _, pull, parts = jax.vjp(shares, parameters, has_aux=True)
            (gradients,) = pull((slopes, jnp.float32(1)))
            return jax.tree.map(jnp.add, sums, (self._as_parameters(gradients), parts)), None

        zero = self._as_parameters(jax.tree.map(jnp.zeros_like, parameters))
        (gradients, shares), _ = jax.lax.scan(
            add, (zero, _nothing(counts)), (pieces, self._cut(to_pair))
        )
        gradients |= {name: gradients[name] + x for name, x in to_head.items()}
        parts |= shares
        return (weighted(parts, self.objective), parts), gradients

    def _as_parameters(self, gradients):
        """Summed where the parameters are: nothing is gathered between micro-batches."""
        return jax.lax.with_sharding_constraint(gradients, shardings(gradients, self.mesh))

    def _cut(self, tree):
        """`[B, ...] -> [N, B / N, ...]`; a piece takes its rows from each device's own."""
        where = NamedSharding(self.mesh, PartitionSpec(None, BATCH_AXES))

        def one(x):
            count = len(x) // (self.pieces * self.ways)
            x = x.reshape(self.ways, self.pieces, count, *x.shape[1:]).swapaxes(0, 1)
            x = x.reshape(self.pieces, self.ways * count, *x.shape[3:])
            return jax.lax.with_sharding_constraint(x, where)

        return jax.tree.map(one, tree)

    def _joined(self, tree):
        """What `_cut` cut, in the batch's order."""
        where = NamedSharding(self.mesh, PartitionSpec(BATCH_AXES))

        def one(x):
            x = x.reshape(self.pieces, self.ways, -1, *x.shape[2:]).swapaxes(0, 1)
            return jax.lax.with_sharding_constraint(x.reshape(-1, *x.shape[3:]), where)

        return jax.tree.map(one, tree)


def _pair(outputs) -> tuple[jax.Array, ...]:
    """Both embeddings, where the objective has them."""
    return tuple(outputs[n] for n in ("signal_embedding", "text_embedding") if n in outputs)


def _head(parameters) -> dict[str, jax.Array]:
    return {n: parameters[n] for n in ("logit_scale", "logit_bias") if n in parameters}


def _nothing(counts) -> Parts:
    return {name: jnp.float32(0) for name in counts}


def with_hidden(batch: dict, config: RunConfig, key=None) -> dict:
    """The batch with `hidden_patches bool [B, R, P]`, which a masked reconstruction has to tell,
    drawn by `key` for each row apart; without a key the same every time, as evaluations hide.
    The batch itself where the objective is another."""
    if not _masked(config):
        return batch
    encoder, (_, channels, samples) = config.model.encoder, batch["signal"].shape
    shape = (channels // encoder.patch_channels, samples // encoder.patch_samples)
    keys = _row_keys(jax.random.key(0) if key is None else key, batch)
    return batch | {"hidden_patches": draw_hidden(keys, shape, config.objective.mask_share)}


def _masked(config: RunConfig) -> bool:
    return config.objective.reconstruction > 0 and config.objective.reconstruction_form == "masked"


def _row_keys(key, batch) -> jax.Array:
    """A key for each row of the batch, `[B]`."""
    rows = jnp.arange(len(batch["signal"]))
    return jax.vmap(jax.random.fold_in, (None, 0))(key, rows)
