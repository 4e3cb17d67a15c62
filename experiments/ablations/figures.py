"""What is measured of a run of the ablations: a set of figures fixed before any run."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from statistics import median

from recipe import get_config

TEST_EPOCHS = 1000  # drawn once from the test people, the same for every row
# name -> (where in evaluation.json, better is higher).
METRICS = {
    "prompted_kappa": (("prompted_staging", "in_template", "kappa"), True),
    "held_out_kappa": (("prompted_staging", "held_out", "kappa"), True),
    "linear_kappa": (("linear_head", "kappa"), True),
    "retrieval_1": (("R@1",), True),
    "retrieval_10": (("R@10",), True),
    "caption_nll": (("captions", "total", "loss"), False),
    "signal_gain": ((), True),
    "number_error": ((), False),
    "invented": ((), False),
}


def metrics_of(result: dict) -> dict[str, float | None]:
    """The fixed figures out of what `evaluation.suite.evaluate` gave; None where it has none.

    retrieval_k: share of queries with a hit among the first k of 100, mean of both ways, captions
    of all kinds, equal ones being hits. signal_gain: nats a token that the decoder loses with
    another epoch's signal. number_error: of generated captions, the median over features of the
    mean absolute error as a share of that of another epoch's caption. invented: share of what
    generated captions state that the input does not show.
    """
    found = {name: _at(result, path) for name, (path, _) in METRICS.items()}
    everything = result.get("retrieval", {}).get("all_kinds", {})
    for k in (1, 10):
        ways = [_at(everything, (way, f"R@{k}")) for way in ("text_to_signal", "signal_to_text")]
        found[f"retrieval_{k}"] = None if None in ways else sum(ways) / 2
    captions = result.get("captions")
    for name in ("signal_gain", "number_error", "invented"):
        found[name] = None
    if captions:
        total = captions["total"]
        found["signal_gain"] = total["other_signal"]["loss"] - total["loss"]
        errors, said, invented = [], 0, 0.0
        for kind in captions["kinds"].values():
            grades = kind.get("generated")
            if not grades:
                continue
            for feature, grade in grades["features"].items():
                said += grade["said"]
                invented += grade["said"] * (grade["invented"] or 0.0)
                other = grades["other_epoch"]["features"].get(feature, {}).get("mae")
                if grade["n"] >= 10 and grade.get("mae") is not None and other:
                    errors.append(grade["mae"] / other)
        found["number_error"] = median(errors) if len(errors) >= 3 else None
        found["invented"] = invented / said if said else None
    return found


def _at(result: dict, path: tuple[str, ...]) -> float | None:
    for name in path:
        result = result.get(name) if isinstance(result, dict) else None
    return result if path and not isinstance(result, dict) else None


def measure(run: Path, corpus) -> dict:
    """`evaluation.suite.evaluate` of the run's last step, in the same words for every variant.

    Captions are those of the base (grounded, everything that is measured), whatever the variant was
    taught, and the last step is taken: the best one is chosen by a loss that variants do not share.
    """
    from sleeplm_jax.evaluation.suite import evaluate
    from sleeplm_jax.inference.run import Model

    model = Model.load(run, "latest")
    words = {name: getattr(get_config().data, name) for name in ("style", "level", "ungrounded")}
    model.config = dataclasses.replace(
        model.config, data=dataclasses.replace(model.config.data, **words)
    )
    return evaluate(model, corpus, "test", run, progress=False, max_samples=TEST_EPOCHS)
