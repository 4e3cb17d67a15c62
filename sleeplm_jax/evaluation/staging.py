"""Prompted staging: an epoch takes the stage whose sentences its signal embedding is nearest to.

Called prompted, not zero-shot: captions in training name stages. The held-out ensemble uses
wordings that no template uses, so its gap to the in-template one is the price of new words.

Shapes: N epochs, S stages (order of config.STAGES), P prompts of a stage, D embedding width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sleeplm_jax.config import STAGES
from sleeplm_jax.evaluation.agreement import agreement

ENSEMBLES = {"in_template": False, "held_out": True}  # name -> stage_prompts(held_out=...)


def stage_directions(model, prompts: Mapping[str, Sequence[str]]) -> np.ndarray:
    """Unit vectors [S, D]: the prompts of each stage embedded, averaged, normalised.

    prompts: stage name -> P sentences (CLIP's prompt ensembling, Radford et al. 2021, 3.1.4).
    """
    sentences = [text for stage in STAGES for text in prompts[stage]]
    owner = np.concatenate([np.full(len(prompts[s]), i) for i, s in enumerate(STAGES)])
    embedded = np.asarray(model.embed_texts(sentences), np.float64)
    means = np.stack([embedded[owner == i].mean(0) for i in range(len(STAGES))])
    return unit(means).astype(np.float32)


def stage_similarities(signals: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Cosines [N, S] of signal embeddings [N, D] with `stage_directions`."""
    return unit(signals) @ directions.T


def stage_probabilities(similarities: np.ndarray, scale: float) -> np.ndarray:
    """Softmax over stages [N, S] at the model's logit scale; relative, not calibrated."""
    logits = np.asarray(similarities, np.float64) * scale
    logits -= logits.max(-1, keepdims=True)
    weights = np.exp(logits)
    return weights / weights.sum(-1, keepdims=True)


def prompted_staging(
    model,
    signals: np.ndarray,
    stages: np.ndarray,
    subjects: np.ndarray,
    clean: np.ndarray | None = None,
    *,
    seed: int = 0,
) -> dict:
    """`agreement` of both prompt ensembles on signal embeddings [N, D] with stages [N].

    subjects: [N], for the interval. clean: bool [N], epochs without artefacts in the EEG.
    JSON-able: {"in_template": {...}, "held_out": {...}}, each with the prompts used; and
    "clean_epochs", the first of them on the clean epochs alone, where some are not clean.
    """
    from sleeplm_jax.captions.prompts import stage_prompts

    result = {}
    for name, held_out in ENSEMBLES.items():
        prompts = stage_prompts(held_out=held_out, style=model.config.data.style)
        similarity = stage_similarities(signals, stage_directions(model, prompts))
        # AUROC of a stage ranks epochs by its share against the other stages: a raw cosine also
        # rises and falls with how well any sentence fits the epoch.
        shares = stage_probabilities(similarity, model.logit_scale)
        result[name] = agreement(stages, similarity.argmax(-1), shares, subjects, seed=seed)
        result[name]["prompts"] = {stage: list(prompts[stage]) for stage in STAGES}
        if not held_out and clean is not None and clean.any() and not clean.all():
            result["clean_epochs"] = agreement(
                stages[clean], similarity[clean].argmax(-1), shares[clean], subjects[clean],
                seed=seed,
            )
    return result


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors [..., D] at length 1; a zero vector stays zero."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(length > 0, length, 1)
