"""Presets have the parameter counts that their sources publish, and every rule they need."""

import dataclasses
import functools

import jax
import pytest
from jax.sharding import AbstractMesh

from sleeplm_jax.config import ObjectiveConfig
from sleeplm_jax.config.validation import validate
from sleeplm_jax.errors import ConfigError
from sleeplm_jax.models.build import create, parameter_count, with_vocabulary
from sleeplm_jax.models.presets import LADDER, PRESETS, preset
from sleeplm_jax.parallel.mesh import AXES
from sleeplm_jax.parallel.rules import path_of, spec_for


@functools.cache
def shapes(config):
    return jax.eval_shape(lambda: create(config)[1])


def vocabulary(config):
    return with_vocabulary(config, config.model.vocab_size or 2048)


def test_sleeplm_base_has_the_released_models_parameters_part_by_part():
    """Counts of the official code's modules, taken there with torch."""
    config = preset("sleeplm-base")
    tree = shapes(config)
    assert parameter_count(tree) == 402_549_409
    count = {name: parameter_count(part) for name, part in tree.items()}
    assert count["encoder"] + count["signal_projection"] == 53_736_480
    assert count["text"] + count["text_projection"] == 123_592_704
    assert count["decoder"] == 208_074_240 + 5 * 768 + 768
    assert count["reconstruction"] == 9_454_080 + 7_687_296
    assert parameter_count(tree["encoder"]["stack"]) == 46_020_096
    without = dataclasses.replace(config, objective=ObjectiveConfig(reconstruction=0))
    assert parameter_count(shapes(without)) == 385_408_033


def test_sensorlm_siglip_b_has_the_released_configs_parameters():
    """Counts of big_vision's modules for that config."""
    tree = shapes(vocabulary(preset("sensorlm-siglip-b")))
    assert parameter_count(tree["encoder"]) == 93_596_928
    assert parameter_count([tree["text"], tree["text_projection"]]) == 110_419_200
    assert set(tree) == {"encoder", "text", "text_projection", "logit_scale", "logit_bias"}


@pytest.mark.parametrize(
    ("name", "published", "exact"),
    [("s", 3e6, 3_414_400), ("b", 114e6, 114_858_240), ("l", 404e6, 405_011_456),
     ("xl", 1.27e9, 1_272_402_560)],
)
def test_sensorlm_encoders_have_the_published_sizes(name, published, exact):
    """Without the poolers: plain ViT trunks (86,509,824 for B by big_vision) plus a gate a layer.
    Within 1 % of the published figures but for S, of which one digit is known."""
    encoder = shapes(vocabulary(preset(f"sensorlm-{name}")))["encoder"]
    trunk = {k: v for k, v in encoder.items() if not k.endswith("_pool")}
    assert parameter_count(trunk) == exact
    assert abs(exact / published - 1) < (0.2 if name == "s" else 0.01)


@pytest.mark.parametrize("name", LADDER)
def test_a_rung_has_the_size_in_its_name(name):
    number, unit = name.removeprefix("sleeplm-")[:-1], name[-1]
    wanted = int(number) * {"m": 1e6, "b": 1e9}[unit]
    found = parameter_count(shapes(vocabulary(preset(name))))
    assert abs(found / wanted - 1) < 0.06


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_valid_and_has_a_rule_for_every_parameter(name):
    config = validate(preset(name))
    tree = shapes(vocabulary(config))
    mesh = AbstractMesh((1, 1, 2, 2), AXES)  # also divides over fsdp 2 and tensor 2
    found = [
        spec_for(path_of(path), x.shape, mesh)
        for path, x in jax.tree_util.tree_leaves_with_path(tree)
    ]
    whole = sum(x.size for x, spec in zip(jax.tree.leaves(tree), found) if not any(spec))
    assert len(found) > 50 and whole < 0.25 * parameter_count(tree)


def test_an_unknown_preset_is_refused():
    with pytest.raises(ConfigError, match="choose from sleeplm-base"):
        preset("sleeplm-huge")
