"""Parameters under the names and shapes of the official SleepLM code, and back.

Source: the state dict of yang-ai-lab/SleepLM @ f788466 (MIT), `BiosignalsCoCa` with
`architecture: pure_transformer`, `decoder_type: cross_attention`, `pool_type: attn`.

Ours are stacked over depth and [in, out]; theirs one a layer, [out, in], with q, k and v of
torch's MultiheadAttention in one array, two embeddings where we have rows of one, the shared
channel frequencies once more in every block and the fixed temporal ones as buffers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from sleeplm_jax.config import RunConfig
from sleeplm_jax.errors import CheckpointError
from sleeplm_jax.interop.names import leaves

Array = Any  # of numpy, or a tracer of jax.numpy
ROTARY_BASE = 10_000.0
COPY_TOLERANCE = 1e-6  # of frequencies that ought to be equal; they are stored in float32


@dataclass(frozen=True)
class Entry:
    """One array of the official state dict, made of `paths` of ours (of one layer where stacked).

    out: (numpy-like module, our arrays) -> theirs; back: theirs -> our arrays, None where ours is
    known without it.
    """

    name: str
    paths: tuple[str, ...]
    out: Callable[[ModuleType, list[Array]], Array]
    back: Callable[[Array], list[Array]] | None
    layer: int | None = None


def _same(xp, x):
    return x[0]


def _turned(xp, x):
    return x[0].T


def entries(config: RunConfig) -> Iterator[Entry]:
    """Every entry of a model of this config; whether SleepLM's code can hold it says
    `sleeplm_folder.refuse_other_settings`."""
    model = config.model
    half = model.encoder.width // model.encoder.heads // 2

    def same(name, path, layer=None):
        yield Entry(name, (path,), _same, lambda v: [v], layer)

    def norm(name, path, layer=None, bias=True):
        yield from same(f"{name}.weight", f"{path}/scale", layer)
        if bias:
            yield from same(f"{name}.bias", f"{path}/bias", layer)

    def linear(name, path, layer=None, bias=True):
        yield Entry(f"{name}.weight", (f"{path}/kernel",), _turned, lambda v: [v.T], layer)
        if bias:
            yield from same(f"{name}.bias", f"{path}/bias", layer)

    def packed(name, path, layer=None):
        """torch.nn.MultiheadAttention."""
        kernels = tuple(f"{path}/{x}/kernel" for x in "qkv")
        biases = tuple(f"{path}/{x}/bias" for x in "qkv")
        yield Entry(f"{name}.in_proj_weight", kernels,
                    lambda xp, x: xp.concatenate([y.T for y in x]),
                    lambda v: [y.T for y in np.split(v, 3)], layer)
        yield Entry(f"{name}.in_proj_bias", biases, lambda xp, x: xp.concatenate(x),
                    lambda v: np.split(v, 3), layer)
        yield from linear(f"{name}.out_proj", f"{path}/out", layer)

    def residual(name, path, layer, first, attention, second, mlp):
        """open_clip's ResidualAttentionBlock."""
        yield from norm(f"{name}.ln_1", f"{path}/{first}", layer)
        yield from packed(f"{name}.attn", f"{path}/{attention}", layer)
        yield from norm(f"{name}.ln_2", f"{path}/{second}", layer)
        yield from linear(f"{name}.mlp.c_fc", f"{path}/{mlp}/up", layer)
        yield from linear(f"{name}.mlp.c_proj", f"{path}/{mlp}/down", layer)

    yield from same("logit_scale", "logit_scale")
    yield Entry("channel_embeddings", ("decoder/prefix_embedding",), lambda xp, x: x[0][:-1],
                lambda v: [v])
    # Rows of one array of ours: `from_sleeplm` appends this one to those above.
    yield Entry("padding_embedding", ("decoder/prefix_embedding",), lambda xp, x: x[0][-1],
                lambda v: [v[None]])

    # ---- Signal encoder
    name, blocks = "biosignals", "encoder/stack/blocks"
    yield Entry(f"{name}.patching.conv_patching.weight", ("encoder/filters/kernel",),
                lambda xp, x: x[0].T[:, None], lambda v: [v[:, 0].T])
    yield from same(f"{name}.patching.conv_patching.bias", "encoder/filters/bias")
    yield from linear(f"{name}.embed_projection", "encoder/project")
    yield from same(f"{name}.channel_id_embed.weight", "encoder/channel_embedding")
    yield from same(f"{name}.shared_channel_rope.freqs", "encoder/channel_frequencies")
    for i in range(model.encoder.depth):
        block = f"{name}.transformer_blocks.{i}"
        yield Entry(f"{block}.channel_attention.rotary_emb.freqs", ("encoder/channel_frequencies",),
                    _same, None)
        yield Entry(f"{block}.temporal_attention_layers.0.rotary_emb.freqs", (),
                    lambda xp, x: xp.asarray(temporal_frequencies(half)), None)
        for ours, attention, after, mlp, last in (
            ("channel", "channel_attention", "channel_norm", "channel_mlp", "channel_mlp_norm"),
            ("temporal", "temporal_attention_layers.0", "temporal_norms.0", "temporal_mlps.0",
             "temporal_mlp_norms.0"),
        ):
            path = f"{blocks}/{ours}"
            for x in "qkv":
                yield from linear(f"{block}.{attention}.{x}_proj", f"{path}/attention/{x}", i,
                                  bias=False)
            yield from linear(f"{block}.{attention}.out_proj", f"{path}/attention/out", i)
            yield from norm(f"{block}.{after}", f"{path}/norm", i, bias=False)
            yield from linear(f"{block}.{mlp}.gate_proj.w1", f"{path}/mlp/gate", i, bias=False)
            yield from linear(f"{block}.{mlp}.gate_proj.w2", f"{path}/mlp/up", i, bias=False)
            yield from linear(f"{block}.{mlp}.down_proj", f"{path}/mlp/down", i, bias=False)
            yield from norm(f"{block}.{last}", f"{path}/norm_mlp", i, bias=False)
    yield from norm(f"{name}.ln_final", "encoder/norm", bias=False)
    for theirs, ours in (("contrastive", "embedding"), ("decoder", "caption")):
        yield Entry(f"{name}.{theirs}_pooler.query_tokens", (f"encoder/{ours}_pool/queries",),
                    lambda xp, x: x[0][None], lambda v: [v[0]])
        yield from packed(f"{name}.{theirs}_pooler.attn", f"encoder/{ours}_pool/attention")
    yield from packed(f"{name}.attn_pool", "encoder/cascade")
    yield from linear(f"{name}.proj_to_embed", "signal_projection")

    # ---- Text tower
    for theirs, ours in (
        ("cls_emb", "summary_token"), ("positional_embedding", "position_embedding"),
        ("token_embedding.weight", "token_embedding"),
    ):
        yield from same(f"text.{theirs}", f"text/{ours}")
    yield from same("text.text_projection", "text_projection/kernel")  # theirs is [in, out] too
    for i in range(model.text.depth):
        yield from residual(f"text.transformer.resblocks.{i}", "text/stack/blocks", i,
                            "norm_self", "attention", "norm_mlp", "mlp")
    yield from norm("text.ln_final", "text/norm")

    # ---- Decoder
    name, blocks = "text_decoder", "decoder/stack/blocks"
    for i in range(model.text.decoder_depth):
        yield from residual(f"{name}.resblocks.{i}", blocks, i,
                            "norm_self", "attention", "norm_mlp", "mlp")
        yield from residual(f"{name}.cross_attn.{i}", blocks, i,
                            "norm_cross", "cross_attention", "norm_cross_mlp", "cross_mlp")
        yield from norm(f"{name}.cross_attn.{i}.ln_1_kv", f"{blocks}/norm_context", i)
    yield from norm(f"{name}.ln_final", "decoder/norm")
    yield from same(f"{name}.text_projection", "decoder/logits/kernel")

    # ---- Reconstruction
    if config.objective.reconstruction > 0:
        blocks = "reconstruction/stack/blocks"
        for i in range(2):
            layer = f"signal_decoder.transformer.layers.{i}"
            yield from packed(f"{layer}.self_attn", f"{blocks}/attention", i)
            yield from linear(f"{layer}.linear1", f"{blocks}/mlp/up", i)
            yield from linear(f"{layer}.linear2", f"{blocks}/mlp/down", i)
            yield from norm(f"{layer}.norm1", f"{blocks}/norm_self", i)
            yield from norm(f"{layer}.norm2", f"{blocks}/norm_mlp", i)
        yield from linear("signal_decoder.to_signal.0", "reconstruction/bottleneck")
        yield from linear("signal_decoder.to_signal.2", "reconstruction/to_signal")


def _misshapen(where: object, name: str, shape: tuple[int, ...]) -> CheckpointError:
    return CheckpointError(
        where, f"{name} has shape {list(shape)}, which the other arrays do not allow",
        "give a whole checkpoint of the official SleepLM code",
    )


def temporal_frequencies(half: int) -> np.ndarray:
    """The fixed frequencies f32 [half] of the temporal rotary positions, rounded where torch
    rounds them: to the last bit what the official code has."""
    exponents = np.arange(half, dtype=np.float32) / np.float32(half)
    return np.float32(1) / np.power(ROTARY_BASE, exponents.astype(np.float64)).astype(np.float32)


def to_sleeplm(parameters: Mapping, config: RunConfig, xp: ModuleType = np) -> dict[str, Array]:
    """The official state dict of our parameters; `xp` jax.numpy to do so in shapes alone."""
    ours = {"/".join(path): value for path, value in leaves(parameters)}
    state, used = {}, set()
    for entry in entries(config):
        values = [ours[path] for path in entry.paths]
        if entry.layer is not None:
            values = [value[entry.layer] for value in values]
        state[entry.name] = entry.out(xp, values)
        used |= set(entry.paths)
    if left := sorted(set(ours) - used):
        raise CheckpointError(left[0], "has no place in SleepLM's state dict", "export --to torch")
    return state


def from_sleeplm(state: Mapping[str, np.ndarray], config: RunConfig, where: object) -> dict:
    """Our parameters (a nested dict of float32 arrays) of an official state dict.

    Raises CheckpointError for entries that are absent, unknown, or of another shape or meaning
    than `config` has them.
    """
    from_code = "give a checkpoint of the official SleepLM code, and its --config"
    parts: dict[str, dict[int | None, list[np.ndarray]]] = {}
    known = set()
    for entry in entries(config):
        if entry.name not in state:
            raise CheckpointError(where, f"has no {entry.name}", from_code)
        known.add(entry.name)
        value = np.asarray(state[entry.name], np.float32)
        if entry.back is None:
            fixed = [np.asarray(state["biosignals.shared_channel_rope.freqs"])] * len(entry.paths)
            wanted = entry.out(np, fixed)
            if value.shape != wanted.shape or np.abs(value - wanted).max() > COPY_TOLERANCE:
                raise CheckpointError(
                    where, f"{entry.name} is not what the released model has there",
                    "models with frequencies of their own a block cannot be read",
                )
            continue
        try:
            back = entry.back(value)
        except (ValueError, IndexError):
            raise _misshapen(where, entry.name, value.shape) from None
        for path, part in zip(entry.paths, back, strict=True):
            of_path = parts.setdefault(path, {})
            first = next(iter(of_path.values()), [part])[0]
            if entry.layer is not None and first.shape != part.shape:
                raise _misshapen(where, entry.name, value.shape)
            of_path.setdefault(entry.layer, []).append(part)
    if unknown := sorted(set(state) - known):
        finding = f"has {unknown[0]}, which this version does not know"
        raise CheckpointError(where, finding, from_code)
    tree: dict = {}
    for path, layers in parts.items():
        try:
            pieces = [np.concatenate(p) if len(p) > 1 else p[0] for p in layers.values()]
        except ValueError:  # the only array of two of theirs
            raise _misshapen(where, "padding_embedding", layers[None][-1].shape[1:]) from None
        value = pieces[0] if None in layers else np.stack(pieces)
        *modules, leaf = path.split("/")
        node = tree
        for name in modules:
            node = node.setdefault(name, {})
        node[leaf] = np.array(value, order="C")
    return tree
