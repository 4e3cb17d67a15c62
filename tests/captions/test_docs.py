"""docs/captions.md names every feature with the unit, rounding and channels of the code."""

import re
from pathlib import Path

import pytest

from sleeplm_jax.captions.grounding import FEATURES
from sleeplm_jax.captions.record import DECIMALS
from sleeplm_jax.physiology.measure import UNITS

TEXT = (Path(__file__).parents[2] / "docs" / "captions.md").read_text("utf-8")
ROWS = {
    cells[1].strip(" `"): [cell.strip() for cell in cells[2:]]
    for cells in (line.split("|") for line in TEXT.splitlines() if line.startswith("| `"))
    if len(cells) > 6
}


def test_the_table_has_exactly_the_features_that_exist():
    assert set(ROWS) == set(UNITS)


@pytest.mark.parametrize("feature", UNITS)
def test_a_row_agrees_with_the_code(feature):
    unit, said, channels = ROWS[feature][:3]
    assert unit == UNITS[feature]
    if feature in DECIMALS:
        assert float(said.split(",")[0]) == 10.0 ** -DECIMALS[feature]
    needed = {channel for need in FEATURES[feature] for channel in need.channels}
    assert set(re.findall(r"[A-Za-z0-9-]+", channels)) - {"else"} == needed
