"""What goes wrong with simulated recordings is where the truth says, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import signal

from sleeplm_jax.recordings.scoring import read_scoring
from sleeplm_jax.recordings.simulator import artefacts
from tests.fixtures_simulator import channels, truth_of

SECONDS = 3600


def quiet_hour() -> dict[str, tuple[np.ndarray, int]]:
    """Quiet signals in which any artefact can be seen; an ECG of one spike a second."""
    rng = np.random.default_rng(1)
    rates = {"ECG": 256, "Chin": 256, "THX": 32, "ABD": 32, "SpO2": 1}
    rates |= dict.fromkeys((*artefacts.SCALP, "LEG-L", "LEG-R"), 128)
    made = {
        label: (10 * rng.standard_normal(SECONDS * rate).astype(np.float32), rate)
        for label, rate in rates.items()
    }
    made["ECG"][0][:] = 0
    for late, height in enumerate((1000, 900, 600, 300)):
        made["ECG"][0][late::256] = height
    made["SpO2"][0][:] = 96
    return made


BEFORE = quiet_hour()


def disturbed(seed: int):
    after = {label: (values.copy(), rate) for label, (values, rate) in BEFORE.items()}
    return BEFORE, after, artefacts.disturb(after, SECONDS, np.random.default_rng(seed))


@pytest.fixture(scope="module")
def hours():
    return [disturbed(seed) for seed in range(40)]


def of_kind(hours, kind):
    return [
        (before[item.channel], after[item.channel], item)
        for before, after, found in hours
        for item in found
        if item.kind == kind
    ]


def test_every_kind_happens_and_some_recordings_are_clean(hours):
    kinds = {item.kind for *_, found in hours for item in found}
    assert kinds == {"pop", "lead_off", "dropout", "mains", "ecg", "inverted"}
    clean = np.mean([not found for *_, found in hours])
    assert 0.15 < clean < 0.6


def test_what_is_not_in_the_truth_is_as_it_was(hours):
    for before, after, found in hours:
        for label, (values, rate) in before.items():
            touched = np.zeros(SECONDS, bool)
            for item in found:
                if item.channel == label:
                    touched[int(item.onset) : int(np.ceil(item.onset + item.duration)) + 3] = True
            same = np.repeat(~touched, rate)
            np.testing.assert_array_equal(values[same], after[label][0][same])


def test_mains_is_a_line_at_50_or_60_hz(hours):
    for (before, rate), (after, _), item in of_kind(hours, "mains"):
        part = slice(int(item.onset * rate), int((item.onset + item.duration) * rate))
        f, density = signal.welch((after - before)[part], rate, nperseg=4 * rate)
        top = f[density.argmax()]
        assert top in (50, 60) or any(  # another artefact lies on the same channel
            other.channel == item.channel and other is not item for *_, found in hours
            for other in found
        )


def test_ecg_leaks_at_every_beat(hours):
    for (before, rate), (after, _), item in of_kind(hours, "ecg")[:6]:
        added = (after - before)[int(np.ceil(item.onset + 1)) * rate :].astype(float)
        added = added[: len(added) // rate * rate].reshape(-1, rate)
        median = np.abs(np.median(added, axis=0))
        assert median.argmax() == 0 and 5 < median.max() < 60  # µV, on the spike


def test_dropouts_read_zero(hours):
    for _, (after, rate), item in of_kind(hours, "dropout"):
        assert rate == 1
        assert (after[int(item.onset) : int(item.onset + item.duration)] == 0).all()


def test_inverted_channels_are_their_own_negative(hours):
    inverted = of_kind(hours, "inverted")
    assert {item.channel for *_, item in inverted} >= {"ECG"}
    for (before, _), (after, _), item in inverted:
        np.testing.assert_array_equal(before, -after)
        assert (item.onset, item.duration) == (0, SECONDS)


def test_a_lead_that_is_off_carries_no_brain(hours):
    for (before, rate), (after, _), item in of_kind(hours, "lead_off"):
        part = slice(int(item.onset * rate), int((item.onset + item.duration) * rate))
        assert abs(np.corrcoef(before[part], after[part])[0, 1]) < 0.1


def test_truth_and_files_agree(spoilt_nights):
    """The EDF differs from the same seed's clean one on the listed channels and on no other."""
    for spoilt, clean in spoilt_nights:
        found = truth_of(spoilt)["truth"]["artefacts"]
        assert all(item["kind"] == "movement" for item in truth_of(clean)["truth"]["artefacts"])
        listed = {item["channel"] for item in found if item["kind"] != "movement"}
        a, b = channels(spoilt), channels(clean)
        assert {label for label in a if not np.array_equal(a[label][0], b[label][0])} == listed
        for item in found:
            assert 0 <= item["onset"] and item["onset"] + item["duration"] <= 1800


def test_dropouts_are_scored_and_hide_desaturations(spoilt_nights):
    seen = 0
    for spoilt, _ in spoilt_nights:
        scoring = read_scoring(spoilt.with_suffix(".xml"), None)
        gaps = [x for x in truth_of(spoilt)["truth"]["artefacts"] if x["kind"] == "dropout"]
        marked = [event for event in scoring.events if event.kind == "artefact"]
        assert [event.onset for event in marked] == pytest.approx([gap["onset"] for gap in gaps])
        seen += len(gaps)
        for fall in (event for event in scoring.events if event.kind == "desaturation"):
            for gap in gaps:
                end = gap["onset"] + gap["duration"]
                assert fall.end < gap["onset"] or fall.onset >= end
    assert seen


def test_movement_is_large_where_the_truth_says(clean_cohort):
    for path in sorted(clean_cohort.glob("*.edf")):
        data, rate = channels(path)["C3-M2"]
        moving = np.zeros(len(data), bool)
        for item in truth_of(path)["truth"]["artefacts"]:
            if item["channel"] == "C3-M2":
                middle = item["onset"] + item["duration"] / 2
                moving[int((middle - 0.5) * rate) : int((middle + 0.5) * rate)] = True
        assert moving.any()
        assert np.std(data[moving]) > 1.5 * np.std(data[~moving])
