import numpy as np
import pytest

from sleeplm_jax.evaluation.retrieval import chance, first_hit_rank, retrieval

WAYS = ("text_to_signal", "signal_to_text")


def test_ranks_by_hand_with_ties_against_the_model():
    similarity = np.array([[0.9, 0.5, 0.1], [0.9, 0.5, 0.1], [0.5, 0.5, 0.5]])
    hit = np.array([[True, False, False], [False, False, True], [False, True, False]])
    np.testing.assert_array_equal(first_hit_rank(similarity, hit), [1, 3, 3])
    several = np.array([[False, True, True]])
    np.testing.assert_array_equal(first_hit_rank(similarity[:1], several), [2])


def test_equal_embeddings_find_everything_and_constant_ones_nothing():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((60, 8))
    perfect = retrieval(vectors, vectors, np.arange(60), gallery=30, galleries=3)
    constant = retrieval(np.ones((60, 8)), np.ones((60, 8)), np.arange(60), gallery=30, galleries=3)
    for way in WAYS:
        assert perfect[way]["R@1"] == 1 and perfect[way]["median_rank"] == 1
        assert constant[way]["R@10"] == 0 and constant[way]["median_rank"] == 30


def test_the_two_ways_are_not_confused():
    # each signal is nearest to its own text, but text 0 is the nearest text of nothing else
    texts = np.array([[1.0, 0.0], [0.8, 0.6]])
    signals = np.array([[0.9, 0.436], [0.8, 0.6]])
    found = retrieval(texts, signals, np.arange(2))
    assert found["text_to_signal"]["R@1"] == 1
    assert found["signal_to_text"]["R@1"] == 0.5


@pytest.mark.parametrize("repeated", [1, 4])
def test_chance_is_what_random_embeddings_get(repeated):
    rng = np.random.default_rng(repeated)
    n = 400
    keys = np.arange(n) // repeated
    found = retrieval(
        rng.standard_normal((n, 64)), rng.standard_normal((n, 64)), keys, gallery=100, galleries=60
    )
    assert found["gallery"] == 100
    for way in WAYS:
        for name in ("R@1", "R@5", "R@10"):
            assert found[way][name] == pytest.approx(found["chance"][name], abs=0.02), name
        assert found[way]["median_rank"] == pytest.approx(found["chance"]["median_rank"], abs=3)
        assert found[way]["mean_rank"] == pytest.approx(found["chance"]["mean_rank"], rel=0.04)


def test_chance_without_repeats_is_k_of_gallery():
    found = chance(np.ones(100), 100)
    assert found["R@1"] == pytest.approx(0.01) and found["R@10"] == pytest.approx(0.1)
    assert found["median_rank"] == 50 and found["mean_rank"] == 50.5
    assert chance(np.full(7, 7), 7)["R@1"] == 1


def test_epochs_that_state_the_same_are_hits_and_columns_count_together():
    vectors = np.eye(6)
    swapped = vectors[[1, 0, 2, 3, 4, 5]]
    apart = retrieval(vectors, swapped, np.arange(6))
    together = retrieval(vectors, swapped, np.array([0, 0, 1, 2, 3, 4]))
    assert apart["text_to_signal"]["R@1"] == pytest.approx(4 / 6)
    assert together["text_to_signal"]["R@1"] == 1 and together["distinct_captions"] == 5
    pairs = retrieval(vectors, swapped, np.array([[0, 1], [0, 2], [0, 3], [0, 4], [0, 5], [0, 6]]))
    assert pairs["distinct_captions"] == 6


def test_small_sets_and_seeds():
    vectors = np.random.default_rng(0).standard_normal((50, 4))
    assert "why" in retrieval(vectors[:1], vectors[:1], np.zeros(1))
    whole = retrieval(vectors, vectors, np.arange(50), gallery=100)
    assert whole["gallery"] == 50 and whole["galleries"] == 1
    draws = [
        retrieval(vectors, vectors[::-1], np.arange(50), gallery=20, seed=s) for s in (0, 0, 1)
    ]
    assert draws[0] == draws[1] != draws[2]
