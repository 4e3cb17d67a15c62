"""What an experiment is made of: frozen dataclasses without JAX, and their loading.

An experiment is a Python file with `get_config() -> RunConfig`. Every field can be overridden on
the command line by its dotted path (`--optimizer.learning-rate 3e-4`), typed by the dataclass.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sleeplm_jax.errors import ConfigError

# SleepLM's ten channels in SleepLM's order; EMG is the chin's (reference: SleepLM README).
SLEEPLM_CHANNELS = ("ECG", "ABD", "THX", "AF", "EOG-L", "EOG-R", "C3", "C4", "EMG", "POS")
# Channels kept for captions beside the model's input.
CAPTION_CHANNELS = ("HR", "SpO2")
STAGES = ("W", "N1", "N2", "N3", "R")
UNSCORED, MOVEMENT = -1, -2
# Rows of SleepLM's modality embedding, in its order.
CAPTION_KINDS = ("brain", "heart", "respiratory", "position_muscle", "stage_event")


@dataclass(frozen=True)
class SignalSpec:
    """Shape of one sample: `[len(channels), rate * seconds]`."""

    channels: tuple[str, ...] = SLEEPLM_CHANNELS
    rate: int = 64  # Hz
    seconds: int = 30

    @property
    def samples(self) -> int:
        return self.rate * self.seconds

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.channels), self.samples
