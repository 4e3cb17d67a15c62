"""Kinds of sleeper: healthy, insomniac, apnoeic, older; what sets each kind apart.

Directions with age (sleep latency, stage 1, stage 2 and wake after sleep onset rise; efficiency,
slow-wave sleep and REM fall; after 60 only efficiency goes on falling): Ohayon et al. 2004, Sleep
27:1255-73, abstract. Severity by events an hour of sleep (< 5, 5-15, 15-30, >= 30): the usual
clinical cut-offs, AASM Task Force 1999, Sleep 22:667-89 (unverified). Share of adults with 15
or more periodic limb movements an hour: a quarter of the Wisconsin Sleep Cohort (Leary et al. 2018,
Clin Neurophysiol 129:2306-14, abstract), half of women aged 83 (Claman et al. 2006, J Clin Sleep
Med 2:438-45, abstract). The insomniac's and the apnoeic's other numbers are plausible, not fits.
"""

from __future__ import annotations

from dataclasses import dataclass

from sleeplm_jax.errors import ConfigError

SEVERITIES = ("none", "mild", "moderate", "severe")  # AHI < 5, 5-15, 15-30, >= 30 per hour


@dataclass(frozen=True)
class Kind:
    ages: tuple[int, int]
    ahi: tuple[float, float]  # events per hour of sleep
    latency: float  # minutes, median
    wake: float  # factor on awakenings
    wake_stretch: float  # factor on how long they last
    n3: float  # factor on the share of N3
    restless_legs: float  # probability of 15 or more periodic limb movements an hour
    beta: float  # factor on fast activity
    share: float  # of a mixed cohort


KINDS = {
    "healthy": Kind((20, 60), (0.3, 4.5), 12, 1.0, 1.0, 1.0, 0.08, 1.0, 0.32),
    "insomnia": Kind((25, 75), (0.3, 4.5), 35, 1.9, 1.9, 0.85, 0.20, 1.35, 0.12),
    "apnoea-mild": Kind((25, 75), (6, 14), 12, 1.0, 1.0, 0.95, 0.20, 1.0, 0.16),
    "apnoea-moderate": Kind((30, 75), (16, 28), 11, 1.1, 1.0, 0.85, 0.25, 1.0, 0.13),
    "apnoea-severe": Kind((30, 75), (32, 65), 9, 1.2, 1.0, 0.7, 0.25, 1.0, 0.13),
    "older": Kind((61, 88), (0.5, 18), 17, 1.2, 1.25, 0.9, 0.45, 1.0, 0.14),
}


def checked(people: str | tuple[str, ...] | list[str] | None) -> tuple[str, ...] | None:
    """Names of KINDS, each once, from a comma-separated string or a sequence; None for the mix.

    Raises ConfigError naming the first that is unknown.
    """
    if people is None:
        return None
    names = people.split(",") if isinstance(people, str) else list(people)
    names = [name.strip() for name in names]
    for name in names:
        if name not in KINDS:
            raise ConfigError(
                "people", f"{name!r} is no kind of sleeper", f"choose from {', '.join(KINDS)}"
            )
    return tuple(dict.fromkeys(names))


def severity(ahi: float) -> str:
    """Of SEVERITIES, by events per hour of sleep."""
    return SEVERITIES[(ahi >= 5) + (ahi >= 15) + (ahi >= 30)]
