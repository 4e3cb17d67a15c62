"""The reference experiments' road: which recordings go where, and what their table says."""

import csv
import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


@pytest.fixture(scope="module", autouse=True)
def scripts():
    """`reference` is found beside the experiments, as for the scripts."""
    sys.path.insert(0, str(EXPERIMENTS))
    yield
    sys.path.remove(str(EXPERIMENTS))


def part(name):
    return importlib.import_module(f"reference.{name}")


@pytest.fixture
def commands(monkeypatch):
    """What would be run."""
    asked = []
    monkeypatch.setattr(part("road"), "sleeplm", lambda *a: asked.append([str(x) for x in a]))
    return asked


def splits(path):
    with path.open(newline="") as file:
        return {row["subject"]: row["split"] for row in csv.DictReader(file)}


COHORT = {"hours": 1.0, "train": 2, "val": 1, "test": 1, "seed": 5}


def test_without_real_recordings_the_nights_are_simulated_alone(
    tmp_path, monkeypatch, capsys, commands
):
    road = part("road")
    monkeypatch.setenv("SLEEPLM_PSG", str(tmp_path / "absent"))
    assert not road.make_corpora(tmp_path, road.Cohort(**COHORT), 512, road.Spent(), False)
    assert "No real recordings are used" in capsys.readouterr().out
    assert [c[0] for c in commands] == ["simulate", "prepare", "tokenizer"]
    assert commands[0][commands[0].index("--nights") + 1] == "4"
    assert splits(tmp_path / "splits.csv") == {
        "sim-5-0000": "train", "sim-5-0001": "train", "sim-5-0002": "val", "sim-5-0003": "test",
    }


def test_real_people_train_without_their_stages_and_the_night_is_only_measured(
    tmp_path, monkeypatch, psg, commands
):
    import edfio

    road, pieces = part("road"), part("pieces")
    monkeypatch.setenv("SLEEPLM_PSG", str(psg))
    assert road.make_corpora(tmp_path, road.Cohort(**COHORT), 512, road.Spent(), False)
    train = splits(tmp_path / "splits.csv")
    assert sum(name.startswith("ucddb") for name in train) == 11
    assert pieces.NIGHT not in train and "subject1" not in train
    assert {s for n, s in train.items() if n.startswith("ucddb")} == {"train"}
    assert splits(tmp_path / "splits_night.csv") == {pieces.NIGHT: "test"}
    files = {p.name for p in (tmp_path / "real" / "unscored").iterdir()}
    assert all(name.endswith("_eeg.edf") for name in files)  # no scoring beside them
    measured = [c for c in commands if c[0] == "prepare"]
    assert len(measured) == 3 and str(tmp_path / "real" / "night") not in measured[-1]
    # The EDF holds the piece's epochs at their places and nothing elsewhere.
    name = sorted(files)[0]
    with np.load(psg / "ucddb_eeg" / "epochs" / f"{name.removesuffix('_eeg.edf')}.npz") as piece:
        x, places = piece["x"] * float(piece["scale"]), piece["epoch_index"]
    night = edfio.read_edf(tmp_path / "real" / "unscored" / name).signals[0].data
    night = night.reshape(-1, x.shape[1])
    step = np.ptp(x) / 65535  # of 16 bits
    assert np.abs(night[places] - x).max() < 2 * step
    assert np.abs(np.delete(night, places, axis=0)).max() < 2 * step


def test_the_table_has_what_was_measured_and_leaves_out_what_was_not(tmp_path):
    road = part("road")
    result = {
        "subjects": 8, "epochs": 100,
        "prompted_staging": {"in_template": {"kappa": 0.5}, "held_out": {"kappa": 0.25}},
        "captions": {"total": {"loss": 1.0, "other_signal": {"loss": 1.5}}, "kinds": {}},
    }
    found = road.summary(result)
    assert found["prompted staging, kappa"] == 0.5
    assert found["  lost with another epoch's signal"] == pytest.approx(0.5)
    assert found["linear head, kappa"] is None
    spent = road.Spent()
    spent.lap("train")
    road.write(tmp_path, Path("x.py"), {0: {"simulated": result}, 1: {"simulated": result}}, spent,
               False)
    text = (tmp_path / "reference.txt").read_text()
    assert text.startswith("SIMULATED people never trained on: 8 people, 100 epochs")
    assert "held-out wordings, kappa" in text and " 0.250   0.250" in text
    assert "linear head" not in text


def test_time_and_memory_are_counted_from_the_config():
    from sleeplm_jax.config.files import load_experiment
    from sleeplm_jax.models.build import with_vocabulary

    config = with_vocabulary(load_experiment(EXPERIMENTS / "ablations" / "recipe.py"), 512)
    found = part("sizing").size(config, 1e12, 0.5)
    samples = config.steps * config.data.batch_size
    assert found["samples"] == samples
    assert found["seconds"] == pytest.approx(found["gflop_a_sample"] * samples / 500)
    assert 16 * found["parameters"] < found["gib"] * 2**30 < 2**31
