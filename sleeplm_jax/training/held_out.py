"""Losses on the same held-out samples, every time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax

from sleeplm_jax.config import RunConfig
from sleeplm_jax.corpus.loader import Loader
from sleeplm_jax.corpus.mixture import parts_of
from sleeplm_jax.parallel.batches import BatchPlacer
from sleeplm_jax.training.step import Steps


class HeldOut:
    """Losses on a fixed part of the validation split, in fixed wording and batches.

    Of a mixture, on such a part of each corpus by itself: batches hold samples of one corpus.
    """

    def __init__(self, corpus, tokenizer, config: RunConfig, placer: BatchPlacer):
        data = dataclasses.replace(
            config.data, channel_dropout=0.0, dropout_keep=(), gain_jitter=0.0, time_shift=0.0
        )
        parts = parts_of(corpus)
        if len(parts) > 1:
            parts = [part for part in parts if part[1].samples("val")] or parts[:1]
        self.names, corpora, self.weights = zip(*parts, strict=True)
        self.loaders = [Loader(part, "val", tokenizer, data, config.seed) for part in corpora]
        self.loader = self.loaders[0]
        self.config, self.placer = config, placer

    def first(self):
        """The first of its batches, as the devices get it."""
        return self.placer.place(next(self._batches())[1])

    def _batches(self):
        """(place among the corpora, batch)."""
        for part, loader in enumerate(self.loaders):
            for batch in loader.eval_batches(
                self.config.data.batch_size, samples=self.config.eval_samples,
                rows=self.placer.rows,
            ):
                yield part, batch

    def __call__(
        self, steps: Steps, parameters, asked: Callable[[], int] = lambda: 0
    ) -> dict[str, float] | None:
        """Mean losses over its samples; one batch is made while the devices compute another.

        Of a mixture: the corpora's, weighted as they are in training, and each one's as
        "loss/NAME". None when `asked`, which is called before every batch, says so.
        """
        totals: list[dict[str, float]] = [{} for _ in self.loaders]
        counts, under_way = [0.0] * len(self.loaders), []
        for part, batch in self._batches():
            if asked():
                return None
            under_way.append((part, steps.evaluate(parameters, self.placer.place(batch))))
            if len(under_way) > 1:
                part, values = under_way.pop(0)
                counts[part] += _add(totals[part], values)
        for part, values in under_way:
            counts[part] += _add(totals[part], values)
        means = [
            {name: total / count for name, total in total.items()}
            for total, count in zip(totals, counts, strict=True)
        ]
        if len(means) == 1:
            return means[0]
        together = {
            name: sum(weight * mean[name] for weight, mean in zip(self.weights, means, strict=True))
            / sum(self.weights)
            for name in means[0]
        }
        return together | {
            f"{name}/{corpus}": value
            for corpus, mean in zip(self.names, means, strict=True) for name, value in mean.items()
        }


def _add(totals: dict[str, float], values: dict[str, jax.Array]) -> float:
    """Adds a batch's losses to `totals`, each as often as it has samples, which it gives."""
    values = {name: float(value) for name, value in jax.device_get(values).items()}
    samples = values.pop("samples")
    for name, value in values.items():
        totals[name] = totals.get(name, 0.0) + samples * value
    return samples
