"""A sleep-language model in PyTorch: this file and the folder it came in are all that is needed.

    from modeling_sleeplm import SleepLM

    model = SleepLM.load("FOLDER")  # torch >= 2.4, nothing else
    out = model.encode_signal(signal, channel_mask)  # f32 [B, C, T], bool [B, C]: montage.json
    out["embedding"], out["features"], out["caption_tokens"], out["tokens"]
    model.embed_texts(["Deep sleep (N3)."])
    model.caption(signal, channel_mask, kind="stage_event")

`python modeling_sleeplm.py FOLDER` checks the folder against the values its exporter stored.
Research software: it makes no diagnosis.

Shapes: B batch, C channels, T samples, R patch rows, P patches along time, N = R * P tokens,
Q caption tokens, L text tokens, K prefix slots, D width, H heads, E embedding, V vocabulary.

Modules and parameters bear the names of sleeplm_jax's, so that weights move one to one.
"""

from __future__ import annotations

import html
import json
import math
import mmap
import re
import struct
import sys
import unicodedata
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

GATED = ("swiglu", "geglu")
ROTARY_BASE = 10_000.0
POSITIONS = 5  # of the body: right, left, supine, prone, upright
WORD_END = "</w>"  # CLIP's
CONTRACTIONS = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d")
SPACE = "\u2581"  # sentencepiece's


# ---- Layers


def activation(kind: str, x: torch.Tensor) -> torch.Tensor:
    if kind == "relu":
        return F.relu(x)
    if kind == "swiglu":
        return F.silu(x)
    return F.gelu(x, approximate="tanh" if kind == "gelu_tanh" else "none")


def attend(q, k, v, mask=None):
    """Attention of q `[B, H, N, d]` over k, v `[B, H, M, d]`; mask bool, True where a query may
    look. A query that may look nowhere gives zeros."""
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return out if mask is None else torch.where(mask.any(-1, keepdim=True), out, 0.0)


def rotate(x, angles):
    """Rotary positions on x `[B, H, N, d]` by angles `[N, d/2]`, features 2i and 2i + 1 paired."""
    cos, sin = angles.cos(), angles.sin()
    even, odd = x[..., 0::2].float(), x[..., 1::2].float()
    turned = torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1)
    return turned.flatten(-2).to(x.dtype)


class RMSNorm(nn.Module):
    def __init__(self, width: int, epsilon: float):
        super().__init__()
        self.weight, self.epsilon = nn.Parameter(torch.ones(width)), epsilon

    def forward(self, x):
        wide = x.float()
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.epsilon)
        return (wide * self.weight.float()).to(x.dtype)


class Attention(nn.Module):
    def __init__(self, width: int, heads: int, qkv_bias: bool = True):
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width, bias=qkv_bias)
        self.k = nn.Linear(width, width, bias=qkv_bias)
        self.v = nn.Linear(width, width, bias=qkv_bias)
        self.out = nn.Linear(width, width)

    def split(self, x):
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def keys_values(self, context):
        return self.split(self.k(context)), self.split(self.v(context))

    def read(self, x, k, v, mask=None, angles=None):
        q = self.split(self.q(x))
        if angles is not None:
            q, k = rotate(q, angles), rotate(k, angles)
        return self.out(attend(q, k, v, mask).transpose(1, 2).flatten(-2))

    def forward(self, x, context=None, mask=None, angles=None):
        return self.read(x, *self.keys_values(x if context is None else context), mask, angles)


class Mlp(nn.Module):
    def __init__(self, width: int, hidden: int, kind: str = "gelu", bias: bool = True):
        super().__init__()
        self.kind = kind
        self.up = nn.Linear(width, hidden, bias=bias)
        if kind in GATED:
            self.gate = nn.Linear(width, hidden, bias=bias)
        self.down = nn.Linear(hidden, width, bias=bias)

    def forward(self, x):
        if self.kind in GATED:
            return self.down(activation(self.kind, self.gate(x)) * self.up(x))
        return self.down(activation(self.kind, self.up(x)))


class Block(nn.Module):
    """Pre-norm block; `cross`: None, "joint" (one MLP) or "separate" (one after each attention)."""

    def __init__(self, width, heads, mlp_ratio, mlp="gelu", mlp_bias=True, qkv_bias=True,
                 cross=None, epsilon=1e-5):
        super().__init__()
        self.cross = cross
        hidden = int(width * mlp_ratio)
        self.norm_self = nn.LayerNorm(width, epsilon)
        self.attention = Attention(width, heads, qkv_bias)
        if cross:
            self.norm_cross = nn.LayerNorm(width, epsilon)
            self.norm_context = nn.LayerNorm(width, epsilon)
            self.cross_attention = Attention(width, heads, qkv_bias)
        self.norm_mlp = nn.LayerNorm(width, epsilon)
        self.mlp = Mlp(width, hidden, mlp, mlp_bias)
        if cross == "separate":
            self.norm_cross_mlp = nn.LayerNorm(width, epsilon)
            self.cross_mlp = Mlp(width, hidden, mlp, mlp_bias)

    def forward(self, x, mask=None, context=None, cache=None):
        """x `[B, N, D]`; with a `cache` (a dict) x is what follows what the cache has seen."""
        y = self.norm_self(x)
        k, v = self.attention.keys_values(y)
        if cache is not None:
            if "k" in cache:
                k, v = torch.cat([cache["k"], k], 2), torch.cat([cache["v"], v], 2)
            cache["k"], cache["v"] = k, v
        x = x + self.attention.read(y, k, v, mask)
        if self.cross == "separate":
            x = x + self.mlp(self.norm_mlp(x))
        if self.cross:
            if cache is None or "context" not in cache:
                seen = self.cross_attention.keys_values(self.norm_context(context))
                if cache is not None:
                    cache["context"] = seen
            else:
                seen = cache["context"]
            x = x + self.cross_attention.read(self.norm_cross(x), *seen)
        if self.cross == "separate":
            return x + self.cross_mlp(self.norm_cross_mlp(x))
        return x + self.mlp(self.norm_mlp(x))


class Stack(nn.Module):
    def __init__(self, make, depth: int):
        super().__init__()
        self.blocks = nn.ModuleList(make() for _ in range(depth))

    def forward(self, x, *others, caches=None):
        for i, block in enumerate(self.blocks):
            x = block(x, *others) if caches is None else block(x, *others, cache=caches[i])
        return x


# ---- Signal encoders


class AttentionPool(nn.Module):
    def __init__(self, queries: int, config: dict, after: str):
        super().__init__()
        width = config["width"]
        self.after = after
        self.queries = nn.Parameter(0.02 * torch.randn(queries, width))
        self.attention = Attention(width, config["heads"])
        if after != "none":
            self.norm = nn.LayerNorm(width, config["norm_epsilon"])
        if after == "mlp":
            self.mlp = Mlp(width, int(width * config["mlp_ratio"]), config["mlp"],
                           config["mlp_bias"])

    def forward(self, tokens, mask=None):
        x = self.attention(self.queries.expand(tokens.shape[0], -1, -1), tokens, mask)
        if self.after == "norm":
            return self.norm(x)
        return x + self.mlp(self.norm(x)) if self.after == "mlp" else x


class Pooled(nn.Module):
    def make_pools(self, config: dict, captions: bool, embedding: bool):
        cascade = config["pool"] == "cascade"
        if embedding:
            after = {"attention": "norm", "cascade": "none", "map": "mlp"}[config["pool"]]
            self.embedding_pool = AttentionPool(1, config, after)
        if captions or (cascade and embedding):
            after = "none" if cascade else "norm"
            self.caption_pool = AttentionPool(config["caption_tokens"], config, after)
        if cascade and embedding:
            self.cascade = Attention(config["width"], config["heads"])

    def hide(self, patches, hidden):
        """Patches `[B, R, P, D]` with the learned mask token where `hidden [B, R, P]`."""
        if hidden is None:
            return patches
        return torch.where(hidden[..., None], self.mask_token, patches)

    def pool(self, tokens, keys):
        captions = self.caption_pool(tokens, keys) if hasattr(self, "caption_pool") else None
        if not hasattr(self, "embedding_pool"):
            return captions, None
        pooled = self.embedding_pool(tokens, keys)
        if hasattr(self, "cascade"):
            pooled = self.cascade(pooled, captions)
        return captions, pooled[:, 0]


class PatchStem(nn.Module):
    def __init__(self, config: dict, channels: int):
        super().__init__()
        self.patch = config["patch_channels"], config["patch_samples"]
        rows = 1 if config["shared_filters"] else channels // self.patch[0]
        first = config["stem_width"] or config["width"]
        self.filters = nn.Parameter(0.02 * torch.randn(rows, math.prod(self.patch), first))
        self.bias = nn.Parameter(torch.zeros(rows, first))
        if config["stem_width"]:
            self.mix = nn.Linear(first, config["width"])

    def forward(self, signal):
        pc, ps = self.patch
        x = signal.unflatten(2, (-1, ps)).unflatten(1, (-1, pc)).transpose(2, 3).flatten(3)
        x = x @ self.filters + self.bias[:, None]
        return self.mix(F.gelu(x)) if hasattr(self, "mix") else x


class Vit2d(Pooled):
    """Patches of channels x time, attention over all of them; missing channels masked out."""

    def __init__(self, config: dict, spec: dict, captions: bool, embedding: bool, hides: bool):
        super().__init__()
        channels, width = len(spec["channels"]), config["width"]
        rows = channels // config["patch_channels"]
        patches = spec["rate"] * spec["seconds"] // config["patch_samples"]
        self.stem = PatchStem(config, channels)
        if config["positions"] == "full":
            self.position_embedding = nn.Parameter(0.02 * torch.randn(rows, patches, width))
        else:
            self.row_embedding = nn.Parameter(0.02 * torch.randn(rows, width))
            self.time_embedding = nn.Parameter(0.02 * torch.randn(patches, width))
        if hides:
            self.mask_token = nn.Parameter(0.02 * torch.randn(width))
        self.stack = Stack(
            lambda: Block(width, config["heads"], config["mlp_ratio"], config["mlp"],
                          config["mlp_bias"], config["qkv_bias"], None, config["norm_epsilon"]),
            config["depth"],
        )
        self.norm = nn.LayerNorm(width, config["norm_epsilon"])
        self.make_pools(config, captions, embedding)

    def forward(self, signal, channel_mask, hidden=None):
        """`(tokens [B, N, D], token_mask [B, N], caption_tokens [B, Q, D], pooled [B, D])`."""
        x = self.hide(self.stem(signal.masked_fill(~channel_mask[..., None], 0.0)), hidden)
        batch, rows, patches, width = x.shape
        if hasattr(self, "position_embedding"):
            place = self.position_embedding
        else:
            place = self.row_embedding[:, None] + self.time_embedding
        x = (x + place).flatten(1, 2)
        present = channel_mask.unflatten(1, (rows, -1)).any(-1)
        token_mask = present.repeat_interleave(patches, 1)
        keys = token_mask[:, None, None, :]
        x = self.norm(self.stack(x, keys))
        return x, token_mask, *self.pool(x, keys)


class AxisLayer(nn.Module):
    def __init__(self, config: dict):
        super().__init__()
        width = config["width"]
        self.attention = Attention(width, config["heads"], config["qkv_bias"])
        self.norm = RMSNorm(width, config["norm_epsilon"])
        self.mlp = Mlp(width, int(width * config["mlp_ratio"]), config["mlp"], config["mlp_bias"])
        self.norm_mlp = RMSNorm(width, config["norm_epsilon"])

    def forward(self, x, angles, mask=None):
        x = self.norm(x + self.attention(x, mask=mask, angles=angles))
        return self.norm_mlp(x + self.mlp(x))


class DualBlock(nn.Module):
    def __init__(self, config: dict):
        super().__init__()
        self.channel, self.temporal = AxisLayer(config), AxisLayer(config)

    def forward(self, x, keys, channel_angles, time_angles):
        batch, channels, patches, _ = x.shape
        x = self.channel(x.transpose(1, 2).flatten(0, 1), channel_angles, keys)
        x = x.unflatten(0, (batch, patches)).transpose(1, 2)
        x = self.temporal(x.flatten(0, 1), time_angles)
        return x.unflatten(0, (batch, channels))


class DualAxis(Pooled):
    """SleepLM's encoder: attention over channels, then over time, by turns."""

    def __init__(self, config: dict, spec: dict, captions: bool, embedding: bool, hides: bool):
        super().__init__()
        width = config["width"]
        self.samples, self.masked = config["patch_samples"], config["missing"] == "masked"
        self.half = width // config["heads"] // 2
        self.filters = nn.Linear(self.samples, config["stem_width"])
        self.project = nn.Linear(config["stem_width"], width)
        self.channel_embedding = nn.Parameter(torch.randn(len(spec["channels"]), width))
        self.channel_frequencies = nn.Parameter(0.02 * torch.randn(self.half))
        if hides:
            self.mask_token = nn.Parameter(0.02 * torch.randn(width))
        self.stack = Stack(lambda: DualBlock(config), config["depth"])
        self.norm = RMSNorm(width, config["norm_epsilon"])
        self.make_pools(config, captions, embedding)

    def forward(self, signal, channel_mask, hidden=None):
        x = signal.masked_fill(~channel_mask[..., None], 0.0).unflatten(2, (-1, self.samples))
        x = self.hide(self.project(self.filters(x)), hidden) + self.channel_embedding[:, None]
        channels, patches = x.shape[1:3]
        if not self.masked:
            channel_mask = torch.ones_like(channel_mask)
        count = torch.arange(max(channels, patches), device=x.device, dtype=torch.float32)
        channel_angles = count[:channels, None] * self.channel_frequencies.float()
        fixed = ROTARY_BASE ** (-torch.arange(self.half, device=x.device) / self.half)
        time_angles = count[:patches, None] * fixed
        keys = channel_mask.repeat_interleave(patches, 0)[:, None, None, :] if self.masked else None
        x = self.norm(self.stack(x, keys, channel_angles, time_angles)).flatten(1, 2)
        token_mask = channel_mask.repeat_interleave(patches, 1)
        return x, token_mask, *self.pool(x, token_mask[:, None, None, :] if self.masked else None)


# ---- Text


class TextEncoder(nn.Module):
    """`text [B, L]` -> `(summary [B, D] or None, tokens [B, L, D])`."""

    def __init__(self, config: dict, vocab: int, length: int, summary: str | None, pad: int):
        super().__init__()
        width = config["width"]
        self.summary, self.pad = summary, pad
        self.causal = config["attention"] == "causal"
        self.token_embedding = nn.Parameter(0.02 * torch.randn(vocab, width))
        places = length + (summary in ("token", "shifted"))
        self.position_embedding = nn.Parameter(0.01 * torch.randn(places, width))
        if summary in ("token", "shifted"):
            self.summary_token = nn.Parameter(0.01 * torch.randn(width))
        self.stack = Stack(
            lambda: Block(width, config["heads"], config["mlp_ratio"], config["mlp"],
                          epsilon=config["norm_epsilon"]),
            config["depth"],
        )
        if summary:
            self.norm = nn.LayerNorm(width, config["norm_epsilon"])

    def embed(self, text, start: int = 0):
        places = self.position_embedding[start:start + text.shape[1]]
        return self.token_embedding[text] + places

    def visible(self, text):
        """Which keys may be read, bool [B, L]; None for all."""
        if self.summary == "last":
            return None
        real = text != self.pad
        if self.summary != "shifted":
            return real
        return F.pad(real[:, :-1], (1, 0), value=True)  # SleepLM's mask lies one place off

    def forward(self, text):
        batch, length = text.shape
        x, keys = self.embed(text), self.visible(text)
        appended = self.summary in ("token", "shifted")
        if appended:
            place = self.position_embedding[-1 if self.summary == "token" else length]
            last = (self.summary_token + place).expand(batch, 1, -1)
            x = torch.cat([x, last], 1)
            # Whether the summary's own key is seen; in SleepLM's mask, what the last token says.
            own = torch.ones_like(keys[:, :1])
            if self.summary == "shifted":
                own = text[:, -1:] != self.pad
            keys = torch.cat([keys, own], 1)
        mask = None
        if self.causal or appended:
            total = x.shape[1]
            mask = torch.ones(total, total, dtype=torch.bool, device=x.device).tril()[None, None]
            if keys is not None:
                mask = mask & keys[:, None, None, :]
        x = self.stack(x, mask)
        if appended:
            return self.norm(x[:, -1]), x[:, :-1]
        return self.norm(x[:, -1]) if self.summary else None, x


class CaptionDecoder(nn.Module):
    """`[modality prefix; text] -> hidden states [B, L, D]`, reading the signal's tokens."""

    def __init__(self, config: dict, vocab: int, kinds: int):
        super().__init__()
        width = config["width"]
        self.prefix_embedding = nn.Parameter(0.02 * torch.randn(kinds + 1, width))
        self.stack = Stack(
            lambda: Block(width, config["heads"], config["mlp_ratio"], config["mlp"],
                          cross=config["decoder"], epsilon=config["norm_epsilon"]),
            config["decoder_depth"],
        )
        self.norm = nn.LayerNorm(width, config["norm_epsilon"])
        self.logits = nn.Linear(width, vocab, bias=False)

    def start(self, prefix):
        """The prefix' tokens `[B, K, D]`; -1, an empty slot, reads the last row."""
        return self.prefix_embedding[prefix.where(prefix >= 0, len(self.prefix_embedding) - 1)]

    def forward(self, text_tokens, prefix, context):
        x = torch.cat([self.start(prefix), text_tokens], 1)
        slots, total = prefix.shape[1], x.shape[1]
        mask = torch.ones(total, total, dtype=torch.bool, device=x.device).tril()
        mask[:slots, :slots] = True
        return self.norm(self.stack(x, mask[None, None], context)[:, slots:])


class Reconstruction(nn.Module):
    """Caption tokens `[B, Q, D] -> reconstruction [B, C, T]`, the whole epoch from one bottleneck;
    `position_logits [B, S, 5]`, one slot a second, where body position is told too."""

    def __init__(self, config: dict, positions: bool):
        super().__init__()
        encoder, spec = config["encoder"], config["spec"]
        self.shape = len(spec["channels"]), spec["rate"] * spec["seconds"]
        width, bottleneck = encoder["width"], config["reconstruction_width"]
        self.stack = Stack(
            lambda: Block(width, encoder["heads"], 2.0, config["reconstruction_mlp"]), 2
        )
        self.bottleneck = nn.Linear(width, bottleneck)
        self.to_signal = nn.Linear(bottleneck, math.prod(self.shape))
        if positions:
            self.to_position = nn.Linear(bottleneck, spec["seconds"] * POSITIONS)

    def forward(self, caption_tokens):
        x = F.relu(self.bottleneck(self.stack(caption_tokens).mean(1)))
        out = {"reconstruction": self.to_signal(x).unflatten(1, self.shape).float()}
        if hasattr(self, "to_position"):
            out["position_logits"] = self.to_position(x).unflatten(1, (-1, POSITIONS)).float()
        return out


class PatchReconstruction(nn.Module):
    """Tokens `[B, N, D] -> patches [B, R, P, values]`, each from its token (channel, then time);
    `position_logits [B, P, 5]`."""

    def __init__(self, config: dict, positions: bool):
        super().__init__()
        encoder = config["encoder"]
        self.rows = len(config["spec"]["channels"]) // encoder["patch_channels"]
        values = encoder["patch_channels"] * encoder["patch_samples"]
        self.to_patch = nn.Linear(encoder["width"], values)
        if positions:
            self.to_position = nn.Linear(encoder["width"], POSITIONS)

    def forward(self, tokens):
        tokens = tokens.unflatten(1, (self.rows, -1))
        out = {"patches": self.to_patch(tokens).float()}
        if hasattr(self, "to_position"):
            out["position_logits"] = self.to_position(tokens.mean(1)).float()
        return out


# ---- The model


class SleepLM(nn.Module):
    """The whole model; `SleepLM.load(folder)` makes one. `config` is config.json's content.

    Modules without a share in the objective (contrastive, caption, reconstruction) are absent, and
    what they would give is not among the outputs.
    """

    def __init__(self, config: dict, vocabulary: Vocabulary | None = None):
        super().__init__()
        self.config, self.vocabulary = config, vocabulary
        model, objective = config["model"], config["objective"]
        self.tokens, self.kinds = config["tokens"], config["caption_kinds"]
        encoder, text, vocab = model["encoder"], model["text"], model["vocab_size"]
        contrastive, caption = objective["contrastive"] > 0, objective["caption"] > 0
        reconstruction = objective["reconstruction"] > 0
        self.masked = reconstruction and objective["reconstruction_form"] == "masked"
        self.encoder = {"vit2d": Vit2d, "dual_axis": DualAxis}[encoder["kind"]](
            encoder, model["spec"], captions=caption or (reconstruction and not self.masked),
            embedding=contrastive, hides=self.masked,
        )
        if contrastive or caption:
            self.text = TextEncoder(text, vocab, config["text_length"],
                                    text["summary"] if contrastive else None, self.tokens["pad"])
        if contrastive:
            for name, width in (("signal_projection", encoder["width"]),
                                ("text_projection", text["width"])):
                if model[name] != "none":
                    bias = model[name] == "affine"
                    setattr(self, name, nn.Linear(width, model["embed_dim"], bias=bias))
            sigmoid = objective["contrastive_form"] == "sigmoid"
            self.logit_scale = nn.Parameter(torch.tensor(math.log(10 if sigmoid else 1 / 0.07)))
            if sigmoid:
                self.logit_bias = nn.Parameter(torch.tensor(-10.0))
        if caption:
            if text["width"] != encoder["width"]:
                self.to_decoder = nn.Linear(encoder["width"], text["width"])
            self.decoder = CaptionDecoder(text, vocab, len(self.kinds))
        if reconstruction:
            positions = objective["position_classes"] and "POS" in model["spec"]["channels"]
            head = PatchReconstruction if self.masked else Reconstruction
            self.reconstruction = head(model, positions)

    @classmethod
    def load(cls, folder: str | Path, device: str | torch.device = "cpu") -> SleepLM:
        """The model in a folder, in evaluation mode.

        Raises OSError, ValueError or RuntimeError where the folder's files do not make one.
        """
        folder = Path(folder)
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        words = json.loads((folder / "vocabulary.json").read_text(encoding="utf-8"))
        try:
            with torch.device("meta"):  # the weights are read, not drawn
                model = cls(config, Vocabulary(words))
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise ValueError(
                f"{folder}: config.json or vocabulary.json is not as it was exported "
                f"({type(error).__name__}: {error}); export the model anew"
            ) from None
        weights = read_safetensors(folder / "model.safetensors")
        model.load_state_dict(weights, strict=True, assign=True)
        return model.to(device).eval()

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.encoder.parameters()).dtype

    def project(self, name: str, x):
        """L2-normalised in float32."""
        x = (getattr(self, name)(x) if hasattr(self, name) else x).float()
        return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + 1e-12)

    def encode_signal(self, signal, channel_mask=None, hidden=None) -> dict[str, torch.Tensor]:
        """`signal [B, C, T]`, `channel_mask bool [B, C]` (True: present; None: all are) ->
        `tokens [B, N, D]`, `token_mask [B, N]`, `features [B, 2 D]`; where the model has them
        `caption_tokens [B, Q, D]` and the L2-normalised `embedding [B, E]`. In the training of a
        masked reconstruction `hidden bool [B, R, P]` are patches that the encoder does not see."""
        signal = torch.as_tensor(signal, dtype=self.dtype, device=self.device)
        if channel_mask is None:
            channel_mask = torch.ones(signal.shape[:2], dtype=torch.bool)
        channel_mask = torch.as_tensor(channel_mask, dtype=torch.bool, device=self.device)
        tokens, token_mask, captions, pooled = self.encoder(signal, channel_mask, hidden)
        present = token_mask[..., None].float()
        features = [(tokens.float() * present).sum(1) / present.sum(1).clamp(min=1)]
        if captions is not None or pooled is not None:
            features.insert(0, (captions.mean(1) if pooled is None else pooled).float())
        out = {"tokens": tokens, "token_mask": token_mask, "features": torch.cat(features, -1)}
        if captions is not None:
            out["caption_tokens"] = captions
        if pooled is not None:
            out["embedding"] = self.project("signal_projection", pooled)
        return out

    def encode_text(self, text) -> dict[str, torch.Tensor]:
        """`text int [B, L]` (bos ... eos, padded) -> `tokens [B, L, D]`, `embedding [B, E]`."""
        text = torch.as_tensor(text, dtype=torch.long, device=self.device)
        summary, tokens = self.text(text)
        if summary is None:
            return {"tokens": tokens}
        return {"tokens": tokens, "embedding": self.project("text_projection", summary)}

    def decode(self, text_tokens, prefix, caption_tokens) -> torch.Tensor:
        """Next-token logits `[B, L, V]` of text tokens `[B, L, D]`, prefix `int [B, K]`."""
        hidden = self.decoder(text_tokens, prefix, self.context(caption_tokens))
        return self.decoder.logits(hidden).float()

    def reconstruct(self, seen: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """`reconstruction [B, C, T]` or `patches [B, R, P, values]` of what `encode_signal` gave;
        `position_logits [B, S, 5]`; nothing from a model trained without."""
        if not hasattr(self, "reconstruction"):
            return {}
        return self.reconstruction(seen["tokens" if self.masked else "caption_tokens"])

    def context(self, caption_tokens):
        return self.to_decoder(caption_tokens) if hasattr(self, "to_decoder") else caption_tokens

    def forward(self, signal, channel_mask=None, text=None, prefix=None, hidden=None) -> dict:
        """All that training needs: embeddings, `logits [B, L - 1, V]` of text[:, 1:], what
        `reconstruct` gives; where the model has them."""
        seen, out = self.encode_signal(signal, channel_mask, hidden), {}
        said = self.encode_text(text) if hasattr(self, "text") else {}
        if hasattr(self, "logit_scale"):
            out |= {"signal_embedding": seen["embedding"], "text_embedding": said["embedding"],
                    "logit_scale": self.logit_scale}
            if hasattr(self, "logit_bias"):
                out["logit_bias"] = self.logit_bias
        if hasattr(self, "decoder"):
            prefix = torch.as_tensor(prefix, dtype=torch.long, device=self.device)
            out["logits"] = self.decode(said["tokens"][:, :-1], prefix, seen["caption_tokens"])
        return out | self.reconstruct(seen)

    @torch.no_grad()
    def embed_texts(self, texts: list[str]) -> torch.Tensor:
        """L2-normalised embeddings `[len(texts), E]`."""
        length = self.config["text_length"]
        return self.encode_text([self.vocabulary.encode(t, length) for t in texts])["embedding"]

    @torch.no_grad()
    def caption(self, signal, channel_mask=None, kind: str = "stage_event",
                max_tokens: int | None = None, min_tokens: int = 0) -> list[str]:
        """Greedy captions of one kind (of `caption_kinds` in config.json; "brain+heart" for two in
        one text), one a sample."""
        rows = self.generate(signal, channel_mask, kind, max_tokens, min_tokens)
        return [self.vocabulary.decode(row) for row in rows.tolist()]

    @torch.no_grad()
    def generate(self, signal, channel_mask=None, kind: str = "stage_event",
                 max_tokens: int | None = None, min_tokens: int = 0) -> torch.Tensor:
        """Token ids `[B, L]`, bos first, padded after eos: at most `max_tokens` of them, eos not
        before `min_tokens`. Every step reads one token, the rest is kept."""
        if not hasattr(self, "decoder"):
            raise ValueError("this model was trained without captions and writes none")
        kinds = kind.split("+")
        if (not set(kinds) <= set(self.kinds) or len(set(kinds)) < len(kinds)
                or len(kinds) > self.config["prefix_length"]):
            raise ValueError(f"kind {kind!r} is none of {', '.join(self.kinds)}, "
                             "nor two different ones by a +")
        seen = self.context(self.encode_signal(signal, channel_mask)["caption_tokens"])
        tokens, batch = self.tokens, len(seen)
        length = min(max_tokens or self.config["text_length"], self.config["text_length"])
        prefix = torch.full((batch, self.config["prefix_length"]), -1, device=seen.device)
        prefix[:, :len(kinds)] = torch.tensor([self.kinds.index(k) for k in kinds])
        said = [{} for _ in self.text.stack.blocks]
        told = [{} for _ in self.decoder.stack.blocks]
        self.decoder.stack(self.decoder.start(prefix), None, seen, caches=told)
        words = torch.zeros(self.config["model"]["vocab_size"], device=seen.device)
        words[tokens["vocab_size"]:] = -math.inf
        words[tokens["unwritten"]] = -math.inf
        text = torch.full((batch, length), tokens["pad"], device=seen.device)
        text[:, 0] = tokens["bos"]
        done = torch.zeros(batch, dtype=torch.bool, device=seen.device)
        for place in range(length - 1):
            keys = self.text.visible(text[:, :place + 1])
            x = self.text.stack(
                self.text.embed(text[:, place:place + 1], place),
                None if keys is None else keys[:, None, None, :], caches=said,
            )
            x = self.decoder.norm(self.decoder.stack(x, None, seen, caches=told)[:, 0])
            logits = self.decoder.logits(x).float() + words
            if place + 1 < min_tokens:
                logits[:, tokens["eos"]] = -math.inf
            best = logits.argmax(-1).masked_fill(done, tokens["pad"])
            text[:, place + 1] = best
            done |= best == tokens["eos"]
            if done.all():
                break
        return text


# ---- Words


class Vocabulary:
    """Text to ids and back, from vocabulary.json: sentencepiece's byte-pair pieces, or CLIP's."""

    def __init__(self, words: dict):
        self.kind, self.pieces = words["kind"], words["pieces"]
        self.pad, self.bos, self.eos = words["pad"], words["bos"], words["eos"]
        self.marks = set(words["marks"])  # no text holds them
        self.joins = [(re.compile(pattern), joint) for pattern, joint in words["joins"]]
        self.byte_ids = {byte: i for byte, i in words["bytes"]}  # of letters without a piece
        self.byte_of = {i: byte for byte, i in self.byte_ids.items()}
        self.id_of = {piece: i for i, piece in enumerate(self.pieces)
                      if i not in self.marks and i not in self.byte_of}
        # The lower its rank, the sooner two neighbours are merged into a piece.
        self.rank = {piece: rank for rank, piece in enumerate(words["merged"])}
        plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
        rest = [byte for byte in range(256) if byte not in plain]
        self.letter = {b: chr(b) for b in plain} | {b: chr(256 + i) for i, b in enumerate(rest)}
        self.letter_byte = {letter: byte for byte, letter in self.letter.items()}

    def encode(self, text: str, length: int) -> list[int]:
        """bos, the text, eos, padding: `length` ids; a longer text is cut before its eos."""
        ids = [self.bos, *self.ids(text)[: length - 2], self.eos]
        return ids + [self.pad] * (length - len(ids))

    def ids(self, text: str) -> list[int]:
        """Ids of `text` without marks."""
        if self.kind == "clip":
            text = unicodedata.normalize("NFC", html.unescape(html.unescape(text)))
            text = " ".join(text.split()).lower()
            return [i for word in clip_words(text) for i in self._clip_word(word)]
        parts = merged(list(SPACE + text.replace(" ", SPACE)), self.rank) if text else []
        return [
            i for part in parts
            for i in ([self.id_of[part]] if part in self.id_of
                      else [self.byte_ids[byte] for byte in part.encode()])
        ]

    def _clip_word(self, word: str) -> list[int]:
        letters = [self.letter[byte] for byte in word.encode()]
        return [self.id_of[p] for p in merged([*letters[:-1], letters[-1] + WORD_END], self.rank)]

    def decode(self, ids: list[int]) -> str:
        """The text of ids up to the first eos; marks and padding say nothing."""
        if self.eos in ids:
            ids = ids[: ids.index(self.eos)]
        ids = [i for i in ids if 0 <= i < len(self.pieces) and i not in self.marks | {self.pad}]
        if self.kind == "clip":
            words = "".join(self.pieces[i] for i in ids).split(WORD_END)
            data = b" ".join(bytes(self.letter_byte[c] for c in word) for word in words)
            text = " ".join(data.decode(errors="replace").split())
            for pattern, joint in self.joins:
                text = pattern.sub(joint, text)
            return text
        data = b"".join(
            bytes([self.byte_of[i]]) if i in self.byte_of
            else self.pieces[i].replace(SPACE, " ").encode() for i in ids
        )
        # One mark a byte that spells nothing, as sentencepiece has it.
        text = data.decode(errors="surrogateescape")
        text = re.sub("[\udc80-\udcff]", "\ufffd", text)
        return text if ids and ids[0] in self.byte_of else text.removeprefix(" ")


def merged(parts: list[str], rank: dict[str, int]) -> list[str]:
    """`parts` with the neighbours of the lowest rank merged until none is left to merge."""
    costs = [rank.get(a + b, math.inf) for a, b in zip(parts, parts[1:])]
    while costs and (best := min(costs)) < math.inf:
        i = costs.index(best)
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
        del costs[i]
        for near in (i - 1, i):
            if 0 <= near < len(costs):
                costs[near] = rank.get(parts[near] + parts[near + 1], math.inf)
    return parts


def clip_words(text: str):
    """Contractions, words, single digits, runs of signs: CLIP merges nothing across them."""
    def sort(letter):
        return "space" if letter.isspace() else {"L": "L", "N": "N"}.get(
            unicodedata.category(letter)[0], "sign"
        )

    start = 0
    while start < len(text):
        what = sort(text[start])
        ending = next((e for e in CONTRACTIONS if text.startswith(e, start)), None)
        stop = start + len(ending or " ")
        while not ending and what in ("L", "sign") and text[stop : stop + 1] and (
            sort(text[stop]) == what
        ):
            stop += 1
        if what != "space":
            yield text[start:stop]
        start = stop


# ---- Files


def read_safetensors(path: str | Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file (github.com/huggingface/safetensors states the format).

    Raises ValueError for any other file, and where the tensors' places do not fill the file one
    after the other, each as its shape and type say.
    """
    wrong = ValueError(f"{path} is cut off, or no safetensors file")
    types = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
             "I32": torch.int32, "I64": torch.int64, "BOOL": torch.bool}
    if Path(path).stat().st_size < 8:
        raise wrong
    with open(path, "rb") as file:
        # Copy on write: the file is never touched, and its pages are read when they are needed.
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    (size,) = struct.unpack("<Q", data[:8])
    tensors, end = {}, 0
    try:
        header = json.loads(data[8 : 8 + size])
        header.pop("__metadata__", None)
        for name, about in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
            start, stop = about["data_offsets"]
            kind, shape = types[about["dtype"]], about["shape"]
            end, due = stop, (end, end + math.prod(shape) * kind.itemsize)
            if (start, stop) != due or 8 + size + stop > len(data):
                raise wrong
            tensors[name] = torch.empty(shape, dtype=kind) if stop == start else torch.frombuffer(
                data, dtype=kind, count=math.prod(shape), offset=8 + size + start
            ).reshape(shape)
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError):
        raise wrong from None
    if 8 + size + end != len(data):
        raise wrong
    return tensors


def check(folder: str | Path) -> dict[str, float]:
    """Largest difference to each value that the exporter stored, relative to the value's largest;
    for `captions` the share of them that differ."""
    folder = Path(folder)
    model, stored = SleepLM.load(folder), read_safetensors(folder / "check.safetensors")
    signal, channel_mask = stored["signal"], stored["channel_mask"]
    with torch.no_grad():
        seen = model.encode_signal(signal, channel_mask)
        found = {"features": seen["features"]}
        if "embedding" in seen:
            found["signal_embedding"] = seen["embedding"]
            found["text_embedding"] = model.encode_text(stored["text"])["embedding"]
        found |= model.reconstruct(seen)
    result = {
        name: float((value - stored[name]).abs().max() / stored[name].abs().max().clamp(min=1e-6))
        for name, value in found.items()
    }
    told = json.loads((folder / "check.json").read_text(encoding="utf-8"))
    if told["captions"]:
        said = model.caption(signal, channel_mask, model.kinds[-1], told["tokens"])
        differ = [a != b for a, b in zip(said, told["captions"])]
        result["captions"] = sum(differ) / len(differ)
    return result


def main(arguments: list[str]) -> int | str:
    """Prints what `check` finds; 0 where all agrees, 1 where something does not (no number
    agrees with nothing), else a line that says why there was no comparing."""
    if len(arguments) != 1:
        return f"usage: python {Path(__file__).name} FOLDER"
    try:
        differences = check(arguments[0])
    except (OSError, ValueError, RuntimeError) as error:
        return f"{arguments[0]}: {' '.join(str(error).split())}"
    for name, value in differences.items():
        print(f"{name}: {value:.1e}")
    return int(not all(value <= 1e-4 for value in differences.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
