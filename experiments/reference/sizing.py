"""What a training costs, by count: FLOPs and memory from the config, time from a stated MFU."""

from __future__ import annotations

from pathlib import Path

from sleeplm_jax.config import RunConfig


def size(config: RunConfig, peak: float, mfu: float) -> dict[str, float]:
    """{"parameters", "samples", "gflop_a_sample" (forward and backward), "pflop" in all, "seconds"
    at `mfu` of `peak` FLOP/s, "gib" of parameters, gradients, two moments and activations}.

    Leaves out what rematerialisation computes again and XLA's scratch space.
    """
    from sleeplm_jax.models.flops import forward
    from sleeplm_jax.models.summary import activation_bytes, parameters_of

    samples = config.steps * config.data.batch_size
    each = 3 * sum(work.total for work in forward(config).values())
    parameters = parameters_of(config)
    memory = 16 * parameters + config.data.batch_size * activation_bytes(config)
    return {
        "parameters": parameters, "samples": samples, "gflop_a_sample": each / 1e9,
        "pflop": each * samples / 1e15, "seconds": each * samples / (peak * mfu),
        "gib": memory / 2**30,
    }


def say(experiment: Path, vocabulary: int, peak: float, mfu: float) -> None:
    """Prints `size` of an experiment at a vocabulary."""
    from sleeplm_jax.config.files import load_experiment
    from sleeplm_jax.models.build import with_vocabulary

    found = size(with_vocabulary(load_experiment(experiment), vocabulary), peak, mfu)
    print(f"{found['parameters']:,.0f} parameters, {found['samples']:,.0f} samples of "
          f"{found['gflop_a_sample']:.2f} GFLOP, {1e3 * found['pflop']:,.0f} TFLOP in all: "
          f"{found['seconds']:.0f} s at {mfu:.0%} of {peak / 1e9:,.0f} GFLOP/s; "
          f"{found['gib']:.1f} GiB")
