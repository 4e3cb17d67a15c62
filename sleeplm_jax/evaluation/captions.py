"""Loss of the caption decoder per token, beside two baselines that say what it is worth; and what
its own captions state, read back and held against the measurements.

Template text is easy to predict, so a low loss alone says little. `unigram`: token frequencies of
training captions of the same kind, no context at all. `other_signal`: the same decoder and texts,
with the signal of another epoch; the gap to it is what the decoder reads from the signal.

Shapes: N captions, L tokens of text, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sleeplm_jax.config import PREFIX_LENGTH, SignalSpec

PAD = 0  # in every tokenizer of this package


def unigram_nll(train: np.ndarray, test: np.ndarray, vocab_size: int) -> tuple[float, int]:
    """(sum of -log p over the targets of `test`, number of targets), p from targets of `train`.

    Texts int32 [N, L], bos first, padded with 0. Targets are all tokens after bos, eos included.
    Add-one smoothing over the vocabulary, in nats.
    """
    counts = np.bincount(_targets(train), minlength=vocab_size).astype(np.float64) + 1
    counts[PAD] = counts[train[0, 0]] = 0  # padding and bos are never a target
    wanted = _targets(test)
    return float(-np.log(counts[wanted] / counts.sum()).sum()), len(wanted)


def encode(tokenizer, texts: Sequence[str], length: int) -> np.ndarray:
    """int32 [N, L] of bos ... eos, padded."""
    return np.stack([np.asarray(tokenizer.encode(text, length), np.int32) for text in texts])


def caption_loss(
    model,
    signal: np.ndarray,
    channel_mask: np.ndarray,
    text: np.ndarray,
    kind: int,
    train_text: np.ndarray | None,
    vocab_size: int,
    *,
    other: np.ndarray | None = None,
) -> dict:
    """Loss in nats per token and perplexity of captions of one kind, beside the baselines.

    signal: [N, C, T], channel_mask: [N, C], text: [N, L] of the same epochs; kind: index into
    CAPTION_KINDS. train_text: [M, L] training captions of that kind, or None. other: int [N],
    for each epoch the index of the epoch whose signal replaces its own; default: half way round.
    """
    n = len(signal)
    if n == 0:
        return {"n": 0, "tokens": 0, "why": "no caption of this kind"}
    prefix = np.full((n, PREFIX_LENGTH), -1, np.int32)
    prefix[:, 0] = kind
    nll, tokens = model.caption_nll(signal, channel_mask, text, prefix)
    result = {"n": n, "texts": len(np.unique(text, axis=0))}
    result |= per_token(np.sum(nll), np.sum(tokens))
    if train_text is not None and len(train_text):
        result["unigram"] = per_token(*unigram_nll(train_text, text, vocab_size))
        result["unigram"]["train_texts"] = len(train_text)
    if n > 1:
        other = np.roll(np.arange(n), n // 2) if other is None else other
        nll, tokens = model.caption_nll(signal[other], channel_mask[other], text, prefix)
        result["other_signal"] = per_token(np.sum(nll), np.sum(tokens))
    return result


def generated(
    model,
    signal: np.ndarray,
    channel_mask: np.ndarray,
    records: Sequence[dict],
    texts: Sequence[str],
    kind: str,
    spec: SignalSpec | None,
    level: str | None = None,
) -> dict:
    """`captions.check.grade` of the model's own captions, beside "other_epoch".

    signal: [N, C, T], channel_mask: [N, C]; records, texts: what was measured in these epochs and
    captions of it. other_epoch grades the captions of the epochs half way round: what a decoder
    gets that knows how captions read and nothing of the signal.
    """
    from sleeplm_jax.captions.check import grade

    said = model.caption(signal, channel_mask, kind)
    result = grade(said, records, kind, spec, level)
    if len(records) > 1:
        turn = len(records) // 2
        other = [*texts[turn:], *texts[:turn]]
        result["other_epoch"] = grade(other, records, kind, spec, level)
    return result


def per_token(nll: float, tokens: int) -> dict:
    """{"loss": nats per token, "perplexity", "tokens"}."""
    loss = float(nll) / max(int(tokens), 1)
    return {"loss": loss, "perplexity": float(np.exp(min(loss, 700))), "tokens": int(tokens)}


def total(kinds: dict[str, dict]) -> dict:
    """Per-kind results of `caption_loss` added up, weighted by tokens; baselines where all have."""
    parts = [part for part in kinds.values() if part.get("tokens")]
    result = {"n": sum(part["n"] for part in parts)}
    result |= _add(parts)
    for baseline in ("unigram", "other_signal"):
        if parts and all(baseline in part for part in parts):
            result[baseline] = _add([part[baseline] for part in parts])
    return result


def _add(parts: list[dict]) -> dict:
    tokens = sum(part["tokens"] for part in parts)
    return per_token(sum(part["loss"] * part["tokens"] for part in parts), tokens)


def _targets(text: np.ndarray) -> np.ndarray:
    after = text[:, 1:]
    return after[after != PAD]
