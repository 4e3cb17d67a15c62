"""A night's record against the same figures by other tools, from the EDF on (recomputation.py).

Features are taken from the registry, so that a new one without a recomputation fails.
"""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from sleeplm_jax.physiology.measure import UNITS, measure_night
from sleeplm_jax.recordings.prepare import prepare_night
from sleeplm_jax.recordings.simulator import simulate_night
from sleeplm_jax.recordings.trim import Trim

from .recomputation import RECOMPUTED
from .recomputation_signals import read_edf
from .waves import pink

DOCS = Path(__file__).parents[2] / "docs" / "captions.md"
WORDS = ("right", "left", "supine", "prone", "upright")
SIMULATED = {
    "C3": "C3-M2", "C4": "C4-M1", "O1": "O1-M2", "EOG-L": "E1-M2", "EOG-R": "E2-M1", "ECG": "ECG",
    "EMG": "Chin", "THX": "THX", "ABD": "ABD", "AF": "AF", "SpO2": "SpO2", "POS": "Position",
}  # fmt: skip
REAL = {
    "rsleep_nox/subject1.edf": {
        "C3": "C3-M2", "C4": "C4-M1", "F3": "F3-M2", "F4": "F4-M1", "O1": "O1-M2", "O2": "O2-M1",
        "EOG-L": "E1-M2", "EOG-R": "E2-M1", "ECG": "ECG", "THX": "Chest", "ABD": "Abdomen",
        "AF": "Nasal Pressure", "SpO2": "Saturation",
    },
    "slpdb_multimodal/slp41_60s.edf": {"C4": "EEG (C4-A1)", "EOG-R": "EOG (right)", "ECG": "ECG"},
    "edfio_sleepedf_short/short_psg.edf": {"C3": "EEG Fpz-Cz", "EOG-L": "EOG horizontal"},
    "ucddb_eeg/ucddb018_eeg.edf": {"C3": "EEG"},
}  # fmt: skip
# The EOGs of the one real piece that has both drift by hundreds of microvolts: where one slow
# deflection ends and the next begins is then the filter's choice, and the share differs by a half.
DRIFTING = {"slow_eye_movement_share"}


def measured(records, feature, channel):
    """The feature in each epoch, the largest where it has several: float [E], NaN where none;
    of positions their seconds [E, 5]."""
    out = np.full(len(records), np.nan)
    if feature == "position":
        out = np.zeros((len(records), len(WORDS)))
    for epoch, record in enumerate(records):
        for m in record["measurements"]:
            if (m["feature"], m["channel"]) == (feature, channel):
                if feature == "position":
                    a, b = m["interval"]
                    out[epoch, WORDS.index(m["value"])] += b - a
                else:
                    out[epoch] = np.fmax(out[epoch], abs(m["value"]))
    return out


def differences(records, channels, feature):
    """{channel: (agrees in each epoch that holds the feature, bool [n]; median difference)}."""
    how, out = RECOMPUTED[feature], {}
    for channel in how.channels:
        needed = how.pair or (channel,)
        if not set(needed) <= channels.keys():
            continue
        ours = measured(records, feature, channel)
        held = np.isfinite(ours)
        if not held.any():
            continue
        theirs = how.function(*(channels[name] for name in needed), len(records))
        apart = np.abs(ours - theirs)[held]
        allowed = np.maximum(how.within, how.relative * np.abs(ours[held]))
        out[channel] = (apart <= allowed + 1e-9, float(np.nanmedian(apart)))
    return out


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """An hour and a half of severe apnoea with an O1 drawn into its EDF: (records, channels)."""
    import edfio

    folder = tmp_path_factory.mktemp("recomputed")
    path = simulate_night(folder, 3, 1.5, 11, artefacts=False, people=("apnoea-severe",))
    edf = edfio.read_edf(path)
    rate = 128.0
    seconds = int(edf.duration)
    t = np.arange(int(seconds * rate)) / rate
    rhythm = 25 * np.sin(2 * np.pi * 10 * t) * (np.sin(2 * np.pi * t / 97) > 0.3)
    drawn = edfio.EdfSignal(
        np.clip(pink(seconds, 10, seed=3) + rhythm, -200, 200), rate, label="O1-M2",
        physical_dimension="uV", physical_range=(-200, 200),
    )
    edfio.Edf([*edf.signals, drawn]).write(folder / "with_o1.edf")
    (folder / "with_o1.yaml").write_text(
        "name: with-o1\nextends: simulated\n"
        "channels: {O1: [{expr: O1-M2, citation: drawn by this test}]}\n"
    )
    night = prepare_night(folder / "with_o1.edf", montage=folder / "with_o1.yaml",
                          trim=Trim("none"), scoring=None)
    flow = dataclasses.replace(night.channels["AF"], transducer="nasal_pressure")
    night = dataclasses.replace(night, channels={**night.channels, "AF": flow})
    return measure_night(night), read_edf(folder / "with_o1.edf", SIMULATED)


def test_every_feature_is_recomputed_and_no_other():
    assert set(RECOMPUTED) == set(UNITS)


@pytest.mark.parametrize("feature", UNITS)
def test_a_simulated_night_holds_what_other_tools_find(simulated, feature):
    how = RECOMPUTED[feature]
    found = differences(*simulated, feature)
    assert found, "the night does not hold the feature"
    for channel, (agrees, middle) in found.items():
        assert len(agrees) >= 20 and agrees.mean() >= how.share, (channel, agrees.mean(), middle)


@pytest.mark.parametrize("name", REAL)
def test_a_real_piece_holds_what_other_tools_find(psg, name):
    path = psg / name
    if not path.exists():
        pytest.skip(f"{name} is not there")
    records = measure_night(prepare_night(path, trim=Trim("none"), scoring=None))
    channels = read_edf(path, REAL[name])
    compared = 0
    for feature in UNITS.keys() - DRIFTING:
        for channel, (agrees, middle) in differences(records, channels, feature).items():
            # Of a few epochs one may differ.
            missed = max(1, int(len(agrees) * (1 - RECOMPUTED[feature].share) + 1e-9))
            assert (~agrees).sum() <= missed, (feature, channel, agrees, middle)
            compared += len(agrees)
    assert compared > 20


def tolerance(how):
    """A recomputation's tolerance as the table of the docs says it."""
    said = f"{how.within:g}" + (f" or {100 * how.relative:g} %" if how.relative else "")
    return f"{said} in {100 * how.share:g} %"


def test_the_docs_have_the_table():
    """Feature, tool, tolerance, reason of every row; nothing else stands there."""
    text = DOCS.read_text("utf-8").partition("### Recomputed\n")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]]
            for line in text.splitlines() if line.startswith("| `")]
    wanted = [[f"`{feature}`", RECOMPUTED[feature].tool, tolerance(RECOMPUTED[feature]),
               RECOMPUTED[feature].why] for feature in UNITS]
    assert rows == wanted
    assert all(re.search(rf"\b{feature}\b", text) for feature in DRIFTING)
