"""The dry run's arithmetic by hand: memory, links, remedies. Nothing is compiled."""

import dataclasses

import pytest

from sleeplm_jax.config import MeshConfig
from sleeplm_jax.errors import ConfigError
from sleeplm_jax.models.presets import preset
from sleeplm_jax.parallel.peaks import peak_flops
from sleeplm_jax.scaling.dryrun import plan
from sleeplm_jax.scaling.dryrun.hardware import DEVICES, LATENCY_S, nearly_square, topology
from sleeplm_jax.scaling.dryrun.memory import Memory, estimate, remedies
from sleeplm_jax.scaling.dryrun.roofline import Traffic, predict, seconds

BASE = preset("sleeplm-base")
GPUS, SLICE = topology("gpu:h100x64"), topology("v5p:4x4x4")


def batch(config, size):
    return dataclasses.replace(config, data=dataclasses.replace(config.data, batch_size=size))


def test_topologies_are_what_they_are_called():
    assert (GPUS.count, GPUS.host, GPUS.device.memory) == (64, 8, 80e9)
    assert (SLICE.count, SLICE.host, SLICE.shape) == (64, 64, (4, 4, 4))
    assert topology("cpu:8").device is None and topology(" V5E:4x4 ").count == 16
    assert GPUS.resized(1024).name == "gpu:h100x1024"
    assert SLICE.resized(1024).shape == (8, 8, 16) and SLICE.resized(8).shape == (2, 2, 2)
    assert nearly_square(512, 2) == (16, 32) and nearly_square(2, 3) == (1, 1, 2)
    for device in DEVICES.values():  # the peaks that MFU is made of, by the names JAX gives
        assert device.peak("bfloat16") == peak_flops(device.kind, "bfloat16") > 1e14


def test_a_sum_over_hosts_is_taken_within_each_host_first():
    row = Traffic("all-reduce", ("data",), (64, 8), False, 1, 1, 8e9)
    within, between = 2 * 7 / 8 * 8e9 / 450e9, 2 * 7 / 8 * 1e9 / 50e9
    assert seconds(row, GPUS) == pytest.approx(within + between + LATENCY_S)
    near = dataclasses.replace(row, members=(8, 8), kind="all-gather")
    assert seconds(near, GPUS) == pytest.approx(7 / 8 * 8e9 / 450e9 + LATENCY_S)
    on = dataclasses.replace(row, kind="collective-permute", starts=64)
    assert seconds(on, GPUS) == pytest.approx(8e9 / 50e9 + 64 * LATENCY_S)


def test_a_whole_slice_uses_all_its_axes():
    row = Traffic("all-reduce", ("data",), (64, 64), False, 1, 1, 6e9)
    # Three closed axes, both ways, 100 GB/s each.
    assert seconds(row, SLICE) == pytest.approx(2 * 63 / 64 * 6e9 / 600e9 + LATENCY_S)
    part = dataclasses.replace(row, members=(8, 8))
    assert seconds(part, SLICE) == pytest.approx(2 * 7 / 8 * 6e9 / 200e9 + LATENCY_S)
    # 2 x 2 x 4 is no whole cube: its axes are open.
    assert seconds(part, topology("v5p:2x2x4")) == pytest.approx(
        2 * 7 / 8 * 6e9 / 100e9 + LATENCY_S)


def test_each_product_is_bound_by_the_longer_of_compute_and_memory():
    device = GPUS.device
    busy = [int(2e15), 10, int(1e9), "bfloat16", False, 64]  # of all devices, one each
    idle = [10, 10, int(3e9), "float32", False, 64]
    one = predict([busy, idle], [], GPUS, devices=64, state_bytes=3.35e12, model_flops=2e15,
                  dtype="bfloat16")
    assert one.products_s == pytest.approx(2e15 / 989e12 + 3e9 / device.bandwidth)
    assert one.passes_s == pytest.approx(4e9 / device.bandwidth)
    assert one.update_s == pytest.approx(1.0) and one.collectives_s == 0
    slow = predict([busy, idle], [], GPUS, devices=64, state_bytes=3.35e12, model_flops=2e15,
                   dtype="bfloat16", slower=3.0)
    assert slow.own_s == pytest.approx(3 * one.own_s)
    assert one.mfu(one.step_s) == pytest.approx(2e15 / 989e12 / one.step_s)


ACCOUNT = {
    "parameters": 100, "optimizer": 200, "ema": 50, "batch": 7, "gathered": 0, "kept_whole": 30,
    "kept_split": 20, "layer": 4,
    "mesh": {"replica": 1, "data": 4, "fsdp": 1, "tensor": 2},
}


def test_memory_is_added_up():
    quiet = dataclasses.replace(
        BASE, objective=dataclasses.replace(BASE.objective, caption=0.0, reconstruction=1.0))
    found = estimate(batch(quiet, 32), ACCOUNT)
    # 8 rows a device; of what heads and hidden units keep, half.
    assert found == Memory(100, 200, 50, 100, 8 * 40, 21, 8 * 4)
    pieces = estimate(dataclasses.replace(batch(quiet, 32), micro_batches=4), ACCOUNT)
    assert pieces == Memory(100, 200, 50, 200, 2 * 40, 21, 2 * 4)
    spoken = estimate(batch(BASE, 32), ACCOUNT)
    assert spoken.temporary == 3 * 4 * 8 * 255 * 8192 / 2  # a chunk of the vocabulary


def test_remedies_come_in_their_order_with_their_flags():
    ways = [way.flags for way in remedies(batch(BASE, 256), 8)]
    assert ways[:2] == ["--model.remat dots", "--model.remat full"]
    assert ways[2:5] == ["--mesh.fsdp 2", "--mesh.fsdp 4", "--mesh.fsdp 8"]
    assert ways[5] == "--micro-batches 2" and "--model.remat full --mesh.fsdp 2" in ways
    assert ways[-1] == "--model.remat full --mesh.fsdp 8 --micro-batches 32"
    # A fixed data axis has to give way; what is there already is not offered.
    held = dataclasses.replace(
        BASE, mesh=MeshConfig(data=4, fsdp=2),
        model=dataclasses.replace(BASE.model, remat="full"))
    ways = [way.flags for way in remedies(batch(held, 8), 8)]
    assert ways == ["--mesh.fsdp 4 --mesh.data -1", "--mesh.fsdp 8 --mesh.data -1"]


def tried(monkeypatch, needs: dict[str, float], partitions: dict[int, float], needed=70e9):
    """check_fit's line where an estimate of `flags` needs so much, and a compiled fsdp so much."""
    config = batch(BASE, 256)
    flags = {way.config: way.flags for way in remedies(config, 64)}
    monkeypatch.setattr(plan, "accounts", lambda ways, _: [{"way": flags[w]} for w in ways])
    monkeypatch.setattr(plan, "estimate", lambda _, account: Memory(
        0, 0, 0, 0, needs.get(account["way"], 1e12), 0, 0))
    monkeypatch.setattr(plan, "ask", lambda config, _: {"compiled": {
        "platform": "cpu", "argument": 0, "output": 0, "alias": 0,
        "temp": partitions[config.mesh.fsdp]}})
    found = plan.DryRun(
        config, GPUS, {}, [], Memory(0, 0, 0, 0, needed, 0, 0), needed, {}, [], [], 1, 1, 1, None,
        [], [])
    with pytest.raises(ConfigError) as caught:
        plan.check_fit(found)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_does_not_fit_names_the_first_remedy_that_does(monkeypatch):
    needs = {"--model.remat full": 61e9, "--mesh.fsdp 4": 50e9, "--micro-batches 2": 40e9}
    line = tried(monkeypatch, needs, {4: 55e9})
    assert "needs 70.0 GB of a h100, which has 60.0 GB of its 80 GB to give" in line
    assert line.endswith("give --mesh.fsdp 4: 50.0 GB")
    # XLA splits otherwise than the estimate thinks: fsdp is not named.
    assert tried(monkeypatch, needs, {4: 90e9}).endswith("give --micro-batches 2: 40.0 GB")
    assert "no remat, fsdp or micro-batches help" in tried(monkeypatch, {}, {})


def test_what_fits_is_no_error():
    found = plan.DryRun(BASE, GPUS, {}, [], Memory(0, 0, 0, 0, 59e9, 0, 0), 59e9, {}, [], [], 1, 1,
                        1, None, [], [])
    plan.check_fit(found)
    plan.check_fit(dataclasses.replace(found, topology=topology("cpu:4"), needed=1e15))


def test_a_tpu_compilers_own_words_are_read():
    said = "Used 20.5G of 15.75G hbm. Exceeded hbm capacity by 4.75G."
    assert plan._said(said) == 20.5 * 2**30 and plan._said("no idea") == 0
