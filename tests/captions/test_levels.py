"""Levels share out what a caption states, and words stand for numbers by their thresholds."""

import re
from pathlib import Path

import numpy as np
import pytest

from sleeplm_jax.captions.check import facts
from sleeplm_jax.captions.levels import LEVELS, WORDS, word
from sleeplm_jax.captions.parse import parse
from sleeplm_jax.captions.record import DECIMALS, stated
from sleeplm_jax.captions.render import render
from sleeplm_jax.config import CAPTION_KINDS

from .drawing import drawn_record


def test_levels_share_out_all_statements():
    for seed in range(80):
        record = drawn_record(seed)
        for kind in CAPTION_KINDS:
            every = set(facts(stated(record, kind, None), kind))
            parts = {lv: set(facts(stated(record, kind, None, lv), kind)) for lv in LEVELS}
            said = {lv: {f for f in part if f[0] not in ("missing", "stand-in")}
                    for lv, part in parts.items()}  # fmt: skip
            words = said["semantic"] - every
            assert not said["statistical"] & said["structural"]
            together = said["statistical"] | said["structural"] | (said["semantic"] - words)
            # "None of these" is a word of the whole caption, too; every number is in one level.
            assert together == {f for f in every if f[0] not in ("missing", "stand-in")}
            assert all(isinstance(value, str) for _, _, value in words)


def test_a_structural_caption_tells_times_and_a_statistical_one_none():
    for seed in range(60):
        record = drawn_record(seed)
        for kind in CAPTION_KINDS:
            for level, has_times in (("structural", True), ("statistical", False)):
                caption = render(record, kind, np.random.default_rng(seed), spec=None, level=level)
                if caption is not None:
                    # "throughout" is the whole epoch's time.
                    times = re.search(r"from \d+ to \d+ s\b|whole epoch|throughout", caption)
                    assert bool(times) == has_times, caption


@pytest.mark.parametrize("feature", WORDS)
def test_a_word_is_said_just_within_its_threshold(feature):
    step = 10.0 ** -DECIMALS[feature]
    for (below, inside), (_, beyond) in zip(WORDS[feature], WORDS[feature][1:]):
        last = np.ceil(below / step - 1e-9) * step - step  # the last value that is said below it
        assert word(feature, round(last, 6)) == inside
        assert word(feature, round(last + step, 6)) == beyond


def test_slow_regular_breathing_is_what_its_numbers_say():
    from .drawing import measurement

    def caption(rate, spread):
        record = {**drawn_record(0), "missing": [], "stand_ins": []}
        record["measurements"] = [measurement("respiratory_rate", rate, "AF"),
                                  measurement("breath_interval_variability", spread, "AF")]
        return render(record, "respiratory", np.random.default_rng(1), "sleeplm", level="semantic")

    calm = caption(10.0, 0.2)
    assert "slow" in calm and "regular" in calm and "irregular" not in calm
    assert "fast" in caption(24.0, 1.5) and "irregular" in caption(24.0, 1.5)
    assert "slow" not in caption(12.0, 0.2)


def test_every_level_is_read_back():
    for seed in range(40):
        record = drawn_record(seed)
        for kind in CAPTION_KINDS:
            for level in LEVELS:
                caption = render(record, kind, np.random.default_rng(seed), spec=None, level=level)
                content = stated(record, kind, None, level)
                assert (caption is None) == (content is None)
                if caption is not None:
                    assert parse(caption).contents == {kind: content}


def test_an_unknown_level_is_refused():
    with pytest.raises(ValueError, match="'poetic'"):
        stated(drawn_record(0), "brain", level="poetic")


def test_the_docs_tell_every_threshold():
    text = (Path(__file__).parents[2] / "docs" / "captions.md").read_text("utf-8")
    section = text.split("\n## Levels")[1].split("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", section, re.MULTILINE))
    assert set(rows) == set(WORDS)
    for feature, words in rows.items():
        told = [float(number) for number in re.findall(r"(?<![A-Z])\d+(?:\.\d+)?", words)]
        step = 10.0 ** -DECIMALS[feature]
        limits = {below for below, _ in WORDS[feature][:-1]}
        # "over" and "to" name the last value before a limit, "under" and "from" the limit.
        for number in told:
            last = any(abs(number + off - limit) < 1e-6 for limit in limits for off in (0, 1, step))
            assert last, (feature, number)
        assert len(told) == len(limits), feature
