"""One mesh-sharded training step and its evaluation twin: pure functions under `jax.jit`.

A training state is `{"parameters", "optimizer", "step", "skipped"}`; batches are the loader's.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sleeplm_jax.config import RunConfig
from sleeplm_jax.models.build import amplitude_channels, bind, create, graph_of
from sleeplm_jax.objectives.contrastive import bounded
from sleeplm_jax.objectives.reconstruction import draw_hidden
from sleeplm_jax.objectives.total import total_loss
from sleeplm_jax.parallel.rules import state_shardings
from sleeplm_jax.training.optimizer import learning_rate, make_optimizer


class Steps:
    """The jitted functions of one run on one mesh: `init`, `train`, `evaluate`."""

    def __init__(self, config: RunConfig, mesh: Mesh):
        self.config, self.mesh = config, mesh
        self.graph = graph_of(config)
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
        self.evaluate = self.evaluate.lower(state["parameters"], held_out_batch).compile()

    def _init(self):
        parameters = create(self.config, self.config.seed)[1]
        return {
            "parameters": parameters,
            "optimizer": self.optimizer.init(parameters),
            "step": jnp.zeros((), jnp.int32),
            "skipped": jnp.zeros((), jnp.int32),
        }

    def _loss(self, parameters, batch, key=None):
        """`(loss, parts)`; in training `key` draws dropout and the patches that are hidden.

        An evaluation hides the same patches every time, and only from the reconstruction: the
        other losses are those of the model in use.
        """
        model, encoder = bind(self.graph, parameters), self.config.model.encoder
        objective, training = self.config.objective, key is not None
        partly = batch
        if objective.reconstruction > 0 and objective.reconstruction_form == "masked":
            hiding, key = jax.random.split(key if training else jax.random.key(0))
            count, channels, samples = batch["signal"].shape
            shape = (count, channels // encoder.patch_channels, samples // encoder.patch_samples)
            partly = batch | {"hidden_patches": draw_hidden(hiding, shape, objective.mask_share)}
        if training:
            outputs = model(partly, key if encoder.dropout > 0 else None)
        else:
            outputs = model(batch)
            if partly is not batch:
                hidden = model(partly)
                outputs |= {n: hidden[n] for n in ("patches", "position_logits") if n in hidden}
        return total_loss(outputs, partly, objective, amplitude_channels(self.config))

    def _train(self, state, batch):
        """`(state, metrics)`; an update with a non-finite gradient is left out, on the device."""
        (loss, parts), gradients = jax.value_and_grad(self._loss, has_aux=True)(
            state["parameters"], batch,
            jax.random.fold_in(jax.random.key(self.config.seed), state["step"]),
        )
        norm = optax.tree.norm(gradients)
        finite = jnp.isfinite(norm) & jnp.isfinite(loss)
        updates, optimizer = self.optimizer.update(
            gradients, state["optimizer"], state["parameters"]
        )
        updated = optax.apply_updates(state["parameters"], updates)
        if "logit_scale" in updated:
            form = self.config.objective.contrastive_form
            updated["logit_scale"] = bounded(updated["logit_scale"], form)
        keep = lambda new, old: jax.tree.map(  # noqa: E731
            lambda n, o: jnp.where(finite, n, o), new, old
        )
        metrics = {
            "loss": loss, **parts, "grad_norm": norm,
            "learning_rate": self.schedule(state["step"]),
            "skipped": state["skipped"] + ~finite,
        }
        if "logit_scale" in updated:
            metrics["temperature"] = jnp.exp(-updated["logit_scale"])
        return {
            "parameters": keep(updated, state["parameters"]),
            "optimizer": keep(optimizer, state["optimizer"]),
            "step": state["step"] + 1,
            "skipped": metrics["skipped"],
        }, metrics

    def _evaluate(self, parameters, batch):
        """Losses of one batch and how many of its rows are samples rather than padding."""
        loss, parts = self._loss(parameters, batch)
        return {"loss": loss, **parts, "samples": batch["valid"].sum()}
