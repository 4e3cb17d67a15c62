"""One colour per stage, everywhere; AASM order from wake at the top to N3 at the bottom.

NREM is one hue that darkens with depth, wake and REM are warm: the five stay apart in lightness,
so also for colour-blind readers and in grey print. Wong (2011, Nature Methods 8:441) for the
pairing of warm and blue.
"""

from __future__ import annotations

from sleeplm_jax.config import STAGES

# Top to bottom of a hypnogram (AASM manual: REM right under wake).
HYPNOGRAM_ORDER = ("W", "R", "N1", "N2", "N3")
STAGE_COLOURS = {
    "W": "#E9A13B", "R": "#C2305D", "N1": "#A3CCE6", "N2": "#4B8FC4", "N3": "#17406D",
}
STAGE_NAMES = {"W": "Wake", "R": "REM", "N1": "N1", "N2": "N2", "N3": "N3"}
# Text on a stage's colour that keeps a contrast of at least 4.5.
STAGE_INK = {"W": "#2B1C00", "R": "#FFFFFF", "N1": "#0E2A40", "N2": "#04121F", "N3": "#FFFFFF"}

INK, MUTED, RULE, PAPER = "#1E2833", "#66727F", "#D9DEE3", "#FFFFFF"
WARNING = "#A3261B"  # what a reader must not miss

# Rows of the events strip: label, {kind of scoring.EVENT_KINDS: colour}
EVENT_ROWS = (
    ("Apnoea", {
        "obstructive_apnea": "#B3401F", "central_apnea": "#7A2E8E", "mixed_apnea": "#D0714A",
    }),
    ("Hypopnoea", {"hypopnea": "#E39A6D", "rera": "#EBC3A8"}),
    ("Desaturation", {"desaturation": "#2F7F79"}),
    ("Arousal", {"arousal": "#8A6D00"}),
    ("Limb movement", {"limb_movement": "#7C8894", "periodic_limb_movement": "#4F5B66"}),
)
EVENT_NAMES = {
    "obstructive_apnea": "Obstructive apnoea", "central_apnea": "Central apnoea",
    "mixed_apnea": "Mixed apnoea", "hypopnea": "Hypopnoea", "rera": "RERA",
    "desaturation": "Desaturation", "arousal": "Arousal", "limb_movement": "Limb movement",
    "periodic_limb_movement": "Periodic limb movement", "cheyne_stokes": "Cheyne-Stokes breathing",
    "snore": "Snoring", "heart_rhythm": "Heart rhythm", "body_position": "Body position",
    "artefact": "Artefact", "note": "Note", "other": "Other",
}
POSITIONS = {0: "right", 1: "left", 2: "supine", 3: "prone", 4: "upright"}
POSITION_COLOURS = {
    0: "#B9C7D3", 1: "#8FA5B8", 2: "#5D768C", 3: "#D8C9A8", 4: "#EFE3C6",
}


def height(stage: int) -> int:
    """Row of a stage (index into config.STAGES) counted from the bottom of a hypnogram."""
    return len(HYPNOGRAM_ORDER) - 1 - HYPNOGRAM_ORDER.index(STAGES[stage])
