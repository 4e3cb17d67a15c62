"""How fast devices could go at most: what a model's FLOP/s are a share of (MFU). JAX-free."""

from __future__ import annotations

# Dense bfloat16 products with float32 sums, FLOP/s a device, by what JAX calls it; the first that
# is contained holds. Hopper, A100, L40S, B200: torchtitan's table (github.com/pytorch/torchtitan,
# torchtitan/tools/utils.py), which names NVIDIA's data sheets; H100 SXM and H200 also
# glennklockwood.com/garden/processors/h100. TPU v5e, v5p, v6e: docs.cloud.google.com/tpu/docs; v4
# and how JAX names them: jax/_src/pallas/mosaic/tpu_info.py (a device is a whole chip).
PEAKS = (
    ("H100 NVL", 835e12), ("H100 PCIe", 756e12), ("H100", 989e12), ("H200", 989e12),
    ("A100", 312e12), ("B200", 2.25e15), ("L40S", 362e12),
    ("TPU v4 lite", None), ("TPU v4", 275e12), ("TPU v5 lite", 197e12), ("TPU v5e", 197e12),
    ("TPU v5p", 459e12), ("TPU v5", 459e12), ("TPU v6 lite", 918e12), ("TPU v6e", 918e12),
)


def peak_flops(device_kind: str, dtype: str) -> float | None:
    """FLOP/s that MFU is a share of; None where it is not known, and for other types than bfloat16
    (what a float32 product costs hangs on the precision that the device was asked for)."""
    if dtype != "bfloat16":
        return None
    return next((flops for name, flops in PEAKS if name in device_kind), None)
