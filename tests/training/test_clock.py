"""Rates, tokens, waiting and MFU from a clock that the test holds."""

import dataclasses
import threading
import time

import numpy as np
import pytest

from sleeplm_jax.models.flops import forward
from sleeplm_jax.parallel.peaks import peak_flops
from sleeplm_jax.training import clock as clocks
from sleeplm_jax.training.clock import RATES, Clock, duration
from tests.models.test_recoca import SMALL

CONFIG = dataclasses.replace(SMALL, steps=100, data=dataclasses.replace(SMALL.data, batch_size=4))


class Hand:
    """A clock's hands."""

    def __init__(self):
        self.time = 100.0

    def __call__(self):
        return self.time


class Result:
    """A device's answer, there when the test says so."""

    def __init__(self):
        self.done = threading.Event()

    def block_until_ready(self):
        self.done.wait()
        return self


def finish(clock, result):
    result.done.set()
    deadline = time.monotonic() + 5
    while clock._watch.idle_since() is None and time.monotonic() < deadline:
        time.sleep(0.001)


def texts(*lengths, width=10):
    rows = np.zeros((len(lengths), width), np.int32)
    for row, length in enumerate(lengths):
        rows[row, :length] = 7
    return {"text": rows}


@pytest.fixture
def hand():
    return Hand()


@pytest.fixture
def clock(hand):
    made = Clock(0, CONFIG, hand)
    yield made
    made.close()


def test_rates_are_of_the_time_between_reports_without_its_pauses(clock, hand):
    clock.begin(0)
    hand.time += 8.0
    with clock.paused():
        hand.time += 100.0
    values = clock.rates(10)
    assert values["samples_per_s"] == pytest.approx(10 * 4 / 8)
    assert values["step_s"] == pytest.approx(0.8)
    spec, encoder = CONFIG.model.spec, CONFIG.model.encoder
    patches = len(spec.channels) * spec.samples // (encoder.patch_channels * encoder.patch_samples)
    assert values["patches_per_s"] == pytest.approx(5 * patches)
    assert values["sleep_hours_per_s"] == pytest.approx(5 * spec.seconds / 3600)
    assert set(values) <= set(RATES) and "mfu" not in values
    hand.time += 2.0
    assert clock.rates(11)["samples_per_s"] == pytest.approx(2.0)


def test_tokens_are_those_of_the_steps_reported_and_padding_is_none(clock, hand):
    """Batches are made ahead, and a step is under way when the one before is reported."""
    clock.begin(0)
    made = list(clock.counted(iter([texts(3, 5, 2, 2), texts(1, 1, 1, 1), texts(9, 9, 9, 9)]), 0))
    results = [Result(), Result(), Result()]
    assert len(made) == 3
    for step in (1, 2):
        clock.dispatched(step, results[step - 1])
    hand.time += 2.0
    results[0].done.set()
    assert clock.rates(1)["tokens_per_s"] == pytest.approx(12 / 2)
    clock.dispatched(3, results[2])
    hand.time += 2.0
    results[1].done.set()
    results[2].done.set()
    assert clock.rates(3)["tokens_per_s"] == pytest.approx((4 + 36) / 2)


def test_speed_is_the_devices_however_late_and_close_rows_are_read(clock, hand):
    """Four steps of 2 s; the host reads of the third and the fourth in one go, 50 s later."""
    clock.begin(0)
    speeds = []
    for step in (1, 2, 3, 4):
        result = Result()
        clock.dispatched(step, result)
        hand.time += 2.0
        finish(clock, result)
        if step < 3:
            speeds.append(clock.rates(step)["samples_per_s"])
    hand.time += 50.0
    speeds += [clock.rates(step)["samples_per_s"] for step in (3, 4)]
    assert speeds == pytest.approx([2.0] * 4)


def test_steps_that_are_noticed_together_are_not_infinitely_fast(clock, hand):
    """A step takes 0.1 s; the thread that waits for them is late for every other one."""
    clock.begin(0)
    speeds = []
    for step in range(1, 41):
        result = Result()
        clock.dispatched(step, result)
        hand.time += 0.19 if step % 2 else 0.01
        finish(clock, result)
        speeds.append(clock.rates(step)["samples_per_s"])
    np.testing.assert_allclose(speeds[10:], 40.0, rtol=0.1)  # batches of four


def test_of_several_processes_the_rows_of_one_stand_for_all(clock, hand):
    clock.begin(0)
    list(clock.counted(iter([texts(3, 5)]), 0))  # two of the four rows
    result = Result()
    clock.dispatched(1, result)
    hand.time += 1.0
    result.done.set()
    assert clock.rates(1)["tokens_per_s"] == pytest.approx(16)


def test_waiting_counts_only_while_the_device_has_nothing_to_do(clock, hand):
    clock.begin(0)
    first, second = Result(), Result()
    clock.dispatched(1, first)
    with clock.waiting():  # the device computes all the while
        hand.time += 3.0
    assert clock._wait == 0.0
    with clock.waiting():
        hand.time += 1.0
        finish(clock, first)  # 1 s into it, and 4 s before its end
        hand.time += 4.0
    assert clock._wait == pytest.approx(4.0)
    clock.dispatched(2, second)
    hand.time += 2.0
    second.done.set()
    assert clock.rates(2)["data_wait"] == pytest.approx(4.0 / 10.0)


def test_mfu_is_the_models_work_over_the_devices_peak(monkeypatch, hand):
    monkeypatch.setattr(clocks, "peak_flops", lambda kind, dtype: 1e9)
    full = dataclasses.replace(CONFIG, model=dataclasses.replace(CONFIG.model, remat="full"))
    work = sum(part.total for part in forward(CONFIG).values())
    again = sum(p.total for name, p in forward(CONFIG).items() if name.endswith("stack"))
    devices = clocks.jax.device_count()
    for config, computed in ((CONFIG, 3 * work), (full, 3 * work + again)):
        clock = Clock(0, config, hand)
        hand.time += 1.0
        values = clock.rates(2)  # 8 samples a second
        assert values["mfu"] == pytest.approx(8 * 3 * work / 1e9 / devices)
        used = values.get("hardware_use", values["mfu"])
        assert used == pytest.approx(8 * computed / 1e9 / devices)
        clock.close()


def test_where_no_peak_is_known_it_says_so(clock):
    assert clock.peak is None and "'cpu'" in clock.no_peak and "float32" in clock.no_peak


@pytest.mark.parametrize(
    ("device", "flops"),
    [("NVIDIA H100 80GB HBM3", 989e12), ("NVIDIA H100 NVL", 835e12), ("TPU v5 lite", 197e12),
     ("TPU v5", 459e12), ("TPU v6 lite", 918e12), ("NVIDIA A100-SXM4-40GB", 312e12), ("cpu", None),
     ("TPU v4 lite", None)],
)
def test_peaks_are_found_by_what_jax_calls_the_device(device, flops):
    assert peak_flops(device, "bfloat16") == flops
    assert peak_flops(device, "float32") is None


def test_the_time_left_counts_what_evaluations_took(clock, hand):
    clock.begin(0)
    hand.time += 10.0
    with clock.paused():
        hand.time += 10.0
    assert clock.left(20) == pytest.approx(80.0)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(5, "0m05s"), (605, "10m05s"), (7500, "2h05m"), (200_000, "2d07h"), (float("inf"), "?")],
)
def test_durations_in_words(seconds, words):
    assert duration(seconds) == words


def test_patches_of_several_channels_are_counted_once(hand):
    encoder = dataclasses.replace(CONFIG.model.encoder, patch_channels=2)
    config = dataclasses.replace(CONFIG, model=dataclasses.replace(CONFIG.model, encoder=encoder))
    one, two = Clock(0, CONFIG, hand), Clock(0, config, hand)
    assert two.patches * 2 == one.patches
    one.close()
    two.close()
