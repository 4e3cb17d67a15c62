"""The fused attention kernel of this GPU: whether it agrees with the reference, and how fast it is.

    python experiments/benchmarks/attention_gpu.py [--json FILE]      # under a minute; needs a GPU

First the capability test that every run makes (models/attention_kernels.py: value and gradients on
a small call), in its own words. Then forward and backward in bfloat16 for the masks that the models
use: milliseconds of each of our kernels and of PyTorch's scaled_dot_product_attention with the same
mask, and the largest difference of our kernels' value to the reference's.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import model_sides as sides  # noqa: E402

HEADS, WIDTH = 12, 64
# name: samples, tokens, causal, prefix, share of keys present
CASES = {
    "text tower, 256": (64, 256, True, 0, 0.6),
    "decoder, 258": (64, 258, True, 2, 1.0),
    "20 minutes, 4,096": (4, 4096, False, 0, 0.8),
}
TIMES = 20


def timed(run) -> float:
    """Milliseconds of a call that waits for the device."""
    run()
    began = time.perf_counter()
    for _ in range(TIMES):
        out = run(wait=False)
    run(out)
    return (time.perf_counter() - began) / TIMES * 1e3


def ours(kernel: str, case: tuple):
    """(ms, value) of one of our kernels, forward and backward."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from sleeplm_jax.models.attention import attend
    from sleeplm_jax.models.attention_mask import Mask

    samples, tokens, causal, prefix, share = case
    rng = np.random.default_rng(0)
    q, k, v = (
        jnp.asarray(rng.normal(size=(samples, tokens, HEADS, WIDTH)), jnp.bfloat16)
        for _ in range(3)
    )
    keys = None if share == 1 else jnp.asarray(np.arange(tokens) < share * tokens)[None]
    keys = None if keys is None else jnp.broadcast_to(keys, (samples, tokens))

    @jax.jit
    def both(q, k, v):
        def loss(q, k, v):
            out = attend(q, k, v, Mask(causal=causal, prefix=prefix, keys=keys), kernel=kernel)
            return out.astype(jnp.float32).sum(), out

        (_, out), gradients = jax.value_and_grad(loss, (0, 1, 2), has_aux=True)(q, k, v)
        return out, gradients

    def run(out=None, wait=True):
        if out is None:
            out = both(q, k, v)
        return jax.block_until_ready(out) if wait else out

    return timed(run), np.asarray(run()[0], np.float32)


def torchs(case: tuple) -> float:
    """ms of scaled_dot_product_attention, forward and backward, the mask as our twin makes it."""
    torch, device, dtype = sides.torch_for("gpu", "bfloat16")
    samples, tokens, causal, prefix, share = case
    q, k, v = (
        torch.randn(samples, HEADS, tokens, WIDTH, device=device, dtype=dtype, requires_grad=True)
        for _ in range(3)
    )
    mask = torch.ones(tokens, tokens, dtype=torch.bool, device=device)
    if causal:
        mask = mask.tril()
        mask[:prefix, :prefix] = True
    mask = mask & (torch.arange(tokens, device=device) < share * tokens)
    plain = not causal and share == 1

    def run(out=None, wait=True):
        if out is None:
            out = torch.nn.functional.scaled_dot_product_attention(
                q, k, v, attn_mask=None if plain else mask
            )
            torch.autograd.grad(out.float().sum(), (q, k, v))
        if wait:
            torch.cuda.synchronize()
        return out

    return timed(run)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import jax
    import numpy as np

    from sleeplm_jax.models import attention_kernels
    from sleeplm_jax.models.attention import described

    if jax.default_backend() != "gpu":
        raise SystemExit(f"no GPU: JAX runs on {jax.default_backend()} here (extra cuda)")
    print(f"{sides.machine('gpu')}; jax {jax.__version__}")
    why = attention_kernels.missing("cudnn")
    print(f"self-test of cudnn: {why or 'value and gradients agree'}; {described()}")
    kernels = ["reference", "blockwise", *([] if why else ["cudnn"])]
    result = {"machine": sides.machine("gpu"), "self_test": why, "ms": {}}
    print(f"{'':20}" + "".join(f"{k:>11}" for k in (*kernels, "torch")) + f"{'furthest off':>14}")
    for name, case in CASES.items():
        row, values = {}, {}
        for kernel in kernels:
            row[kernel], values[kernel] = ours(kernel, case)
        off = max(float(np.abs(x - values["reference"]).max()) for x in values.values())
        try:
            row["torch"] = torchs(case)
        except sides.Absent:
            row["torch"] = float("nan")
        result["ms"][name] = row | {"off": off}
        print(f"{name:20}" + "".join(f"{ms:9.2f}ms" for ms in row.values()) + f"{off:14.3f}",
              flush=True)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
