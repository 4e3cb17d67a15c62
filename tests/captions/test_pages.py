"""docs/night_captions.md and docs/caption_examples.md: complete, attributed, not out of date."""

import re
from pathlib import Path

import pytest

from sleeplm_jax.captions.context import read_context
from sleeplm_jax.captions.night import read_window, wordings
from sleeplm_jax.captions.parse import parse
from sleeplm_jax.captions.windows import CURVES, SHARES, SLEEP
from sleeplm_jax.config import CAPTION_KINDS

DOCS = Path(__file__).parents[2] / "docs"
AGAIN = "run experiments/benchmarks/caption_examples.py again"


def test_every_feature_of_a_window_is_in_the_docs():
    text = (DOCS / "night_captions.md").read_text("utf-8")
    named = set(re.findall(r"`([a-z0-9_A-Z]+)`", text))
    named |= {f"{name}_share" for name in SHARES}  # `wake_share`...`rem_share`
    wanted = {feature for feature, _, _ in SLEEP}
    wanted |= {f for f in wordings()["index"]["names"] if not f.startswith("ahi_")}
    wanted |= {"ahi_RULE", "position_share", "time_in_bed", "scored_period"}
    for curve, _, _, highest, _ in CURVES:
        wanted |= {f"{curve}_{part}" for part in ("mean", "lowest", "change", "hour", "known")}
        wanted |= {f"{curve}_highest"} if highest else set()
    assert wanted <= named, wanted - named
    for feature in wordings()["unknown"]["names"]:
        bare = "ahi_RULE" if feature.startswith("ahi_") else feature
        assert bare in named | {"sleep", "heart_rate", "spo2", "position"}, feature


@pytest.fixture(scope="module")
def page():
    return (DOCS / "caption_examples.md").read_text("utf-8")


def test_twenty_real_epochs_and_six_simulated_each_with_its_small_picture(page):
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", page)
    assert len(pictures) == len(re.findall(r"^## \d+\. ", page, re.MULTILINE)) == 26
    real, simulated = page.split("# Simulated epochs")
    assert real.count("![") == 20 and "Simulated night" not in real
    assert len(re.findall(r"^## \d+\. Simulated night", simulated, re.MULTILINE)) == 6
    sizes = [(DOCS / picture).stat().st_size for picture in pictures]
    assert max(sizes) < 60_000 and sum(sizes) < 1_000_000
    kept = {f"images/captions/{path.name}" for path in (DOCS / "images" / "captions").iterdir()}
    assert kept == set(pictures)


def test_the_sources_are_attributed(page):
    for name in ("University College Dublin", "Sleep-EDF", "MIT-BIH Polysomnographic", "rsleep",
                 "ODC-By 1.0", "MIT)"):
        assert name in page


def test_the_captions_of_the_page_are_ones_that_the_templates_make(page):
    """All of them are read back whole; after a change of wordings the page has to be made anew."""
    rows = re.findall(r"^\| `(\w+)` \| (.+) \|$", page, re.MULTILINE)
    kinds = [kind for kind, _ in rows]
    assert set(kinds) == {*CAPTION_KINDS, "context", "night"} and len(rows) > 60
    for kind, text in rows:
        if kind == "night":
            assert read_window(text)["window"][0] == "night", AGAIN
        elif kind == "context":
            assert read_context(text)["here"] is not None, AGAIN
        else:
            found = parse(text)
            assert not found.unread and set(found.contents) == {kind}, f"{text}: {AGAIN}"
