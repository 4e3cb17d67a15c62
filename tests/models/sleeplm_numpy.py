"""SleepLM's forward pass in plain numpy, from its description (float64, loops where they are
clearer). Parameters: our nested dict, leaves stacked over depth."""

import math

import numpy as np

erf = np.vectorize(math.erf)


def linear(p, x):
    return x @ p["kernel"] + p.get("bias", 0.0)


def rms(p, x):
    return p["scale"] * x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6)


def layer(p, x):
    x = x - x.mean(-1, keepdims=True)
    return p["scale"] * x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5) + p["bias"]


def gelu(x):
    return x * (1 + erf(x / math.sqrt(2))) / 2


def at(tree, i):
    return {k: at(v, i) if isinstance(v, dict) else np.asarray(v, np.float64)[i]
            for k, v in tree.items()}


def turn(x, angle):
    """`x [n, d]`: each pair of neighbours is a complex number, multiplied by e^(i angle)."""
    z = (x[:, 0::2] + 1j * x[:, 1::2]) * np.exp(1j * angle)
    out = np.empty_like(x)
    out[:, 0::2], out[:, 1::2] = z.real, z.imag
    return out


def attention(p, x, context, heads, allowed=None, angle=None):
    """`x [n, D]` over `context [m, D]`; `allowed bool [n, m]`."""
    q, k, v = linear(p["q"], x), linear(p["k"], context), linear(p["v"], context)
    d = q.shape[-1] // heads
    out = np.zeros_like(q)
    for h in range(heads):
        s = slice(h * d, (h + 1) * d)
        qh, kh = q[:, s], k[:, s]
        if angle is not None:
            qh, kh = turn(qh, angle), turn(kh, angle)
        score = qh @ kh.T / math.sqrt(d)
        if allowed is not None:
            score = np.where(allowed, score, -np.inf)
        w = np.exp(score - score.max(-1, keepdims=True))
        out[:, s] = w / w.sum(-1, keepdims=True) @ v[:, s]
    return linear(p["out"], out)


def swiglu(p, x):
    gate = linear(p["gate"], x)
    return linear(p["down"], gate / (1 + np.exp(-gate)) * linear(p["up"], x))


def axis_layer(p, x, heads, angle, allowed=None):
    x = rms(p["norm"], x + attention(p["attention"], x, x, heads, allowed, angle))
    return rms(p["norm_mlp"], x + swiglu(p["mlp"], x))


def encode_signal(p, signal, heads, present=None):
    """`(embedding before the projection [D], caption tokens [Q, D])` of one `signal [C, T]`."""
    e = p["encoder"]
    width = e["filters"]["kernel"].shape[0]
    channels, patches = signal.shape[0], signal.shape[1] // width
    seen = np.ones(channels, bool) if present is None else present
    x = linear(e["project"], linear(e["filters"], signal.reshape(channels, patches, width)))
    x = x + e["channel_embedding"][:, None]
    half = x.shape[-1] // heads // 2
    time_angle = np.arange(patches)[:, None] * 10000.0 ** (-np.arange(half) / half)
    channel_angle = np.arange(channels)[:, None] * e["channel_frequencies"]
    for i in range(e["stack"]["blocks"]["channel"]["norm"]["scale"].shape[0]):
        block = at(e["stack"]["blocks"], i)
        x = np.stack([
            axis_layer(block["channel"], x[:, t], heads, channel_angle, seen[None, :])
            for t in range(patches)
        ], 1)
        x = np.stack([axis_layer(block["temporal"], row, heads, time_angle) for row in x])
    x = rms(e["norm"], x).reshape(channels * patches, -1)
    allowed = np.repeat(seen, patches)[None, :]

    def pool(q):
        return attention(q["attention"], q["queries"], x, heads, allowed)

    captions = pool(e["caption_pool"])
    return attention(e["cascade"], pool(e["embedding_pool"]), captions, heads)[0], captions


def block(p, x, heads, allowed, act=gelu):
    y = layer(p["norm_self"], x)
    x = x + attention(p["attention"], y, y, heads, allowed)
    return x + linear(p["mlp"]["down"], act(linear(p["mlp"]["up"], layer(p["norm_mlp"], x))))


def encode_text(p, text, heads):
    """`(summary before the projection [D], tokens [L, D])` of one `text [L]`."""
    t, n = p["text"], len(text)
    x = np.concatenate([t["token_embedding"][text], t["summary_token"][None]])
    x = x + t["position_embedding"][: n + 1]
    allowed = np.zeros((n + 1, n + 1), bool)
    for i in range(n + 1):
        for j in range(i + 1):
            allowed[i, j] = j == 0 or text[j - 1] != 0
    for i in range(t["stack"]["blocks"]["norm_mlp"]["scale"].shape[0]):
        x = block(at(t["stack"]["blocks"], i), x, heads, allowed)
    return layer(t["norm"], x[-1]), x[:-1]


def decode(p, tokens, prefix, captions, heads):
    """Logits `[L, V]`."""
    d, slots = p["decoder"], len(prefix)
    x = np.concatenate([np.stack([d["prefix_embedding"][k] for k in prefix]), tokens])
    allowed = np.zeros((len(x), len(x)), bool)
    for i in range(len(x)):
        for j in range(len(x)):
            allowed[i, j] = j < slots if i < slots else j <= i
    for i in range(d["stack"]["blocks"]["norm_mlp"]["scale"].shape[0]):
        b = at(d["stack"]["blocks"], i)
        x = block(b, x, heads, allowed)
        context = layer(b["norm_context"], captions)
        x = x + attention(b["cross_attention"], layer(b["norm_cross"], x), context, heads)
        y = gelu(linear(b["cross_mlp"]["up"], layer(b["norm_cross_mlp"], x)))
        x = x + linear(b["cross_mlp"]["down"], y)
    return layer(d["norm"], x[slots:]) @ d["logits"]["kernel"]


def reconstruct(p, captions, heads, shape):
    r, x = p["reconstruction"], captions
    for i in range(2):
        x = block(at(r["stack"]["blocks"], i), x, heads, None, lambda y: np.maximum(y, 0))
    x = np.maximum(linear(r["bottleneck"], x.mean(0)), 0)
    return linear(r["to_signal"], x).reshape(shape)
