"""Hashes that tell whether a night would still be read by the same montage in the same way."""

from __future__ import annotations

import dataclasses
import functools

from sleeplm_jax.files import content_sha256
from sleeplm_jax.recordings.montage import Montage, cohort_montages, packaged_montages


def montage_sha256(montage: Montage) -> str:
    """Of everything a montage says, what it takes from the one it `extends` included.

    Comments and the order of keys do not count.
    """
    return content_sha256(dataclasses.asdict(montage))


@functools.cache
def packaged_sha256(name: str) -> str | None:
    """`montage_sha256` of a packaged montage by its name; None where there is none of that name."""
    return next((montage_sha256(m) for m in packaged_montages() if m.name == name), None)


@functools.cache
def choice_sha256(cohort: str | None) -> str:
    """Of what decides which packaged montage a recording gets: see `choose_montage`.

    A recording that did not change gets the montage of before while this is the same.
    """
    named = cohort_montages(cohort) if cohort is not None else ()
    return content_sha256([[m.name, m.matches] for m in named or packaged_montages()])
