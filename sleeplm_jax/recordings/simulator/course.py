"""The course of a night, before any signal is made: who, which state when, and what happens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sleeplm_jax.recordings.simulator import body, hypnogram, limbs, respiration, scored
from sleeplm_jax.recordings.simulator.arousals import Arousal, draw_arousals
from sleeplm_jax.recordings.simulator.individual import Individual, draw_individual


@dataclass
class Course:
    person: Individual
    states: np.ndarray  # int8 [seconds], of hypnogram's six
    position: np.ndarray  # int8 [seconds]
    movements: body.Movements
    events: list[respiration.RespiratoryEvent]
    limbs: list[limbs.LimbMovement]
    arousals: list[Arousal]
    breathing: respiration.Breathing

    @property
    def stages(self) -> np.ndarray:
        """int8 [epochs], index into config.STAGES."""
        return hypnogram.epochs_of(self.states)


def draw_course(
    index: int, seconds: int, seed: int, people: tuple[str, ...] | None = None
) -> Course:
    """The course of night `index` of cohort `seed`, the same that `simulate_night` writes.

    `seconds` is a multiple of 30; `people` are kinds of people.KINDS, all if None. Some 0.4 s for
    eight hours.
    """

    def part(number: int) -> np.random.Generator:
        return np.random.default_rng([seed, index, number])

    person = draw_individual(part(0), people)
    states = hypnogram.states_of(hypnogram.draw_bouts(person, seconds, part(1)), seconds)
    position, turns = body.draw_positions(person, states, part(2))
    events = respiration.draw_events(person, states, position, turns, part(3))
    moves = limbs.draw_limb_movements(person, states, events, part(18))
    arousals, states = draw_arousals(person, states, events, moves, part(4))
    movements = sorted(turns + body.draw_movements(person, states, arousals, part(5)))
    breathing = respiration.breathe(person, states, position, events, movements, part(6))
    scored.decide(events, arousals, breathing.desaturations)
    return Course(person, states, position, movements, events, moves, arousals, breathing)
