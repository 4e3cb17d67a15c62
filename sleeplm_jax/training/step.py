"""One mesh-sharded training step and its evaluation twin: pure functions under `jax.jit`.

A training state is `{"parameters", "optimizer", "step", "skipped", "loss_mean"}`, with `"ema"`
where `optimizer.ema` is on; batches are the loader's.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sleeplm_jax.config import RunConfig
from sleeplm_jax.models.build import create
from sleeplm_jax.objectives.contrastive import bounded
from sleeplm_jax.parallel.rules import state_shardings
from sleeplm_jax.training.gradients import Losses
from sleeplm_jax.training.optimizer import learning_rate, make_optimizer, schedule_numbers

LOSS_DECAY = 0.98  # of the running mean that a spike is measured by: some fifty steps


class Program:
    """A jitted (or compiled) function whose last argument, `numbers`, is the same at every call
    and lies on the devices from the first on."""

    def __init__(self, function, numbers: dict[str, np.generic], where: NamedSharding):
        self.function, self.numbers, self.where = function, numbers, where
        self.placed: dict | None = None  # late: a dry run's devices are not here

    def __call__(self, *given):
        if self.placed is None:
            self.placed = {
                name: jax.make_array_from_process_local_data(self.where, np.asarray(x), ())
                for name, x in self.numbers.items()
            }
        return self.function(*given, self.placed)

    def trace(self, *given):
        return self.function.trace(*given, self._shapes())

    def lower(self, *given):
        return self.function.lower(*given, self._shapes())

    def compile(self, *given) -> Program:
        return Program(self.lower(*given).compile(), self.numbers, self.where)

    def _shapes(self) -> dict[str, jax.ShapeDtypeStruct]:
        return {
            name: jax.ShapeDtypeStruct((), x.dtype, sharding=self.where)
            for name, x in self.numbers.items()
        }


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
            config.optimizer, jax.eval_shape(lambda: create(config)[1])
        )
        # Inputs of the programs, not constants in them: runs that differ in seed, learning rate or
        # duration are one program, compiled once.
        numbers = schedule_numbers(config.optimizer, config.steps) | {
            "seed": np.uint32(config.seed % 2**32)
        }
        self.abstract = jax.eval_shape(self._init, numbers)
        self.shardings = state_shardings(self.abstract, mesh)
        whole = NamedSharding(mesh, PartitionSpec())
        # Drawn under its shardings, so that no device ever holds an unsharded model.
        self.init = Program(jax.jit(self._init, out_shardings=self.shardings), numbers, whole)
        self.train = Program(
            jax.jit(self._train, donate_argnums=0, out_shardings=(self.shardings, whole)),
            numbers, whole,
        )
        self.evaluate = jax.jit(self._evaluate, out_shardings=whole)

    def compile(self, state, batch, held_out_batch) -> None:
        """Compiles both steps for these shapes before anything runs.

        Processes that compile within the first step keep one another waiting in a collective, and
        those give up (gloo: after 30 s).
        """
        self.train = self.train.compile(state, batch)
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

    def _init(self, numbers):
        parameters = create(self.config, numbers["seed"])[1]
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

    def _train(self, state, batch, numbers):
        """`(state, metrics)`; a bad step changes nothing but the counts, decided on the device."""
        before = {k: x for k, x in state.items() if k not in ("step", "skipped")}
        (loss, parts), gradients = self.losses.gradients(
            before["parameters"], batch,
            jax.random.fold_in(jax.random.key(numbers["seed"]), state["step"]),
        )
        norm = optax.tree.norm(gradients)
        bad = ~(jnp.isfinite(norm) & jnp.isfinite(loss))
        mean, updates = state["loss_mean"], state["step"] - state["skipped"]
        if self.config.spike_factor > 0:
            bad |= loss > self.config.spike_factor * mean
        after = self._updated(before, gradients, updates, numbers)
        after["loss_mean"] = jnp.where(
            jnp.isfinite(mean), LOSS_DECAY * mean + (1 - LOSS_DECAY) * loss, loss
        )
        after = jax.tree.map(lambda new, old: jnp.where(bad, old, new), after, before)
        parameters = after["parameters"]
        metrics = {
            "loss": loss, **parts, "grad_norm": norm,
            "parameter_norm": optax.tree.norm(parameters),
            # The optimiser counts the updates it made.
            "learning_rate": learning_rate(self.config.optimizer, numbers)(updates),
            "bad": bad, "skipped": state["skipped"] + bad,
        }
        if self.config.spike_factor > 0:
            metrics["loss_mean"] = mean
        if "logit_scale" in parameters:
            metrics["temperature"] = jnp.exp(-parameters["logit_scale"])
        return after | {"step": state["step"] + 1, "skipped": metrics["skipped"]}, metrics

    def _updated(self, state, gradients, updates_before, numbers):
        """`state` after one update of its parameters."""
        updates, optimizer = self.optimizer.update(
            gradients, state["optimizer"], state["parameters"], numbers=numbers
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
