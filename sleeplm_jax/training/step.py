"""One mesh-sharded training step and its evaluation twin: pure functions under `jax.jit`.

A training state is `{"parameters", "optimizer", "step", "skipped", "loss_mean"}`, with `"ema"`
where `optimizer.ema` is on; batches are the loader's.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sleeplm_jax.config import RunConfig
from sleeplm_jax.models.build import create
from sleeplm_jax.objectives.contrastive import bounded
from sleeplm_jax.parallel.rules import state_shardings
from sleeplm_jax.training.gradients import Losses
from sleeplm_jax.training.optimizer import learning_rate, make_optimizer

LOSS_DECAY = 0.98  # of the running mean that a spike is measured by: some fifty steps


class Steps:
    """The jitted functions of one run on one mesh: `init`, `train`, `evaluate`.

    `train(state, batch) -> (state, metrics)`, metrics scalars on the devices: `loss`, its parts,
    `grad_norm`, `parameter_norm`, `learning_rate`, `temperature`, `bad` (the update was left out)
    and `skipped` (how many were). Raises ConfigError for a model that the mesh cannot split.
    """

    def __init__(self, config: RunConfig, mesh: Mesh):
        self.config, self.mesh = config, mesh
        self.losses = Losses(config, mesh)
        self.optimizer = make_optimizer(
            config.optimizer, config.steps, jax.eval_shape(lambda: create(config)[1])
        )
        self.schedule = learning_rate(config.optimizer, config.steps)
        self.abstract = jax.eval_shape(self._init)
        self.shardings = state_shardings(self.abstract, mesh)
        whole = NamedSharding(mesh, PartitionSpec())
        # Drawn under its shardings, so that no device ever holds an unsharded model.
        self.init = jax.jit(self._init, out_shardings=self.shardings)
        self.train = jax.jit(
            self._train, donate_argnums=0, out_shardings=(self.shardings, whole)
        )
        self.evaluate = jax.jit(self._evaluate, out_shardings=whole)

    def compile(self, state, batch, held_out_batch) -> None:
        """Compiles both steps for these shapes before anything runs.

        Processes that compile within the first step keep one another waiting in a collective, and
        those give up (gloo: after 30 s).
        """
        self.train = self.train.lower(state, batch).compile()
        self.evaluate = self.evaluate.lower(self.evaluated(state), held_out_batch).compile()

    def evaluated(self, state):
        """The parameters that held-out losses are measured by: the running mean where there is
        one."""
        return state.get("ema", state["parameters"])

    def begun_from(self, state, parameters):
        """A fresh `state` with `parameters` in place of those that were drawn."""
        given = {"parameters": parameters}
        if "ema" in state:  # a copy: the step gives both buffers away
            given["ema"] = jax.tree.map(jnp.copy, parameters)
        return state | given

    def _init(self):
        parameters = create(self.config, self.config.seed)[1]
        state = {
            "parameters": parameters,
            "optimizer": self.optimizer.init(parameters),
            "step": jnp.zeros((), jnp.int32),
            "skipped": jnp.zeros((), jnp.int32),
            "loss_mean": jnp.float32(jnp.inf),  # of no step: nothing is a spike
        }
        if self.config.optimizer.ema > 0:
            state["ema"] = jax.tree.map(jnp.copy, parameters)
        return state

    def _train(self, state, batch):
        """`(state, metrics)`; a bad step changes nothing but the counts, decided on the device."""
        before = {k: x for k, x in state.items() if k not in ("step", "skipped")}
        (loss, parts), gradients = self.losses.gradients(
            before["parameters"], batch,
            jax.random.fold_in(jax.random.key(self.config.seed), state["step"]),
        )
        norm = optax.tree.norm(gradients)
        bad = ~(jnp.isfinite(norm) & jnp.isfinite(loss))
        mean, updates = state["loss_mean"], state["step"] - state["skipped"]
        if self.config.spike_factor > 0:
            bad |= loss > self.config.spike_factor * mean
        after = self._updated(before, gradients, updates)
        after["loss_mean"] = jnp.where(
            jnp.isfinite(mean), LOSS_DECAY * mean + (1 - LOSS_DECAY) * loss, loss
        )
        after = jax.tree.map(lambda new, old: jnp.where(bad, old, new), after, before)
        parameters = after["parameters"]
        metrics = {
            "loss": loss, **parts, "grad_norm": norm,
            "parameter_norm": optax.tree.norm(parameters),
            "learning_rate": self.schedule(updates),  # the optimiser counts those it made
            "bad": bad, "skipped": state["skipped"] + bad,
        }
        if self.config.spike_factor > 0:
            metrics["loss_mean"] = mean
        if "logit_scale" in parameters:
            metrics["temperature"] = jnp.exp(-parameters["logit_scale"])
        return after | {"step": state["step"] + 1, "skipped": metrics["skipped"]}, metrics

    def _updated(self, state, gradients, updates_before):
        """`state` after one update of its parameters."""
        updates, optimizer = self.optimizer.update(
            gradients, state["optimizer"], state["parameters"]
        )
        parameters = optax.apply_updates(state["parameters"], updates)
        if "logit_scale" in parameters:
            form = self.config.objective.contrastive_form
            parameters["logit_scale"] = bounded(parameters["logit_scale"], form)
        after = state | {"parameters": parameters, "optimizer": optimizer}
        if "ema" in state:
            # Short at first, so that the parameters it began with are soon forgotten (after ten
            # updates they weigh 1e-5), and it needs no correction where it is read.
            count = updates_before.astype(jnp.float32)
            decay = jnp.minimum(self.config.optimizer.ema, (1 + count) / (10 + count))
            after["ema"] = jax.tree.map(
                lambda mean, new: mean + (1 - decay) * (new - mean), state["ema"], parameters
            )
        return after

    def _evaluate(self, parameters, batch):
        """Losses of one batch and how many of its rows are samples rather than padding."""
        loss, parts = self.losses(parameters, batch)
        return {"loss": loss, **parts, "samples": batch["valid"].sum()}
