"""Take channels away, by mask or as missing: nothing is claimed that needed them.

What a statement needs is written here by hand, not taken from captions/grounding.py; what a caption
states is read from its words by the parser.
"""

import functools
import itertools

import numpy as np
import pytest

from sleeplm_jax.captions.check import facts
from sleeplm_jax.captions.levels import LEVELS
from sleeplm_jax.captions.parse import parse
from sleeplm_jax.captions.render import render
from sleeplm_jax.captions.wording import STYLES
from sleeplm_jax.config import CAPTION_KINDS, SignalSpec

from .drawing import drawn_record

INPUTS = SignalSpec().channels + ("HR", "SpO2")
# Without these channels: names under which nothing may be said, and statements that may not be.
APNOEAS = {"obstructive_apnea", "central_apnea", "mixed_apnea"}
HEART = {"heart_rate_min", "heart_rate_max", "heart_rate_mean", "heart_rate_rise",
         "heart_rate_fall"}  # fmt: skip
REMOVED = {
    ("ECG",): (set(), {"rmssd"}),
    ("ECG", "HR"): ({"heart"}, HEART | {"rmssd"}),
    ("SpO2",): ({"SpO2"}, {"desaturation", "spo2_min", "spo2_mean", "spo2_drop"}),
    ("AF",): ({"AF"}, APNOEAS | {"rera", "flow_flatness", ("no event", "respiratory")}),
    ("THX",): ({"THX", "belts"}, {"belt_phase", "paradox"}),
    ("ABD",): ({"ABD", "belts"}, {"belt_phase", "paradox"}),
    ("THX", "ABD"): (
        {"THX", "ABD", "belts"},
        APNOEAS | {"belt_phase", "paradox", ("no event", "respiratory")},
    ),
    ("AF", "THX", "ABD"): (
        {"AF", "THX", "ABD", "belts"},
        APNOEAS | {"hypopnea", "rera", "respiratory_rate", "breath_amplitude",
                   "breath_interval_variability", ("no event", "respiratory")},
    ),
    ("C3",): ({"C3"}, set()),
    ("C4",): ({"C4"}, set()),
    ("C3", "C4"): (
        {"C3", "C4"},
        {"arousal", "rera", "theta_power", "sigma_power", "beta_power", "spindle_count",
         "k_complex_count", ("no event", "arousal")},
    ),
    ("EOG-L",): ({"EOG-L", "EOG"}, {"rapid_eye_movement_count", "blink_count"}),
    ("EOG-R",): ({"EOG-R", "EOG"}, {"rapid_eye_movement_count", "blink_count"}),
    ("EOG-L", "EOG-R"): (
        {"EOG-L", "EOG-R", "EOG"}, {"slow_eye_movement_power", "rapid_eye_movement_power"},
    ),
    ("EMG",): ({"EMG"}, {"muscle_tone", "emg_median_frequency", "burst_ratio"}),
    ("POS",): ({"POS"}, {"position"}),
    tuple(c for c in INPUTS if c != "POS"): (set(), {"stage"}),
}  # fmt: skip


def statements(record, spec, style, seed):
    """(feature, channel, value) of all the record's captions, of every kind and level, as read."""
    for kind, level in itertools.product(CAPTION_KINDS, (None, *LEVELS)):
        caption = render(record, kind, np.random.default_rng(seed), style, spec, level)
        if caption is not None:
            found = parse(caption)
            assert not found.unread
            for content_kind, content in found.contents.items():
                yield from facts(content, content_kind)


@functools.cache
def said_with_all(style):
    """Features that captions state where no channel is taken away."""
    spec = SignalSpec(channels=INPUTS)
    return {f for seed in range(12) for f, *_ in statements(drawn_record(seed), spec, style, seed)}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("removed", REMOVED, ids="+".join)
def test_nothing_is_claimed_that_needed_a_removed_channel(removed, style):
    silent, never = REMOVED[removed]
    left = tuple(channel for channel in INPUTS if channel not in removed)
    for seed in range(12):
        record = drawn_record(seed)
        lost = {**record, "missing": sorted({*record["missing"], *removed})}
        for shown, spec in (
            (record, SignalSpec(channels=left)),  # the mask: no input of this sample
            (lost, SignalSpec(channels=INPUTS)),  # an input without a signal in this epoch
        ):
            for feature, channel, value in statements(shown, spec, style, seed):
                if feature == "missing":
                    assert channel in shown["missing"], (removed, channel)
                    continue
                assert channel not in silent, (removed, feature, channel)
                assert feature not in never and (feature, value) not in never, (removed, feature)
    assert not never or never & said_with_all(style)


@pytest.mark.parametrize("style", STYLES)
def test_a_missing_input_is_said_to_be_missing(style):
    for seed in range(40):
        record = drawn_record(seed)
        said = {c for f, c, _ in statements(record, SignalSpec(), style, seed) if f == "missing"}
        assert said <= set(record["missing"]) & set(SignalSpec().channels)
