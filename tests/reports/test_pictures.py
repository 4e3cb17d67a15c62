"""Pictures of held-out samples decode, show what they are given, and count what they say."""

import numpy as np
import pytest

from sleeplm_jax.config import SignalSpec
from sleeplm_jax.reports.pictures import draw, hits

SPEC = SignalSpec()


@pytest.fixture
def given():
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(2, *SPEC.shape)).astype(np.float32)
    embeddings = np.eye(6)[[0, 1, 2, 3, 4, 4]]
    batch = {
        "signal": signal, "channel_mask": np.ones((2, len(SPEC.channels)), bool),
        "shown": np.array([1, 4]), "stage": np.array([0, 2, 4, 3, -1, 1]),
        "caption": ["The epoch is scored as N2. " * 9, "", "Heart rate 61 bpm.", "a", "b", "c"],
    }
    seen = {"cosines": embeddings @ embeddings.T, "same": np.eye(6, dtype=bool),
            "reconstruction": 0.5 * signal}
    return batch, seen


def test_both_pictures_are_drawn_on_white(given):
    pictures = draw(SPEC, *given)
    assert set(pictures) == {"held_out/reconstruction", "held_out/retrieval"}
    for image in pictures.values():
        assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
        assert min(image.shape[:2]) > 250 and max(image.shape[:2]) < 1400
        assert (image[0, 0] == 255).all() and image.std() > 10


def test_what_the_model_does_not_have_is_not_drawn(given):
    batch, seen = given
    assert set(draw(SPEC, batch, {"reconstruction": seen["reconstruction"]})) == {
        "held_out/reconstruction"
    }
    assert draw(SPEC, batch, {}) == {}


def red(image):
    return int(((image[..., 0] > 150) & (image[..., 1] < 90) & (image[..., 2] < 130)).sum())


def test_a_masked_reconstruction_is_drawn_where_it_was_hidden(given):
    batch, seen = given
    del seen["cosines"], seen["same"]
    whole = red(draw(SPEC, batch, seen)["held_out/reconstruction"])
    hidden = np.zeros(batch["signal"].shape, bool)
    hidden[..., :480] = True  # the first quarter
    part = red(draw(SPEC, batch, seen | {"hidden": hidden})["held_out/reconstruction"])
    assert 0.1 * whole < part < 0.5 * whole


def test_a_missing_channel_is_said_to_be(given):
    batch, seen = given
    there = draw(SPEC, batch, seen)["held_out/reconstruction"]
    batch["channel_mask"][1, SPEC.channels.index("C3")] = False
    image = draw(SPEC, batch, seen)["held_out/reconstruction"]
    assert image.shape == there.shape and red(image) < red(there)


def test_a_window_of_hours_is_shown_by_its_middle():
    spec = SignalSpec(("C3", "EMG"), 16, 7200)
    signal = np.zeros((1, *spec.shape), np.float32)
    batch = {"signal": signal, "channel_mask": np.ones((1, 2), bool), "shown": np.array([0]),
             "stage": np.array([2]), "caption": ["one"]}
    image = draw(spec, batch, {"reconstruction": signal})["held_out/reconstruction"]
    assert image.shape[1] < 700


def test_hits_count_captions_whose_first_signal_is_true_of_them():
    cosines = np.array([[0.9, 0.1, 0.2], [0.8, 0.3, 0.1], [0.1, 0.5, 0.2]])
    same = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 1]], bool)
    assert hits(cosines, same) == 2  # the second finds another that it is true of
