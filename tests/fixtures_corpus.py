"""A small simulated cohort and what is built from it, made once a session.

Treat them as read-only: copy before changing (`shutil.copytree`). Imports stand inside, so that
tests of other rooms do not load this one's libraries.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from sleeplm_jax.corpus.manifest import Corpus
    from sleeplm_jax.corpus.tokenizer import Tokenizer


def made_once(tmp_path_factory, name: str, make: Callable[[Path], object]) -> Path:
    """Folder `name`, filled by `make` in whichever of the tests' processes comes first."""
    base = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        base = base.parent  # of all processes of this session
    folder, made = base / name, base / f"{name}.made"
    with (base / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            folder.mkdir(exist_ok=True)
            make(folder)
            made.touch()
    return folder


@pytest.fixture(scope="session")
def simulated_folder(tmp_path_factory) -> Path:
    """Five simulated half-hour nights: sim-3-0000.edf ... sim-3-0004.edf with their scoring."""
    from sleeplm_jax.recordings.simulator import simulate_cohort

    return made_once(tmp_path_factory, "simulated", lambda folder: simulate_cohort(
        folder, 5, hours=0.5, seed=3, workers=1, progress=False))


@pytest.fixture(scope="session")
def corpus_folder(simulated_folder, tmp_path_factory) -> Path:
    """A corpus of the five nights (3 train, 1 val, 1 test) with its tokenizer."""
    from sleeplm_jax.corpus.prepare import prepare_corpus
    from sleeplm_jax.corpus.tokenizer import train_tokenizer

    def make(folder):
        result = prepare_corpus([simulated_folder], folder / "corpus", workers=1, progress=False)
        train_tokenizer(result.corpus, vocab_size=1024)

    return made_once(tmp_path_factory, "corpora", make) / "corpus"


@pytest.fixture(scope="session")
def corpus(corpus_folder) -> Corpus:
    from sleeplm_jax.corpus.manifest import Corpus

    return Corpus.open(corpus_folder)


@pytest.fixture(scope="session")
def tokenizer(corpus) -> Tokenizer:
    return corpus.tokenizer()
