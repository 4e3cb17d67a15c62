"""What a caption is asked to be about: the decoder's modality prefix (SleepLM's targeted
generation). P prompts, K prefix slots."""

from __future__ import annotations

import numpy as np

from sleeplm_jax.config import CAPTION_KINDS, PREFIX_LENGTH
from sleeplm_jax.errors import ConfigError


def prompt(kinds: str) -> np.ndarray:
    """The prefix `int32 [K]` of one kind, or of several in one text as "brain+heart".

    Raises ConfigError for an unknown kind, a repeated one, or more kinds than slots.
    """
    names = kinds.split("+")
    unknown = [name for name in names if name not in CAPTION_KINDS]
    if unknown:
        raise ConfigError(
            "kind", f"{ascii(unknown[0])} is no kind of caption",
            f"choose from {', '.join(CAPTION_KINDS)}, or two of them as brain+heart",
        )
    if len(names) > PREFIX_LENGTH or len(set(names)) < len(names):
        raise ConfigError(
            "kind", f"{kinds} cannot be one text", f"join at most {PREFIX_LENGTH}, all different"
        )
    found = np.full(PREFIX_LENGTH, -1, np.int32)
    found[: len(names)] = [CAPTION_KINDS.index(name) for name in names]
    return found


def prompt_numbers(prompts: np.ndarray) -> np.ndarray:
    """A number below 64 for each of `prompts [P, K]`, another for each prompt there is."""
    number = np.zeros(len(prompts), np.int64)
    for slot in range(prompts.shape[1]):
        number = number * (len(CAPTION_KINDS) + 1) + prompts[:, slot] + 1
    return number
