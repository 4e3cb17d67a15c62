import itertools
from fractions import Fraction

import grain
import numpy as np
import pytest

from sleeplm_jax.corpus.order import Order, integer_weights, turns


@pytest.mark.parametrize("weights", [(1,), (1, 1), (7, 3), (97, 2, 1), (1, 2, 3, 4, 5, 6, 7)])
def test_every_window_holds_each_part_in_proportion(weights):
    sequence, total, parts = turns(weights), sum(weights), len(weights)
    endless = np.concatenate([sequence] * 3)
    limit = 1.0 if parts < 3 else 2.0  # proven: 2 - 1 / (parts - 1)
    for part, weight in enumerate(weights):
        assert (sequence == part).sum() == weight
        had = np.concatenate([[0], np.cumsum(endless == part)])
        for start, stop in itertools.combinations(range(0, len(endless) + 1, 3), 2):
            exact = (stop - start) * weight / total
            assert abs(had[stop] - had[start] - exact) <= limit


def test_each_part_goes_through_its_own_samples_pass_by_pass():
    order = Order((5, 12), (1, 2), seed=3)
    places = [order.place(index) for index in range(3 * 60)]
    first = [place for place in places if place < 5]
    second = [place for place in places if place >= 5]
    assert (len(first), len(second)) == (60, 120)
    for mine, size, low in ((first, 5, 0), (second, 12, 5)):
        passes = [mine[start : start + size] for start in range(0, len(mine), size)]
        assert all(sorted(one) == list(range(low, low + size)) for one in passes)
        assert len({tuple(one) for one in passes}) > len(passes) / 2  # shuffled anew


def test_an_index_names_the_same_sample_whatever_was_asked_before():
    order, again = (Order((500, 1200, 700), (1, 2, 2), seed=3) for _ in range(2))
    straight = [order.place(index) for index in range(200)]
    assert [again.place(index) for index in reversed(range(200))] == straight[::-1]
    assert order.place(10**12) == again.place(10**12)


def test_a_part_alone_is_in_the_order_of_a_corpus():
    alone, mixed = Order((9,), (1,), seed=4), Order((9, 5), (1, 1), seed=4)
    mine = [place for place in map(mixed.place, range(60)) if place < 9]
    assert mine == [alone.place(index) for index in range(len(mine))]


def test_one_part_is_in_grains_order():
    order, shuffled = Order((37,), (1,), 5), grain.MapDataset.range(37).seed(5).shuffle().repeat()
    assert [order.place(index) for index in range(120)] == [shuffled[i] for i in range(120)]


def test_the_next_place_stays_in_its_part():
    order = Order((2, 3), (1, 1), seed=0)
    assert [order.after(place) for place in range(5)] == [1, 0, 3, 4, 2]


def test_weights_become_the_smallest_integers():
    assert integer_weights([Fraction("0.7"), Fraction("0.3")]) == (7, 3)
    assert integer_weights([Fraction(2), Fraction(4), Fraction("0.5")]) == (4, 8, 1)
