"""Attention against torch's, its masks, its bounded memory, and which kernel is chosen when."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sleeplm_jax.errors import ConfigError
from sleeplm_jax.models import attention_kernels
from sleeplm_jax.models.attention import attend, choose, described
from sleeplm_jax.models.attention_blockwise import blockwise
from sleeplm_jax.models.attention_mask import Mask

RNG = np.random.default_rng(0)
B, N, H, E = 2, 21, 2, 4
Q, K, V, WEIGHT = RNG.normal(size=(4, B, N, H, E)).astype(np.float32)
KEYS = RNG.random((B, N)) < 0.6
KEYS[0, :3], KEYS[1, 0] = False, True  # the first sample's first queries see no past key
MASKS = {
    "all": Mask(),
    "causal": Mask(causal=True),
    "prefix": Mask(causal=True, prefix=3),
    "keys": Mask(keys=jnp.asarray(KEYS)),
    "causal keys": Mask(causal=True, keys=jnp.asarray(KEYS)),
    "prefix keys": Mask(causal=True, prefix=5, keys=jnp.asarray(KEYS)),
    "lengths": Mask(lengths=jnp.asarray([N, 4])),
    "none there": Mask(keys=jnp.asarray(KEYS & [[False], [True]])),
}


def seen_by_loops(name):
    """bool [B, N, N], from the words of Mask's docstring."""
    mask = MASKS[name]
    seen = np.ones((B, N, N), bool)
    for b in range(B):
        for i in range(N):
            for j in range(N):
                if mask.causal:
                    seen[b, i, j] &= j <= i or j < mask.prefix
                if mask.keys is not None:
                    seen[b, i, j] &= bool(mask.keys[b, j])
                if mask.lengths is not None:
                    seen[b, i, j] &= j < int(mask.lengths[b])
    return seen


def by_torch(name):
    """Value and gradients, zeros where a query sees nothing (torch gives NaN there)."""
    torch = pytest.importorskip("torch")
    seen = torch.tensor(seen_by_loops(name))
    some = seen.any(-1)
    # A query without keys looks at all and is multiplied by zero.
    seen = seen | ~some[..., None]
    q, k, v = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (Q, K, V))
    out = torch.nn.functional.scaled_dot_product_attention(
        *(x.transpose(1, 2) for x in (q, k, v)), attn_mask=seen[:, None]
    ).transpose(1, 2) * some[..., None, None]
    (out * torch.tensor(WEIGHT)).sum().backward()
    return [x.detach().numpy() for x in (out, q.grad, k.grad, v.grad)]


def value_and_gradients(function):
    def both(q, k, v):
        loss = lambda *x: (function(*x) * WEIGHT).sum()  # noqa: E731
        return function(q, k, v), *jax.grad(loss, (0, 1, 2))(q, k, v)

    return jax.jit(both)(Q, K, V)


@pytest.mark.parametrize("name", MASKS)
def test_value_and_gradient_are_torchs(name):
    mask, wanted = MASKS[name], by_torch(name)
    plain = value_and_gradients(lambda q, k, v: attend(q, k, v, mask, kernel="reference"))
    # Blocks of 8: three of queries and of keys, the last filled up.
    blocks = value_and_gradients(lambda q, k, v: blockwise(
        q, k, v, mask.present(N), causal=mask.causal, prefix=mask.prefix, block=8
    ))
    for found in (plain, blocks):
        for ours, theirs in zip(found, wanted):
            np.testing.assert_allclose(ours, theirs, atol=3e-6)


def test_a_dense_mask_is_the_same_mask():
    dense = jnp.asarray(seen_by_loops("causal keys"))[:, None]
    np.testing.assert_allclose(
        attend(Q, K, V, dense), attend(Q, K, V, MASKS["causal keys"]), atol=1e-6
    )


def test_fewer_queries_than_keys():
    """A pooling query, in blocks too."""
    out = blockwise(Q[:, :3], K, V, jnp.asarray(KEYS), block=8)
    np.testing.assert_allclose(out, attend(Q[:, :3], K, V, MASKS["keys"]), atol=1e-6)


def test_bfloat16_blocks_differ_by_roundings_only():
    half = [jnp.asarray(x, jnp.bfloat16) for x in (Q, K, V)]
    exact = attend(*[x.astype(jnp.float32) for x in half])
    out = blockwise(*half, block=8)
    assert out.dtype == jnp.bfloat16
    np.testing.assert_allclose(out.astype(jnp.float32), exact, atol=0.02)


def test_dropout_leaves_weights_out_and_scales_the_rest():
    value = np.ones_like(V)
    keys = jax.random.split(jax.random.key(0), len(Q))
    out = attend(Q, K, value, dropout=0.5, dropout_keys=keys)
    # Rows of weights add up to 1; with half of them left out and doubled, to 1 on average.
    assert np.std(out) > 0.05 and abs(np.mean(out) - 1) < 0.1
    np.testing.assert_allclose(attend(Q, K, value, dropout=0.5), 1, atol=1e-6)


def test_memory_of_a_long_window_grows_with_its_length():
    """Temporary memory of the compiled gradient; 20 minutes at one token a second and channel."""

    def held(length, kernel):
        x = jax.ShapeDtypeStruct((1, length, 1, 32), jnp.float32)
        f = lambda q, k, v: attend(q, k, v, kernel=kernel).sum()  # noqa: E731
        compiled = jax.jit(jax.grad(f, (0, 1, 2))).lower(x, x, x).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    short, long = held(3000, "auto"), held(12000, "auto")
    assert held(12000, "reference") >= 4 * 12000**2  # the scores
    assert long < 4 * 12000**2 / 20
    assert long < 6 * short  # four times the length


def shape(n, dtype=jnp.bfloat16, width=64):
    return jax.ShapeDtypeStruct((2, n, 4, width), dtype)


@pytest.mark.parametrize(
    ("platform", "has", "queries", "keys", "dtype", "mask", "wanted"),
    [
        ("cpu", (), 1200, 1200, "float32", Mask(), "blockwise"),
        ("cpu", (), 97, 97, "float32", Mask(), "reference"),
        ("cpu", (), 32, 12000, "float32", Mask(), "reference"),  # pooling queries
        ("cpu", (), 1200, 1200, "float32", Mask(dense=True), "reference"),
        ("gpu", ("cudnn",), 1200, 1200, "bfloat16", Mask(causal=True), "cudnn"),
        ("gpu", ("cudnn",), 1200, 1200, "float32", Mask(), "reference"),
        ("gpu", ("cudnn",), 12000, 12000, "float32", Mask(), "blockwise"),
        ("gpu", (), 12000, 12000, "bfloat16", Mask(), "blockwise"),
        ("tpu", ("splash",), 1200, 1200, "float32", Mask(), "splash"),
        ("tpu", (), 1200, 1200, "bfloat16", Mask(), "reference"),
    ],
)
def test_the_kernel_follows_from_machine_shape_and_mask(
    monkeypatch, platform, has, queries, keys, dtype, mask, wanted
):
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    monkeypatch.setattr(
        attention_kernels, "missing", lambda k, causal: "" if k in has else "no"
    )
    found = choose("auto", shape(queries, dtype), shape(keys, dtype), mask)
    assert found == wanted


def test_a_kernel_is_not_given_what_it_cannot_take():
    fits = attention_kernels.fits
    assert fits("cudnn", shape(300, width=128)) and not fits("cudnn", shape(300, width=136))
    assert not fits("cudnn", shape(300, width=60))
    assert not fits("cudnn", shape(300, jnp.float32))
    assert fits("splash", shape(300, jnp.float32, width=60))
    # shape() has 2 samples and 4 heads
    mesh = jax.sharding.AbstractMesh((2, 4), ("data", "tensor"))
    other = jax.sharding.AbstractMesh((4, 1), ("data", "tensor"))
    with jax.sharding.use_abstract_mesh(mesh):
        assert fits("splash", shape(300))
    with jax.sharding.use_abstract_mesh(other):
        assert not fits("splash", shape(300))


def test_an_order_is_kept_or_refused(monkeypatch):
    assert choose("blockwise", shape(8), shape(8), Mask()) == "blockwise"
    assert choose("reference", shape(9000), shape(9000), Mask()) == "reference"
    with pytest.raises(ConfigError, match="splash: needs a TPU, this is a CPU"):
        attend(Q, K, V, kernel="splash")
    with monkeypatch.context() as patched:
        patched.setattr(attention_kernels, "missing", lambda *_: "")
        assert choose("cudnn", shape(300), shape(300), Mask()) == "cudnn"
        with pytest.raises(ConfigError, match="cudnn: does not take float32"):
            choose("cudnn", shape(300, jnp.float32), shape(300, jnp.float32), Mask())
    with pytest.raises(ConfigError, match="choose from auto, reference"):
        attend(Q, K, V, kernel="flash")


def test_a_run_says_what_attention_runs_on(monkeypatch):
    assert "block by block" in described()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(attention_kernels, "missing", lambda kernel: "cuDNN is not detected")
    assert described() == "attention: XLA (cudnn left out: cuDNN is not detected)"
