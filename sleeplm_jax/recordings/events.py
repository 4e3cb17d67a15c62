"""The kinds of scored event, and which kind a scorer's wording means."""

from __future__ import annotations

import re
import unicodedata

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

_APNEA = r"apn(oea|oe|ea|[ée]e)"  # English, German, French
_OBSTRUCTIVE = r"\bobst(r|ructive?|ruct[ií]va|ructif|ruktive?)?\b"
# First match wins. A bare "apnoea" says no kind: `other`. Wordings: Compumedics Profusion (NSRR
# tutorial nights), the EDF+ specification's standard texts
# (https://www.edfplus.info/specs/edftexts.html), AASM terms, abbreviations and other languages.
_WORDINGS = tuple(
    (re.compile(pattern, re.IGNORECASE), kind)
    for pattern, kind in (
        (r"art[ei]fact", "artefact"),
        (r"desat", "desaturation"),
        (r"\brera\b|effort[- ]related arousal", "rera"),
        (r"arousal", "arousal"),
        (r"hypopn(oea|oe|ea|[ée]e)", "hypopnea"),  # obstructive, central, mixed: one kind
        (rf"({_OBSTRUCTIVE}|\bosa?\b).*{_APNEA}|{_APNEA}.*{_OBSTRUCTIVE}"
         rf"|{_APNEA}[-_ ]+o\b|\ba\. *obstructive\b", "obstructive_apnea"),
        (rf"central.*{_APNEA}|{_APNEA}.*central|{_APNEA}[-_ ]+c\b|\ba\. *central\b",
         "central_apnea"),
        (rf"(mixed|mixte).*{_APNEA}|{_APNEA}.*(mixed|mixte)|{_APNEA}[-_ ]+m\b|\ba\. *mixed\b",
         "mixed_apnea"),
        (r"\bplms?\b|periodic (leg|limb)", "periodic_limb_movement"),
        (r"(limb|leg) movement|\blm\b", "limb_movement"),
    )
)


def event_kind(wording: str) -> str:
    """The kind (of EVENT_KINDS) of a scorer's wording; `other` for what is none of them."""
    wording = unicodedata.normalize("NFC", wording)
    for pattern, kind in _WORDINGS:
        if pattern.search(wording):
            return kind
    return "other"
