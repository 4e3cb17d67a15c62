"""One real step on the device at hand, beside what the dry run says of it.

The two factors that come out (what activations and temporary memory, and what time, really are of
the estimate) are what `--calibration` multiplies by. On a CPU the memory is the process' and the
roofline's two rates are measured first, since no maker states them.
"""

from __future__ import annotations

import ctypes
import dataclasses
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from sleeplm_jax.config import MeshConfig, RunConfig
from sleeplm_jax.errors import ConfigError
from sleeplm_jax.parallel.batches import BatchPlacer
from sleeplm_jax.parallel.mesh import make_mesh
from sleeplm_jax.scaling.dryrun import roofline
from sleeplm_jax.scaling.dryrun.asking import ask
from sleeplm_jax.scaling.dryrun.hardware import DEVICES, Device, Topology
from sleeplm_jax.scaling.dryrun.memory import estimate
from sleeplm_jax.training.step import Steps

STEPS = 5  # timed; the fastest counts, for other work on a machine only ever adds


def calibrate(config: RunConfig, steps: int = STEPS) -> dict:
    """Runs `steps` steps of random data on one device and returns what was measured, what was
    predicted, and the factors between them. `data.batch_size` is that device's.

    Raises ConfigError for a device whose peaks are not stated.
    """
    config = dataclasses.replace(config, mesh=MeshConfig(data=1))
    kind, platform = jax.devices()[0].device_kind, jax.default_backend()
    device = next((d for d in DEVICES.values() if kind.startswith(d.kind)), None)
    if device is None and platform == "cpu":
        device = _this_cpu()
    if device is None:
        raise ConfigError("--calibrate", f"no peaks are stated for a {kind!r}",
                          f"calibrate on one of {', '.join(DEVICES)}, or on a CPU")
    topology = Topology(f"{platform}:{device.name}x1", "gpu", 1, device)
    reply = ask(config, topology, compile_it=False)
    memory = estimate(config, reply["account"])
    # One batch is there: nothing is fed meanwhile.
    memory = dataclasses.replace(memory, batch=reply["account"]["batch"])
    told = roofline.predict(
        reply["products"], [], topology, devices=1, state_bytes=roofline.update_bytes(memory),
        model_flops=0.0, dtype=config.model.compute_dtype,
    )
    seconds, peak = _measured(config, steps)
    fixed = memory.total - memory.activations - memory.temporary
    return {
        "device": kind if platform != "cpu" else "cpu", "platform": platform,
        "jax": jax.__version__, "name": config.name, "batch_size": config.data.batch_size,
        "compute_dtype": config.model.compute_dtype, "remat": config.model.remat, "steps": steps,
        "peak_bytes": peak, "predicted_bytes": memory.total,
        "step_s": seconds, "predicted_s": told.own_s,
        "memory_factor": max(peak - fixed, 0.01 * peak) / (memory.activations + memory.temporary),
        "time_factor": seconds / told.own_s,
        "peak_flops": device.peak(config.model.compute_dtype), "bandwidth": device.bandwidth,
    }


def _measured(config: RunConfig, count: int) -> tuple[float, float]:
    """`(seconds of the fastest step, bytes at most)`."""
    device = jax.devices()[0]
    mesh = make_mesh(config.mesh, [device])
    with jax.set_mesh(mesh):
        steps = Steps(config, mesh)
        batch = BatchPlacer(mesh, config.data.batch_size).place(random_batch(config))
        # Compiled before anything is weighed: on a CPU the compiler's own memory is the process'.
        init = steps.init.compile()
        train = steps.train.compile(
            jax.tree.map(lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where),
                         steps.abstract, steps.shardings), batch,
        )
        _give_back()
        before = _resident()
        state, taken = init(), []
        for number in range(count + 1):  # the first warms up
            began = time.perf_counter()
            state, metrics = train(state, batch)
            jax.block_until_ready(metrics)
            taken.append(time.perf_counter() - began)
            if number == 0:
                _forget_most()
    stats = device.memory_stats()
    peak = stats["peak_bytes_in_use"] if stats else _most_resident() - before
    return min(taken[1:]), float(peak)


def random_batch(config: RunConfig) -> dict[str, np.ndarray]:
    """A batch as the loader's, of noise: every channel present, no two captions equal."""
    rng, size = np.random.default_rng(0), config.data.batch_size
    shape, length = config.model.spec.shape, config.data.text_length
    return {
        "signal": rng.normal(size=(size, *shape)).astype(np.float32),
        "channel_mask": np.ones((size, shape[0]), bool),
        "text": rng.integers(3, config.model.vocab_size, (size, length)).astype(np.int32),
        "prefix": np.tile(np.array([4, -1], np.int32), (size, 1)),
        "kinds": np.ones((size, 5), bool),
        "keys": np.arange(size * 5, dtype=np.int32).reshape(size, 5),
        "valid": np.ones(size, bool),
    }


def _this_cpu() -> Device:
    """Rates of this machine's cores together: a float32 product of 2048 x 2048 and the sum of two
    arrays of 256 MiB (two read, one written)."""
    a = jnp.ones((2048, 2048), jnp.float32)
    flops = 2 * 2048**3 / _fastest(jax.jit(jnp.matmul), a, a)
    x = jnp.ones(2**26, jnp.float32)
    bandwidth = 3 * x.nbytes / _fastest(jax.jit(jnp.add), x, x)
    return Device("cpu", "cpu", 0.0, bandwidth, flops, bandwidth)


def _fastest(function, *inputs) -> float:
    taken = []
    for _ in range(6):
        began = time.perf_counter()
        jax.block_until_ready(function(*inputs))
        taken.append(time.perf_counter() - began)
    return min(taken[1:])


def _resident() -> int:
    return _status("VmRSS")


def _most_resident() -> int:
    return _status("VmHWM")


def _give_back() -> None:
    """What the compiler has freed goes back to the system, where the C library is glibc; else it
    stays resident and the steps seem to need less."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _forget_most() -> None:
    """What was resident at most is counted anew from here (proc_pid_clear_refs(5))."""
    Path("/proc/self/clear_refs").write_text("5")


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {name}")
