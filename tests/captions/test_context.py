"""Context captions: neighbours by hand, read back exactly, and kept from every evaluation."""

import ast
import json
from importlib import resources
from pathlib import Path

import jsonschema
import numpy as np
import pytest

import sleeplm_jax
from sleeplm_jax.captions import context, night
from sleeplm_jax.captions.context import measure_context, read_context, say_context, stated_context
from sleeplm_jax.captions.render import render
from sleeplm_jax.config import CAPTION_KINDS, CaptionMix
from sleeplm_jax.errors import CorpusError
from tests.captions.drawing import drawn_record

NOTHING = {"here": None, "before": [], "after": [], "run": None, "onset": None}


def stated(stages, epoch):
    return stated_context(measure_context(np.array(stages), epoch))


def test_neighbours_and_times_by_hand():
    stages = [0, 0, 1, 2, 2, 2, 4, 0]
    assert stated(stages, 4) == {
        "here": "N2", "before": ["N1", "N2"], "after": ["N2", "R"], "run": 1.0, "onset": 1.0,
    }  # fmt: skip
    assert stated(stages, 0) == {
        "here": "W", "before": [], "after": ["W", "N1"], "run": None, "onset": -1.0,
    }  # fmt: skip
    assert stated(stages, 2)["onset"] == 0.0
    assert stated([0, 0], 1)["onset"] == "none"


def test_what_is_not_scored_is_not_told():
    assert stated([2, -1, 2, -1, 2], 2) == NOTHING | {"here": "N2"}  # since when asleep?
    assert stated([0, -1, 2, 2], 3)["onset"] is None and stated([0, -1, 2, 2], 3)["run"] is None
    assert stated([0, -2, 2], 2)["before"] == []  # movement time is no stage
    assert stated([-1, -1], 0) == NOTHING
    assert say_context(measure_context(np.array([-1, -1]), 0), np.random.default_rng(0)) is None


def test_a_night_scored_for_sleep_and_wake_only_names_no_stage():
    record = measure_context(np.array([0, 0, 2, 2, 2]), 3, staged=False)
    assert stated_context(record) == NOTHING | {"onset": 0.5}


@pytest.mark.parametrize("epoch", [-1, 3])
def test_an_epoch_that_is_not_there(epoch):
    with pytest.raises(IndexError, match="of 3"):
        measure_context(np.zeros(3, int), epoch)


def test_what_is_said_is_read_back_exactly():
    text = resources.files("sleeplm_jax.captions").joinpath("context.schema.json").read_text()
    schema = jsonschema.Draft202012Validator(json.loads(text))
    said = 0
    for seed in range(800):
        rng = np.random.default_rng(seed)
        codes = [-2, -1, 0, 1, 2, 3, 4]
        stages = rng.choice(codes, rng.integers(1, 12), p=[0.03, 0.07, 0.2, 0.2, 0.2, 0.2, 0.1])
        for epoch in range(len(stages)):
            record = measure_context(stages, epoch)
            if seed < 100:
                schema.validate(record)
            text = say_context(record, rng)
            if text is None:
                assert stated_context(record) == NOTHING
                continue
            assert read_context(text) == stated_context(record), text
            said += 1
    assert said > 3000


def test_a_transition_must_fit_the_stages():
    text = ("This epoch is N2. Before it: wake and N1. "
            "The stage changes from N1 to N2 at its beginning.")
    assert read_context(text)["before"] == ["W", "N1"]
    for wrong in (text.replace("from N1 to N2", "from N3 to N2"), text.rsplit(" The", 1)[0]):
        with pytest.raises(CorpusError, match="transitions"):
            read_context(wrong)


def test_no_caption_of_an_epoch_is_of_a_kind_that_knows_its_neighbours():
    """Loader, prefix tokens, staging, retrieval and caption loss all go by CAPTION_KINDS."""
    assert context.KIND == "context" and night.KIND == "night"
    assert not {context.KIND, night.KIND} & set(CAPTION_KINDS)
    assert not {context.KIND, night.KIND} & set(vars(CaptionMix()))
    for kind in (context.KIND, night.KIND):
        with pytest.raises(ValueError, match="none of"):
            render(drawn_record(0), kind, np.random.default_rng(0))


def test_nothing_that_trains_or_evaluates_imports_context():
    """Neither the loader, the tokenizer, the evaluations nor the model can reach its sentences."""
    package = Path(sleeplm_jax.__file__).parent
    files = [
        path for room in ("corpus", "evaluation", "models", "training", "inference", "objectives")
        for path in (package / room).rglob("*.py")
    ]
    assert len(files) > 30
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.ImportFrom):
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            assert "sleeplm_jax.captions.context" not in names, path


def test_stage_sentences_of_an_epoch_name_no_neighbour():
    """The words that only context captions have, in no caption of an epoch."""
    for seed in range(150):
        for kind in CAPTION_KINDS:
            text = render(drawn_record(seed), kind, np.random.default_rng(seed)) or ""
            for word in ("preceded", "followed", "before it", "after it", "onset", "gives way"):
                assert word not in text.lower()
