"""Losses on the same held-out samples, every time."""

from __future__ import annotations

import dataclasses

import jax

from sleeplm_jax.config import RunConfig
from sleeplm_jax.corpus.loader import Loader
from sleeplm_jax.parallel.batches import BatchPlacer
from sleeplm_jax.training.step import Steps


class HeldOut:
    """Losses on a fixed part of the validation split, in fixed wording and batches."""

    def __init__(self, corpus, tokenizer, config: RunConfig, placer: BatchPlacer):
        data = dataclasses.replace(
            config.data, channel_dropout=0.0, dropout_keep=(), gain_jitter=0.0
        )
        self.loader = Loader(corpus, "val", tokenizer, data, config.seed)
        self.config, self.placer = config, placer

    def first(self):
        """The first of its batches, as the devices get it."""
        return self.placer.place(next(self._batches()))

    def _batches(self):
        return self.loader.eval_batches(
            self.config.data.batch_size, samples=self.config.eval_samples, rows=self.placer.rows
        )

    def __call__(self, steps: Steps, parameters) -> dict[str, float]:
        totals: dict[str, float] = {}
        count = 0.0
        for batch in self._batches():
            values = jax.device_get(steps.evaluate(parameters, self.placer.place(batch)))
            n = float(values.pop("samples"))
            count += n
            for name, value in values.items():
                totals[name] = totals.get(name, 0.0) + n * float(value)
        return {name: total / count for name, total in totals.items()}
