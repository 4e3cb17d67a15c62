"""Memory of a training step's gradients in micro-batches, from the compiled program; nothing runs.

    python experiments/benchmarks/micro_batches.py [--preset sleeplm-30m] [--batch 256]

With `--tokens N` the encoder's own memory for a window of N tokens on four CPU devices (mesh
`data 2, tensor 2`), its tokens split between blocks or not.
"""

import argparse
import dataclasses
import os

MIB = 2**20


def micro_batches(name: str, batch: int) -> None:
    import jax
    import jax.numpy as jnp

    from sleeplm_jax.config import CAPTION_KINDS, PREFIX_LENGTH, MeshConfig
    from sleeplm_jax.models.build import create, with_vocabulary
    from sleeplm_jax.models.presets import preset
    from sleeplm_jax.parallel.mesh import make_mesh
    from sleeplm_jax.training.gradients import Losses

    config = preset(name)
    config = with_vocabulary(config, config.model.vocab_size or 2048)
    spec, mesh = config.model.spec, make_mesh(MeshConfig(), jax.devices()[:1])

    def rows(dtype, *shape):
        return jax.ShapeDtypeStruct((batch, *shape), dtype)

    example = {
        "signal": rows(jnp.float32, *spec.shape), "channel_mask": rows(bool, len(spec.channels)),
        "text": rows(jnp.int32, config.data.text_length), "prefix": rows(jnp.int32, PREFIX_LENGTH),
        "keys": rows(jnp.int32, len(CAPTION_KINDS)), "kinds": rows(bool, len(CAPTION_KINDS)),
    }
    parameters = jax.eval_shape(lambda: create(config)[1])
    size = sum(x.size for x in jax.tree.leaves(parameters))
    print(f"{name}: {size:,} parameters, {4 * size / MIB:,.0f} MiB of gradients, batch {batch}")
    data = dataclasses.replace(config.data, batch_size=batch)
    for pieces in (1, 4, 16):
        losses = Losses(dataclasses.replace(config, data=data, micro_batches=pieces), mesh)
        with jax.set_mesh(mesh):
            compiled = jax.jit(losses.gradients).lower(
                parameters, example, jax.eval_shape(lambda: jax.random.key(0))
            ).compile()
        held = compiled.memory_analysis().temp_size_in_bytes
        print(f"  {pieces:>2} micro-batches: {held / MIB:,.0f} MiB temporary")


def tokens(count: int) -> None:
    import jax
    import jax.numpy as jnp
    from flax import nnx
    from jax.sharding import NamedSharding, PartitionSpec

    from sleeplm_jax.config import MeshConfig
    from sleeplm_jax.models.layers import Block, Stack
    from sleeplm_jax.parallel.mesh import BATCH_AXES, make_mesh
    from sleeplm_jax.parallel.rules import shardings

    width, depth = 384, 12
    mesh = make_mesh(MeshConfig(data=2, tensor=2), jax.devices()[:4])
    print(f"{depth} blocks of width {width}, remat full, {count:,} tokens, a sample a device")
    for split in (False, True):

        def make(split=split):
            def block(rngs):
                return Block(width, 6, 4.0, dtype=jnp.float32, rngs=rngs)

            return Stack(block, depth, remat="full", split=split, rngs=nnx.Rngs(0))

        with jax.set_mesh(mesh):
            graph, parameters = nnx.split(nnx.eval_shape(make), nnx.Param)
            parameters = {"encoder": {"stack": nnx.to_pure_dict(parameters)}}
            parameters = jax.tree.map(
                lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), parameters,
                shardings(parameters, mesh),
            )
            x = jax.ShapeDtypeStruct(
                (2, count, width), jnp.float32,
                sharding=NamedSharding(mesh, PartitionSpec(BATCH_AXES)),
            )

            def loss(parameters, x, graph=graph):
                return jnp.square(nnx.merge(graph, parameters["encoder"]["stack"])(x)).sum()

            compiled = jax.jit(jax.grad(loss)).lower(parameters, x).compile()
        held = compiled.memory_analysis().temp_size_in_bytes
        print(f"  tokens {'split' if split else 'whole'}: {held / MIB:,.0f} MiB temporary a device")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="sleeplm-30m")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=0)
    given = parser.parse_args()
    os.environ |= {"JAX_NUM_CPU_DEVICES": "4", "JAX_PLATFORMS": "cpu"}
    tokens(given.tokens) if given.tokens else micro_batches(given.preset, given.batch)
