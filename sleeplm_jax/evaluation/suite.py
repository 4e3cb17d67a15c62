"""All figures of a model on one split of a corpus, each beside what chance and majority get.

`evaluation.json` is the record; `table` shows it on a terminal.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable

import numpy as np

from sleeplm_jax import __version__
from sleeplm_jax.config import CAPTION_KINDS
from sleeplm_jax.corpus.manifest import Corpus
from sleeplm_jax.errors import CheckpointError, CorpusError
from sleeplm_jax.evaluation import captions
from sleeplm_jax.evaluation.epochs import batches, choose_rows, sentence
from sleeplm_jax.evaluation.probe import probe
from sleeplm_jax.evaluation.retrieval import retrieval
from sleeplm_jax.evaluation.staging import prompted_staging, unit
from sleeplm_jax.evaluation.table import table
from sleeplm_jax.files import write_atomically
from sleeplm_jax.places import Place, place

__all__ = ["evaluate", "people_seen", "refuse_trained_subjects", "result_path", "table", "write"]

FORMAT = 1
PROBE_SAMPLES = 2048  # of the training split; the head needs few
PROBE_VALIDATION = 1024
RETRIEVAL_SAMPLES = 512
CAPTION_SAMPLES = 256  # a kind, of the split
UNIGRAM_SAMPLES = 2048  # of the training split
GENERATED_SAMPLES = 64  # a kind, of CAPTION_SAMPLES: one batch of the decoder


def evaluate(
    model,
    corpus: Corpus,
    split: str,
    out: str | Place,
    progress: bool = True,
    max_samples: int | None = None,
    seed: int = 0,
) -> dict:
    """Every figure of `model` (inference.run.Model) on `split`, written to `result_path`.

    `out` may also name the JSON file itself. max_samples: a seeded draw of the split's epochs.
    The linear head trains on the training split's subjects; without any it is left out, as is the
    unigram baseline. Raises CheckpointError when subjects
    of the split were trained on (unless split is "train"), CorpusError when the corpus does not
    fit the model.
    """
    if model.spec != corpus.spec:
        raise CorpusError(
            corpus.path, "its samples have another shape than the model's", "evaluate on a corpus "
            "prepared with the run's model.spec",
        )
    if max_samples is not None and max_samples < 1:
        raise CorpusError("max_samples", f"is {max_samples}", "give 1 or more")
    known = refuse_trained_subjects(model, corpus, split)
    chose = people_seen(model, corpus, split, "val")
    objective = model.config.objective
    rows = choose_rows(corpus, split, max_samples, seed)
    probe_rows = {
        part: choose_rows(corpus, part, most, seed)
        for part, most in (("train", PROBE_SAMPLES), ("val", PROBE_VALIDATION))
    }
    with _bars(progress) as bar:
        held = _embed(model, corpus, split, rows, bar, f"embedding {split}")
        result = {
            "format": FORMAT,
            "versions": _versions(),
            "run": {
                "name": model.config.name,
                "step": model.step,
                "trained_subjects_known": known,
                "subjects_that_chose_the_checkpoint": None if chose is None else len(chose),
            },
            "corpus": {"hash": corpus.hash, "split": split},
            "simulated": bool(any(n.get("simulated") for n in corpus.nights(split))),
            "subjects": len(np.unique(held["subject"])),
            "nights": len(corpus.nights(split)),
            "epochs": len(rows),
            "scored_epochs": int((held["stage"] >= 0).sum()),
            "clean_epochs": int(held["clean"].sum()),
            "mask_artefacts": list(model.config.data.mask_artefacts),
            "sampled": None if len(rows) == corpus.samples(split) else {"seed": seed},
            "note": _note(people_seen(model, corpus, split, "train"), chose,
                          len(corpus.subjects(split)), len(np.unique(held["subject"]))),
        }
        if objective.contrastive > 0:
            result["prompted_staging"] = prompted_staging(
                model, held["embedding"], held["stage"], held["subject"], held["clean"], seed=seed
            )
        fit = {
            part: _embed(model, corpus, part, chosen, bar, f"linear head: {part}", False)
            if len(chosen) else None
            for part, chosen in probe_rows.items()
        }
        if fit["train"] is not None:
            pairs = [None if f is None else (f["features"], f["stage"]) for f in fit.values()]
            result["linear_head"] = probe(
                *pairs, (held["features"], held["stage"]), held["subject"], seed=seed
            )
        if objective.contrastive > 0:
            result["retrieval"] = _retrieval(model, held, bar, seed)
        if objective.caption > 0:
            result["captions"] = _captions(model, corpus, split, rows, bar, seed)
    write(result, out)
    return result


def refuse_trained_subjects(model, corpus: Corpus, split: str) -> bool:
    """CheckpointError when subjects of `split` are among those the run trained on.

    True when the run's provenance names its training subjects, False when it cannot be told.
    """
    shared = people_seen(model, corpus, split, "train")
    if shared and split != "train":
        raise CheckpointError(
            corpus.path, f"{len(shared)} subjects of its {split} split were trained on by this "
            f"run ({', '.join(shared[:3])}{', ...' if len(shared) > 3 else ''})",
            "evaluate on subjects the run has not seen, or ask for split train by name",
        )
    return shared is not None


def people_seen(model, corpus: Corpus, split: str, part: str) -> list[str] | None:
    """Subjects of `split`, sorted, that were in `part` (train, val) of the corpus of the run.

    Known by "cohort/subject", and by the hash of a night's signals, whatever its name and scoring,
    where the run lists these. None when the run's provenance names neither; an empty list when
    none is known again.
    """
    about = model.about.get("corpus", {})
    names, signals = (about.get(name, {}).get(part) for name in ("subjects", "signals"))
    if names is None and signals is None:
        return None
    names, signals = set(names or ()), set(signals or ())
    return sorted({
        person for night in corpus.nights(split)
        for person in (f"{night['cohort']}/{night['subject']}",)
        if person in names or night["signals_sha256"] in signals
    })


def result_path(out: str | Place, split: str) -> Place:
    """Where figures go: `out` itself if it ends in .json, else evaluation.json in that folder.

    Other splits than test get a name of their own, so that they never replace the test's.
    """
    out = place(out)
    if out.suffix == ".json":
        return out
    return out / ("evaluation.json" if split == "test" else f"evaluation-{split}.json")


def write(result: dict, out: str | Place) -> Place:
    """`result` as JSON at `result_path` of `out`, atomically."""
    path = result_path(out, result["corpus"]["split"])
    write_atomically(path, (json.dumps(result, indent=1, allow_nan=False) + "\n").encode())
    return path


def _embed(model, corpus, split, rows, bar, label, texts: bool = True) -> dict:
    """Embeddings, features and what they belong to, [N, ...]; records where `texts`."""
    want_embedding = texts and model.config.objective.contrastive > 0
    parts: dict[str, list] = {
        "stage": [], "subject": [], "keys": [], "features": [], "clean": [],
    }
    if want_embedding:
        parts["embedding"] = []
    records: list[dict] = []
    advance = bar(label, len(rows))
    data = model.config.data
    for epochs in batches(
        corpus, split, rows, mask_artefacts=data.mask_artefacts, ungrounded=data.ungrounded,
        level=_words_of(model)[2],
    ):
        parts["stage"].append(epochs.stage)
        parts["clean"].append(epochs.clean)
        parts["subject"].append(epochs.subject)
        parts["keys"].append(epochs.keys)
        if want_embedding:
            embedding, features = model.encode_signals(epochs.signal, epochs.mask)
            parts["embedding"].append(embedding)
        else:
            features = model.pooled_features(epochs.signal, epochs.mask)
        parts["features"].append(features)
        if texts:
            records += epochs.records
        advance(len(epochs.rows))
    return {name: np.concatenate(found) for name, found in parts.items()} | {
        "records": records, "rows": rows,
    }


def _retrieval(model, held: dict, bar, seed: int) -> dict:
    """Per caption kind, and with the embeddings of all available kinds averaged."""
    words = _words_of(model)
    rng = np.random.default_rng([seed, len(held["rows"])])
    chosen = np.arange(len(held["rows"]))
    if len(chosen) > RETRIEVAL_SAMPLES:
        chosen = np.sort(rng.choice(chosen, RETRIEVAL_SAMPLES, replace=False))
    signals, keys = held["embedding"][chosen], held["keys"][chosen]
    advance = bar("embedding captions", len(CAPTION_KINDS))
    result, summed = {}, np.zeros_like(signals)
    for number, kind in enumerate(CAPTION_KINDS):
        texts = [
            sentence(held["records"][i], kind, held["rows"][i], seed, *words) for i in chosen
        ]
        there = np.array([text is not None for text in texts], bool)
        if there.any():
            embedded = unit(np.asarray(model.embed_texts([t for t in texts if t is not None])))
            summed[there] += embedded
            result[kind] = retrieval(embedded, signals[there], keys[there, number], seed=seed)
        advance(1)
    worded = (keys != 0).any(-1)
    result["all_kinds"] = retrieval(unit(summed[worded]), signals[worded], keys[worded], seed=seed)
    result["all_kinds"]["text_is"] = "mean of the embeddings of the epoch's captions of every kind"
    return result


def _captions(model, corpus, split, rows, bar, seed: int) -> dict:
    length, size = model.config.data.text_length, model.tokenizer.vocab_size
    words = _words_of(model)
    rng = np.random.default_rng([seed, len(rows), 1])
    some = rows if len(rows) <= CAPTION_SAMPLES else np.sort(
        rng.choice(rows, CAPTION_SAMPLES, replace=False)
    )
    epochs = next(batches(corpus, split, some, size=len(some),
                          mask_artefacts=model.config.data.mask_artefacts))
    training = choose_rows(corpus, "train", UNIGRAM_SAMPLES, seed + 1)
    train_records, advance = [], bar("training captions (unigram)", len(training))
    for part in batches(corpus, "train", training) if len(training) else ():  # tested alone
        train_records += part.records
        advance(len(part.rows))
    advance = bar("caption loss", len(CAPTION_KINDS))
    kinds = {}
    for number, kind in enumerate(CAPTION_KINDS):
        texts = [
            sentence(r, kind, row, seed, *words)
            for r, row in zip(epochs.records, some, strict=True)
        ]
        there = np.array([i for i, text in enumerate(texts) if text is not None], int)
        before = [
            sentence(r, kind, row, seed + 1, *words)
            for r, row in zip(train_records, training, strict=True)
        ]
        before = [text for text in before if text is not None]
        if len(there) == 0:
            kinds[kind] = {"n": 0, "tokens": 0, "why": "no caption of this kind"}
        else:
            kinds[kind] = captions.caption_loss(
                model, epochs.signal[there], epochs.mask[there],
                captions.encode(model.tokenizer, [texts[i] for i in there], length), number,
                captions.encode(model.tokenizer, before, length) if before else None, size,
            )
            if getattr(model.config.data.captions, kind) > 0:  # else it was taught no such words
                few = there[np.linspace(0, len(there) - 1, min(GENERATED_SAMPLES, len(there)))
                            .astype(int)]
                kinds[kind]["generated"] = captions.generated(
                    model, epochs.signal[few], epochs.mask[few],
                    [epochs.records[i] for i in few], [texts[i] for i in few], kind, words[0],
                    words[2],
                )
        advance(1)
    return {
        "unit": "nats per token",
        "baselines": "unigram: token frequencies of training captions of the same kind; "
        "other_signal: the same decoder and texts, with another epoch's signal",
        "generated": "captions decoded greedily and read back: errors of their numbers against "
        "what was measured, beside saying another epoch's caption (other_epoch)",
        "total": captions.total(kinds),
        "kinds": kinds,
    }


def _words_of(model) -> tuple:
    """What the model's captions state (the input they are grounded in, or None), style, level."""
    data = model.config.data
    level = None if data.level == "all" else data.level
    return None if data.ungrounded else model.spec, data.style, level


def _versions() -> dict:
    import sklearn

    return {
        "sleeplm_jax": __version__, "python": platform.python_version(),
        "numpy": np.__version__, "scikit-learn": sklearn.__version__,
    }


def _note(trained: list[str] | None, chose: list[str] | None, subjects: int,
          measured: int) -> str:
    """What may be concluded, by who of the split was trained on or chose the checkpoint.

    subjects: of the split; measured: of the epochs drawn from it.
    """
    if trained:
        who = "these very subjects" if len(trained) == subjects else (
            f"{len(trained)} of these {subjects} subjects")
        seen = f"Trained on {who}: says nothing about new people."
    elif trained is None:
        seen = "Whether these subjects were trained on cannot be told: the run does not say."
    elif chose:
        who = "they" if len(chose) == subjects else f"{len(chose)} of these {subjects} subjects"
        seen = f"Not trained on, but {who} chose the best checkpoint."
    elif chose is None:
        seen = "Subjects not trained on; whether they chose the checkpoint cannot be told."
    else:
        seen = "Subjects not trained on and not used to choose the checkpoint."
    if measured >= 5:
        return seen
    return f"{seen} {measured} subject{'s' if measured != 1 else ''}: too few for an interval."


class _bars:
    """`bar(label, total) -> advance(n)`; silent where `progress` is False."""

    def __init__(self, progress: bool):
        self.shown = None
        if progress:
            # The bar's thread imports this late, and TFDS may hold the import statement just then.
            import rich.markup  # noqa: F401
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeRemainingColumn,
            )

            self.shown = Progress(
                TextColumn("{task.description:<28}"), BarColumn(), MofNCompleteColumn(),
                TimeRemainingColumn(),
            )

    def __enter__(self) -> Callable:
        if self.shown is None:
            return lambda label, total: lambda n: None
        self.shown.start()

        def bar(label: str, total: int) -> Callable[[int], None]:
            task = self.shown.add_task(label, total=total)
            return lambda n: self.shown.advance(task, n)

        return bar

    def __exit__(self, *exc) -> None:
        if self.shown is not None:
            self.shown.stop()
