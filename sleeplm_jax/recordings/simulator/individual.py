"""Who sleeps: the traits that differ between simulated people and stay fixed through a night."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from sleeplm_jax.recordings.simulator.people import KINDS, severity

EEG_LABELS = ("C3-M2", "C4-M1")
EOG_LABELS = ("E1-M2", "E2-M1")


@dataclass(frozen=True)
class Individual:
    """A simulated sleeper. Amplitudes in µV before `gain`, rates per hour unless named."""

    kind: str  # of people.KINDS
    age: int
    sex: str  # "F" or "M"
    alpha_producer: bool  # some 10-15 % of adults make little or no alpha when the eyes close
    alpha_hz: float
    alpha_uv: float  # RMS over the central derivations with the eyes closed
    theta_hz: float
    beta_gain: float
    muscle_uv: float  # RMS of scalp muscle in the EEG, eyes open
    aperiodic_shift: float  # added to every stage's 1/f exponent
    profile_db: tuple[float, ...]  # departure from the average spectrum at spectra.PROFILE_HZ
    # R at the left and the right mastoid, barely seen: 4 to 11 µV peak to peak about the R peaks in
    # six clean channels of a real night (the NOX recording).
    ecg_leak_uv: tuple[float, float]
    wake_power: float  # factor on the wake spectrum
    burstiness: float  # SD of the log amplitude's modulation within a second
    restlessness: float  # factor on movements
    spindles_per_minute: float  # of N2
    spindle_hz: float
    spindle_uv: float  # peak to peak
    k_complexes_per_minute: float  # of N2
    slow_wave_uv: float  # median peak to peak in N3, falls with age
    slow_wave_hz: float
    rem_density: float  # rapid eye movements per minute of REM sleep
    saccade_uv: float
    blinks_per_minute: float
    chin_uv: float  # RMS of quiet wake
    atonia: float  # REM tone / wake tone
    heart_rate: float  # bpm, NREM
    rsa_bpm: float  # half swing of respiratory sinus arrhythmia
    r_uv: float
    breathing_rate: float  # per minute
    inspiratory_share: float  # of the breathing cycle
    belt_balance: float  # thoracic share of the movement, lying on the back
    cardiogenic: float  # the heart's beat in belts and flow
    severity: str
    ahi: float  # intended, events per hour of sleep
    apnoea_share: float  # of respiratory events; the others are hypopnoeas
    central_share: float  # of apnoeas
    supine_factor: float
    rem_factor: float
    desaturation_rate: float  # % SpO2 per second without ventilation
    circulation_delay: float  # s, lung to finger
    snorer: bool
    reras_per_hour: float  # of sleep
    plm_index: float  # periodic limb movements per hour of sleep, intended
    plm_interval: float  # s
    limb_index: float  # isolated limb movements per hour of sleep
    spo2: int  # %, awake baseline
    latency_minutes: float
    awakenings_per_hour: float
    wake_stretch: float  # factor on the length of awakenings
    rem_share: float  # factor on REM sleep
    arousals_per_hour: float  # spontaneous
    n3_share: float  # of NREM in the first cycle
    cycle_minutes: float
    gain: dict[str, float]  # electrode and amplifier gain by channel label

    def as_dict(self) -> dict:
        return _rounded(asdict(self))


def _rounded(value):
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_rounded(item) for item in value]
    return round(value, 4) if isinstance(value, float) else value


def draw_individual(rng: np.random.Generator, people: tuple[str, ...] | None = None) -> Individual:
    """Draw a person of one of the kinds in `people`; None: of all kinds, in people.KINDS' shares.

    How slow waves and spindles change with age follows Purcell et al. 2017, Nat Commun 8:15930
    (unverified); the sizes are plausible round numbers, not fits.
    """
    names = list(people or KINDS)
    shares = np.array([KINDS[name].share for name in names])
    name = str(rng.choice(names, p=shares / shares.sum()))
    kind = KINDS[name]
    age = int(rng.integers(kind.ages[0], kind.ages[1] + 1))
    old = min((age - 20) / 60, 1.1)  # 0 at 20, 1 at 80
    sex = str(rng.choice(["F", "M"]))
    ahi = float(rng.uniform(*kind.ahi))
    burden = min(ahi / 60, 1.0)
    alpha = bool(rng.random() < 0.86)

    def spread(sd: float) -> float:
        return float(np.exp(sd * rng.standard_normal()))

    legs = bool(rng.random() < kind.restless_legs)
    snorer = bool(rng.random() < (0.3 if ahi < 5 else 0.85))
    gain = {label: spread(0.06) for label in EEG_LABELS}
    gain |= {label: spread(0.12) for label in EOG_LABELS}
    gain |= {"Chin": spread(0.2), "ECG": spread(0.2)}
    gain |= {"THX": spread(0.3), "ABD": spread(0.3), "AF": spread(0.3)}
    gain |= {"Snore": spread(0.3), "LEG-L": spread(0.25), "LEG-R": spread(0.25)}
    return Individual(
        kind=name,
        age=age,
        sex=sex,
        alpha_producer=alpha,
        alpha_hz=float(np.clip(rng.normal(10.1 - 1.0 * old, 0.7), 8.2, 12.0)),
        alpha_uv=(5.2 if alpha else 1.2) * spread(0.4),
        theta_hz=float(rng.uniform(5.2, 6.8)),
        beta_gain=spread(0.4) * (1.15 if sex == "F" else 0.9) * kind.beta,
        muscle_uv=2.6 * spread(0.6),
        aperiodic_shift=float(rng.normal(0, 0.10)),
        profile_db=tuple(float(x) for x in rng.normal(0, (0.8, 1.6, 2.2, 2.0, 2.4))),
        ecg_leak_uv=(-min(4 * spread(0.5), 8), min(4 * spread(0.5), 8)),
        wake_power=1.3 * spread(0.45),
        burstiness=float(rng.uniform(0.14, 0.38)),
        restlessness=1.3 * spread(0.7),
        spindles_per_minute=float(np.clip(rng.normal(5.0 - 2.4 * old, 0.9), 1.2, 7.5)),
        spindle_hz=float(np.clip(rng.normal(13.3, 0.5), 11.8, 14.8)),
        spindle_uv=(46 - 14 * old) * spread(0.18),
        k_complexes_per_minute=float(np.clip(rng.normal(1.6 - 0.5 * old, 0.4), 0.4, 3.0)),
        slow_wave_uv=float(np.clip((138 - 42 * old) * spread(0.12), 84, 190)),
        slow_wave_hz=float(rng.normal(0.95, 0.06)),
        rem_density=float(rng.uniform(8, 20)),
        saccade_uv=90 * spread(0.25),
        blinks_per_minute=float(rng.uniform(9, 22)),
        chin_uv=13 * spread(0.35),
        atonia=float(rng.uniform(0.13, 0.26)),
        heart_rate=float(np.clip(rng.normal(62 if sex == "F" else 59, 6), 46, 80)),
        rsa_bpm=float(max(0.6, (4.2 - 3.2 * old) * spread(0.3))),
        r_uv=1000 * spread(0.25),
        breathing_rate=float(np.clip(rng.normal(14.5 + old, 1.6), 10.5, 20)),
        inspiratory_share=float(rng.uniform(0.36, 0.45)),
        belt_balance=float(rng.uniform(0.35, 0.65)),
        cardiogenic=0.035 * spread(0.5),
        severity=severity(ahi),
        ahi=ahi,
        apnoea_share=float(np.clip(rng.normal(0.15 + 0.5 * burden, 0.1), 0.03, 0.9)),
        central_share=float(rng.beta(1.2, 9)),
        supine_factor=float(rng.uniform(1.3, 3.0)),
        rem_factor=float(rng.uniform(1.2, 2.4)),
        desaturation_rate=float(rng.uniform(0.24, 0.34) + 0.16 * burden),
        circulation_delay=float(rng.uniform(10, 20)),
        snorer=snorer,
        reras_per_hour=float(rng.gamma(2.0, 1.2 if snorer else 0.3)),
        plm_index=float(15 + rng.gamma(1.6, 15)) if legs else float(rng.gamma(0.7, 4 + 3 * old)),
        plm_interval=float(np.clip(rng.normal(28 - 8 * old, 4), 12, 45)),
        limb_index=float(rng.gamma(2.0, 1.5 + 1.5 * old)),
        spo2=int(np.clip(round(rng.normal(97.0 - 1.5 * old - 0.8 * burden, 0.8)), 92, 99)),
        latency_minutes=float(np.clip(rng.lognormal(np.log(kind.latency), 0.5), 4, 110)),
        awakenings_per_hour=float(1.2 + 1.8 * old + 1.5 * burden) * spread(0.25) * kind.wake,
        wake_stretch=kind.wake_stretch,
        rem_share=float(1 - 0.12 * old - 0.2 * burden),
        arousals_per_hour=float(7 + 7 * old) * spread(0.25),
        n3_share=float(
            np.clip(rng.normal((0.44 - 0.19 * old) * kind.n3, 0.06), 0.14, 0.60)
        ),
        cycle_minutes=float(np.clip(rng.normal(93, 7), 78, 110)),
        gain=gain,
    )
