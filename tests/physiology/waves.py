"""Waves drawn at known times into known noise, for the tests of detectors."""

import numpy as np

from sleeplm_jax.recordings.night import Trace

RATE = 128.0


def pink(seconds, sd=8.0, seed=0, rate=RATE):
    """EEG-like noise: amplitude falls with the root of the frequency from 0.5 Hz up, `sd` in µV."""
    rng = np.random.default_rng(seed)
    n = int(seconds * rate)
    spectrum = np.fft.rfft(rng.standard_normal(n))
    hertz = np.fft.rfftfreq(n, 1 / rate)
    spectrum *= np.where(hertz > 0.3, 1 / np.sqrt(np.maximum(hertz, 0.5)), 0)
    values = np.fft.irfft(spectrum, n)
    return sd * values / values.std()


def time(seconds, rate=RATE):
    return np.arange(int(seconds * rate)) / rate


def trace(values, rate=RATE, unit="µV"):
    return Trace(np.asarray(values, np.float32), rate, unit)


def k_complex(t, at, size=150.0):
    """Negative at `at` (s), positive 0.45 s later; `size` is peak to peak, 1.1 s in all."""
    down = np.exp(-0.5 * ((t - at) / 0.09) ** 2)
    up = np.exp(-0.5 * ((t - at - 0.45) / 0.17) ** 2)
    return size * (0.55 * -down + 0.45 * up)


def spindle(t, at, seconds=1.0, hertz=13.0, size=50.0):
    """`size` peak to peak at its middle, `at` (s); a cosine's half wave as envelope."""
    x = (t - at) / seconds
    envelope = np.where(np.abs(x) < 0.5, size / 2 * np.cos(np.pi * x), 0)
    return envelope * np.sin(2 * np.pi * hertz * t)


def heart(t, size=60.0):
    """An ECG's R and T waves at 70 beats a minute, as they leak into an EEG."""
    beat = t % (60 / 70)
    return size * (np.exp(-0.5 * ((beat - 0.2) / 0.012) ** 2)
                   + 0.25 * np.exp(-0.5 * ((beat - 0.45) / 0.05) ** 2))
