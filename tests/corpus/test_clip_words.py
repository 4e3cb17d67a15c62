"""CLIP's words lose their spacing ("3 9 . 0 5 %"): what captions state survives being joined up."""

import re

import numpy as np
import pytest

from sleeplm_jax.captions.parse import parse
from sleeplm_jax.captions.record import stated
from sleeplm_jax.captions.render import render
from sleeplm_jax.captions.wording import STYLES
from sleeplm_jax.config import CAPTION_KINDS
from sleeplm_jax.corpus.clip_bpe import joined
from tests.captions.drawing import drawn_record


def apart(text):
    """As CLIP's decoder gives it: words, single digits and runs of signs, a space after each."""
    return " ".join(re.findall(r"[a-z]+|\d|[^\sa-z\d]+", text.lower()))


@pytest.mark.parametrize(
    "text",
    [  # SleepLM's own demo outputs, de-tokenised by hand
        "the patient exhibits wake features in this segment. "
        "the arousal event is identified from 0.0 to 15.2 seconds.",
        "central eeg activity (c4-a1): a delta relative power equal to 39.05%, together with a "
        "theta relative power at 28.20%, and a beta relative power of 6.27%. left eog movement: "
        "slow eye movement relative power valued at 20.51%, and rem saccadic relative power of "
        "57.20%.",
        "heart rate: minimum value of 64.07, in addition to maximum value of 65.63, plus a mean "
        "of 65.00, an increasing behavior from 14.1 to 18.8 seconds.",
        "chin emg activity: median frequency of 17.30 hz, in addition to burst intensity ratio "
        "equal to 1.94, and a burst modulation rate equal to 0.96 hz. the patient stays lying "
        "left for the full epoch.",
        "stable light sleep (n2) with spo2 at 94%.",
    ],
)
def test_published_captions_come_back_letter_by_letter(text):
    assert apart(text) != text
    assert joined(apart(text)) == text


@pytest.mark.parametrize("style", list(STYLES))
def test_every_statement_of_our_captions_survives(style):
    for seed in range(60):
        record = drawn_record(seed)
        for kind in CAPTION_KINDS:
            text = render(record, kind, np.random.default_rng(seed), style)
            if text is not None:
                read = parse(joined(apart(text)))
                assert read[kind] == stated(record, kind) and not read.unread, text
