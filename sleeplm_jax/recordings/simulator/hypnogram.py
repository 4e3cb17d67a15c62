"""The course of sleep: bouts of sub-epoch states in cycles, arousals on top, 30-s epochs out."""

from __future__ import annotations

import numpy as np

from sleeplm_jax.recordings.simulator.individual import Individual

# States are finer than stages: wake is told apart by the eyes, because eyes open (blinks, reading)
# and eyes closed (alpha) look nothing like each other.
W_OPEN, W_CLOSED, N1, N2, N3, R = range(6)
STAGE_OF_STATE = np.array([0, 0, 1, 2, 3, 4], np.int8)  # index into config.STAGES
PROFUSION_CODE = (0, 1, 2, 3, 5)  # of each stage of config.STAGES
EPOCH = 30  # s

Bouts = list[tuple[int, float]]


def draw_bouts(person: Individual, seconds: int, rng: np.random.Generator) -> Bouts:
    """Bouts (state, seconds) that fill the night: latency, cycles of NREM and REM sleep, waking up.

    A night under four hours keeps the shape of a whole one (N3 early, REM late) in fewer and
    shorter cycles, so that every stage appears.
    """
    minutes = seconds / 60
    compressed = minutes < 240
    usual = 68.0 if compressed else person.cycle_minutes
    latency = min(person.latency_minutes, 0.12 * minutes)
    waking = min(rng.uniform(0.5, 8.0), 0.04 * minutes)
    cycles = max(1, round((minutes - latency - waking) / (usual * 1.06)))
    cycle = (minutes - latency - waking) / cycles
    pace = min(1.0, cycle / 90) if compressed else 1.0  # dwell times shrink with the cycles
    bouts = _falling_asleep(latency * 60, rng)
    for number in range(cycles):
        # hours into an eight-hour night that this cycle stands for
        hour = 8.0 * (number + 0.5) / cycles if compressed else (number + 0.5) * cycle / 60
        rem = float(np.clip(0.07 + 0.045 * hour + rng.normal(0, 0.03), 0.06, 0.42))
        rem *= person.rem_share
        if compressed:
            rem = max(rem, 0.14)
        n3 = person.n3_share * np.exp(-max(hour - 0.75, 0) / 3.2) * np.exp(rng.normal(0, 0.15))
        if compressed:
            n3 *= 1.3  # hours 2 and 6, say, stand for the night: the richest in N3 is left out
        bouts += _cycle(person, cycle * 60, rem, n3, pace, number == cycles - 1, rng)
    bouts += _wake(waking * 60, 0.6, rng)
    scale = seconds / sum(duration for _, duration in bouts)
    return [(state, duration * scale) for state, duration in bouts]


def states_of(bouts: Bouts, seconds: int) -> np.ndarray:
    """State of every second, int8 [seconds]."""
    ends = np.cumsum([duration for _, duration in bouts])
    index = np.searchsorted(ends, np.arange(seconds) + 0.5, side="right")
    return np.array([state for state, _ in bouts], np.int8)[np.minimum(index, len(bouts) - 1)]


def epochs_of(states: np.ndarray) -> np.ndarray:
    """Stage of every whole epoch: the one that holds most of its seconds. int8 [epochs]."""
    stages = STAGE_OF_STATE[states][: len(states) // EPOCH * EPOCH].reshape(-1, EPOCH)
    counts = np.stack([(stages == stage).sum(1) for stage in range(5)], 1)
    return counts.argmax(1).astype(np.int8)


def _wake(seconds: float, eyes_closed: float, rng: np.random.Generator) -> Bouts:
    """Wake in stretches of open and closed eyes."""
    bouts, left = [], seconds
    while left > 0:
        closed = rng.random() < eyes_closed
        stretch = min(left, rng.lognormal(np.log(28 if closed else 22), 0.7))
        bouts.append((W_CLOSED if closed else W_OPEN, stretch))
        left -= stretch
    return bouts


def _falling_asleep(seconds: float, rng: np.random.Generator) -> Bouts:
    """Reading and looking about, then closed eyes, then flickering between drowsy wake and N1."""
    open_share = rng.uniform(0.15, 0.45)
    bouts = _wake(seconds * open_share, 0.15, rng) + _wake(seconds * (0.8 - open_share), 0.9, rng)
    left = seconds * 0.2
    while left > 0:
        drowse = min(left, rng.uniform(10, 50))
        bouts += [(N1, drowse), (W_CLOSED, rng.uniform(8, 30))]
        left -= drowse + 15
    return bouts


def _cycle(person, seconds, rem, n3, pace, last, rng) -> Bouts:
    nrem = seconds * (1 - rem)
    onset = rng.uniform(75, 200) * max(pace, 0.5)
    deep = max(n3 * nrem, 0.0)
    if deep < 100:  # too little to hold a bout: late cycles often have no N3 at all
        deep = 0.0
    shallow = max(nrem - onset - deep, 60)
    down = rng.uniform(0.25, 0.45) * shallow if deep else shallow * 0.5
    bouts = [(N1, onset)]
    bouts += _fragmented(N2, down, person, pace, rng)
    if deep:
        bouts += _fragmented(N3, deep, person, pace, rng)
    bouts += _fragmented(N2, shallow - down, person, pace, rng)
    bouts += _fragmented(R, seconds * rem, person, pace, rng)
    # waking after REM sleep, longer with age; some nights hold one long wake in the middle
    old = (person.age - 20) / 60
    if not last and rng.random() < 0.5 + 0.3 * old:
        awake = rng.lognormal(np.log(80 + 300 * old), 0.9)
        if rng.random() < 0.06 + 0.08 * old:
            awake += rng.uniform(600, 2400)
        bouts += _wake(min(awake, 3000) * pace, 0.65, rng)
    return bouts


# mean length of an undisturbed bout, s, and what interrupts it (state, share)
_BOUT = {N2: 700, N3: 900, R: 1200}
_BREAK = {
    N2: ((N1, 0.47), (N3, 0.18), (W_CLOSED, 0.35)),
    N3: ((N2, 0.86), (N1, 0.04), (W_CLOSED, 0.10)),
    R: ((N1, 0.27), (N2, 0.23), (W_CLOSED, 0.50)),
}


def _fragmented(state, seconds, person, pace, rng) -> Bouts:
    """A stretch of one state broken by short visits to others: semi-Markov, gamma dwell."""
    bouts, left = [], seconds
    mean = _BOUT[state] * max(pace, 0.35) / (0.6 + 0.2 * person.awakenings_per_hour)
    visits, shares = zip(*_BREAK[state], strict=True)
    while left > 0:
        dwell = min(left, rng.gamma(1.5, mean / 1.5) + 20)
        bouts.append((state, dwell))
        left -= dwell
        if left < 90 * pace:
            if left > 0:
                bouts.append((state, left))
            break
        visit = int(rng.choice(visits, p=shares))
        awake = (35 + 0.8 * person.age) * person.wake_stretch
        typical, sd = (awake, 0.9) if visit == W_CLOSED else (60, 0.6)
        away = min(rng.lognormal(np.log(typical), sd), 900) * max(pace, 0.6)
        if visit == W_CLOSED:
            bouts += _wake(away, 0.6, rng)
            drowse = rng.uniform(25, 140) * max(pace, 0.6)
            bouts.append((N1, drowse))
            away += drowse
        else:
            bouts.append((visit, away))
        left -= away
    return bouts
