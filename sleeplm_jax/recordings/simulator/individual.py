"""Who sleeps: the traits that differ between simulated people and stay fixed through a night."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

EEG_LABELS = ("C3-M2", "C4-M1")
EOG_LABELS = ("E1-M2", "E2-M1")
SEVERITIES = ("none", "mild", "moderate", "severe")  # AHI < 5, 5-15, 15-30, >= 30 per hour


@dataclass(frozen=True)
class Individual:
    """A simulated sleeper. Amplitudes in µV before `gain`, rates per hour unless named."""

    age: int
    sex: str  # "F" or "M"
    alpha_producer: bool  # some 10-15 % of adults make little or no alpha when the eyes close
    alpha_hz: float
    alpha_uv: float  # RMS over the central derivations with the eyes closed
    theta_hz: float
    beta_gain: float
    muscle_in_eeg: float  # flat part of the wake spectrum, µV²/Hz
    aperiodic_shift: float  # added to every stage's 1/f exponent
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
    spo2: int  # %, awake baseline
    latency_minutes: float
    awakenings_per_hour: float
    arousals_per_hour: float  # spontaneous
    n3_share: float  # of NREM in the first cycle
    cycle_minutes: float
    gain: dict[str, float]  # electrode and amplifier gain by channel label

    def as_dict(self) -> dict:
        return {
            key: round(value, 4) if isinstance(value, float) else value
            for key, value in asdict(self).items()
        } | {"gain": {label: round(value, 4) for label, value in self.gain.items()}}


def draw_individual(rng: np.random.Generator) -> Individual:
    """Draw a person.

    The directions with age (slow waves, spindles, N3 and sleep continuity falling, awakenings
    rising) follow Ohayon et al. 2004, Sleep 27:1255-73, and Purcell et al. 2017, Nat Commun
    8:15930; the sizes are plausible round numbers, not fits.
    """
    age = int(rng.integers(20, 81))
    old = (age - 20) / 60  # 0 at 20, 1 at 80
    sex = str(rng.choice(["F", "M"]))
    severity = str(rng.choice(SEVERITIES, p=[0.42, 0.25, 0.19, 0.14]))
    ahi = {
        "none": rng.uniform(0.3, 4.5),
        "mild": rng.uniform(6, 14),
        "moderate": rng.uniform(16, 28),
        "severe": rng.uniform(32, 65),
    }[severity]
    burden = min(ahi / 60, 1.0)
    alpha = bool(rng.random() < 0.86)

    def spread(sd: float) -> float:
        return float(np.exp(sd * rng.standard_normal()))

    gain = {label: spread(0.06) for label in EEG_LABELS}
    gain |= {label: spread(0.12) for label in EOG_LABELS}
    gain |= {"Chin": spread(0.2), "ECG": spread(0.2)}
    gain |= {"THX": spread(0.3), "ABD": spread(0.3), "AF": spread(0.3)}
    return Individual(
        age=age,
        sex=sex,
        alpha_producer=alpha,
        alpha_hz=float(np.clip(rng.normal(10.2 - 1.0 * old, 0.6), 8.3, 12.0)),
        alpha_uv=(6.8 if alpha else 1.2) * spread(0.28),
        theta_hz=float(rng.uniform(5.2, 6.8)),
        beta_gain=spread(0.3) * (1.15 if sex == "F" else 0.9),
        muscle_in_eeg=0.05 * spread(0.6),
        aperiodic_shift=float(rng.normal(0, 0.08)),
        spindles_per_minute=float(np.clip(rng.normal(5.0 - 2.4 * old, 0.9), 1.2, 7.5)),
        spindle_hz=float(np.clip(rng.normal(13.3, 0.5), 11.8, 14.8)),
        spindle_uv=(42 - 14 * old) * spread(0.18),
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
        severity=severity,
        ahi=float(ahi),
        apnoea_share=float(np.clip(rng.normal(0.15 + 0.5 * burden, 0.1), 0.03, 0.9)),
        central_share=float(rng.beta(1.2, 9)),
        supine_factor=float(rng.uniform(1.3, 3.0)),
        rem_factor=float(rng.uniform(1.2, 2.4)),
        desaturation_rate=float(rng.uniform(0.18, 0.26) + 0.16 * burden),
        circulation_delay=float(rng.uniform(10, 20)),
        snorer=bool(rng.random() < (0.3 if severity == "none" else 0.85)),
        spo2=int(np.clip(round(rng.normal(97.0 - 1.5 * old - 0.8 * burden, 0.8)), 92, 99)),
        latency_minutes=float(np.clip(rng.lognormal(np.log(13), 0.5), 4, 45)),
        awakenings_per_hour=float(1.2 + 1.8 * old + 1.5 * burden) * spread(0.25),
        arousals_per_hour=float(7 + 7 * old) * spread(0.25),
        n3_share=float(np.clip(rng.normal(0.50 - 0.22 * old - 0.14 * burden, 0.06), 0.16, 0.62)),
        cycle_minutes=float(np.clip(rng.normal(93, 7), 78, 110)),
        gain=gain,
    )
