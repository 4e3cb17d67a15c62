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
    "cheyne_stokes",  # Cheyne-Stokes or periodic breathing, as the scorer marks it
    "snore",
    "heart_rhythm",  # bradycardia, tachycardia, other arrhythmia: the text says which
    "body_position",
    "artefact",
    "note",  # lights off, start of the analysis, technician's marks: nothing of the sleeper
    "other",
)

_APNEA = r"apn(oea|oe|ea|ee)"  # English, German, French
_OBSTRUCTIVE = r"\bobst(r|ructive?|ructiva|ructif|ruktive?)?\b"
# First match wins, on the wording without accents, with _ and / as spaces. A bare "apnoea" says no
# kind: `other`. Wordings: Compumedics Profusion (NSRR tutorial nights), NSRR's EventConcept and
# their harmonised names (Luna's nsrr-remap; the annots.md tables of NSRR's users), the EDF+
# specification's standard texts (https://www.edfplus.info/specs/edftexts.html), PhysioNet 2018's
# classes, three French Noxturnal exports, WSC's wordings; German, Spanish and Portuguese terms are
# unverified.
_WORDINGS = tuple(
    (re.compile(pattern, re.IGNORECASE), kind)
    for pattern, kind in (
        (r"art[ei]fa[ck]?t", "artefact"),
        (r"^lights? ?(on|off|out)\b|^lights$|^l$", "note"),
        (r"desat|odi\b|entsattig", "desaturation"),
        (r"\brera\b|effort[- ]related arousal", "rera"),
        (r"arousal|micro-?eveil|micro-?despertar|weckreaktion", "arousal"),
        (r"hypopn(oea|oe|ea|ee)|hipopne?ia|\bhyp-[ocmb]\b", "hypopnea"),  # whatever its mechanism
        (rf"({_OBSTRUCTIVE}|\bosa?\b).*{_APNEA}|{_APNEA}.*{_OBSTRUCTIVE}"
         rf"|{_APNEA}[- ]+o\b|\ba\. *obstructive\b|^oa$|^obs\b.*{_APNEA}", "obstructive_apnea"),
        (rf"(central|zentral).*{_APNEA}|{_APNEA}.*(central|zentral)|{_APNEA}[- ]+c\b"
         r"|\ba\. *centrale?\b|^ca$", "central_apnea"),
        (rf"(mixed|mixte|gemischt).*{_APNEA}|{_APNEA}.*(mixed|mixte|gemischt)|{_APNEA}[- ]+m\b"
         r"|\ba\. *(mixed|mixte)\b|^ma$", "mixed_apnea"),
        (r"\bplms?\b|periodic (leg|limb)", "periodic_limb_movement"),
        (r"(limb|leg) ?movement|\blm\b|^mj$|mouvements? de jambes?|beinbewegung", "limb_movement"),
        (r"cheyne-? ?stokes|periodic ?breathing|^pb$|^cs$|^csr$", "cheyne_stokes"),
        (r"snor(e|ing)|ronflement|schnarch", "snore"),
        (r"(brady|tachy)[ck]ardi|arr?h?ythmi|asystole|fibrillation", "heart_rhythm"),
        (r"^(body )?position\b|^(supine|prone|upright|left|right|back|front|dos|ventre|gauche"
         r"|droite|debout|assis)$", "body_position"),
        (r"^notification$|^avertissement$|^(debut|fin) de l.analyse$|^analysis (start|stop|end)"
         r"|^(start|stop|pause|resume)d? ?recording|^recording (start|stop|resume|pause)"
         r"|technician notes?", "note"),
    )
)  # fmt: skip
LONGEST_WORDING = 200  # characters; longer remarks are cut, and bound the matching


def plain(wording: str) -> str:
    """Without accents, camel case and _ or / as separate words, at most LONGEST_WORDING long."""
    folded = unicodedata.normalize("NFKD", wording[:LONGEST_WORDING])
    folded = "".join(c for c in folded if not unicodedata.combining(c))
    folded = re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", " ", folded)
    return " ".join(re.sub(r"[_/]", " ", folded).split())


def event_kind(wording: str, overrides: tuple[tuple[str, str], ...] = ()) -> str:
    """The kind (of EVENT_KINDS) of a scorer's wording; `other` for what is none of them.

    `overrides` are a cohort's own (`Dialect.events`): they win where they equal the wording or one
    of its parts between "|", without case.
    """
    if overrides:
        folded = wording.strip().casefold()
        for part in (folded, *(p.strip() for p in folded.split("|"))):
            for key, kind in overrides:
                if key == part:
                    return kind
    wording = plain(wording)
    for pattern, kind in _WORDINGS:
        if pattern.search(wording):
            return kind
    return "other"
