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
_AROUSAL = r"(arousal|micro-?eveil|micro-?despertar|weckreaktion)"
_DESATURATION = r"(desat|odi\b|entsattig)"
_LIMB = r"(plms?|lm|((periodic )?(limb|leg) movements?))"
# What is scored is named first, what came with it after: "Hypopnea with arousal" is a hypopnoea,
# "Arousal (respiratory)" and "Arousal with hypopnea?" are arousals. But "x-related arousal" and
# "LM arousal" are arousals too, as is WSC's LMA (NSRR's tables of it: arousal_lm).
# First match wins, on the wording without accents, with _ and / as spaces. A bare "apnoea" says no
# kind: `other`. Wordings: Compumedics Profusion (NSRR tutorial nights), NSRR's EventConcept and
# their harmonised names (Luna's nsrr-remap; the annots.md tables of NSRR's users), the EDF+
# specification's standard texts (https://www.edfplus.info/specs/edftexts.html), PhysioNet 2018's
# classes, three French Noxturnal exports, WSC's wordings (studies/wsc/annotsummary.txt and proc.md
# of nsrr_luna_mazzotti); German, Spanish and Portuguese terms are unverified.
_WORDINGS = tuple(
    (re.compile(pattern, re.IGNORECASE), kind)
    for pattern, kind in (
        (r"art[ei]fa[ck]?t", "artefact"),
        (r"^lights? ?(on|off|out)\b|^lights$|^l$", "note"),
        (r"\brera\b|effort[- ]related arousal", "rera"),
        (rf"^\W*((resp|spon|asda|eeg|cortical|external)\w*\.? )?{_AROUSAL}"
         rf"|\b{_LIMB}[- ]{_AROUSAL}|(related|associated|induced) (eeg )?{_AROUSAL}|^(lma|respa)$",
         "arousal"),
        (rf"^\W*([0-9]+ ?% )?(((sp|sa)?o2|oxygen) )?{_DESATURATION}"
         rf"|(related|associated|induced) {_DESATURATION}", "desaturation"),
        (r"hypopn(oea|oe|ea|ee)|hipopne?ia|\bhyp\b", "hypopnea"),  # whatever its mechanism
        (rf"({_OBSTRUCTIVE}|\bosa?\b).*{_APNEA}|{_APNEA}.*{_OBSTRUCTIVE}"
         rf"|{_APNEA}[- ]+o\b|\ba\. *obstructive\b|^oa$|\bobs ?{_APNEA}", "obstructive_apnea"),
        (rf"(central|zentral).*{_APNEA}|{_APNEA}.*(central|zentral)|{_APNEA}[- ]+c\b"
         r"|\ba\. *centrale?\b|^ca$", "central_apnea"),
        (rf"(mixed|mixte|gemischt).*{_APNEA}|{_APNEA}.*(mixed|mixte|gemischt)|{_APNEA}[- ]+m\b"
         r"|\ba\. *(mixed|mixte)\b|^ma$", "mixed_apnea"),
        (r"cheyne-? ?stokes|periodic ?breathing|^pb$|^cs$|^csr$", "cheyne_stokes"),
        (_APNEA, "other"),  # and not what came with it
        (r"\bplms?\b|periodic (leg|limb)", "periodic_limb_movement"),
        (r"(limb|leg) ?movement|\blm[lrb]?\b|^mj$|mouvements? de jambes?|beinbewegung"
         rf"|\blegs? w {_AROUSAL}", "limb_movement"),
        (_DESATURATION, "desaturation"),
        (_AROUSAL, "arousal"),
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


_ALONGSIDE = re.compile(
    r"^\W*respiratory event -( dur: *[0-9.]+ sec\. -)? "
    r"| *(-|\+|&|,|\b(with|without|w|and)\b)(?=.*(desat|arousal)).*", re.IGNORECASE
)
_BARE_APNEA = re.compile(
    r"(sdo:? ?)?(sleep |respiratory )?apn(oea|oe|ea|ee)s?( (event|finding|unsure))?", re.IGNORECASE
)


def is_bare_apnea(wording: str) -> bool:
    """Whether a wording is an apnoea of no kind, which is `other` among the kinds.

    Whatever is said to have come with it: "Apnea with arousal", "Apnea - DESAT 88 %".
    """
    parts = (_ALONGSIDE.sub("", plain(part)) for part in wording.split("|"))
    return any(_BARE_APNEA.fullmatch(part) for part in parts)


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
