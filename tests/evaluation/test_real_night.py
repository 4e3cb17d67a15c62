"""A real night, read by a model that never saw it: simulated nights and other people teach it.

UCDDB's ucddb018 (PhysioNet, ODC-By 1.0), as in experiments/benchmarks/real_night.py but smaller.
"""

import csv
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from sleeplm_jax.captions.prompts import stage_prompts
from sleeplm_jax.cli import main
from sleeplm_jax.corpus.manifest import Corpus
from sleeplm_jax.corpus.nightfile import dequantise
from sleeplm_jax.evaluation.staging import stage_directions
from sleeplm_jax.evaluation.suite import people_seen
from sleeplm_jax.inference.run import Model

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
NIGHT = "ucddb018"


def benchmark():
    path = EXPERIMENTS / "benchmarks" / "real_night.py"
    spec = importlib.util.spec_from_file_location("real_night", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def sleeplm(*arguments):
    assert main([str(a) for a in arguments]) == 0


@pytest.fixture(scope="module")
def real(psg, tmp_path_factory):
    """(benchmark module, folder of the run's corpus, of the night's corpus, of the run, work)."""
    source = psg / "ucddb_eeg"
    if not (source / f"{NIGHT}_eeg.edf").is_file():
        pytest.skip(f"real recordings hold no ucddb_eeg/{NIGHT}_eeg.edf")
    module, work = benchmark(), tmp_path_factory.mktemp("real_night")
    people = module.write_people(source, work / "people")
    module.copy_night(source, work / "night")
    assert len(people) == 11 and NIGHT not in people
    sleeplm("simulate", "--out", work / "simulated", "--nights", 4, "--hours", 1, "--seed", 18)
    for name, rows in (
        ("splits", [(p, "val" if p in module.HELD_OUT else "train") for p in people]),
        ("night_split", [(NIGHT, "test")]),
    ):
        with (work / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("subject", "split"), *rows])
    sleeplm("prepare", "--recordings", work / "simulated", work / "people", "--out",
            work / "corpus", "--channels", "C3", "--splits", work / "splits.csv")
    sleeplm("prepare", "--recordings", work / "night", "--out", work / "night_corpus",
            "--channels", "C3", "--splits", work / "night_split.csv")
    sleeplm("tokenizer", "--corpus", work / "corpus", "--vocab-size", 1024)
    sleeplm("train", EXPERIMENTS / "one_eeg.py", "--data.corpus", work / "corpus", "--out",
            work / "runs", "--name", "short", "--steps", 60, "--data.batch-size", 64,
            "--optimizer.warmup-steps", 10, "--eval-every", 30, "--eval-samples", 256,
            "--checkpoint-every", 30)
    return module, work


@pytest.mark.slow
def test_nothing_of_the_night_enters_the_run(real):
    _, work = real
    about = json.loads((work / "runs" / "short" / "run.json").read_text())
    people = about["corpus"]["subjects"]
    assert len(people["train"]) > 9 and people["val"]
    assert not any(NIGHT in person for split in people.values() for person in split)
    corpus, night = Corpus.open(work / "corpus"), Corpus.open(work / "night_corpus")
    assert about["corpus"]["hash"] == corpus.hash != night.hash
    assert about["tokenizer"]["hash"] == corpus.tokenizer().hash
    assert corpus.tokenizer().corpus_hash == corpus.hash
    known = {n["signals_sha256"] for n in corpus.nights()}
    assert known.isdisjoint(n["signals_sha256"] for n in night.nights())
    model = Model.load(work / "runs" / "short")
    for part in ("train", "val"):
        assert people_seen(model, night, "test", part) == []


@pytest.mark.slow
def test_the_night_is_staged_far_above_chance(real):
    module, work = real
    model, corpus = Model.load(work / "runs" / "short"), Corpus.open(work / "night_corpus")
    source = corpus.source("test")
    samples = [source[i] for i in range(len(source))]
    true = np.array([sample["stage"] for sample in samples])
    signal = dequantise(np.stack([s["signal"] for s in samples]), corpus.spec.channels)
    mask = np.stack([s["mask"] for s in samples])
    scores = model.embed_signals(signal, mask) @ stage_directions(model, stage_prompts()).T
    assert len(true) == 822 and (true >= 0).all()
    found = module.figures(true, scores)
    print({k: round(v, 3) for k, v in found.items() if isinstance(v, float)})
    assert found["epochs"] == 822 and found["wake_n3_auroc"] > 0.8
    assert module.figures(true, -scores)["wake_n3_auroc"] < 0.2  # the measure itself can fail


@pytest.mark.slow
def test_the_report_of_the_night_invents_no_heart(real, capsys):
    _, work = real
    out = work / "report.html"
    sleeplm("describe", work / "runs" / "short", work / "night" / f"{NIGHT}_eeg.edf", "--out", out)
    assert "this person" not in capsys.readouterr().out.lower()
    page = out.read_text()
    assert "not an input of this model" in page
    words = page.split("Some epochs in words")[1].split("<h2>Channels")[0].lower()
    for invented in ("bpm", "rmssd", "breaths/min", "supine", "chin emg"):
        assert invented not in words, invented
    assert out.with_suffix(".png").read_bytes()[:4] == b"\x89PNG"
