"""What all tests share. Fixtures of one room live in their own file and are named here."""

import os
import signal
from pathlib import Path

import pytest

# Before JAX starts, here and in the processes that tests start: the same small programs are
# compiled over and over, and compiling is most of the suite's time.
_CACHE = Path(__file__).parents[1] / ".pytest_cache" / "jax"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

# Started in the background of a script, pytest and all it starts would ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ["tests.fixtures_archives", "tests.fixtures_corpus", "tests.fixtures_run",
                  "tests.fixtures_simulator", "tests.fixtures_stores"]


def pytest_addoption(parser):
    parser.addoption("--fuzz-cases", type=int, default=1200, help="damaged files to read")


@pytest.fixture(scope="session")
def psg() -> Path:
    """Folder of real recordings, read in place: $SLEEPLM_PSG, else ../shared/psg of the clone."""
    named = os.environ.get("SLEEPLM_PSG")
    root = Path(__file__).resolve().parents[1]
    folder = Path(named) if named else root.parent / "shared" / "psg"
    if not folder.is_dir():
        pytest.skip("real recordings not found: set SLEEPLM_PSG to their folder")
    return folder
