"""A night in words: every epoch and kind has its line, and a line does not hang on the others."""

import dataclasses
import json

import numpy as np
import pytest

from sleeplm_jax.captions.parse import parse
from sleeplm_jax.config import CAPTION_KINDS
from sleeplm_jax.corpus.loader import Loader
from sleeplm_jax.errors import ConfigError
from sleeplm_jax.inference.captioning import NO_CHANNEL, caption_lines, json_lines
from sleeplm_jax.inference.generation import GREEDY, Decoding
from sleeplm_jax.inference.prompts import prompt, prompt_numbers
from sleeplm_jax.inference.run import Model
from tests.reports.nights import night as night_of

SHORT = Decoding(max_tokens=16)


@pytest.fixture(scope="module")
def model(trained_run):
    """Random words: the tiny run has hardly learned to begin a sentence."""
    import jax

    loaded = Model.load(trained_run)
    rng = np.random.default_rng(0)
    parameters = jax.tree.map(
        lambda x: x + 0.2 * rng.normal(size=x.shape).astype(np.float32), loaded.parameters
    )
    return Model(loaded.config, parameters, loaded.tokenizer, 0, {}, loaded.folder, batch_size=4)


@pytest.fixture(scope="module")
def batch(corpus, model):
    return next(Loader(corpus, "test", model.tokenizer, model.config.data).eval_batches(6))


def test_many_epochs_in_parts_say_what_few_say_together(model, batch):
    """Six epochs go a kind and four epochs at a time; two epochs' two kinds in one loop."""
    signal, mask = batch["signal"], batch["channel_mask"]
    shares = []
    every = model.caption_night(signal, mask, decoding=SHORT, progress=shares.append)
    assert list(every) == list(CAPTION_KINDS) and len(every["brain"]) == 6
    assert shares == sorted(shares) and shares[-1] == 1 and len(shares) == 10
    few = model.caption_night(signal[4:], mask[4:], ("heart", "brain"), SHORT)
    assert few == {"heart": every["heart"][4:], "brain": every["brain"][4:]}
    assert model.caption(signal[:1], mask[:1], "stage_event", SHORT) == every["stage_event"][:1]
    assert len({text for texts in every.values() for text in texts}) > 5


def test_two_kinds_may_share_a_text(model, batch):
    """Which comes first is not said: the prefix has no positions, as SleepLM's."""
    signal, mask = batch["signal"][:2], batch["channel_mask"][:2]
    kinds = ("brain+heart", "heart+brain", "brain", "heart")
    prompts = np.stack([prompt(kind) for kind in kinds])
    _, scores = model.generate(signal, mask, prompts, SHORT)
    np.testing.assert_allclose(scores[:, 0], scores[:, 1], rtol=1e-4)
    for other in (2, 3):
        assert (np.abs(scores[:, 0] - scores[:, other]) > 1e-2).all()


def test_a_drawn_text_hangs_on_its_epoch_its_kind_and_the_seed(model, batch):
    signal, mask = batch["signal"], batch["channel_mask"]
    prompts = np.stack([prompt("brain"), prompt("heart")])
    drawn = Decoding(max_tokens=16, temperature=1.0, samples=2)
    texts, scores = model.generate(signal, mask, prompts, drawn)
    assert texts.shape == (6, 2, 2, 16) and scores.shape == (6, 2, 2) and (scores < 0).all()
    alone, _ = model.generate(signal[3:4], mask[3:4], prompts[1:], drawn, index=np.array([3]))
    np.testing.assert_array_equal(alone[0, 0], texts[3, 1])
    again, _ = model.generate(signal, mask, prompts, dataclasses.replace(drawn, seed=1))
    assert (again != texts).any()


def test_every_epoch_and_kind_of_a_night_has_its_line(model):
    night = night_of([0, 2, 3], missing=())
    night.mask[1, night.spec.channels.index("ECG")] = False
    night = dataclasses.replace(night, extra=night.extra | {"trim": {"start_s": 90.0}})
    kinds = ("heart", "stage_event", "heart")
    lines = [json.loads(line) for line in json_lines(caption_lines(model, night, kinds, SHORT))
             .decode().splitlines()]
    assert [(line["epoch"], line["onset_s"], line["kind"]) for line in lines] == [
        (epoch, 90.0 + 30 * epoch, kind) for epoch in range(3) for kind in ("heart", "stage_event")
    ]
    assert lines[2] == {"epoch": 1, "onset_s": 120.0, "kind": "heart", "text": None,
                        "why": NO_CHANNEL}
    plain = model.caption_night(night.signals, night.mask, ("heart", "stage_event"), SHORT)
    for line in lines[:2] + lines[3:]:
        assert line["text"] == plain[line["kind"]][line["epoch"]].strip()
        assert line["stated"] == json.loads(json.dumps(parse(line["text"]).contents))
        assert line["score"] < 0 and "sample" not in line
    two = caption_lines(model, night, ("brain",), Decoding(max_tokens=16, beams=2, samples=2))
    assert [line["sample"] for line in two] == [0, 1] * 3
    assert all(first["score"] >= second["score"]
               for first, second in zip(two[::2], two[1::2], strict=True))


def test_prompts():
    np.testing.assert_array_equal(prompt("stage_event"), [4, -1])
    np.testing.assert_array_equal(prompt("heart+brain"), [1, 0])
    every = np.array([[a, b] for a in range(-1, 5) for b in range(-1, 5)])
    numbers = prompt_numbers(every)
    assert len(set(numbers.tolist())) == 36 and numbers.max() < 64
    for kinds in ("liver", "brain+brain", "brain+heart+respiratory", ""):
        with pytest.raises(ConfigError, match="^kind:"):
            prompt(kinds)


def test_no_epochs_no_texts(model):
    empty = np.zeros((0, *model.spec.shape), np.float32), np.zeros((0, 10), bool)
    assert model.caption(*empty, "brain", GREEDY) == []
