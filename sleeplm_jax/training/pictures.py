"""What the model makes of the same few held-out samples, as pictures that grow better.

This room computes what is to be seen; how it is drawn is given to it (reports.pictures).

Shapes: N samples looked at, S of them with their signals, C channels, T samples in time.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sleeplm_jax.config import RunConfig
from sleeplm_jax.corpus.loader import Loader
from sleeplm_jax.models.build import bind, graph_of
from sleeplm_jax.objectives.contrastive import positives
from sleeplm_jax.parallel.batches import BatchPlacer
from sleeplm_jax.parallel.mesh import BATCH_AXES
from sleeplm_jax.training.gradients import with_hidden

SAMPLES = 24  # N, or as many as the devices share evenly
SIGNALS = 2  # S, from within the night
FURTHER = 1.1  # a picture at evaluations that are so much further than the last picture

Draw = Callable[[dict, dict], dict[str, np.ndarray]]


class Pictures:
    """Pictures of fixed held-out samples, at evaluations that lie ever further apart, so that a
    long run has some fifty of them. Drawing goes on in a thread while training does."""

    def __init__(self, held_out: Loader, config: RunConfig, mesh: Mesh, draw: Draw | None,
                 start: int = 0):
        self.draw = draw if config.tensorboard else None
        self._last, self._steps, self._broken = start, config.steps, False
        self._drawing: Future | None = None
        if self.draw is None:
            return
        ways = int(np.prod([mesh.shape[axis] for axis in BATCH_AXES]))
        size = -(-SAMPLES // ways) * ways
        placer = BatchPlacer(mesh, size)
        found = next(held_out.eval_batches(size, samples=size, rows=placer.rows))
        self._batch = placer.place(found)
        self._config, self._graph = config, graph_of(config)
        self._names = held_out.tokenizer
        whole = NamedSharding(mesh, PartitionSpec())
        self._see = jax.jit(self._seen, out_shardings=whole)
        self._thread = ThreadPoolExecutor(1, "pictures")

    def compile(self, parameters) -> None:
        """As Steps.compile: before anything runs, on all processes."""
        if self.draw is not None:
            self._see = self._see.lower(parameters, self._batch).compile()

    def __call__(self, step: int, parameters, writer, say: Callable[[str], None]) -> None:
        """Draws, where it is time to, and hands the pictures to `writer`; all processes call it."""
        due = step >= FURTHER * self._last or step == self._steps
        if self.draw is None or not due:
            return
        self._last = step
        seen = jax.device_get(self._see(parameters, self._batch))
        if writer.takes_pictures and not self._broken:
            self.wait()
            self._drawing = self._thread.submit(self._drawn, step, seen, writer, say)

    def wait(self) -> None:
        """Returns when what was begun is drawn."""
        if self._drawing is not None:
            self._drawing.result()

    def __enter__(self) -> Pictures:
        return self

    def __exit__(self, *exc) -> None:
        self.wait()

    def _drawn(self, step: int, seen: dict, writer, say) -> None:
        try:
            there = seen.pop("valid")
            batch = {name: seen.pop(name) for name in ("signal", "channel_mask")}
            batch["stage"] = seen.pop("stage")[there]
            batch["caption"] = [self._names.decode(row) for row in seen.pop("text")[there]]
            # Rows that fill up the batch are copies of the last sample.
            batch["shown"] = np.minimum(self._shown(len(there)), there.sum() - 1)
            for name in ("cosines", "same"):
                if name in seen:
                    seen[name] = seen[name][there][:, there]
            for name, image in self.draw(batch, seen).items():
                writer.picture(step, name, image)
        except Exception as error:  # a picture is not worth a training
            say(f"note: pictures of step {step} were not drawn ({type(error).__name__}: {error})")
            self._broken = True

    @staticmethod
    def _shown(size: int) -> np.ndarray:
        """Which of the samples stand with their signals: int [S]."""
        return np.arange(1, SIGNALS + 1) * size // (SIGNALS + 1)

    def _seen(self, parameters, batch) -> dict[str, jax.Array]:
        """The samples, and what the model makes of them: `cosines, same [N texts, N signals]`, and
        of S of them `reconstruction [S, C, T]`, with `hidden [S, C, T]` where it was masked."""
        model, objective = bind(self._graph, parameters), self._config.objective
        outputs, size = model(batch), len(batch["signal"])
        few = self._shown(size)
        seen = {name: batch[name] for name in ("stage", "text", "valid")}
        seen |= {name: batch[name][few] for name in ("signal", "channel_mask")}
        if "signal_embedding" in outputs:
            seen["cosines"] = outputs["text_embedding"] @ outputs["signal_embedding"].T
            seen["same"] = positives(batch["keys"], batch["kinds"]).T
        if objective.reconstruction > 0 and objective.reconstruction_form == "masked":
            shape, encoder = batch["signal"].shape, self._config.model.encoder
            partly = with_hidden(batch, self._config)
            hidden, told = partly["hidden_patches"], model(partly)["patches"][few]
            told = told.reshape(*told.shape[:3], encoder.patch_channels, -1).swapaxes(2, 3)
            seen["reconstruction"] = told.reshape(-1, *shape[1:])
            spread = hidden[few, :, None, :, None]
            spread = spread.repeat(encoder.patch_channels, 2).repeat(encoder.patch_samples, 4)
            seen["hidden"] = spread.reshape(-1, *shape[1:])
        elif "reconstruction" in outputs:
            seen["reconstruction"] = outputs["reconstruction"][few]
        return seen
