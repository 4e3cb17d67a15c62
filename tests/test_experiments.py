"""Experiment files: each loads, is valid, builds its model in shapes, and changes only on purpose.

`UPDATE_GOLDEN=1 pytest tests/test_experiments.py` rewrites the dumps after a wanted change.
"""

import os
from pathlib import Path

import jax
import pytest

from sleeplm_jax.config import EncoderConfig, ModelConfig, RunConfig
from sleeplm_jax.config.files import (
    flatten,
    from_dict,
    load_config,
    load_experiment,
    save_config,
    to_dict,
)
from sleeplm_jax.config.validation import validate
from sleeplm_jax.errors import ConfigError
from sleeplm_jax.models.build import create, parameter_count, with_vocabulary

ROOT = Path(__file__).parents[1]
EXPERIMENTS = [*sorted((ROOT / "experiments").glob("*.py")),
               ROOT / "experiments" / "ablations" / "recipe.py"]


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda p: p.stem)
def test_an_experiment_is_what_its_golden_dump_says(path):
    config = validate(load_experiment(path))
    shapes = jax.eval_shape(lambda: create(with_vocabulary(config, 2048))[1])
    lines = [f"{name}: {value!r}" for name, value in sorted(flatten(config).items())]
    lines.append(f"parameters with 2,048 tokens: {parameter_count(shapes):,}")
    golden = ROOT / "tests" / "golden" / f"{path.stem}.txt"
    text = "\n".join(lines) + "\n"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(text)
    assert golden.read_text() == text


def test_a_config_survives_the_disk(tmp_path):
    config = load_experiment(EXPERIMENTS[0])
    save_config(config, tmp_path / "config.json")
    assert load_config(tmp_path / "config.json") == config


def test_an_unknown_field_is_refused():
    with pytest.raises(ConfigError, match="unknown fields .'warmth'. in OptimizerConfig"):
        from_dict(RunConfig, to_dict(RunConfig()) | {"optimizer": {"warmth": 1}})


@pytest.mark.parametrize(
    ("source", "finding"),
    [
        ("def get_config(: pass", "fails to load .SyntaxError"),
        ("x = 1", "has no get_config"),
        ("def get_config(): return 3", "returned int"),
        ("def get_config(): raise RuntimeError('boom')", "fails .RuntimeError: boom"),
        ("def get_config(size): pass", "fails .TypeError"),
        ("raise SystemExit(3)", "fails to load .SystemExit: 3"),
    ],
)
def test_a_broken_experiment_file_is_one_line(tmp_path, source, finding):
    path = tmp_path / "x.py"
    path.write_text(source)
    with pytest.raises(ConfigError, match=finding) as caught:
        load_experiment(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"steps": 0}, "steps"),
        ({"name": ""}, "name"),
        ({"name": "a/b"}, "name"),
        ({"seed": -1}, "seed"),
        ({"eval_samples": 0}, "eval_samples"),
        ({"data": {"workers": -1}}, "data.workers"),
        ({"model": {"encoder": {"heads": 0}}}, "model.encoder.heads"),
        ({"model": {"encoder": {"patch_samples": -480}}}, "model.encoder.patch_samples"),
        ({"model": {"text": {"decoder_depth": -1}}}, "model.text.decoder_depth"),
        ({"optimizer": {"beta1": 2.0}}, "optimizer.beta1"),
        ({"optimizer": {"warmup_steps": -1}}, "optimizer.warmup_steps"),
        ({"data": {"batch_size": 0}}, "data.batch_size"),
        ({"model": {"encoder": {"patch_samples": 7}}}, "model.encoder.patch_samples"),
        ({"model": {"encoder": {"heads": 5}}}, "model.encoder.heads"),
        ({"data": {"channel_dropout": 2.0}}, "data.channel_dropout"),
        ({"data": {"dropout_keep": ["C3,C9"]}}, "data.dropout_keep"),
        ({"data": {"mask_artefacts": ["flat", "noise"]}}, "data.mask_artefacts"),
        ({"objective": {"contrastive": 0, "caption": 0, "reconstruction": 0}}, "objective"),
        ({"profile_steps": [5]}, "profile_steps"),
        ({"profile_steps": [0, 3]}, "profile_steps"),
        ({"profile_steps": [9, 3]}, "profile_steps"),
    ],
)
def test_values_that_cannot_work_name_their_field(change, field):
    with pytest.raises(ConfigError) as caught:
        validate(from_dict(RunConfig, change))
    assert caught.value.where == field


def test_a_value_of_a_wrong_type_is_one_line():
    config = RunConfig(model=ModelConfig(encoder=EncoderConfig(width="wide")))
    with pytest.raises(ConfigError, match="EncoderConfig.width is 'wide', not a int"):
        validate(config)


@pytest.mark.parametrize(
    "text", ["[]", '{"data": 5}', '{"model": {"encoder": {"width": "x"}}}', '{"steps": true}', "{"]
)
def test_a_damaged_config_is_one_line(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "config.json")
    assert "\n" not in str(caught.value)
