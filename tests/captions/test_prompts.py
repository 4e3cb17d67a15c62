"""Prompt ensembles: in the captions' words, or in none of their wordings."""

import re

import numpy as np

from sleeplm_jax.captions.prompts import stage_prompts
from sleeplm_jax.captions.render import render
from sleeplm_jax.captions.wording import templates
from sleeplm_jax.config import STAGES

from .drawing import drawn_record


def test_prompts_are_the_stage_sentences_of_captions():
    prompts = stage_prompts()
    assert tuple(prompts) == STAGES
    assert len({len(sentences) for sentences in prompts.values()}) == 1
    for stage in STAGES:
        record = {**drawn_record(0), "stage": stage, "events": [], "scored": [], "missing": []}
        said = {render(record, "stage_event", np.random.default_rng(s)) for s in range(400)}
        assert said == set(prompts[stage])


def test_no_sentence_stands_for_two_stages():
    for held_out in (False, True):
        prompts = stage_prompts(held_out)
        every = [sentence for sentences in prompts.values() for sentence in sentences]
        assert len(every) == len(set(every)) and len(prompts["W"]) >= 8


def test_held_out_wordings_are_in_no_caption():
    trained = {s for sentences in stage_prompts().values() for s in sentences}
    stage = templates()["stage"]
    frames = {re.sub(r"\W*\{\w+\}\W*", "|", text).lower() for text in stage["texts"]}
    for code, sentences in stage_prompts(held_out=True).items():
        assert not trained & set(sentences)
        names = {n.lower() for n in stage["names"][code]}
        assert not names & {n.lower() for n in stage["held_out"]["names"][code]}
    held = {re.sub(r"\W*\{\w+\}\W*", "|", t).lower() for t in stage["held_out"]["texts"]}
    assert not held & frames
