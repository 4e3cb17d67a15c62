"""Pictures of held-out samples: of what was evaluated, now and then, and never fatal."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from sleeplm_jax.inference.run import Model
from sleeplm_jax.models.build import bind, create
from sleeplm_jax.objectives.reconstruction import patch_loss
from sleeplm_jax.training import pictures
from sleeplm_jax.training.gradients import with_hidden
from sleeplm_jax.training.loop import train
from tests.fixtures_run import tiny_config
from tests.models.test_recoca import SMALL, batch_of
from tests.training.test_writers import events


class Drawn:
    """Draws nothing, and keeps what it was given to draw."""

    def __init__(self):
        self.given = []

    def __call__(self, batch, seen):
        self.given.append((batch, seen))
        return {"held_out/blank": np.full((6, 9, 3), 255, np.uint8)}


@pytest.fixture(scope="module")
def averaged_run(corpus_folder, tmp_path_factory):
    """A run with a running mean of its parameters, and what there was to draw."""
    config = tiny_config(corpus_folder, tmp_path_factory.mktemp("averaged"), tensorboard=True)
    optimizer = dataclasses.replace(config.optimizer, ema=0.8)
    draw = Drawn()
    folder = train(dataclasses.replace(config, optimizer=optimizer), lambda line: None, draw)
    return folder, draw.given


@pytest.mark.slow
def test_pictures_are_of_the_model_that_a_reader_of_the_run_gets(averaged_run):
    """Cosines of the last picture against the checkpoint's, through the inference code."""
    folder, given = averaged_run
    batch, seen = given[-1]
    model = Model.load(folder, step="latest")
    texts = model.embed_texts(batch["caption"])
    shown = batch["shown"]
    signals = model.embed_signals(batch["signal"], batch["channel_mask"])
    # Float32 through two compiled programs: 2e-6 is seen.
    np.testing.assert_allclose(seen["cosines"][:, shown], texts @ signals.T, atol=2e-5)
    assert seen["cosines"].shape == seen["same"].shape == (24, 24)
    assert seen["same"].diagonal().all() and not seen["same"].all()
    assert seen["reconstruction"].shape == batch["signal"].shape == (2, 10, 1920)
    assert len(batch["caption"]) == len(batch["stage"]) == 24


@pytest.mark.slow
def test_held_out_losses_and_the_best_are_of_the_running_mean(averaged_run, trained_run):
    """The mean of the first steps is near the start, so its losses lie above the raw ones."""
    folder, _ = averaged_run

    def held_out(run):
        rows = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
        return {row["step"]: row["loss"] for row in rows if row["split"] == "val"}

    def trained(run):
        rows = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
        return [row["loss"] for row in rows if row["split"] == "train"]

    assert trained(folder) == trained(trained_run)  # the mean changes nothing of the training
    raw, mean = held_out(trained_run), held_out(folder)
    assert set(raw) == set(mean) == {6, 12} and all(mean[s] != raw[s] for s in raw)
    status = json.loads((folder / "status.json").read_text())
    assert status["state"] == "done" and status["step"] == status["steps"] == 12
    assert status["best"] == pytest.approx(min(mean.values()))
    best = min(mean, key=mean.get)
    assert Model.load(folder).step == best


@pytest.mark.slow
def test_they_are_in_tensorboard_at_evaluations(averaged_run):
    folder, given = averaged_run
    found = [(step, size) for step, tag, size in events(folder) if tag == "held_out/blank"]
    assert found == [(6, (6, 9)), (12, (6, 9))] and len(given) == 2
    for batch, _ in given:  # always the same samples
        np.testing.assert_array_equal(batch["signal"], given[0][0]["signal"])


def test_masked_patches_stand_where_they_belong():
    """The error over hidden stretches is the loss that training measures there."""
    encoder = dataclasses.replace(SMALL.model.encoder, patch_channels=2)
    config = dataclasses.replace(
        SMALL, model=dataclasses.replace(SMALL.model, encoder=encoder),
        objective=dataclasses.replace(SMALL.objective, reconstruction_form="masked", caption=0.0),
    )
    graph, parameters = create(config)
    batch = {name: np.tile(x, (2, *[1] * (x.ndim - 1))) for name, x in batch_of().items()} | {
        "keys": np.arange(30).reshape(6, 5), "kinds": np.ones((6, 5), bool),
        "stage": np.zeros(6, np.int32), "valid": np.ones(6, bool),
    }

    class Seeing(pictures.Pictures):
        def __init__(self):
            self._config, self._graph = config, graph

    found = Seeing()
    seen = jax.device_get(jax.jit(found._seen)(parameters, batch))
    few = found._shown(6)
    partly = with_hidden(batch, config)
    told = jax.jit(lambda p, b: bind(graph, p)(b)["patches"])(parameters, partly)
    loss = patch_loss(told[few], partly["hidden_patches"][few], batch["signal"][few],
                      np.ones((2, 4), bool))
    assert 0.2 < seen["hidden"].mean() < 0.8
    error = (seen["reconstruction"] - batch["signal"][few])[seen["hidden"]]
    np.testing.assert_allclose(np.mean(error**2), loss, rtol=1e-5)


def test_they_lie_ever_further_apart():
    seen = []

    class Counting(pictures.Pictures):
        def __init__(self):
            self.draw, self._last, self._steps, self._broken = object(), 0, 100_000, False
            self._drawing, self._batch = None, None
            self._see = lambda parameters, batch: seen.append(self._last) or {}

    class Nowhere:
        takes_pictures = False

    found = Counting()
    for step in range(250, 100_001, 250):
        found(step, None, Nowhere(), None)
    assert seen[:5] == [250, 500, 750, 1000, 1250] and seen[-1] == 100_000
    assert 40 < len(seen) < 60


def test_a_picture_that_cannot_be_drawn_ends_nothing(tmp_path):
    said = []

    class Broken(pictures.Pictures):
        def __init__(self):
            self._broken, self._names = False, None

    found = Broken()
    found._drawn(5, {"valid": np.ones(3, bool)}, None, said.append)
    assert found._broken and len(said) == 1 and "step 5 were not drawn" in said[0]
