import dataclasses
import io
import json

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from sleeplm_jax.config import CAPTION_KINDS
from sleeplm_jax.corpus.nightfile import dequantise
from sleeplm_jax.errors import CheckpointError
from sleeplm_jax.evaluation.epochs import batches, choose_rows
from sleeplm_jax.evaluation.suite import evaluate, people_seen, refuse_trained_subjects, write
from sleeplm_jax.evaluation.table import table
from tests.fake_model import FakeModel


@pytest.fixture(scope="module")
def model(corpus):
    return FakeModel(trained=corpus.subjects("train"))


@pytest.fixture(scope="module")
def result(model, corpus, tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    found = evaluate(model, corpus, "test", out, progress=False)
    assert json.loads((out / "evaluation.json").read_text()) == found
    assert [p.name for p in out.iterdir()] == ["evaluation.json"]
    return found


def test_says_what_it_rests_on(result, corpus):
    assert result["simulated"] is True and result["corpus"]["hash"] == corpus.hash
    assert result["subjects"] == 1 and result["epochs"] == corpus.samples("test")
    assert result["run"]["step"] == 7 and result["run"]["trained_subjects_known"]
    assert "too few for an interval" in result["note"]
    names = {n["subject"] for n in corpus.nights()}
    assert not any(name in json.dumps(result) for name in names)


def test_staging_equals_what_the_model_reads_epoch_by_epoch(result, model, corpus):
    samples = [corpus.source("test")[i] for i in range(corpus.samples("test"))]
    signal = dequantise(np.stack([s["signal"] for s in samples]), corpus.spec.channels)
    true = np.array([s["stage"] for s in samples])
    read = model.stages(signal)
    wanted = cohen_kappa_score(true[true >= 0], read[true >= 0], labels=range(5))
    found = result["prompted_staging"]["in_template"]
    assert found["kappa"] == pytest.approx(wanted)
    assert found["n"] == int((true >= 0).sum()) and found["interval"] is None
    for part in (found, result["linear_head"]):
        assert part["chance"]["kappa"] == part["majority"]["kappa"] == 0
    assert result["linear_head"]["trained_on"] <= corpus.samples("train")


def test_retrieval_and_captions_have_every_kind_beside_chance(result):
    for kind in (*CAPTION_KINDS, "all_kinds"):
        found = result["retrieval"][kind]
        assert 0 < found["chance"]["R@1"] <= 1 and found["gallery"] <= 100
    kinds = result["captions"]["kinds"]
    assert set(kinds) == set(CAPTION_KINDS)
    for part in kinds.values():
        assert part["tokens"] == part["unigram"]["tokens"] == part["other_signal"]["tokens"]
    assert result["captions"]["total"]["tokens"] == sum(p["tokens"] for p in kinds.values())
    for part in kinds.values():  # the fake model says nothing that captions say
        grades, other = part["generated"], part["generated"]["other_epoch"]
        assert grades["unread"] == 1 and all(f["stated"] == 0 for f in grades["features"].values())
        assert other["unread"] == 0 and any(f["stated"] > 0 for f in other["features"].values())


def test_table_shows_figures_with_chance_and_says_simulated(result):
    from rich.console import Console

    console = Console(width=160, record=True, file=io.StringIO())
    console.print(table(result))
    text = console.export_text()
    kappa = f"{result['prompted_staging']['in_template']['kappa']:.3f}"
    for words in ("SIMULATED", "Prompted staging", "held-out wording", "Linear head",
                  "Retrieval of", "Caption loss", "Generated captions", kappa):
        assert words in text, words


def test_a_corpus_of_a_test_split_alone_is_measured_without_what_needs_training(
    model, corpus, tmp_path
):
    """As another cohort is, or one night."""
    splits = corpus.manifest["splits"]
    alone = dataclasses.replace(corpus, manifest=corpus.manifest | {
        "nights": corpus.nights("test"),
        "splits": {name: splits[name] if name == "test" else {"nights": 0, "samples": 0}
                   for name in splits},
    })
    found = evaluate(model, alone, "test", tmp_path / "e.json", progress=False)
    assert "linear_head" not in found and found["prompted_staging"]["in_template"]["kappa"]
    assert found["captions"]["total"]["tokens"] > 0 and "unigram" not in found["captions"]["total"]


def test_subjects_trained_on_are_refused_unless_asked_for(model, corpus):
    trained = FakeModel(trained=corpus.subjects("test"))
    with pytest.raises(CheckpointError, match="1 subjects of its test split were trained on"):
        refuse_trained_subjects(trained, corpus, "test")
    assert refuse_trained_subjects(trained, corpus, "train")
    assert refuse_trained_subjects(model, corpus, "test")
    unknown = FakeModel()
    unknown.about = {}
    assert not refuse_trained_subjects(unknown, corpus, "test")


def known_by(**corpus):
    model = FakeModel()
    model.about = {"corpus": corpus}
    return model


def test_a_renamed_person_is_known_by_the_night(corpus):
    hashes = [night["signals_sha256"] for night in corpus.nights("test")]
    model = known_by(subjects={"train": ["other/name"]}, signals={"train": hashes})
    with pytest.raises(CheckpointError, match="trained on"):
        refuse_trained_subjects(model, corpus, "test")
    other = known_by(subjects={"train": ["other/name"]}, signals={"train": ["0" * 64]})
    assert refuse_trained_subjects(other, corpus, "test")
    assert people_seen(known_by(signals={"val": hashes}), corpus, "test", "val") == (
        corpus.subjects("test"))
    assert people_seen(known_by(subjects={"val": []}), corpus, "test", "val") == []
    assert people_seen(known_by(), corpus, "test", "val") is None


@pytest.mark.parametrize(
    ("trained", "chose", "words"),
    [
        ([], [], "not used to choose the checkpoint"),
        ([], ["x/y"], "not used to choose the checkpoint"),
        ([], "own", "they chose the best checkpoint"),
        ([], None, "whether they chose the checkpoint cannot be told"),
        (None, None, "trained on cannot be told"),
    ],
)
def test_the_note_says_what_is_true_of_the_split(trained, chose, words, corpus, tmp_path):
    chose = corpus.subjects("test") if chose == "own" else chose
    subjects = {"train": trained, "val": chose}
    model = known_by(subjects={k: v for k, v in subjects.items() if v is not None})
    if trained is None:
        model.about = {}
    objective = dataclasses.replace(model.config.objective, caption=0.0)
    model.config = dataclasses.replace(model.config, objective=objective)
    note = evaluate(model, corpus, "test", tmp_path, progress=False, max_samples=12)["note"]
    assert words in note
    assert (words == "not used to choose the checkpoint") == ("not used to choose" in note)


def test_each_split_has_figures_of_its_own(tmp_path):
    for split in ("test", "val", "train"):
        write({"corpus": {"split": split}}, tmp_path)
    names = {"evaluation.json": "test", "evaluation-val.json": "val",
             "evaluation-train.json": "train"}
    assert {p.name for p in tmp_path.iterdir()} == set(names)
    for name, split in names.items():
        assert json.loads((tmp_path / name).read_text())["corpus"]["split"] == split


def test_rows_are_a_seeded_draw(corpus):
    total = corpus.samples("train")
    assert list(choose_rows(corpus, "train", None, 0)) == list(range(total))
    drawn = choose_rows(corpus, "train", 20, 0)
    assert len(set(drawn)) == 20 and (np.diff(drawn) > 0).all()
    assert list(drawn) == list(choose_rows(corpus, "train", 20, 0))
    assert list(drawn) != list(choose_rows(corpus, "train", 20, 1))
    read = [row for part in batches(corpus, "train", drawn, size=7) for row in part.rows]
    assert read == list(drawn)
