"""A model without learning, with the methods of inference.run.Model, whose answers are known.

Its signals carry their stage as the frequency of a sine in C4 (`tone`); its embedding of a signal
points along that stage's axis, and so does its embedding of a sentence that names the stage.
"""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np

from sleeplm_jax.captions.prompts import stage_prompts
from sleeplm_jax.config import CAPTION_KINDS, STAGES, RunConfig, SignalSpec

SPEC = SignalSpec()
WIDTH = 24
HERTZ = (9.0, 3.0, 5.0, 1.0, 7.0)  # of config.STAGES


def tone(stages: np.ndarray, spec: SignalSpec = SPEC, seed: int = 0) -> np.ndarray:
    """Signals f32 [N, C, T] whose C4 oscillates at the stage's frequency, the rest noise."""
    rng = np.random.default_rng(seed)
    signals = 0.1 * rng.standard_normal((len(stages), *spec.shape)).astype(np.float32)
    time = np.arange(spec.samples) / spec.rate
    hertz = np.array(HERTZ)[np.maximum(stages, 0)]
    signals[:, spec.channels.index("C4")] += np.sin(2 * np.pi * hertz[:, None] * time)
    if "POS" in spec.channels:
        signals[:, spec.channels.index("POS")] = 2
    return signals


class FakeTokenizer:
    vocab_size = 300

    def encode(self, text: str, length: int) -> np.ndarray:
        ids = [1, *(4 + b for b in text.encode()[: length - 2]), 2]
        return np.array(ids + [0] * (length - len(ids)), np.int32)


class FakeModel:
    step = 7
    folder = "runs/fake"
    logit_scale = 8.0

    def __init__(self, trained=(), noise: float = 0.05):
        self.config = dataclasses.replace(RunConfig(), name="fake")
        self.tokenizer, self.noise = FakeTokenizer(), noise
        self.about = {"corpus": {"subjects": {"train": list(trained)}, "simulated": True}}
        self.texts_seen: list[str] = []

    @property
    def spec(self) -> SignalSpec:
        return self.config.model.spec

    def stages(self, signal: np.ndarray) -> np.ndarray:
        c4 = signal[:, self.spec.channels.index("C4")]
        power = np.abs(np.fft.rfft(c4, axis=-1)) ** 2
        bins = [int(round(h * self.spec.seconds)) for h in HERTZ]
        return power[:, bins].argmax(-1)

    logit_scale = 1 / 0.07

    def encode_signals(self, signal, channel_mask):
        return (
            self.embed_signals(signal, channel_mask), self.pooled_features(signal, channel_mask)
        )

    def embed_signals(self, signal, channel_mask):
        axes = np.eye(WIDTH)[self.stages(signal)]
        jitter = np.stack([_hashed(row.tobytes()) for row in signal])
        return _unit(axes + self.noise * jitter).astype(np.float32)

    def pooled_features(self, signal, channel_mask):
        return 3 * self.embed_signals(signal, channel_mask) + 1

    def embed_texts(self, texts):
        self.texts_seen += list(texts)
        return _unit(np.stack([self._text(text) for text in texts])).astype(np.float32)

    def _text(self, text: str) -> np.ndarray:
        for held_out in (False, True):
            for stage, prompts in stage_prompts(held_out=held_out).items():
                if any(prompt in text for prompt in prompts):
                    return np.eye(WIDTH)[STAGES.index(stage)] + self.noise * _hashed(text.encode())
        return _hashed(text.encode())

    def caption(self, signal, channel_mask, kind):
        return self.caption_night(signal, channel_mask, (kind,))[kind]

    def caption_night(self, signal, channel_mask, kinds, progress=lambda share: None):
        assert set(kinds) <= set(CAPTION_KINDS)
        progress(1.0)
        return {kind: [f"fake {kind} words of {STAGES[s]}" for s in self.stages(signal)]
                for kind in kinds}

    def caption_nll(self, signal, channel_mask, text, prefix):
        """(1 + stage) nats a token, so that the signal decides the loss."""
        tokens = (text[:, 1:] != 0).sum(-1)
        return (tokens * (1.0 + self.stages(signal))).astype(np.float32), tokens


def _hashed(data: bytes) -> np.ndarray:
    digest = hashlib.blake2b(data, digest_size=8).digest()
    return np.random.default_rng(int.from_bytes(digest, "little")).standard_normal(WIDTH) / 5


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)
