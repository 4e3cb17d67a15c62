"""Compiled programs are kept where they should be, and found by the next process."""

import dataclasses
import os
import subprocess
import sys

import jax
import pytest

from sleeplm_jax.config import RunConfig
from sleeplm_jax.training import compile_cache
from sleeplm_jax.training.compile_cache import default_folder, use_compile_cache

START = """
import sys
import jax, jax.numpy as jnp
from sleeplm_jax.config import RunConfig
from sleeplm_jax.training.compile_cache import use_compile_cache
hits = []
jax.monitoring.register_event_listener(lambda name, **k: hits.append(name))
print(use_compile_cache(RunConfig(compile_cache=sys.argv[1])))
jax.jit(lambda x: jnp.sin(x @ x).sum())(jnp.ones((8, 8)))
print("HITS", sum(name.endswith("cache_hits") for name in hits))
"""


def start(setting, **environment):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")} | {
        "JAX_PLATFORMS": "cpu", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", **environment,
    }
    done = subprocess.run([sys.executable, "-c", START, setting], capture_output=True, text=True,
                          env=environment, timeout=120, check=True)
    where, hits = done.stdout.splitlines()
    return where, int(hits.split()[1])


def test_a_second_process_finds_what_the_first_compiled(tmp_path):
    folder = tmp_path / "given"
    assert start(str(folder)) == (f"compiled programs in {folder}", 0)
    assert any(folder.iterdir())
    assert start(str(folder))[1] > 0


@pytest.fixture
def settings():
    """JAX's own settings, put back afterwards."""
    names = ("jax_compilation_cache_dir", "jax_enable_compilation_cache",
             "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_off_is_off(settings):
    assert "not kept" in use_compile_cache(RunConfig(compile_cache="off"))
    assert jax.config.jax_enable_compilation_cache is False


def test_what_jax_was_told_holds(settings, tmp_path):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "told"))
    assert str(tmp_path / "told") in use_compile_cache(RunConfig(compile_cache=str(tmp_path)))
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "told")


def test_a_folder_that_cannot_be_made_is_said_and_is_no_error(settings, tmp_path):
    jax.config.update("jax_compilation_cache_dir", None)
    (tmp_path / "file").touch()
    said = use_compile_cache(RunConfig(compile_cache=str(tmp_path / "file" / "x")))
    assert "not kept" in said and jax.config.jax_compilation_cache_dir is None


def test_one_process_keeps_them_with_the_user_and_several_beside_the_runs(tmp_path, monkeypatch):
    """Only process 0 writes, so the others gain by a disk that they see as well."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("SLEEPLM_CACHE", raising=False)
    config = RunConfig(out=str(tmp_path / "runs"))
    assert default_folder(config).startswith(str(tmp_path / "sleeplm" / "compiled" / "cpu-"))
    monkeypatch.setattr(compile_cache.jax, "process_count", lambda: 2)
    assert default_folder(config).startswith(str(tmp_path / "runs" / ".compiled"))
    on_a_store = dataclasses.replace(config, out="gs://bucket/runs")
    assert default_folder(on_a_store).startswith(str(tmp_path / "sleeplm"))
