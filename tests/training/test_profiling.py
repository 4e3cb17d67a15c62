"""A profile of chosen steps lies in the run's folder and names them."""

import dataclasses
import gzip
import json

import jax
import jax.numpy as jnp

from sleeplm_jax.training.profiling import Profile
from tests.models.test_recoca import SMALL


def steps_traced(folder):
    (trace,) = folder.glob("profile/**/*.trace.json.gz")
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    return [int(e["args"]["step_num"]) for e in events if e.get("name") == "train"]


def run(profile, numbers):
    double = jax.jit(lambda x: 2 * x)
    for number in numbers:
        with profile.step(number):
            result = double(jnp.float32(number))
        if profile.due(number):
            profile.end(result)


def test_chosen_steps_are_traced_and_named(tmp_path):
    said = []
    config = dataclasses.replace(SMALL, profile_steps=(3, 5))
    profile = Profile(config, tmp_path, said.append)
    run(profile, range(1, 8))
    profile.close()
    assert steps_traced(tmp_path) == [3, 4, 5]
    assert list(tmp_path.glob("profile/**/*.xplane.pb"))
    assert len(said) == 1 and "tensorboard --logdir" in said[0] and "perfetto" in said[0]


def test_a_training_that_ends_in_the_middle_leaves_what_there_is(tmp_path):
    profile = Profile(dataclasses.replace(SMALL, profile_steps=(2, 9)), tmp_path, lambda line: None)
    run(profile, range(1, 4))
    profile.close()
    assert steps_traced(tmp_path) == [2, 3]


def test_nothing_is_traced_unless_asked_or_when_resumed_past_it(tmp_path):
    for steps in ((), (1, 2)):
        profile = Profile(
            dataclasses.replace(SMALL, profile_steps=steps), tmp_path, lambda line: None
        )
        run(profile, range(5, 8))
        profile.close()
    assert not (tmp_path / "profile").exists()
