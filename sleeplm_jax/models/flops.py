"""Floating-point operations of one forward pass, counted from the config (2 a multiply-add).

Matrix products only, attention's included and in full (a causal mask saves none of them in plain
kernels); norms, softmax and activations are some percent beside them. JAX-free.

Letters: n queries, m keys, w width, L text length, K prefix slots, V vocabulary, Q caption tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sleeplm_jax.config import PREFIX_LENGTH, RunConfig

GATED = ("swiglu", "geglu")


@dataclass(frozen=True)
class Work:
    """FLOPs of linear layers and of attention's two products (scores, mixing)."""

    linear: int = 0
    products: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(self.linear + other.linear, self.products + other.products)

    def __mul__(self, times: int) -> Work:
        return Work(self.linear * times, self.products * times)

    @property
    def total(self) -> int:
        return self.linear + self.products


def dense(n: int, inputs: int, outputs: int) -> Work:
    return Work(2 * n * inputs * outputs)


def attention(n: int, m: int, w: int) -> Work:
    """`n` queries over `m` keys: q and out for each query, k and v for each key."""
    return Work(4 * n * w * w + 4 * m * w * w, 4 * n * m * w)


def mlp(n: int, w: int, ratio: float, kind: str) -> Work:
    return dense(n, w, int(w * ratio)) * (3 if kind in GATED else 2)


def forward(config: RunConfig) -> dict[str, Work]:
    """Work of every module for one sample: `{"encoder/stack": Work, ...}`, modules that the
    objectives leave out are not there. `training` says what a step costs; the contrastive
    similarities of a batch are left out."""
    model, objective, length = config.model, config.objective, config.data.text_length
    found = _encoder(config)
    contrastive, caption = objective.contrastive > 0, objective.caption > 0
    text = model.text
    if contrastive or caption:
        n = length + (contrastive and text.summary in ("token", "shifted"))
        layer = attention(n, n, text.width) + mlp(n, text.width, text.mlp_ratio, text.mlp)
        found["text/stack"] = layer * text.depth
    if contrastive:
        for name, width in (("signal_projection", model.encoder.width),
                            ("text_projection", text.width)):
            if getattr(model, name) != "none":
                found[name] = dense(1, width, model.embed_dim)
    if caption:
        n, q = length - 1 + PREFIX_LENGTH, model.encoder.caption_tokens
        if text.width != model.encoder.width:
            found["to_decoder"] = dense(q, model.encoder.width, text.width)
        feed = mlp(n, text.width, text.mlp_ratio, text.mlp)
        layer = attention(n, n, text.width) + attention(n, q, text.width)
        layer = layer + feed * (2 if text.decoder == "separate" else 1)
        found["decoder/stack"] = layer * text.decoder_depth
        found["decoder/logits"] = dense(length - 1, text.width, model.vocab_size)
    if objective.reconstruction > 0:
        found["reconstruction"] = _reconstruction(config)
    return found


def training(config: RunConfig) -> tuple[int, int]:
    """FLOPs of one sample in a training step: `(the model's, what the device computes)`.

    The backward pass costs twice the forward one. The second number also counts what is computed
    again: the stacks under `model.remat` "full" ("dots" keeps its products), and, where a
    contrastive step has micro-batches, both encoders, which run once for the embeddings alone. The
    first is what MFU is made of, the second of hardware utilisation (PaLM, arXiv 2204.02311,
    appendix B: what is computed again does not count in the first).
    """
    work = forward(config)
    once, again = sum(part.total for part in work.values()), 0
    if config.micro_batches > 1 and config.objective.contrastive > 0:
        unread = () if config.model.encoder.pool == "cascade" else ("encoder/caption_pool",)
        again += sum(
            part.total for name, part in work.items()
            if name.startswith(("encoder/", "text/", "signal_", "text_")) and name not in unread
        )
    if config.model.remat == "full":
        again += sum(part.total for name, part in work.items() if name.endswith("/stack"))
    return 3 * once, 3 * once + again


def _encoder(config: RunConfig) -> dict[str, Work]:
    model, objective = config.model, config.objective
    encoder, (channels, samples) = model.encoder, model.spec.shape
    w, patches = encoder.width, samples // encoder.patch_samples
    rows = channels // encoder.patch_channels
    n, inputs = rows * patches, encoder.patch_channels * encoder.patch_samples
    feed = mlp(n, w, encoder.mlp_ratio, encoder.mlp)
    first = dense(n, inputs, encoder.stem_width or w)
    second = dense(n, encoder.stem_width, w)
    if encoder.kind == "dual_axis":
        found = {"encoder/filters": first, "encoder/project": second}
        layer = attention(rows, rows, w) * patches + attention(patches, patches, w) * rows
        found["encoder/stack"] = (layer + feed * 2) * encoder.depth
    else:
        found = {"encoder/stem": first + second}
        found["encoder/stack"] = (attention(n, n, w) + feed) * encoder.depth
    raw = objective.reconstruction > 0 and objective.reconstruction_form == "raw"
    embedding, cascade = objective.contrastive > 0, encoder.pool == "cascade"
    if embedding:
        found["encoder/embedding_pool"] = attention(1, n, w)
        if encoder.pool == "map":
            found["encoder/embedding_pool"] += mlp(1, w, encoder.mlp_ratio, encoder.mlp)
    if objective.caption > 0 or raw or (cascade and embedding):
        found["encoder/caption_pool"] = attention(encoder.caption_tokens, n, w)
    if cascade and embedding:
        found["encoder/cascade"] = attention(1, encoder.caption_tokens, w)
    return found


def _reconstruction(config: RunConfig) -> Work:
    model, objective = config.model, config.objective
    encoder, spec = model.encoder, model.spec
    positions = 5 if objective.position_classes and "POS" in spec.channels else 0
    if objective.reconstruction_form == "masked":
        patches = spec.samples // encoder.patch_samples
        values = encoder.patch_channels * encoder.patch_samples
        n = len(spec.channels) // encoder.patch_channels * patches
        return dense(n, encoder.width, values) + dense(patches, encoder.width, positions)
    w, q, narrow = encoder.width, encoder.caption_tokens, model.reconstruction_width
    layer = attention(q, q, w) + mlp(q, w, 2.0, model.reconstruction_mlp)
    outputs = math.prod(spec.shape) + positions * spec.seconds
    return layer * 2 + dense(1, w, narrow) + dense(1, narrow, outputs)
