"""Which channels of a night a model is shown, given what is known against them."""

from dataclasses import replace

import numpy as np
import pytest

from sleeplm_jax.config import ARTEFACTS, CANONICAL_CHANNELS, SLEEPLM_CHANNELS
from sleeplm_jax.recordings.night import artefact_bits, shown, trusted
from tests.corpus import handmade

C3, POS = (SLEEPLM_CHANNELS.index(name) for name in ("C3", "POS"))


def test_bits_are_those_of_their_place():
    assert [artefact_bits((name,)) for name in ARTEFACTS] == [1, 2, 4, 8, 16, 32, 64, 128]
    assert artefact_bits(("flat", "pop", "flat")) == 9 and artefact_bits(()) == 0
    with pytest.raises(ValueError):
        artefact_bits(("noise",))


def test_channels_with_a_named_artefact_are_not_trusted():
    mask = np.array([[True, True, False], [True, True, True]])
    artefacts = np.array([[1, 4, 1], [1, 1, 1]], np.uint8)
    assert trusted(mask, artefacts, ("flat",)).tolist() == [[False, True, False], [True] * 3]
    assert trusted(mask[0], artefacts[0], ("flat",)).tolist() == [False, True, False]
    assert trusted(mask, artefacts, ()).tolist() == mask.tolist()


def test_a_night_is_shown_without_them_and_stays_as_it_is():
    night = handmade.night(4)
    bits = np.zeros((4, len(CANONICAL_CHANNELS)), np.uint8)
    bits[1, CANONICAL_CHANNELS.index("C3")] = artefact_bits(("lead_off",))
    bits[2, CANONICAL_CHANNELS.index("POS")] = artefact_bits(("dropout",))
    bits[3, CANONICAL_CHANNELS.index("C3")] = artefact_bits(("movement",))
    night = replace(night, artefacts=bits)
    before = night.signals.copy()
    seen = shown(night, ("lead_off", "dropout"))
    hidden = np.argwhere(seen.mask != night.mask).tolist()
    assert hidden == [[1, C3], [2, POS]]
    assert not seen.signals[1, C3].any() and (seen.signals[2, POS] == -1).all()
    np.testing.assert_array_equal(night.signals, before)
    assert shown(night, ()) is night
    unmarked = replace(night, artefacts=None)
    assert shown(unmarked, ("flat",)) is unmarked
