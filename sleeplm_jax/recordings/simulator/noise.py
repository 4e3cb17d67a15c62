"""Noise whose spectrum changes through the night, slow fluctuations, and placing waveforms."""

from __future__ import annotations

import numpy as np
from scipy import fft, signal

FRAME_SECONDS = 4.0


def fluctuation(
    rng: np.random.Generator, n: int, correlation: float, sd: float = 1.0
) -> np.ndarray:
    """Stationary first-order autoregressive noise: n values, `correlation` in samples, float64."""
    keep = np.exp(-1.0 / correlation)
    drive = rng.standard_normal(n) * np.sqrt(1 - keep**2)
    drive[:1] /= np.sqrt(1 - keep**2)
    return sd * signal.lfilter([1.0], [1.0, -keep], drive)


def smooth(values: np.ndarray, sd: float) -> np.ndarray:
    """Gaussian smoothing along the first axis, `sd` in samples, edges held."""
    from scipy.ndimage import gaussian_filter1d

    return gaussian_filter1d(values, sd, axis=0, mode="nearest")


def stretch(values: np.ndarray, rate_from: float, rate_to: float, n: int) -> np.ndarray:
    """Linear interpolation of a slow series (sample i at time i / rate_from) to n samples."""
    at = np.arange(n, dtype=np.float64) * (rate_from / rate_to)
    return np.interp(at, np.arange(len(values)), values).astype(np.float32)


class FrameNoise:
    """Gaussian noise by overlap-add of 4-s frames, each with its own power spectrum.

    Sine windows at half overlap have squares that sum to one, so the variance follows the spectra
    smoothly and a transition between two stages takes as long as the weights say.
    F frames, K bins.
    """

    def __init__(self, seconds: int, rate: int):
        self.rate, self.n = rate, int(seconds * rate)
        self.length = int(FRAME_SECONDS * rate)
        self.hop = self.length // 2
        self.frames = -(-self.n // self.hop) + 1
        self.times = (np.arange(self.frames) * self.hop) / rate  # centres, s
        self.frequencies = fft.rfftfreq(self.length, 1 / rate)
        self.window = np.sin(np.pi * (np.arange(self.length) + 0.5) / self.length)

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """White complex spectra [F, K] of unit power."""
        shape = (self.frames, len(self.frequencies))
        white = np.empty(shape, np.complex64)
        white.real = rng.standard_normal(shape, np.float32)
        white.imag = rng.standard_normal(shape, np.float32)
        return white

    def synthesise(self, white: np.ndarray, amplitude: np.ndarray) -> np.ndarray:
        """Signal float32 [n] from white spectra and amplitudes sqrt(one-sided PSD), both [F, K]."""
        spectrum = white * amplitude
        spectrum[:, 0] = 0
        blocks = fft.irfft(spectrum, self.length, axis=1)
        # E|X_k|^2 = 2 (unit real and imaginary parts); one-sided PSD P -> |X_k|^2 = P rate N / 2
        blocks *= (self.window * np.sqrt(self.rate * self.length / 4)).astype(np.float32)
        out = np.zeros((self.frames + 1, self.hop), np.float32)
        out[:-1] += blocks[:, : self.hop]
        out[1:] += blocks[:, self.hop :]
        start = self.hop  # frame 0 is centred on time 0
        return out.reshape(-1)[start : start + self.n]


def add_waves(out: np.ndarray, starts: np.ndarray, waves: np.ndarray) -> None:
    """Add waveforms float32 [events, samples] to `out` [n] at sample `starts`; edges are cut."""
    if len(starts) == 0:
        return
    index = np.asarray(starts, np.int64)[:, None] + np.arange(waves.shape[1])
    inside = (index >= 0) & (index < len(out))
    np.add.at(out, index[inside], waves[inside].astype(out.dtype, copy=False))
