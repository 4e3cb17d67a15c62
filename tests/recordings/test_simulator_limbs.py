"""Leg movements: scored as the AASM defines them, seen in the leg's electromyogram."""

from __future__ import annotations

import numpy as np
import pytest

from sleeplm_jax.recordings.scoring import read_scoring
from sleeplm_jax.recordings.simulator import simulate_night
from sleeplm_jax.recordings.simulator.course import draw_course
from tests.fixtures_simulator import SEED, W, channels, stages_of


@pytest.fixture(scope="module")
def restless(tmp_path_factory):
    """Two hours of someone with many periodic leg movements."""
    index = next(
        i for i in range(60) if draw_course(i, 1800, SEED, ("older",)).person.plm_index > 25
    )
    out = tmp_path_factory.mktemp("restless")
    return simulate_night(out, index, 2.0, SEED, artefacts=False, people="older")


def limb_events(path):
    scoring = read_scoring(path.with_suffix(".xml"), None)
    kinds = ("periodic_limb_movement", "limb_movement")
    return [event for event in scoring.events if event.kind in kinds]


def test_periodic_movements_come_in_series_of_four(restless):
    """AASM: 0.5-10 s long, four or more with onsets 5-90 s apart; isolated ones lie elsewhere."""
    events = limb_events(restless)
    assert all(0.5 <= event.duration <= 10 for event in events)
    periodic = np.array([e.onset for e in events if e.kind == "periodic_limb_movement"])
    hours = (stages_of(restless) > W).sum() / 120
    assert len(periodic) / hours > 12
    gaps = np.diff(periodic)
    assert gaps.min() >= 5
    series = np.split(periodic, np.flatnonzero(gaps > 90) + 1)
    assert min(map(len, series)) >= 4
    for event in events:
        if event.kind == "limb_movement":
            assert np.abs(periodic - event.onset).min() > 90


def test_the_scored_leg_rises_by_8_microvolts(restless):
    data = channels(restless)
    for event in limb_events(restless):
        values, rate = data[event.channel]

        def level(start, stop, values=values, rate=rate):
            return np.sqrt(np.mean(values[int(start * rate) : int(stop * rate)] ** 2))

        third = event.duration / 3
        during = level(event.onset + third, event.end - third)
        assert during > level(event.onset - 1.5, event.onset - 0.2) + 8


def test_movements_are_of_sleep_and_clear_of_breathing_events():
    for index in range(4):
        course = draw_course(index, 3 * 3600, SEED, ("apnoea-severe",))
        for limb in course.limbs:
            for event in course.events:
                assert not event.onset - 0.5 <= limb.onset <= event.end + 0.5


def test_legs_at_rest_are_quiet(restless):
    """Resting tone of a few µV (AASM asks for at most 10 µV peak to peak, +-5)."""
    data = channels(restless)
    quiet = stages_of(restless) > W
    for label in ("LEG-L", "LEG-R"):
        values, rate = data[label]
        level = np.median(np.abs(values.reshape(-1, int(30 * rate))[quiet]))
        assert 0.5 < level < 5
