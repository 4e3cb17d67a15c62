"""Simulated nights: a physiological model of sleep, written as EDF+ with Profusion scoring."""

from sleeplm_jax.recordings.simulator.cohort import simulate_cohort, simulate_night

__all__ = ["simulate_cohort", "simulate_night"]
