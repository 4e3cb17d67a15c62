"""What a finished cell lost on held-out people: the same epochs, words and batches for all cells.

The losses are training's own, taken by the last step's parameters. In training a contrastive loss
depends on the batch, which cells may differ in; here each sample stands among the same others.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from sleeplm_jax.config import MeshConfig, RunConfig
from sleeplm_jax.corpus.loader import EVALUATION_SEED, Loader
from sleeplm_jax.errors import CheckpointError, CorpusError
from sleeplm_jax.files import content_sha256
from sleeplm_jax.places import Place
from sleeplm_jax.scaling.study import Measure

FORMAT = 1  # of what is measured; another number measures finished cells again


def held_out_hash(measure: Measure, config: RunConfig, corpus, tokenizer) -> str:
    """16 digits, equal exactly where cells are measured on the same people, epochs, words and
    batches. config: of any of the cells; corpus: an opened `Corpus`."""
    data = config.data
    said = ("text_length", "captions", "style", "level", "ungrounded", "pair_probability",
            "mask_artefacts")
    return content_sha256({
        "format": FORMAT, "nights": [n["signals_sha256"] for n in corpus.nights(measure.split)],
        "measure": dataclasses.asdict(measure), "tokenizer": tokenizer.hash,
        "words": [EVALUATION_SEED, *(repr(getattr(data, name)) for name in said)],
    })[:16]


def measured(run: Place, measure: Measure, corpus) -> dict:
    """`{"losses", "figures", "held_out"}` of the last step of the run in folder `run`.

    losses: `total`, as in training; `caption` (nats a token), `contrastive` (nats, each sample
    among measure.batch_size), `reconstruction`, and `zero_shot_error`, 1 - balanced accuracy of
    stages told by prompts in the words of training (captions in training name stages: it is called
    zero-shot as in the literature, no more). figures: the same in wordings that no template uses,
    and what it was measured on. Losses of objectives that the cell left out are not there.

    Raises CheckpointError where the run has trained on people of the split, or is not finished;
    CorpusError where the split holds less than a batch.
    """
    import jax

    from sleeplm_jax.evaluation.staging import prompted_staging
    from sleeplm_jax.evaluation.suite import refuse_trained_subjects
    from sleeplm_jax.inference.run import Model
    from sleeplm_jax.models.build import bind, graph_of
    from sleeplm_jax.parallel.mesh import make_mesh
    from sleeplm_jax.training.gradients import Losses

    model = Model.load(run, "latest")
    if model.step < model.config.steps:
        raise CheckpointError(run, f"is at step {model.step} of {model.config.steps}",
                              "let it train to its end")
    refuse_trained_subjects(model, corpus, measure.split)
    config = dataclasses.replace(
        model.config, micro_batches=1,
        data=dataclasses.replace(model.config.data, batch_size=measure.batch_size),
    )
    batches, people = _batches(config, measure, corpus, model.tokenizer)
    mesh = make_mesh(MeshConfig(data=1), jax.devices()[:1])
    losses, graph = Losses(config, mesh), graph_of(config)
    contrastive = config.objective.contrastive > 0

    def of_batch(parameters, batch):
        loss, parts = losses(parameters, batch)
        embedding = None
        if contrastive:
            seen = bind(graph, parameters).encode_signal(batch["signal"], batch["channel_mask"])
            embedding = seen["embedding"]
        return {"total": loss, **parts}, embedding

    with jax.set_mesh(mesh):
        compiled = jax.jit(of_batch)
        found = [jax.device_get(compiled(model.parameters, batch)) for batch in batches]
    result = {name: float(np.mean([values[name] for values, _ in found])) for name in found[0][0]}
    figures = {"samples": measure.batch_size * len(found), "people": len(set(people.tolist())),
               "simulated": bool(any(n.get("simulated") for n in corpus.nights(measure.split)))}
    if contrastive:
        staged = prompted_staging(
            model, np.concatenate([embedding for _, embedding in found]),
            np.concatenate([batch["stage"] for batch in batches]), people,
        )
        told = {name: staged[name].get("balanced_accuracy") for name in ("in_template", "held_out")}
        if told["in_template"] is not None:
            result["zero_shot_error"] = 1 - told["in_template"]
            figures["zero_shot_error_other_words"] = 1 - told["held_out"]
            figures["kappa"] = staged["in_template"]["kappa"]
    return {"losses": result, "figures": figures,
            "held_out": held_out_hash(measure, model.config, corpus, model.tokenizer)}


def _batches(config: RunConfig, measure: Measure, corpus, tokenizer):
    """Whole batches of the measured samples, and who each is of, str [N] in the batches' order.

    Each batch takes every n-th sample, so that it holds all people: neighbours of one night, alike
    as they are, would make a contrastive loss of telling one person's minutes apart.
    """
    data = dataclasses.replace(
        config.data, channel_dropout=0.0, dropout_keep=(), gain_jitter=0.0, time_shift=0.0
    )
    loader = Loader(corpus, measure.split, tokenizer, data)
    size = measure.batch_size
    count = min(measure.samples, len(loader)) // size
    if count < 1:
        raise CorpusError(
            corpus.path, f"its {measure.split} split holds {len(loader)} samples, less than a "
            f"batch of {size}", "state a smaller measure.batch_size, or prepare more nights",
        )
    total = count * size
    whole = next(loader.eval_batches(total, samples=total))
    batches = [{name: array[first::count] for name, array in whole.items()}
               for first in range(count)]
    index = corpus.index(measure.split)
    rows = np.concatenate([batch["index"] for batch in batches])
    people = np.array([f"{a}/{b}" for a, b in zip(index["cohort"][rows], index["subject"][rows],
                                                  strict=True)])
    return batches, people
