"""The door to YASA: imported late (it takes seconds) and kept from talking of every empty result.

YASA returns None where a channel is flat or too large and where nothing is found, and says so as a
warning each time; the callers turn both into what they return.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from types import ModuleType


@contextlib.contextmanager
def quietly() -> Iterator[ModuleType]:
    """YASA, with its and MNE's log at errors only and warnings of arithmetic on flat parts off."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import yasa

    loggers = [logging.getLogger(name) for name in ("yasa", "mne")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=RuntimeWarning)
            yield yasa
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)
