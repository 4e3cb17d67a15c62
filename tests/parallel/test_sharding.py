"""Rules cover every parameter, and results do not depend on the mesh."""

import dataclasses
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import AbstractMesh, NamedSharding

from sleeplm_jax.config import MeshConfig, RunConfig
from sleeplm_jax.errors import ConfigError
from sleeplm_jax.models.build import create, with_vocabulary
from sleeplm_jax.models.presets import preset
from sleeplm_jax.parallel.mesh import AXES, arranged, make_mesh, mesh_shape
from sleeplm_jax.parallel.rules import LARGE, path_of, shardings, spec_for
from tests.parallel.every_mesh import CASES, MESHES

DEFAULT = with_vocabulary(RunConfig(), 2048)


def test_mesh_axes_fill_and_must_multiply():
    assert mesh_shape(MeshConfig(), 8) == (1, 8, 1, 1)
    assert mesh_shape(MeshConfig(data=-1, fsdp=2, tensor=2), 8) == (1, 2, 2, 2)
    with pytest.raises(ConfigError, match="do not multiply to 8 devices"):
        mesh_shape(MeshConfig(data=3), 8)
    with pytest.raises(ConfigError, match="at most one -1"):
        mesh_shape(MeshConfig(data=-1, fsdp=-1), 8)


def test_every_parameter_has_a_rule():
    tree = jax.eval_shape(lambda: create(DEFAULT)[1])
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    found = jax.tree.leaves(shardings(tree, mesh))
    assert len(found) == len(jax.tree.leaves(tree)) > 100


def test_a_parameter_without_a_rule_is_an_error():
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    with pytest.raises(ValueError, match="no sharding rule covers encoder/novelty"):
        spec_for("encoder/novelty", (3, 3), mesh)


def test_a_width_that_the_mesh_does_not_divide_is_named():
    tree = jax.eval_shape(lambda: create(DEFAULT)[1])
    with pytest.raises(ConfigError) as error:
        shardings(tree, AbstractMesh((1, 1, 5, 1), AXES))
    assert str(error.value) == (
        "decoder/logits/kernel: dimension 0 of (384, 2048) does not divide over mesh.fsdp 5; "
        "choose a width that is a multiple of 5, or a mesh that divides 384"
    )
    with pytest.raises(ConfigError, match="mesh.fsdp 4 and mesh.tensor 32;.* multiple of 128"):
        spec_for("reconstruction/to_signal/bias", (64,), AbstractMesh((1, 1, 4, 32), AXES))


@pytest.mark.parametrize("name", ["sleeplm-base", "sensorlm-siglip-b", "sleeplm-1b"])
def test_a_preset_is_split_as_its_golden_dump_says(name):
    """`UPDATE_GOLDEN=1 pytest tests/parallel/test_sharding.py` rewrites the dumps."""
    config = preset(name)
    config = with_vocabulary(config, config.model.vocab_size or 2048)
    tree = jax.eval_shape(lambda: create(config)[1])
    mesh = AbstractMesh((1, 1, 4, 2), AXES)
    lines, whole, own = [], 0, 0
    for key_path, x in jax.tree_util.tree_leaves_with_path(tree):
        spec = spec_for(path_of(key_path), x.shape, mesh)
        share = math.prod(NamedSharding(mesh, spec).shard_shape(x.shape))
        whole, own = whole + x.size, own + share
        lines.append(f"{path_of(key_path)} {x.shape}: {tuple(spec)}")
        # What the start of a run refuses, so no preset may hold it.
        assert x.size < LARGE or any(spec), lines[-1]
    lines.append(f"a device of fsdp 4, tensor 2 holds {own:,} of {whole:,}")
    golden = Path(__file__).parents[1] / "golden" / f"shardings-{name}.txt"
    text = "\n".join(lines) + "\n"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(text)
    assert golden.read_text() == text
    assert own < 1.05 * whole / 8  # of eight devices nearly an eighth


@dataclasses.dataclass(frozen=True)
class Device:
    """As much of a device as the arrangement looks at."""

    id: int
    process_index: int
    slice_index: int = 0
    platform: str = "gpu"
    device_kind: str = "imagined"


def groups(mesh, name):
    return np.vectorize(lambda d: getattr(d, name))(mesh)


def test_only_the_replica_axis_crosses_the_slow_network():
    # Two hosts of four devices, one process a device, numbered host by host in turn.
    devices = [Device(i, i, slice_index=i % 2) for i in range(8)]
    mesh = groups(arranged((2, 1, 2, 2), devices), "slice_index")
    assert mesh.shape == (2, 1, 2, 2) and (mesh[0] == 0).all() and (mesh[1] == 1).all()
    # Four replicas: two within each host.
    mesh = groups(arranged((4, 1, 2, 1), devices), "slice_index")
    assert [set(row.flat) for row in mesh] == [{0}, {0}, {1}, {1}]
    # Without replicas the outermost axis that is there crosses; `jax.make_mesh` would refuse.
    mesh = groups(arranged((1, 4, 1, 2), devices), "slice_index")
    assert (mesh[0, :2] == 0).all() and (mesh[0, 2:] == 1).all()
    # Four hosts, two a replica: replicas share no host, and the tensor axis crosses none.
    devices = [Device(i, i, slice_index=i // 2) for i in range(8)]
    mesh = groups(arranged((2, 2, 1, 2), devices), "slice_index")[:, :, 0]
    assert [set(row.flat) for row in mesh] == [{0, 1}, {2, 3}]
    assert (mesh[..., 0] == mesh[..., 1]).all()
    assert len(set(arranged((2, 2, 1, 2), devices).flat)) == 8


def test_processes_stand_for_hosts_where_devices_name_no_slices():
    devices = [Device(i, i % 2, platform="cpu") for i in range(4)]
    mesh = groups(arranged((2, 1, 2, 1), devices), "process_index")
    assert (mesh[0] == 0).all() and (mesh[1] == 1).all()
    # Without replicas devices stay in their order.
    assert [d.id for d in arranged((1, 4, 1, 1), devices).flat] == [0, 1, 2, 3]


def test_replicas_that_would_be_torn_are_refused():
    devices = [Device(i, i // 2, slice_index=i // 2) for i in range(12)]
    with pytest.raises(ConfigError, match="4 replicas do not divide over 6 slices; use 6"):
        arranged((4, 3, 1, 1), devices)
    with pytest.raises(ConfigError, match="slices have 1, 2, 2, 2, 2, 2 devices"):
        arranged((11, 1, 1, 1), devices[:-1])


# ---- Equality on every mesh


# Losses are equal to 1e-6, gradients to 1e-4 of each array's largest entry (or of a thousandth of
# all gradients' largest: some have no slope but rounding). Sums run in another order; measured
# 4e-7 and 5e-5, the latter in a key's bias, which a softmax has no slope by.
LOSSES, GRADIENTS = 1e-6, 1e-4
EVERY = "1,1/4,2x2/2,4x2,fsdp 4x2/2+tokens,8x1,2x2x2/2,replicas 2x2"


def found_by(arguments: list[str]) -> dict:
    """What `every_mesh` prints, in a process of its own (JAX fixes the count of devices when it
    starts)."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.parallel.every_mesh", *arguments], capture_output=True,
        text=True, timeout=1800, cwd=Path(__file__).parents[2],
        env=os.environ | {
            "JAX_NUM_CPU_DEVICES": "8", "JAX_PLATFORMS": "cpu",
            # Compiling is all of the time. Eight devices of one process lock one another out where
            # XLA's CPU backend orders independent collectives for concurrency (jaxlib 0.10: one
            # device waited in a pair's sum, the other seven in all devices').
            "XLA_FLAGS": "--xla_backend_optimization_level=0 "
                         "--xla_llvm_disable_expensive_passes=true "
                         "--xla_cpu_enable_concurrency_optimized_scheduler=false "
                         "--xla_cpu_collective_call_terminate_timeout_seconds=300",
        },
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def found():
    return found_by(
        ["softmax:1,1/4,8x1", "sigmoid masked:1,replicas 2x2/2+tokens", "masked:1,4x2"]
    )


def check_equal(found: dict) -> None:
    for case, layouts in found.items():
        for layout, difference in layouts.items():
            where = f"{case} on {layout}: {difference}"
            assert difference["losses"] < LOSSES and difference["gradients"] < GRADIENTS, where
        assert set(difference["parts"]) > {"loss"}, where


def test_losses_and_gradients_are_equal_on_every_mesh_and_in_micro_batches(found):
    check_equal({case: layouts for case, layouts in found.items() if case in CASES})


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_every_objective_is_equal_on_every_mesh(case):
    found = found_by([f"{case}:{EVERY}"])
    assert {layout.partition("/")[0] for layout in found[case]} == set(MESHES)
    check_equal({case: found[case]})


def test_micro_batches_need_less_memory(found):
    memory = {layout: found["softmax"][layout]["memory"] for layout in ("1", "1/4")}
    assert memory["1/4"] < 0.5 * memory["1"]


def test_an_array_that_is_not_split_as_it_should_be_is_named(found):
    right, *wrong, lost = found["placed wrong"]
    assert right == "nothing"
    name = "encoder/stack/blocks/mlp/up/kernel"
    for said, where in zip(
        wrong, ("ema", "optimizer/1/mu", "optimizer/1/nu", "parameters"), strict=True
    ):
        assert said.startswith(
            f"{where}/{name}: (2, 16, 64) should be split over fsdp and tensor, and a device "
            "holds (2, 16, 64) of it"
        )
    assert lost.startswith("optimizer/novelty: (999,) is whole on every device")
