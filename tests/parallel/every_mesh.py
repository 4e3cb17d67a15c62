"""Losses and gradients of one batch on many meshes, in micro-batches or whole. Run as a process
of its own with eight CPU devices (`JAX_NUM_CPU_DEVICES=8`); prints what it found as JSON.

    python -m tests.parallel.every_mesh "softmax:1,1/4,2x2" "masked:1,fsdp 4x2/2+tokens" ...

A layout is a mesh, after a slash the number of micro-batches, and whether tokens are split.
"""

import dataclasses
import json
import sys

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from sleeplm_jax.config import (
    DataConfig,
    EncoderConfig,
    MeshConfig,
    ModelConfig,
    ObjectiveConfig,
    OptimizerConfig,
    RunConfig,
    SignalSpec,
    TextConfig,
)
from sleeplm_jax.config.validation import validate
from sleeplm_jax.errors import ConfigError
from sleeplm_jax.parallel import rules
from sleeplm_jax.parallel.mesh import BATCH_AXES, make_mesh
from sleeplm_jax.training.step import Steps
from tests.models.drawn import drawn

ROWS = 16  # two for each of eight devices
VIT = EncoderConfig(width=16, depth=2, heads=2, patch_samples=32, caption_tokens=4)
DUAL = dataclasses.replace(
    VIT, kind="dual_axis", mlp="swiglu", mlp_bias=False, qkv_bias=False, stem_width=8,
    pool="cascade", depth=1,
)
MESHES = {  # replica, data, fsdp, tensor
    "1": (1, 1, 1, 1), "2x2": (1, 2, 2, 1), "4x2": (1, 4, 1, 2), "fsdp 4x2": (1, 1, 4, 2),
    "8x1": (1, 8, 1, 1), "2x2x2": (2, 2, 2, 1), "replicas 2x2": (2, 1, 2, 2),
}
# Together every objective in every form.
CASES = {
    "softmax": (VIT, ObjectiveConfig(position_classes=True)),
    "sigmoid": (VIT, ObjectiveConfig(
        contrastive=0.7, contrastive_form="sigmoid", equal_captions=False, reconstruction=0,
        label_smoothing=0.1, z_loss=1e-3, vocabulary_chunk=48)),
    "masked": (dataclasses.replace(DUAL, dropout=0.2), ObjectiveConfig(
        equal_captions=False, caption=0, reconstruction_form="masked", position_classes=True)),
    "sigmoid masked": (dataclasses.replace(VIT, dropout=0.1), ObjectiveConfig(
        contrastive_form="sigmoid", reconstruction_form="masked")),
    "caption": (VIT, ObjectiveConfig(contrastive=0, reconstruction=0, vocabulary_chunk=48)),
    "contrastive": (VIT, ObjectiveConfig(caption=0, reconstruction=0)),
    "reconstruction": (dataclasses.replace(VIT, dropout=0.1), ObjectiveConfig(
        contrastive=0, caption=0, position_classes=True)),
}


def config_of(case: str, layout: str = "1", **changes) -> RunConfig:
    encoder, objective = CASES[case]
    layout, _, tokens = layout.partition("+")
    mesh, _, pieces = layout.partition("/")
    return validate(RunConfig(
        model=ModelConfig(
            spec=SignalSpec(("ECG", "C3", "C4", "POS"), 16, 8), encoder=encoder,
            text=TextConfig(width=16, depth=1, decoder_depth=1, heads=2), embed_dim=8,
            reconstruction_width=8, vocab_size=128, split_tokens=tokens == "tokens",
        ),
        data=DataConfig(batch_size=ROWS, text_length=12), objective=objective,
        mesh=MeshConfig(*MESHES[mesh]), micro_batches=int(pieces or 1), **changes,
    ))


def batch_of(spec) -> dict[str, np.ndarray]:
    """With missing channels, texts of unlike lengths, equal captions, rows without any text."""
    rng = np.random.default_rng(0)
    batch = {
        "signal": rng.normal(size=(ROWS, *spec.shape)).astype(np.float32),
        "channel_mask": rng.random((ROWS, len(spec.channels))) < 0.7,
        "text": rng.integers(3, 99, (ROWS, 12)).astype(np.int32),
        "prefix": rng.integers(-1, 5, (ROWS, 2)).astype(np.int32),
        "keys": rng.integers(1, 3, (ROWS, 5)).astype(np.int32),
        "kinds": rng.random((ROWS, 5)) < 0.4,
    }
    batch["signal"][:, 3] = rng.integers(-1, 5, (ROWS, spec.samples))  # POS
    for row, length in enumerate(rng.integers(4, 13, ROWS)):
        batch["text"][row, length:] = 0
    batch["kinds"][3:5] = False
    return batch


def losses_and_gradients(case: str, layout: str):
    """Parts, gradients by path, and bytes of temporary memory, of the same parameters each time."""
    config = config_of(case, layout)
    count = int(np.prod(dataclasses.astuple(config.mesh)))
    mesh = make_mesh(config.mesh, jax.devices()[:count])
    with jax.set_mesh(mesh):
        losses = Steps(config, mesh).losses
        parameters = drawn(config)[1]
        if "logit_scale" in parameters:
            parameters["logit_scale"] = np.float32(2.0)
        parameters = jax.device_put(parameters, rules.shardings(parameters, mesh))
        batch = jax.device_put(
            batch_of(config.model.spec), NamedSharding(mesh, PartitionSpec(BATCH_AXES))
        )
        run = jax.jit(losses.gradients).lower(parameters, batch, jax.random.key(7)).compile()
        (loss, parts), gradients = jax.device_get(run(parameters, batch, jax.random.key(7)))
    flat = {rules.path_of(k): x for k, x in jax.tree_util.tree_leaves_with_path(gradients)}
    return {"loss": loss} | parts, flat, run.memory_analysis().temp_size_in_bytes


def differences(case: str, layouts: list[str]) -> dict:
    """Worst difference of the losses and of the gradients from the first layout's."""
    found, first = {}, None
    for layout in layouts:
        parts, gradients, memory = losses_and_gradients(case, layout)
        first = first or (parts, gradients)
        assert parts.keys() == first[0].keys() and gradients.keys() == first[1].keys()
        # Relative to each array's largest entry, or to a thousandth of the largest of all: some
        # have no slope but rounding (a key's bias under a softmax).
        floor = 1e-3 * max(abs(x).max() for x in first[1].values())
        worst = max(
            (float(abs(x - first[1][n]).max() / max(abs(first[1][n]).max(), floor)), n)
            for n, x in gradients.items()
        )
        found[layout] = {
            "losses": max(float(abs(x / first[0][n] - 1)) for n, x in parts.items()),
            "gradients": worst[0], "where": worst[1], "memory": memory,
            "parts": {n: float(x) for n, x in parts.items()},
        }
    return found


def placed_wrong() -> list[str]:
    """What is said of states with one array that is not split as it should be."""
    config = config_of("softmax", "2x2", optimizer=OptimizerConfig(ema=0.9))
    config = dataclasses.replace(config, mesh=MeshConfig(1, 1, 2, 2))
    mesh = make_mesh(config.mesh, jax.devices()[:4])
    whole = NamedSharding(mesh, PartitionSpec())
    said = []
    rules.LARGE = 256
    with jax.set_mesh(mesh):
        steps = Steps(config, mesh)
        state = jax.device_put(
            jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), steps.abstract), steps.shardings
        )
        paths = [rules.path_of(k) for k, _ in jax.tree_util.tree_leaves_with_path(state)]
        leaves, tree = jax.tree.flatten(state)
        name = "encoder/stack/blocks/mlp/up/kernel"
        wrong = [p for p in paths if p.endswith(name)]
        for path in [None, *wrong]:
            changed = [
                jax.device_put(np.zeros(x.shape, x.dtype), whole) if p == path else x
                for p, x in zip(paths, leaves)
            ]
            try:
                rules.check_split(jax.tree.unflatten(tree, changed), mesh)
                said.append("nothing")
            except ConfigError as error:
                said.append(str(error))
        kernel = state["parameters"]["encoder"]["stack"]["blocks"]["mlp"]["up"]["kernel"]
        assert kernel.addressable_shards[0].data.size * 4 == kernel.size
        lost = {"optimizer": {"novelty": jax.device_put(np.zeros((999,), np.float32), whole)}}
        try:
            rules.check_split(state | lost, mesh)
        except ConfigError as error:
            said.append(str(error))
    return said


if __name__ == "__main__":
    out = {"placed wrong": placed_wrong()}
    for argument in sys.argv[1:]:
        case, _, layouts = argument.partition(":")
        out[case] = differences(case, layouts.split(","))
    print(json.dumps(out))
