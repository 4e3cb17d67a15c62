import numpy as np
import pytest
from sklearn import metrics

from sleeplm_jax.config import STAGES
from sleeplm_jax.evaluation.agreement import agreement, figures


def draw(n=400, seed=0, noise=0.3):
    rng = np.random.default_rng(seed)
    true = rng.choice(5, n, p=[0.2, 0.1, 0.4, 0.2, 0.1])
    predicted = np.where(rng.random(n) < noise, rng.integers(0, 5, n), true)
    return true, predicted, rng


def test_figures_equal_sklearns_and_kappa_by_hand():
    true, predicted, _ = draw()
    found = agreement(true, predicted)
    assert found["accuracy"] == pytest.approx(np.mean(true == predicted))
    assert found["balanced_accuracy"] == pytest.approx(
        metrics.balanced_accuracy_score(true, predicted)
    )
    assert found["macro_f1"] == pytest.approx(metrics.f1_score(true, predicted, average="macro"))
    share = [np.bincount(x, minlength=5) / len(true) for x in (true, predicted)]
    expected = share[0] @ share[1]
    assert found["kappa"] == pytest.approx((found["accuracy"] - expected) / (1 - expected))
    assert np.sum(found["confusion"]["counts"]) == len(true)
    assert found["confusion"]["counts"][2][0] == np.sum((true == 2) & (predicted == 0))


def test_figures_from_confusion_matrices_equal_the_point_figures():
    true, predicted, _ = draw(seed=3)
    predicted[true == 4] = 2  # a stage that is never found
    found = agreement(true, predicted)
    fast = figures(np.array(found["confusion"]["counts"]))
    for name, value in fast.items():
        assert float(value) == pytest.approx(found[name]), name


def test_unscored_and_movement_epochs_are_left_out_and_counted():
    true, predicted, _ = draw()
    with_gaps = np.concatenate([true, [-1, -2, -1]])
    found = agreement(with_gaps, np.concatenate([predicted, [0, 1, 2]]))
    assert found["excluded"] == 3 and found["n"] == len(true)
    assert found["kappa"] == agreement(true, predicted)["kappa"]
    nothing = agreement(np.full(4, -1), np.zeros(4, int))
    assert nothing["n"] == 0 and nothing["kappa"] is None


def test_auroc_is_rank_probability_and_none_where_a_stage_is_absent():
    true, predicted, rng = draw(120)
    true[true == 4] = 3
    scores = rng.random((120, 5)) + 0.5 * np.eye(5)[true]
    found = agreement(true, predicted, scores)
    positive, negative = scores[true == 1, 1], scores[true != 1, 1]
    by_hand = np.mean(positive[:, None] > negative[None, :])
    assert found["per_stage"]["N1"]["auroc"] == pytest.approx(by_hand)
    assert found["per_stage"]["R"]["auroc"] is None and found["per_stage"]["R"]["f1"] is None
    assert found["stages_present"] == ["W", "N1", "N2", "N3"]


def test_majority_and_chance_are_what_such_readers_get():
    true, _, rng = draw(20_000)
    found = agreement(true, true)
    always = np.full_like(true, np.bincount(true).argmax())
    assert found["majority"]["stage"] == STAGES[always[0]]
    assert found["majority"]["accuracy"] == pytest.approx(np.mean(true == always))
    assert found["majority"]["macro_f1"] == pytest.approx(
        metrics.f1_score(true, always, average="macro", zero_division=0)
    )
    assert metrics.cohen_kappa_score(true, always) == found["majority"]["kappa"] == 0
    guessed = agreement(true, rng.integers(0, 5, len(true)))
    for name, value in found["chance"].items():
        assert guessed[name] == pytest.approx(value, abs=0.015), name


def test_one_stage_in_both_has_no_kappa():
    found = agreement(np.full(10, 2), np.full(10, 2))
    assert found["accuracy"] == 1 and found["kappa"] is None


def test_interval_resamples_subjects_and_needs_five():
    true, predicted, rng = draw(1000)
    subjects = np.repeat(np.arange(10), 100)
    found = agreement(true, predicted, subjects=subjects)
    low, high = found["interval"]["kappa"]
    assert low < found["kappa"] < high and high - low < 0.2
    assert found == agreement(true, predicted, subjects=subjects)
    # half of the people read perfectly, half at random: far wider than epochs alone would say
    mixed = np.where(subjects < 5, true, rng.integers(0, 5, len(true)))
    wide = agreement(true, mixed, subjects=subjects)["interval"]["accuracy"]
    assert wide[1] - wide[0] > 0.3
    few = agreement(true, predicted, subjects=subjects % 4)
    assert few["interval"] is None and few["subjects"] == 4
    assert "4 subjects" in few["why_no_interval"]
