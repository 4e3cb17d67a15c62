"""A tiny run, trained once a session on the tiny corpus. Treat it as read-only."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.fixtures_corpus import made_once


def tiny_config(corpus_folder: Path, out: Path, **changes):
    """The tiny experiment on this corpus, in this folder."""
    from sleeplm_jax.config.files import load_experiment

    config = load_experiment(Path(__file__).parent / "training" / "tiny.py")
    data = dataclasses.replace(config.data, corpus=str(corpus_folder))
    return dataclasses.replace(config, out=str(out), data=data, **changes)


@pytest.fixture(scope="session")
def trained_run(corpus_folder, tmp_path_factory) -> Path:
    """The run folder."""
    from sleeplm_jax.training.loop import train

    return made_once(tmp_path_factory, "runs", lambda out: train(
        tiny_config(corpus_folder, out), say=lambda line: None)) / "tiny"
