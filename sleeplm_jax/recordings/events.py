"""The kinds of scored event, and which kind a scorer's wording means."""

from __future__ import annotations

import re

EVENT_KINDS = (
    "obstructive_apnea",
    "central_apnea",
    "mixed_apnea",
    "hypopnea",
    "rera",
    "desaturation",
    "arousal",
    "limb_movement",
    "periodic_limb_movement",
    "artefact",
    "other",
)

# First match wins. Wordings: Compumedics Profusion (NSRR tutorial nights), the EDF+ specification's
# standard texts (https://www.edfplus.info/specs/edftexts.html), AASM terms.
_WORDINGS = tuple(
    (re.compile(pattern, re.IGNORECASE), kind)
    for pattern, kind in (
        (r"art[ei]fact", "artefact"),
        (r"desat", "desaturation"),
        (r"\brera\b|effort[- ]related arousal", "rera"),
        (r"arousal", "arousal"),
        (r"hypopno?ea", "hypopnea"),  # obstructive, central and mixed hypopnoeas are one kind
        (r"(obstructive|\bosa?\b).*apno?ea|apno?ea.*obstructive", "obstructive_apnea"),
        (r"central.*apno?ea|apno?ea.*central", "central_apnea"),
        (r"mixed.*apno?ea|apno?ea.*mixed", "mixed_apnea"),
        (r"\bplms?\b|periodic (leg|limb)", "periodic_limb_movement"),
        (r"(limb|leg) movement|\blm\b", "limb_movement"),
    )
)


def event_kind(wording: str) -> str:
    """The kind (of EVENT_KINDS) of a scorer's wording; `other` for what is none of them."""
    for pattern, kind in _WORDINGS:
        if pattern.search(wording):
            return kind
    return "other"
