"""The door to YASA: imported late (it takes seconds) and kept from talking of every empty result.

YASA returns None where a channel is flat or too large and where nothing is found, and logs each at
WARNING or ERROR; the callers turn both into what they return.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from types import ModuleType

# For every detector's `verbose`: it sets its logger's level itself, to this.
SILENT = "critical"


@contextlib.contextmanager
def quietly() -> Iterator[ModuleType]:
    """YASA, with warnings of arithmetic on flat parts off."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import yasa

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=RuntimeWarning)
        yield yasa
