"""Flatness of inspiration on drawn breaths whose mean over peak is known by integration."""

import numpy as np
import pytest

from sleeplm_jax.physiology.flow_shape import flow_flatness, inspirations
from tests.physiology.waves import time, trace

RATE = 32.0
NASAL = "nasal_pressure"


def breathing(shape, seconds=300, every=4.0, noise=0.0):
    """Flow of a breath every 4 s: 1.6 s in by `shape` of (0, 1), as long out, then a pause."""
    t = time(seconds, RATE)
    x = t % every
    inward = np.where(x < 1.6, shape(np.clip(x / 1.6, 0, 1)), 0)
    out = np.where((x > 1.7) & (x < 3.3), -0.9 * np.sin(np.pi * np.clip((x - 1.7) / 1.6, 0, 1)), 0)
    return inward + out + noise * np.random.default_rng(0).standard_normal(len(t))


def pressure(flow):
    return np.sign(flow) * flow**2


def half_sine(x):
    return np.sin(np.pi * x)


def flat(x):
    return np.clip(6 * np.minimum(x, 1 - x), 0, 1)  # up and down in a sixth, flat between


@pytest.mark.parametrize("shape", [half_sine, flat])
def test_flatness_is_mean_over_peak_above_the_foot(shape):
    x = shape(np.linspace(0, 1, 10_001))
    wanted = x[x >= 0.2].mean()
    found = flow_flatness(trace(pressure(breathing(shape)), RATE), NASAL, 10)
    # 4 Hz of smoothing rounds the edges of 0.27 s.
    np.testing.assert_allclose(found, wanted, atol=0.03)
    assert wanted == pytest.approx({half_sine: 0.7155, flat: 0.886}[shape], abs=0.001)


def test_scale_offset_and_noise_change_little():
    flow = breathing(half_sine, noise=0.02)
    plain = flow_flatness(trace(pressure(flow), RATE), NASAL, 10)
    moved = flow_flatness(trace(1e-3 * pressure(flow) + 5, RATE), NASAL, 10)
    np.testing.assert_allclose(plain, moved, atol=1e-3)
    np.testing.assert_allclose(plain, 0.72, atol=0.04)


def test_upside_down_flow_is_read_by_its_known_sign():
    values = pressure(breathing(flat))
    one = flow_flatness(trace(values, RATE), NASAL, 10)
    np.testing.assert_allclose(flow_flatness(trace(-values, RATE), NASAL, 10, up=False), one)


@pytest.mark.parametrize("transducer", ["thermal", "cpap_flow", "derived", "rip", None])
def test_any_other_sensor_has_no_shape(transducer):
    assert flow_flatness(trace(breathing(flat), RATE), transducer, 10) is None


def test_an_apnoea_has_no_shape_and_each_breath_a_time():
    values = breathing(half_sine, noise=0.002)
    t = time(300, RATE)
    values[(t > 60) & (t < 120)] *= 0.02
    found = flow_flatness(trace(pressure(values), RATE), NASAL, 10)
    assert np.isnan(found[2:4]).all() and np.isfinite(np.delete(found, [2, 3])).all()
    breaths = inspirations(trace(pressure(breathing(half_sine)), RATE), NASAL)
    assert len(breaths) == 75
    np.testing.assert_allclose(np.diff(breaths.onset), 4.0, atol=0.05)
    np.testing.assert_allclose(np.median(breaths.duration), 1.6, atol=0.1)


def test_slow_and_flat_traces():
    assert flow_flatness(trace(np.zeros(600), 4.0), NASAL, 1) is None
    assert np.isnan(flow_flatness(trace(np.zeros(9600), RATE), NASAL, 10)).all()
