"""A trained run, loaded for use.

Shapes: N samples, C channels, T samples in time, L text, K prefix slots, D embedding, F features.
"""

from __future__ import annotations

import functools
import json
import math
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from sleeplm_jax.checkpoints import Checkpoints
from sleeplm_jax.config import CAPTION_KINDS, PREFIX_LENGTH, RunConfig, SignalSpec, load_config
from sleeplm_jax.corpus.tokenizer import BOS, EOS, PAD, Tokenizer
from sleeplm_jax.errors import CheckpointError
from sleeplm_jax.models.build import bind, create, graph_of
from sleeplm_jax.objectives.caption import caption_nll
from sleeplm_jax.objectives.contrastive import MAX_LOG_SCALE


class Model:
    """Parameters, tokenizer and jitted functions of a run. Make one with `Model.load`."""

    def __init__(self, config: RunConfig, parameters: dict, tokenizer: Tokenizer, step: int,
                 about: dict, folder: Path, batch_size: int = 64):
        self.config, self.tokenizer, self.step = config, tokenizer, step
        self.about, self.folder, self.batch_size = about, folder, batch_size
        self._parameters, self._graph = parameters, graph_of(config)
        self._encode = jax.jit(self._encode_signal)
        self._embed_text = jax.jit(
            lambda p, text: bind(self._graph, p).encode_text(text)["embedding"]
        )
        self._nll = jax.jit(self._caption_nll)
        self._generate = jax.jit(self._greedy, static_argnames="length")

    @property
    def spec(self) -> SignalSpec:
        return self.config.model.spec

    @property
    def logit_scale(self) -> float:
        """What cosines are multiplied with before a softmax, as learned."""
        self._need("has no temperature", "contrastive")
        return math.exp(min(float(self._parameters["logit_scale"]), MAX_LOG_SCALE))

    @classmethod
    def load(cls, folder: str | Path, step: int | Literal["best", "latest"] = "best",
             batch_size: int = 64) -> Model:
        """Loads a run folder. Raises CheckpointError when it holds no such checkpoint, or its
        tokenizer is not the one the checkpoint was trained with."""
        folder = Path(folder)
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
                max_tokens: int = 96) -> list[str]:
        """Greedy captions of one kind (of CAPTION_KINDS), one a sample."""
        self._need("writes no captions", "caption")
        length = min(max_tokens, self.config.data.text_length)
        prefix = np.full((len(signal), PREFIX_LENGTH), -1, np.int32)
        prefix[:, 0] = CAPTION_KINDS.index(kind)
        generate = functools.partial(self._generate, length=length)
        ids = self._batched(generate, signal, channel_mask, prefix)
        return [self.tokenizer.decode(row) for row in ids]

    def caption_nll(self, signal, channel_mask, text, prefix) -> tuple[np.ndarray, np.ndarray]:
        """Teacher-forced `(summed nll f32 [N], predicted tokens int [N])` of `text int32 [N, L]`
        with `prefix int32 [N, K]`."""
        self._need("writes no captions", "caption")
        return self._batched(self._nll, signal, channel_mask, text, prefix)

    # ---- Traced

    def _encode_signal(self, parameters, signal, channel_mask):
        out = bind(self._graph, parameters).encode_signal(signal, channel_mask)
        return {name: out[name] for name in ("embedding", "features") if name in out}

    def _caption_nll(self, parameters, signal, channel_mask, text, prefix):
        model = bind(self._graph, parameters)
        seen = model.encode_signal(signal, channel_mask)["caption_tokens"]
        tokens = model.encode_text(text)["tokens"][:, :-1]
        return caption_nll(model.decode(tokens, prefix, seen), text)

    def _greedy(self, parameters, signal, channel_mask, prefix, *, length):
        """Greedy decoding, every step over the whole text so far; `int32 [B, length]`."""
        model = bind(self._graph, parameters)
        seen = model.encode_signal(signal, channel_mask)["caption_tokens"]
        batch = signal.shape[0]
        # Rows beyond the tokenizer's vocabulary pad the logits' width and are never a word.
        words = jnp.arange(self.config.model.vocab_size) < self.tokenizer.vocab_size
        words = words.at[jnp.array([PAD, BOS])].set(False)

        def body(carry):
            text, position, done = carry
            # Tower and decoder are causal: what stands after `position` cannot reach it.
            tokens = model.encode_text(text)["tokens"]
            logits = model.decode(tokens, prefix, seen)[:, position]
            best = jnp.argmax(jnp.where(words, logits, -jnp.inf), -1).astype(text.dtype)
            best = jnp.where(done, PAD, best)
            text = text.at[:, position + 1].set(best)
            return text, position + 1, done | (best == EOS)

        def going(carry):
            _, position, done = carry
            return (position < length - 1) & ~done.all()

        text = jnp.full((batch, length), PAD, jnp.int32).at[:, 0].set(BOS)
        return jax.lax.while_loop(going, body, (text, 0, jnp.zeros(batch, bool)))[0]

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
            if n < self.batch_size:
                part = [np.concatenate([a, np.repeat(a[:1], self.batch_size - n, 0)]) for a in part]
            out = jax.device_get(function(self._parameters, *part))
            pieces.append(jax.tree.map(lambda x, n=n: x[:n], out))
        return jax.tree.map(lambda *x: np.concatenate(x), *pieces)
