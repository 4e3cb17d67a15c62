"""Durations in steps, samples, passes and hours of sleep."""

import dataclasses

import pytest

from sleeplm_jax.config import DataConfig, RunConfig
from sleeplm_jax.errors import ConfigError
from sleeplm_jax.training.duration import with_duration

CONFIG = RunConfig(steps=7, data=DataConfig(batch_size=64))


def steps(duration):
    return with_duration(dataclasses.replace(CONFIG, duration=duration), samples=1000).steps


@pytest.mark.parametrize("duration, wanted", [
    ("", 7), ("300 steps", 300), ("1 step", 1), ("6400 samples", 100), ("6401 samples", 101),
    ("20 passes", 313), ("1 pass", 16), ("2.5passes", 40),
    ("8 hours", 15),  # 960 epochs of 30 s
    ("1 hour", 2), ("2e6 samples", 31250),
])  # fmt: skip
def test_a_duration_becomes_whole_steps(duration, wanted):
    assert steps(duration) == wanted


@pytest.mark.parametrize("duration", [
    "20", "passes", "-1 passes", "0 steps", "3 epochs", "1.2.3 hours", "nan steps", "20 passes now",
])
def test_what_is_no_duration_is_refused(duration):
    with pytest.raises(ConfigError, match="duration"):
        steps(duration)
