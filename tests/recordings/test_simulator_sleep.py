"""Who sleeps and how the simulated night goes: stages, arousals, breathing events, by kind."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest

from sleeplm_jax.recordings.simulator.course import Course, draw_course
from sleeplm_jax.recordings.simulator.hypnogram import draw_bouts, epochs_of, states_of
from sleeplm_jax.recordings.simulator.individual import draw_individual
from sleeplm_jax.recordings.simulator.people import KINDS
from tests.fixtures_simulator import (
    N1,
    N2,
    N3,
    SEED,
    R,
    W,
)


@pytest.mark.parametrize("hours", [1.0, 2.0, 3.0, 8.0])
def test_every_stage_in_a_plausible_share(hours):
    shares = []
    for index in range(40):
        person = draw_individual(np.random.default_rng([SEED, index, 0]))
        seconds = int(hours * 3600)
        bouts = draw_bouts(person, seconds, np.random.default_rng([SEED, index, 1]))
        stages = epochs_of(states_of(bouts, seconds))
        assert len(stages) == seconds // 30
        shares.append(np.bincount(stages, minlength=5) / len(stages))
    shares = np.array(shares)
    assert ((shares > 0.01).mean(0) > 0.9).all()  # old and apnoeic sleepers may lack one
    typical = np.median(shares, axis=0)
    low, high = [0.05, 0.03, 0.35, 0.07, 0.12], [0.25, 0.18, 0.58, 0.28, 0.28]
    assert (typical > low).all() and (typical < high).all(), typical


def test_n3_is_early_and_rem_late():
    early, late = np.zeros(5), np.zeros(5)
    for index in range(30):
        person = draw_individual(np.random.default_rng([SEED, index, 0]))
        bouts = draw_bouts(person, 28800, np.random.default_rng([SEED, index, 1]))
        stages = epochs_of(states_of(bouts, 28800))
        half = len(stages) // 2
        early += np.bincount(stages[:half], minlength=5)
        late += np.bincount(stages[half:], minlength=5)
    assert early[N3] > 2 * late[N3] and late[R] > 1.5 * early[R]
    assert stages[0] == W


def test_an_epoch_is_what_most_of_it_is():
    states = np.array([0] * 14 + [2] * 16 + [3] * 16 + [4] * 14 + [5] * 30 + [1] * 7)
    assert epochs_of(states).tolist() == [N1, N2, R]


def test_people_differ_and_slow_waves_fall_with_age():
    people = [draw_individual(np.random.default_rng([SEED, i, 0])) for i in range(300)]
    assert {p.severity for p in people} == {"none", "mild", "moderate", "severe"}
    assert 0.05 < np.mean([not p.alpha_producer for p in people]) < 0.3
    age = [p.age for p in people]
    assert np.corrcoef(age, [p.slow_wave_uv for p in people])[0, 1] < -0.5
    assert np.corrcoef(age, [p.spindles_per_minute for p in people])[0, 1] < -0.4
    assert np.corrcoef(age, [p.n3_share for p in people])[0, 1] < -0.4


@pytest.fixture(scope="module")
def courses() -> dict[str, list[Course]]:
    """Five nights of 8 h of every kind of sleeper."""
    return {kind: [draw_course(i, 8 * 3600, SEED, (kind,)) for i in range(5)] for kind in KINDS}


def median(courses: list[Course], measure) -> float:
    return float(np.median([measure(course) for course in courses]))


def sleep_hours(course: Course) -> float:
    return float((course.stages > W).sum() / 120)


def apnoea_hypopnoea_index(course: Course) -> float:
    scored = [event for event in course.events if event.scored and event.kind != "rera"]
    return len(scored) / sleep_hours(course)


def wake_after_onset(course: Course) -> float:
    """Minutes from the first epoch of sleep to the end."""
    stages = course.stages
    return float((stages[np.flatnonzero(stages > W)[0] :] == W).sum() / 2)


def test_severity_is_what_was_asked_for(courses):
    """Scored events by the usual cut-offs (5, 15, 30 an hour); a night may miss by a third."""
    for kind, low, high in (
        ("healthy", 0, 5), ("insomnia", 0, 5), ("apnoea-mild", 5, 15),
        ("apnoea-moderate", 15, 30), ("apnoea-severe", 30, 70),
    ):  # fmt: skip
        indices = [apnoea_hypopnoea_index(course) for course in courses[kind]]
        assert low <= np.median(indices) < high, kind
        assert min(indices) > low / 1.5 and max(indices) < 1.5 * high


def test_sleep_changes_with_age_as_published(courses):
    """Ohayon et al. 2004: older people lie awake longer, with less N3 and REM, more N1."""
    young = [course for course in courses["healthy"] if course.person.age < 50]
    old = courses["older"]
    share = lambda stage: lambda course: (course.stages == stage).sum() / (course.stages > W).sum()  # noqa: E731
    assert median(old, wake_after_onset) > 1.4 * median(young, wake_after_onset)
    assert median(old, share(N3)) < median(young, share(N3))
    assert median(old, share(R)) < median(young, share(R))
    assert median(old, share(N1)) > median(young, share(N1))
    assert 0.75 < median(old, sleep_hours) / 8 < 0.88 < median(young, sleep_hours) / 8 < 0.95


def test_insomniacs_fall_asleep_late_and_lie_awake(courses):
    latency = lambda course: np.flatnonzero(course.stages > W)[0] / 2  # noqa: E731
    assert median(courses["insomnia"], latency) > 1.7 * median(courses["healthy"], latency)
    healthy = median(courses["healthy"], wake_after_onset)
    assert median(courses["insomnia"], wake_after_onset) > 1.25 * healthy  # of 5 nights each


def test_apnoea_fragments_sleep(courses):
    arousals = lambda course: len(course.arousals) / sleep_hours(course)  # noqa: E731
    order = [median(courses[kind], arousals) for kind in
             ("healthy", "apnoea-mild", "apnoea-moderate", "apnoea-severe")]  # fmt: skip
    assert order == sorted(order) and order[-1] > 2 * order[0]


def test_stages_last_as_long_as_in_real_hypnograms(courses, psg):
    """Chance of staying in a stage for another epoch, W N1 N2 N3 R: between two real cohorts.

    994 nights of PhysioNet 2018 and 55 of DOD-O by five scorers, with 0.06 to spare: between them
    N1 differs by 0.3, the others by 0.02.
    """

    def staying(nights) -> np.ndarray:
        same, every = np.zeros(5), np.zeros(5)
        for stages in nights:
            now, after = stages[:-1], stages[1:]
            known = (now >= 0) & (now < 5)
            np.add.at(every, now[known], 1)
            np.add.at(same, now[known & (now == after)], 1)
        return same / every

    path = psg / "physionet2018_arousals/hypnograms_arousals_994.jsonl.gz"
    with gzip.open(path, "rt") as file:
        challenge = [np.array([int(code) for code in json.loads(line)["stages"]]) for line in file]
    scorers = sorted((psg / "dreem_dod_scorers/scorers/dodo").glob("*/*.json"))
    dod = [np.array(json.loads(path.read_text())) for path in scorers]
    real = np.array([staying(challenge), staying(dod)])
    simulated = staying([course.stages for nights in courses.values() for course in nights])
    assert (simulated > real.min(0) - 0.06).all() and (simulated < real.max(0) + 0.06).all()
