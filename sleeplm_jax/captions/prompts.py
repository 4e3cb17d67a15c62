"""Sentences for prompted staging: ensembles in the captions' own words, and in words held out."""

from __future__ import annotations

from sleeplm_jax.captions.render import stage_sentence
from sleeplm_jax.captions.wording import templates
from sleeplm_jax.config import STAGES


def stage_prompts(held_out: bool = False, style: str = "default") -> dict[str, list[str]]:
    """Stage sentences for every stage of config.STAGES, equally many each, in a fixed order.

    All names of a stage in all stage templates, as training captions of `style` say them; with
    `held_out`, names and templates that no training caption of any style uses (templates.yaml,
    stage.held_out).
    """
    words = templates()["stage"]["held_out"] if held_out else templates(style)["stage"]
    return {
        code: [
            stage_sentence(text, name) for text in words["texts"] for name in words["names"][code]
        ]
        for code in STAGES
    }
