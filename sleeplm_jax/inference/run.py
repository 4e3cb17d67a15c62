"""A trained run, loaded for use.

Shapes: N samples, C channels, T samples in time, L text, P prompts, K prefix slots, D embedding,
F features.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Literal

import jax
import numpy as np

from sleeplm_jax.checkpoints import Checkpoints
from sleeplm_jax.config import CAPTION_KINDS, RunConfig, SignalSpec
from sleeplm_jax.config.files import load_config
from sleeplm_jax.corpus.tokenizer import Tokenizer
from sleeplm_jax.errors import CheckpointError
from sleeplm_jax.inference.generation import GREEDY, Decoding, Words, generate
from sleeplm_jax.inference.prompts import prompt, prompt_numbers
from sleeplm_jax.models.build import bind, create, graph_of
from sleeplm_jax.models.decoding import observe
from sleeplm_jax.objectives.caption import caption_nll
from sleeplm_jax.places import Place, place


class Model:
    """Parameters, tokenizer and jitted functions of a run. Make one with `Model.load`."""

    def __init__(self, config: RunConfig, parameters: dict, tokenizer: Tokenizer, step: int,
                 about: dict, folder: Place, batch_size: int = 64):
        self.config, self.tokenizer, self.step = config, tokenizer, step
        self.about, self.folder, self.batch_size = about, folder, batch_size
        self._parameters, self._graph = parameters, graph_of(config)
        self._encode = jax.jit(self._encode_signal)
        self._embed_text = jax.jit(
            lambda p, text: bind(self._graph, p).encode_text(text)["embedding"]
        )
        self._nll = jax.jit(self._caption_nll)
        self._observe = jax.jit(lambda p, *x: observe(bind(self._graph, p), *x))
        self._generate = jax.jit(self._write, static_argnames=("decoding", "length"))

    @property
    def spec(self) -> SignalSpec:
        return self.config.model.spec

    @property
    def parameters(self) -> dict:
        """As `models.build.create` gives them."""
        return self._parameters

    @property
    def logit_scale(self) -> float:
        """What cosines are multiplied with before a softmax, as learned."""
        self._need("has no temperature", "contrastive")
        return math.exp(float(self._parameters["logit_scale"]))

    @classmethod
    def load(cls, folder: str | Place, step: int | Literal["best", "latest"] = "best",
             batch_size: int = 64) -> Model:
        """Loads a run folder, here or at a store. Raises CheckpointError when it holds no such
        checkpoint, or its tokenizer is not the one the checkpoint was trained with."""
        folder = place(folder)
        if not (folder / "config.json").is_file() or not (folder / "checkpoints").is_dir():
            raise CheckpointError(folder, "is no run folder", "give the folder `train` wrote")
        config = load_config(folder / "config.json")
        tokenizer = Tokenizer.load(folder)
        with Checkpoints(folder / "checkpoints") as saved:
            if isinstance(step, str):
                chosen = saved.best if step == "best" else saved.latest
            else:
                chosen = step if step in saved.steps else None
            if chosen is None:
                raise CheckpointError(
                    folder, f"has no checkpoint {step!r} (steps: {saved.steps or 'none'})",
                    "train it further, or choose one of these steps",
                )
            found = saved.about(chosen).get("tokenizer")
            if found != tokenizer.hash:
                raise CheckpointError(
                    folder / "tokenizer.model",
                    f"is not the tokenizer of step {chosen} ({str(found)[:12]} expected, "
                    f"{tokenizer.hash[:12]} found)", "put the run's own tokenizer back",
                )
            device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
            shapes = jax.tree.map(
                lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device),
                jax.eval_shape(lambda: create(config)[1]),
            )
            parameters = saved.restore_parameters(chosen, shapes)
        try:
            about = json.loads((folder / "run.json").read_text())
            if not isinstance(about, dict):
                raise ValueError("it is no JSON object")
        except (OSError, ValueError) as error:
            raise CheckpointError(
                folder / "run.json", f"cannot be read ({error})", "restore the run folder"
            ) from error
        return cls(config, parameters, tokenizer, chosen, about, folder, batch_size)

    # ---- Public: numpy in, numpy out

    def embed_signals(self, signal: np.ndarray, channel_mask: np.ndarray) -> np.ndarray:
        """L2-normalised embeddings `f32 [N, D]` of `signal f32 [N, C, T]`, mask `bool [N, C]`."""
        self._need("embeds no signals", "contrastive")
        return self._batched(lambda *x: self._encode(*x)["embedding"], signal, channel_mask)

    def pooled_features(self, signal: np.ndarray, channel_mask: np.ndarray) -> np.ndarray:
        """Frozen encoder features before any projection, `f32 [N, F]`."""
        return self._batched(lambda *x: self._encode(*x)["features"], signal, channel_mask)

    def encode_signals(self, signal, channel_mask) -> tuple[np.ndarray, np.ndarray]:
        """`(embeddings f32 [N, D], features f32 [N, F])` in one pass over the encoder."""
        self._need("embeds no signals", "contrastive")
        out = self._batched(self._encode, signal, channel_mask)
        return out["embedding"], out["features"]

    def embed_texts(self, texts: list[str]) -> np.ndarray:
        """L2-normalised embeddings `f32 [len(texts), D]`."""
        self._need("embeds no texts", "contrastive")
        length = self.config.data.text_length
        ids = np.stack([self.tokenizer.encode(text, length) for text in texts])
        return self._batched(self._embed_text, ids)

    def caption(self, signal: np.ndarray, channel_mask: np.ndarray, kind: str,
                decoding: Decoding = GREEDY) -> list[str]:
        """A caption of one kind a sample: of CAPTION_KINDS, or two of them as "brain+heart"."""
        return self.caption_night(signal, channel_mask, (kind,), decoding)[kind]

    def caption_night(
        self, signal: np.ndarray, channel_mask: np.ndarray, kinds: Sequence[str] = CAPTION_KINDS,
        decoding: Decoding = GREEDY, progress: Callable[[float], None] = lambda share: None,
    ) -> dict[str, list[str]]:
        """Captions of several kinds, one a sample each; of several samples the first."""
        texts, _ = self.generate(
            signal, channel_mask, np.stack([prompt(kind) for kind in kinds]), decoding,
            progress=progress,
        )
        return {
            kind: [self.tokenizer.decode(row) for row in texts[:, number, 0]]
            for number, kind in enumerate(kinds)
        }

    def generate(
        self, signal: np.ndarray, channel_mask: np.ndarray, prompts: np.ndarray,
        decoding: Decoding = GREEDY, *, wanted: np.ndarray | None = None,
        index: np.ndarray | None = None, progress: Callable[[float], None] = lambda share: None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Token ids `int32 [N, P, samples, L]` and their scores `f32 [N, P, samples]` (of
        inference.generation.generate) of `signal [N, C, T]` for `prompts int [P, K]`.

        wanted: `bool [N, P]`, where texts are asked for; the others hold the start alone. index:
        `int [N]`, what a sample's draws hang on beside its prompt and the seed; default: 0 to
        N - 1. Each signal is encoded once for all prompts. `progress` is told the share done.
        """
        self.need_captions()
        most, n, asked = self.config.data.text_length, len(signal), len(prompts)
        length = min(decoding.max_tokens or most, most)
        wanted = np.ones((n, asked), bool) if wanted is None else wanted
        index = np.arange(n) if index is None else np.asarray(index)
        draws = (index[:, None] * 64 + prompt_numbers(prompts)).astype(np.uint32)
        texts = np.full((n, asked, decoding.samples, length), self.tokenizer.pad_id, np.int32)
        scores = np.zeros(texts.shape[:3], np.float32)
        rows = max(1, self.batch_size // decoding.lanes)
        # Few epochs: all prompts in one loop, whose cost is reading the weights. Many: a prompt at
        # a time, since the kinds' texts differ in length and a loop lasts as long as its longest.
        together = asked if n * asked <= rows else 1
        size = min(1 << max(n - 1, 0).bit_length(), rows)
        for first in range(0, n, size):
            part = slice(first, first + size)
            seen = self._observe(
                self._parameters, _filled(signal[part], size), _filled(channel_mask[part], size)
            )
            for start in range(0, asked, together):
                some = slice(start, start + together)
                here = np.zeros((size, len(prompts[some])), bool)
                here[: n - first] = wanted[part, some]
                out = self._generate(
                    self._parameters, seen,
                    np.broadcast_to(prompts[some], (size, *prompts[some].shape)).astype(np.int32),
                    here.reshape(-1), _filled(draws[part, some], size).reshape(-1),
                    np.uint32(decoding.seed), decoding=decoding, length=length,
                )
                for target, found in zip((texts, scores), jax.device_get(out), strict=True):
                    found = found.reshape(*here.shape, *found.shape[1:])
                    target[part, some] = found[: n - first]
                progress((first + (start + together) / asked * min(size, n - first)) / n)
        return texts, scores

    def caption_nll(self, signal, channel_mask, text, prefix) -> tuple[np.ndarray, np.ndarray]:
        """Teacher-forced `(summed nll f32 [N], predicted tokens int [N])` of `text int32 [N, L]`
        with `prefix int32 [N, K]`."""
        self.need_captions()
        return self._batched(self._nll, signal, channel_mask, text, prefix)

    # ---- Traced

    def _encode_signal(self, parameters, signal, channel_mask):
        out = bind(self._graph, parameters).encode_signal(signal, channel_mask)
        return {name: out[name] for name in ("embedding", "features") if name in out}

    def _caption_nll(self, parameters, signal, channel_mask, text, prefix):
        model = bind(self._graph, parameters)
        seen = model.encode_signal(signal, channel_mask)["caption_tokens"]
        tokens = model.encode_text(text)["tokens"][:, :-1]
        kernel = model.decoder.logits.kernel[...]
        return caption_nll(model.hidden(tokens, prefix, seen), kernel, text)

    def _write(self, parameters, seen, prompts, wanted, index, seed, *, decoding, length):
        words = Words.of(self.tokenizer, self.config.model.vocab_size)
        return generate(
            bind(self._graph, parameters), seen, prompts, wanted, index, seed, decoding, words,
            length,
        )

    def need_captions(self) -> None:
        """CheckpointError, before any work, for a run that was trained without captions."""
        self._need("writes no captions", "caption")

    def _need(self, lacks: str, objective: str) -> None:
        if getattr(self.config.objective, objective) <= 0:
            raise CheckpointError(
                self.folder, f"{lacks}: it was trained with objective.{objective} 0",
                f"use a run trained with objective.{objective} > 0",
            )

    def _batched(self, function, *arrays):
        """Runs in batches of one compiled shape; the last is padded by repeating its first row."""
        pieces = []
        for start in range(0, len(arrays[0]), self.batch_size):
            part = [a[start:start + self.batch_size] for a in arrays]
            n = len(part[0])
            part = [_filled(a, self.batch_size) for a in part]
            out = jax.device_get(function(self._parameters, *part))
            pieces.append(jax.tree.map(lambda x, n=n: x[:n], out))
        return jax.tree.map(lambda *x: np.concatenate(x), *pieces)


def _filled(rows: np.ndarray, size: int) -> np.ndarray:
    """`rows` brought to `size` rows by repeating the first: one compiled shape for all batches."""
    return np.concatenate([rows, np.repeat(rows[:1], size - len(rows), 0)])
