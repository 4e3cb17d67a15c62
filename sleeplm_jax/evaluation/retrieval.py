"""Text-signal retrieval both ways, in galleries of a fixed size, beside exact chance.

A gallery of another size gives another R@k, so the size is part of the result. Epochs whose
captions state the same (equal caption keys) all count as hits of one another: a template caption
cannot tell them apart. Ties in similarity count against the model, so a model that gives every
pair the same value gets the worst rank, not the best.

Shapes: N epochs, G gallery size, D embedding width.
"""

from __future__ import annotations

import numpy as np

from sleeplm_jax.evaluation.staging import unit

TOPS = (1, 5, 10)


def retrieval(
    texts: np.ndarray,
    signals: np.ndarray,
    keys: np.ndarray,
    *,
    gallery: int = 100,
    galleries: int = 20,
    seed: int = 0,
) -> dict:
    """R@1, R@5, R@10, median and mean rank of the first hit, both ways, with chance beside each.

    texts, signals: [N, D], row i of both being of epoch i. keys: [N] or [N, K] integers, rows
    equal where captions state the same. Averaged over `galleries` galleries of
    min(gallery, N) epochs drawn without replacement from [seed, gallery number].
    """
    texts, signals = unit(np.asarray(texts)), unit(np.asarray(signals))
    keys = np.asarray(keys).reshape(len(texts), -1)
    same = np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1)
    size = min(gallery, len(texts))
    if size < 2:
        return {"n": len(texts), "gallery": size, "why": "fewer than 2 epochs with such a caption"}
    if size == len(texts):
        galleries = 1  # every draw is the whole set
    ranks = {"text_to_signal": [], "signal_to_text": []}
    hits_each = []
    for number in range(galleries):
        rows = np.random.default_rng([seed, number]).choice(len(texts), size, replace=False)
        similarity = texts[rows] @ signals[rows].T  # [G texts, G signals]
        hit = same[rows][:, None] == same[rows][None, :]
        ranks["text_to_signal"].append(first_hit_rank(similarity, hit))
        ranks["signal_to_text"].append(first_hit_rank(similarity.T, hit))
        hits_each.append(hit.sum(-1))
    hits = np.stack(hits_each)
    return {
        "n": len(texts),
        "gallery": size,
        "galleries": galleries,
        "distinct_captions": int(same.max() + 1),
        "hits_per_query": float(hits.mean()),
        "hits_are": "epochs of the gallery whose captions state the same; ties count as misses",
        **{way: _summary(np.stack(found)) for way, found in ranks.items()},
        "chance": chance(hits.reshape(-1), size),
    }


def first_hit_rank(similarity: np.ndarray, hit: np.ndarray) -> np.ndarray:
    """Rank [Q] (1 is best) of the most similar hit of each query; misses that tie go before it.

    similarity: [Q, G], hit: bool [Q, G], at least one hit a row.
    """
    best = np.where(hit, similarity, -np.inf).max(-1, keepdims=True)
    return 1 + ((similarity >= best) & ~hit).sum(-1)


def chance(hits: np.ndarray, gallery: int) -> dict:
    """What a random ordering of the gallery gets: exact, for queries with `hits` [Q] hits each.

    The first of m hits among G comes later than k with probability C(G-m, k) / C(G, k).
    """
    position = np.arange(gallery)
    values, count = np.unique(hits, return_counts=True)
    within = np.zeros(gallery)  # P(first hit at rank <= k + 1), averaged over queries
    for m, weight in zip(values, count / len(hits), strict=True):
        miss = np.clip((gallery - m - position) / (gallery - position), 0, 1)
        within += weight * (1 - np.cumprod(miss))
    return {
        **{f"R@{k}": float(within[min(k, gallery) - 1]) for k in TOPS},
        "median_rank": float(1 + np.searchsorted(within, 0.5 - 1e-12)),
        "mean_rank": float(np.mean((gallery + 1) / (hits + 1))),
    }


def _summary(ranks: np.ndarray) -> dict:
    """ranks: [galleries, Q]."""
    return {
        **{f"R@{k}": float((ranks <= k).mean()) for k in TOPS},
        "median_rank": float(np.median(ranks)),
        "mean_rank": float(ranks.mean()),
        "R@1_sd_over_galleries": float((ranks <= 1).mean(-1).std()),
    }
