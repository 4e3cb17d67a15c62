"""Breathing: respiratory events, thoracic and abdominal effort, airflow, oxygen saturation."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from sleeplm_jax.recordings.simulator.hypnogram import N1, N2, N3, W_CLOSED, W_OPEN, R
from sleeplm_jax.recordings.simulator.individual import Individual
from sleeplm_jax.recordings.simulator.noise import fluctuation, smooth, stretch

RATE = 32  # Hz of effort and flow
SUPINE = 2


@dataclass
class RespiratoryEvent:
    kind: str  # obstructive_apnea, central_apnea, mixed_apnea, hypopnea, rera
    onset: float
    duration: float
    residual: float  # flow left, share of the baseline
    arousal: bool
    scored: bool = True

    @property
    def end(self) -> float:
        return self.onset + self.duration


@dataclass
class Desaturation:
    onset: float
    duration: float
    lowest: int  # %
    drop: int  # %


@dataclass
class Breathing:
    thorax: np.ndarray  # float32 [seconds * RATE]
    abdomen: np.ndarray
    flow: np.ndarray
    cycle: np.ndarray  # unwrapped breathing cycle, float64: whole numbers start an inspiration
    depth: np.ndarray  # ventilation as a share of the baseline
    spo2: np.ndarray  # int [seconds]
    desaturations: list[Desaturation] = field(default_factory=list)


def draw_events(
    person: Individual,
    states: np.ndarray,
    position: np.ndarray,
    turns: list[tuple[float, float, float]],
    rng: np.random.Generator,
) -> list[RespiratoryEvent]:
    """Apnoeas, hypopnoeas and RERAs in sleep, more in REM, supine and light sleep, fewer in N3.

    None where the sleeper turns: nobody could score it.
    """
    weight = np.zeros(len(states))
    for state, factor in ((N1, 1.3), (N2, 1.0), (N3, 0.35), (R, person.rem_factor)):
        weight[states == state] = factor
    weight[(position == SUPINE) & (weight > 0)] *= person.supine_factor
    for onset, duration, _ in turns:
        weight[max(int(onset) - 2, 0) : int(onset + duration) + 3] = 0
    asleep = weight > 0
    # some do not fit in, some hypopnoeas will neither wake nor desaturate and go unscored
    wanted = 1.3 * person.ahi + person.reras_per_hour
    hazard = wanted / 3600 * weight / weight[asleep].mean()
    hazard = np.minimum(hazard / np.maximum(1 - hazard * 60, 0.2), 0.2)
    chance = rng.random(len(states))
    awake_ahead = np.concatenate([np.cumsum(~asleep), [np.sum(~asleep)]])
    events, free = [], 20
    for second in np.flatnonzero(chance < hazard):
        if second < free:
            continue
        rera = rng.random() < person.reras_per_hour / wanted
        apnoea = not rera and rng.random() < person.apnoea_share
        rem = states[second] == R
        spread = rng.gamma(2.0, 6.5) if apnoea else rng.gamma(1.5, 5.0)
        duration = 10.3 + spread * (1.35 if rem else 1.0)
        duration = round(float(min(duration, 75)), 1)
        stop = int(second + duration) + 2
        if stop + 5 >= len(states) or awake_ahead[stop] > awake_ahead[max(second - 8, 0)]:
            continue  # only in sleep: breathing is under other control in wake
        if apnoea:
            draw = rng.random()
            kind = "obstructive_apnea"
            if draw < person.central_share:
                kind = "central_apnea"
            elif draw < person.central_share + 0.08:
                kind = "mixed_apnea"
            residual = rng.uniform(0.0, 0.06)
            wakes = 0.35 if kind == "central_apnea" else 0.8
        elif rera:  # effort that grows against a narrow airway until it wakes the sleeper
            kind, residual, wakes = "rera", rng.uniform(0.75, 0.9), 2.0
        else:
            kind, residual, wakes = "hypopnea", rng.uniform(0.2, 0.55), 0.6
        wakes *= 0.55 if states[second] == N3 else 1.0
        onset = second + round(float(rng.random()), 1)
        events.append(
            RespiratoryEvent(
                kind, float(onset), duration, float(residual), bool(rng.random() < wakes)
            )
        )
        free = stop + 18 + rng.exponential(8)
    return events


def _bump(n: int, start: float, stop: float, rise: float, fall: float) -> tuple[slice, np.ndarray]:
    """A smooth 0-1-0 envelope at RATE between two times; the slice of the night and its values."""
    a, b = max(int((start - rise) * RATE), 0), min(int((stop + fall) * RATE), n)
    t = np.arange(a, b) / RATE
    up = 0.5 - 0.5 * np.cos(np.pi * np.clip((t - (start - rise / 2)) / rise, 0, 1))
    down = 0.5 + 0.5 * np.cos(np.pi * np.clip((t - (stop - fall / 2)) / fall, 0, 1))
    return slice(a, b), up * down


# breath-to-breath variability (SD of the log) of rate and depth
_VARIABILITY = {W_OPEN: 0.16, W_CLOSED: 0.12, N1: 0.09, N2: 0.05, N3: 0.028, R: 0.13}
_RATE_FACTOR = {W_OPEN: 1.12, W_CLOSED: 1.05, N1: 1.0, N2: 0.98, N3: 1.0, R: 1.06}


def breathe(
    person: Individual,
    states: np.ndarray,
    position: np.ndarray,
    events: list[RespiratoryEvent],
    movements: list[tuple[float, float, float]],
    rng: np.random.Generator,
) -> Breathing:
    """Effort, flow and saturation of the night."""
    seconds, n = len(states), len(states) * RATE
    lookup = np.zeros(6)
    for state, value in _VARIABILITY.items():
        lookup[state] = value
    variability = smooth(lookup[states], 4)
    for state, value in _RATE_FACTOR.items():
        lookup[state] = value
    rate = person.breathing_rate / 60 * smooth(lookup[states], 5)
    wander = fluctuation(rng, seconds, 600, 0.03)
    rate = rate * np.exp(variability * fluctuation(rng, seconds, 6) + wander)
    cycle = np.cumsum(stretch(rate, 1, RATE, n), dtype=np.float64) / RATE
    wander = fluctuation(rng, seconds, 900, 0.05)
    tidal = np.exp(1.4 * variability * fluctuation(rng, seconds, 7) + wander)
    tidal = stretch(tidal, 1, RATE, n)
    flow_depth, effort_depth = tidal.copy(), tidal.copy()
    split = np.zeros(n, np.float32)  # phase of thorax against abdomen, cycles: 0.5 is paradox
    flat = np.zeros(n, np.float32)  # flow limitation
    for event in events:
        where, on = _bump(n, event.onset, event.end, 1.5, 1.2)
        flow_depth[where] *= 1 - (1 - event.residual) * on
        effort = np.ones_like(on)
        # efforts against a closed airway grow until it opens
        grow = np.linspace(0.55, 1.25, len(on)) * rng.uniform(0.8, 1.1)
        if event.kind == "obstructive_apnea":
            effort = 1 - on + on * grow
            split[where] += on * rng.uniform(0.34, 0.5)
        elif event.kind == "central_apnea":
            effort = 1 - 0.97 * on
        elif event.kind == "mixed_apnea":
            late = np.clip(np.linspace(-1.2, 1.6, len(on)) * 3, 0, 1)
            effort = 1 - on + on * (0.03 + late * grow)
            split[where] += on * late * 0.42
        elif event.kind == "rera":
            effort = 1 - on + on * np.linspace(1.0, 1.5, len(on))
            flat[where] = np.maximum(flat[where], on * rng.uniform(0.8, 1.0))
        else:
            effort = 1 - on * (0.25 * (1 - event.residual))
            split[where] += on * rng.uniform(0.08, 0.3)
            flat[where] = np.maximum(flat[where], on * rng.uniform(0.3, 1.0))
        effort_depth[where] *= effort
        recovery = rng.uniform(0.35, 0.9) if event.arousal else rng.uniform(0.1, 0.35)
        after, on = _bump(n, event.end + 0.8, event.end + rng.uniform(8, 14), 1.5, 5)
        flow_depth[after] *= 1 + recovery * on
        effort_depth[after] *= 1 + recovery * on
    for onset, duration, strength in movements:
        where, on = _bump(n, onset, onset + duration, 0.5, 1.5)
        flow_depth[where] *= 1 + 0.5 * strength * on
        effort_depth[where] *= 1 + 0.6 * strength * on
    if person.snorer:  # snorers are partly flow limited all through NREM
        snoring = smooth(((states == N2) | (states == N3)).astype(float), 20)
        snoring = np.clip(snoring * (0.35 + fluctuation(rng, seconds, 300, 0.2)), 0, 1)
        flat = np.maximum(flat, stretch(snoring, 1, RATE, n))

    inspired, expired, limited, volume = _templates(person.inspiratory_share)
    table = np.arange(len(volume)) / len(volume)
    phase = cycle % 1.0

    def look(values: np.ndarray, at: np.ndarray) -> np.ndarray:
        return np.interp(at, table, values, period=1.0).astype(np.float32)

    round_flow = look(inspired + expired, phase)
    flat_flow = look(limited + expired, phase)
    flow = flow_depth * (round_flow + flat * (flat_flow - round_flow))
    # lying on a side or the belly moves the belts against the body: their shares change
    balance = np.array([0.08, 0.04, 0.0, -0.12, 0.1])[np.clip(position, 0, 4)] + person.belt_balance
    balance = stretch(np.clip(smooth(balance, 3), 0.2, 0.8), 1, RATE, n)
    thorax = 2 * balance * effort_depth * look(volume, (phase + split) % 1.0)
    abdomen = 2 * (1 - balance) * effort_depth * look(volume, (phase - 0.03) % 1.0)
    belt = stretch(smooth(fluctuation(rng, seconds, 60, 0.3), 6), 1, RATE, n)
    for channel, noise in ((flow, 0.02), (thorax, 0.025), (abdomen, 0.025)):
        channel += noise * rng.standard_normal(n, np.float32)
    thorax += belt
    abdomen += 0.8 * belt + stretch(smooth(fluctuation(rng, seconds, 60, 0.15), 6), 1, RATE, n)
    for onset, duration, strength in movements:
        where, on = _bump(n, onset, onset + duration, 0.4, 1.0)
        shove = fluctuation(rng, len(on), 0.5 * RATE) * on * strength
        thorax[where] += 0.8 * shove
        abdomen[where] += 0.8 * np.roll(shove, RATE // 4)
        flow[where] += 0.3 * shove
    breathing = Breathing(thorax, abdomen, flow, cycle, flow_depth, np.zeros(0))
    breathing.spo2 = _saturation(person, flow_depth, states, rng)
    breathing.desaturations = _score_desaturations(person, breathing.spo2, events)
    return breathing


def _templates(share: float) -> tuple[np.ndarray, ...]:
    """One breath on 512 points: inspiratory flow (round, flattened), expiratory flow, volume.

    `share` of the cycle is inspiration.
    """
    x = np.arange(512) / 512
    inside = x < share
    arch = np.where(inside, np.sin(np.pi * np.clip(x / share, 0, 1)), 0)
    inspired, limited = arch**0.85, 0.62 * np.clip(3 * arch, 0, 1)
    y = np.clip((x - share) / (1 - share), 0, 1)
    expired = np.where(inside, 0, -(y**0.7) * np.exp(-4.2 * y) * (1 - y**6))
    expired *= inspired.sum() / -expired.sum()  # what goes in comes out
    volume = np.cumsum(inspired + expired)
    volume = volume / volume.max() * 2
    return inspired, expired, limited, volume - volume.mean()


def _saturation(person, flow_depth, states, rng) -> np.ndarray:
    """SpO2 in whole %, [seconds]: oxygen stores drained by missing ventilation, seen later.

    A first-order store (time constant 20 s) emptied at `desaturation_rate` and refilled faster
    (7 s: the breaths that end an event are deep), delayed by the circulation from lung to finger
    and averaged over 3 s by the oximeter.
    """
    seconds = len(states)
    ventilation = flow_depth.reshape(seconds, RATE).mean(1)
    # ordinary breath-to-breath variation is buffered by the lung: only a real deficit counts
    missing = np.clip(0.82 - ventilation, 0, 1) / 0.82
    drained, refilled = np.exp(-1 / 20), np.exp(-1 / 7)
    deficit, level = np.empty(seconds), 0.0
    for second, lack in enumerate(missing):
        level = level * (drained if lack > 0 else refilled) + person.desaturation_rate * lack
        deficit[second] = level
    delay = person.circulation_delay
    deficit = np.interp(np.arange(seconds) - delay, np.arange(seconds), deficit, left=0.0)
    deficit = smooth(deficit, 1.5)
    baseline = person.spo2 - 0.8 * smooth((states > W_CLOSED).astype(float), 60)
    wander = fluctuation(rng, seconds, 120, 0.35)
    exact = baseline + wander - deficit
    # an oximeter's display does not flicker: it moves on when the value has clearly left it
    shown, value = np.empty(seconds, int), round(float(exact[0]))
    for second, level in enumerate(exact):
        if abs(level - value) > 0.75:
            value = round(float(level))
        shown[second] = value
    return np.clip(shown, 50, 100)


def _score_desaturations(person, spo2, events) -> list[Desaturation]:
    """Falls of at least 3 % that follow an event, from the last high value to recovery."""
    found, busy = [], -1
    for number, event in enumerate(events):
        first = max(int(event.onset), busy + 1)
        last = int(event.end + person.circulation_delay + 12)
        if number + 1 < len(events):
            last = min(last, int(events[number + 1].onset + person.circulation_delay))
        last = min(last, len(spo2) - 1)
        if last <= first + 5:
            continue
        window = spo2[first : last + 1]
        nadir = first + int(window.argmin())
        before = spo2[first : nadir + 1]
        top = int(before.max())
        drop = top - int(spo2[nadir])
        if drop < 3:
            continue
        start = first + int(np.flatnonzero(before == top)[-1])
        rest = spo2[nadir : min(nadir + 60, len(spo2))]
        lower = np.flatnonzero(rest < spo2[nadir])
        rest = rest[: lower[0]] if len(lower) else rest  # the next event's fall has begun
        back = np.flatnonzero(rest >= spo2[nadir] + 0.4 * drop)
        # no recovery: it ends where it came highest before falling again
        highest = np.flatnonzero(rest == rest.max())
        stop = nadir + int(back[0] if len(back) else highest[-1])
        if number + 1 < len(events):
            stop = max(nadir, min(stop, int(events[number + 1].end)))
        found.append(Desaturation(float(start), float(stop - start), int(spo2[nadir]), drop))
        busy = stop
    return found
