"""What a model says about one night: stages, similarity to queries, captions of chosen epochs.

Shapes: E epochs, S stages (order of config.STAGES), Q queries, D embedding width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sleeplm_jax.captions.prompts import stage_prompts
from sleeplm_jax.captions.render import render
from sleeplm_jax.config import CAPTION_KINDS, STAGES
from sleeplm_jax.evaluation.staging import (
    stage_directions,
    stage_probabilities,
    stage_similarities,
    unit,
)
from sleeplm_jax.inference.captioning import why_silent
from sleeplm_jax.recordings.night import Night, shown
from sleeplm_jax.reports.palette import HYPNOGRAM_ORDER

# In words of the captions, in no caption's sentence. Words that no caption uses are not learned
# by a small model: it then draws the same curve for all of them (`alike` tells).
QUERIES = (
    "deep sleep (N3)",
    "REM sleep with low chin muscle tone",
    "stage W (wake)",
    "an obstructive apnoea",
)
ABSENT = "no measurement"
EPOCHS_A_CALL = 128


@dataclass(frozen=True)
class Described:
    """One epoch in words."""

    epoch: int
    why: str  # why this epoch was chosen
    generated: dict[str, str]  # caption kind -> the model's words
    measured: dict[str, str | None]  # caption kind -> caption of the measurements, if any
    silent: dict[str, str]  # caption kind -> why the model is not asked for it; not in `generated`


@dataclass(frozen=True)
class NightReading:
    predicted: np.ndarray  # int [E], index into STAGES
    probabilities: np.ndarray  # [E, S], relative
    queries: tuple[str, ...]
    query_similarity: np.ndarray  # [Q, E], cosine
    described: tuple[Described, ...]

    @property
    def alike(self) -> float | None:
        """Mean correlation between the queries' curves: near 1, they are told apart by nothing."""
        if len(self.queries) < 2 or self.query_similarity.shape[1] < 3:
            return None
        with np.errstate(invalid="ignore", divide="ignore"):
            found = np.corrcoef(self.query_similarity)
        mean = float(found[np.triu_indices(len(found), 1)].mean())
        return mean if np.isfinite(mean) else None


def read_night(
    model,
    night: Night,
    records: Sequence[dict | None] | None,
    queries: Sequence[str] = QUERIES,
    kinds: Sequence[str] = CAPTION_KINDS,
    seed: int = 0,
    progress: Callable[[float], None] = lambda share: None,
) -> NightReading:
    """Runs the model over the night, as much of it as it was trained to see.

    records: one an epoch (or None): what was measured. Deterministic in `seed`, which draws only
    the wording of measured captions. `progress` is called with the share done.
    """
    night, style = shown(night, model.config.data.mask_artefacts), model.config.data.style
    embedded = []
    for start in range(0, len(night.signals), EPOCHS_A_CALL):
        rows = slice(start, start + EPOCHS_A_CALL)
        embedded.append(model.embed_signals(night.signals[rows], night.mask[rows]))
        progress(0.5 * min(start + EPOCHS_A_CALL, len(night.signals)) / len(night.signals))
    embeddings = unit(np.concatenate(embedded))
    similarity = stage_similarities(embeddings, stage_directions(model, stage_prompts(style=style)))
    predicted = similarity.argmax(-1)
    queries = tuple(queries)
    heat = np.zeros((0, len(embeddings)), np.float32)
    if queries:
        heat = unit(np.asarray(model.embed_texts(list(queries)))) @ embeddings.T
    chosen = choose_epochs(predicted, records)
    chosen_rows = np.array(list(chosen), int)
    texts = model.caption_night(
        night.signals[chosen_rows], night.mask[chosen_rows], kinds,
        progress=lambda share: progress(0.5 + 0.5 * share),
    )
    generated: dict[int, dict[str, str]] = {epoch: {} for epoch in chosen}
    silent: dict[int, dict[str, str]] = {epoch: {} for epoch in chosen}
    for kind in kinds:
        for epoch, text in zip(chosen, texts[kind], strict=True):
            why = why_silent(model, kind, night.mask[epoch])
            if why is None:
                generated[epoch][kind] = text.strip()
            else:
                silent[epoch][kind] = why
    described = tuple(
        Described(
            epoch=int(epoch),
            why=why,
            generated=generated[epoch],
            measured={kind: _measured(records, epoch, kind, seed, night.spec, style)
                      for kind in kinds},
            silent=silent[epoch],
        )
        for epoch, why in chosen.items()
    )
    return NightReading(
        predicted, stage_probabilities(similarity, model.logit_scale), queries, heat, described
    )


def choose_epochs(
    predicted: np.ndarray, records: Sequence[dict | None] | None
) -> dict[int, str]:
    """{epoch: why}, in order of time: no picking by how well the model did.

    The middle of the longest stretch predicted as each stage, and the epoch with the most scored
    events (the first of them), if there is any event.
    """
    chosen: dict[int, list[str]] = {}
    starts = np.flatnonzero(np.r_[True, predicted[1:] != predicted[:-1]])
    lengths = np.diff(np.r_[starts, len(predicted)])
    for name in HYPNOGRAM_ORDER:
        runs = np.flatnonzero(predicted[starts] == STAGES.index(name))
        if len(runs):
            longest = runs[lengths[runs].argmax()]
            middle = int(starts[longest] + (lengths[longest] - 1) // 2)
            chosen.setdefault(middle, []).append(f"middle of the longest stretch read as {name}")
    if records is not None:
        events = np.array([len(r["events"]) if r else 0 for r in records])
        if len(events) and events.max() > 0:
            chosen.setdefault(int(events.argmax()), []).append("most scored events")
    return {epoch: ", ".join(chosen[epoch]) for epoch in sorted(chosen)}


def _measured(records, epoch: int, kind: str, seed: int, spec, style: str) -> str | None:
    if records is None or records[epoch] is None:
        return None
    rng = np.random.default_rng([seed, epoch, CAPTION_KINDS.index(kind)])
    return render(records[epoch], kind, rng, style, spec=spec)
