"""What all tests share. Fixtures of one room live in their own file and are named here."""

import os
from pathlib import Path

import pytest

pytest_plugins = ["tests.fixtures_corpus", "tests.fixtures_run"]


@pytest.fixture(scope="session")
def psg() -> Path:
    """Folder of real recordings, read in place: $SLEEPLM_PSG, else ../shared/psg of the clone."""
    named = os.environ.get("SLEEPLM_PSG")
    root = Path(__file__).resolve().parents[1]
    folder = Path(named) if named else root.parent / "shared" / "psg"
    if not folder.is_dir():
        pytest.skip("real recordings not found: set SLEEPLM_PSG to their folder")
    return folder
