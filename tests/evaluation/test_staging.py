import numpy as np
import pytest

from sleeplm_jax.captions.prompts import stage_prompts
from sleeplm_jax.config import STAGES
from sleeplm_jax.evaluation.probe import fit_head, probe
from sleeplm_jax.evaluation.staging import (
    prompted_staging,
    stage_directions,
    stage_probabilities,
    stage_similarities,
)
from tests.fake_model import FakeModel, tone


@pytest.fixture(scope="module")
def epochs():
    stages = np.random.default_rng(1).integers(0, 5, 60)
    model = FakeModel()
    return model, stages, model.embed_signals(tone(stages), None)


def test_stages_that_the_signal_carries_are_read_by_both_ensembles(epochs):
    model, stages, embeddings = epochs
    scored = stages.copy()
    scored[:4] = -1
    found = prompted_staging(model, embeddings, scored, np.repeat(np.arange(6), 10))
    for name in ("in_template", "held_out"):
        assert found[name]["kappa"] == 1 and found[name]["n"] == 56
        assert found[name]["per_stage"]["N3"]["auroc"] == 1
    assert found["in_template"]["prompts"] == stage_prompts()
    assert found["held_out"]["prompts"] == stage_prompts(held_out=True)
    used = [set(sum(found[name]["prompts"].values(), [])) for name in found]
    assert not used[0] & used[1]


def test_epochs_with_clean_eeg_are_also_measured_alone(epochs):
    model, stages, embeddings = epochs
    wrong = embeddings.copy()
    clean = np.arange(60) >= 10
    wrong[~clean] = np.roll(embeddings[~clean], 3, axis=0)  # what artefacts do to the reading
    found = prompted_staging(model, wrong, stages, stages, clean)
    assert found["clean_epochs"]["kappa"] == 1 and found["clean_epochs"]["n"] == 50
    assert found["in_template"]["kappa"] < 1 and found["in_template"]["n"] == 60
    for same in (None, np.ones(60, bool), np.zeros(60, bool)):
        assert "clean_epochs" not in prompted_staging(model, embeddings, stages, stages, same)


def test_shuffled_signals_are_read_at_chance(epochs):
    model, stages, embeddings = epochs
    rng = np.random.default_rng(0)
    shuffled = [embeddings[rng.permutation(60)] for _ in range(20)]
    kappas = [
        prompted_staging(model, one, stages, stages)["held_out"]["kappa"] for one in shuffled
    ]
    assert abs(np.mean(kappas)) < 0.06


def test_direction_is_the_normalised_mean_of_its_prompts():
    model = FakeModel()
    prompts = {s: [f"{s} one", f"{s} two", f"{s} three"][: 1 + i % 3] for i, s in enumerate(STAGES)}
    directions = stage_directions(model, prompts)
    for i, stage in enumerate(STAGES):
        mean = model.embed_texts(prompts[stage]).mean(0)
        np.testing.assert_allclose(directions[i], mean / np.linalg.norm(mean), rtol=1e-5)


def test_similarities_are_cosines_and_probabilities_a_softmax():
    signals = np.array([[3.0, 4.0], [0.0, 2.0]])
    directions = np.array([[1.0, 0.0], [0.0, 1.0]])
    cosine = stage_similarities(signals, directions)
    np.testing.assert_allclose(cosine, [[0.6, 0.8], [0, 1]])
    wanted = np.exp(5 * cosine) / np.exp(5 * cosine).sum(-1, keepdims=True)
    np.testing.assert_allclose(stage_probabilities(cosine, 5.0), wanted)


def test_linear_head_learns_separable_features_and_not_noise():
    rng = np.random.default_rng(0)
    sizes = {"train": 400, "val": 150, "test": 200}
    stages = {part: rng.integers(-1, 5, n) for part, n in sizes.items()}
    axes = rng.standard_normal((6, 12))

    def features(part, signal):
        return signal * axes[stages[part]] + rng.standard_normal((len(stages[part]), 12))
    made = {part: (features(part, 4), stages[part]) for part in stages}
    found = probe(*made.values(), np.repeat(np.arange(5), 40))
    assert found["kappa"] > 0.8 and len(found["interval"]["kappa"]) == 2
    assert found["n"] == int((stages["test"] >= 0).sum())
    assert found["trained_on"] == int((stages["train"] >= 0).sum())
    assert found["validation_kappa"][f"{found['C']:g}"] == max(found["validation_kappa"].values())
    noise = {part: (features(part, 0), stages[part]) for part in stages}
    assert abs(probe(*noise.values(), np.zeros(200))["kappa"]) < 0.15


def test_linear_head_tells_of_stages_it_never_saw_and_of_too_few():
    rng = np.random.default_rng(0)
    train = rng.choice([0, 3], 80)
    features = np.eye(5)[train] + 0.1 * rng.standard_normal((80, 5))
    found = probe((features, train), None, (features, train), np.zeros(80))
    assert found["stages_never_trained"] == ["N1", "N2", "R"] and found["kappa"] == 1
    assert found["validation_kappa"] == {}
    assert fit_head((features, np.zeros(80, int)), None) is None
