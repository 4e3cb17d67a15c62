"""A small simulated cohort and what is built from it, made once a session.

Treat them as read-only: copy before changing (`shutil.copytree`). Imports stand inside, so that
tests of other rooms do not load this one's libraries.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from sleeplm_jax.corpus.manifest import Corpus
    from sleeplm_jax.corpus.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def simulated_folder(tmp_path_factory) -> Path:
    """Five simulated half-hour nights: sim-3-0000.edf ... sim-3-0004.edf with their scoring."""
    from sleeplm_jax.recordings.simulator import simulate_cohort

    folder = tmp_path_factory.mktemp("simulated")
    simulate_cohort(folder, 5, hours=0.5, seed=3, workers=1, progress=False)
    return folder


@pytest.fixture(scope="session")
def corpus_folder(simulated_folder, tmp_path_factory) -> Path:
    """A corpus of the five nights (3 train, 1 val, 1 test) with its tokenizer."""
    from sleeplm_jax.corpus.prepare import prepare_corpus
    from sleeplm_jax.corpus.tokenizer import train_tokenizer

    out = tmp_path_factory.mktemp("corpora") / "corpus"
    result = prepare_corpus([simulated_folder], out, workers=1, progress=False)
    train_tokenizer(result.corpus, vocab_size=1024)
    return out


@pytest.fixture(scope="session")
def corpus(corpus_folder) -> Corpus:
    from sleeplm_jax.corpus.manifest import Corpus

    return Corpus.open(corpus_folder)


@pytest.fixture(scope="session")
def tokenizer(corpus) -> Tokenizer:
    return corpus.tokenizer()
