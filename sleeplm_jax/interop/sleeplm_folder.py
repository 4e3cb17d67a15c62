"""A run as a checkpoint of the official SleepLM code, and the released checkpoint as a run.

Source of names and settings: yang-ai-lab/SleepLM @ f788466 (MIT). Its published configuration is
`sleep_coca_base_dualtransformer.json`, with `num_caption_channels=5, prefix_len=2` as its demo
overrides it.
"""

from __future__ import annotations

import dataclasses
import json
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np

from sleeplm_jax import __version__
from sleeplm_jax.checkpoints import Checkpoints
from sleeplm_jax.config import (
    CAPTION_KINDS,
    PREFIX_LENGTH,
    SLEEPLM_CHANNELS,
    DataConfig,
    RunConfig,
    SignalSpec,
)
from sleeplm_jax.config.files import save_config
from sleeplm_jax.config.validation import validate
from sleeplm_jax.corpus.clip_bpe import clip_tokenizer
from sleeplm_jax.errors import CheckpointError, ConfigError, UserError
from sleeplm_jax.files import file_sha256, write_atomically, write_json
from sleeplm_jax.inference.run import Model
from sleeplm_jax.interop.card import card
from sleeplm_jax.interop.packages import need
from sleeplm_jax.interop.sleeplm_names import from_sleeplm, to_sleeplm
from sleeplm_jax.interop.torch_folder import montage, new_folder
from sleeplm_jax.models.build import create
from sleeplm_jax.models.presets import preset

CHECKPOINT, BPE = "model_checkpoint.pt", "bpe_simple_vocab_16e6.txt.gz"
# Of the official model configuration, what a state dict's shapes leave open.
OFFICIAL = {"biosignals_cfg": ("signal_length", "sampling_rate"), "text_cfg": ("heads",),
            "multimodal_cfg": ("heads",)}
HEAD_WIDTH = 64  # of SleepLM's text tower and decoder, whose weights do not tell it


def export_sleeplm(model: Model, out: Path) -> Path:
    """Writes `out`/model_checkpoint.pt, a model configuration for the official code's
    `create_model`, the tokenizer and a card; returns `out`.

    Raises CheckpointError for a model that the official code has no settings for, UserError when
    `out` holds something.
    """
    refuse_other_settings(model.config, model.folder)
    torch = need("torch", "export --to sleeplm")
    out = new_folder(out)
    state = to_sleeplm(jax.device_get(model.parameters), model.config)
    tensors = {name: torch.from_numpy(np.array(x, np.float32)) for name, x in state.items()}
    partial = out / f".partial-{CHECKPOINT}"
    torch.save({"state_dict": tensors}, partial)
    partial.replace(out / CHECKPOINT)
    name = f"sleep_coca_{model.config.name}"
    write_json(out / f"{name}.json", official_config(model.config))
    model.tokenizer.save(out)
    write_json(out / "montage.json", montage(model.spec))
    head = model.config.objective.reconstruction > 0
    use = [
        "", "## In the official code", "",
        f"Put `{name}.json` among its `model_configs`, then", "",
        f'    model = create_model("{name}", num_caption_channels={len(CAPTION_KINDS)},',
        f"                         prefix_len={PREFIX_LENGTH}, use_signal_decoder={head})",
        f'    model.load_state_dict(torch.load("{CHECKPOINT}", weights_only=True)["state_dict"])',
    ]
    if model.tokenizer.kind != "clip":
        use += ["", "Its tokenizer is not CLIP's: `tokenizer.model` is a sentencepiece model, with "
                "padding 0, start 1 and end 2."]
    about = card(model, out).partition("## Use")[0].rstrip()
    write_atomically(out / "README.md", ("\n".join([about, *use]) + "\n").encode())
    return out


def refuse_other_settings(config: RunConfig, where: object) -> None:
    """CheckpointError that names the first setting which the official code does not have."""
    model, published = config.model, preset("sleeplm-base").model
    want = {
        f"model.{part}.{name}": (getattr(getattr(model, part), name),
                                 getattr(getattr(published, part), name))
        for part, names in (
            ("encoder", ("kind", "mlp", "mlp_bias", "qkv_bias", "norm_epsilon", "pool", "missing")),
            ("text", ("mlp", "norm_epsilon", "attention", "summary", "decoder")),
        ) for name in names
    } | {
        f"model.{name}": (getattr(model, name), getattr(published, name))
        for name in ("signal_projection", "text_projection", "reconstruction_mlp")
    } | {
        "model.text.width": (model.text.width, model.encoder.width),
        "model.reconstruction_width": (model.reconstruction_width, model.encoder.width // 2),
        "objective.contrastive_form": (config.objective.contrastive_form, "softmax"),
        "objective.reconstruction_form": (config.objective.reconstruction_form, "raw"),
        "objective.position_classes": (config.objective.position_classes, False),
    }
    if not config.objective.reconstruction > 0:
        head = ("model.reconstruction", "objective.reconstruction", "objective.position_classes")
        want = {name: pair for name, pair in want.items() if not name.startswith(head)}
    for name in ("contrastive", "caption"):
        if getattr(config.objective, name) <= 0:
            want[f"objective.{name}"] = (0, "> 0")
    for name, (found, needed) in want.items():
        if found != needed:
            raise CheckpointError(
                where, f"is no SleepLM: {name} is {found}, the official code has {needed}",
                "export --to torch, or train with the settings of the preset sleeplm-base",
            )


def official_config(config: RunConfig) -> dict:
    """The official code's model configuration (its JSON) of a model of ours."""
    model, encoder, text = config.model, config.model.encoder, config.model.text
    return {
        "embed_dim": model.embed_dim,
        "multimodal_cfg": {
            "width": text.width, "context_length": config.data.text_length,
            "mlp_ratio": text.mlp_ratio, "layers": text.decoder_depth, "heads": text.heads,
        },
        "biosignals_cfg": {
            "architecture": "pure_transformer", "input_channels": len(model.spec.channels),
            "signal_length": model.spec.samples, "sampling_rate": model.spec.rate,
            "patch_size": encoder.patch_samples, "conv_embed_dim": encoder.stem_width,
            "num_temporal_layers": 1, "activation": "swiglu", "norm_type": "rmsnorm",
            "mlp_bias": False, "share_channel_rope": True,
            "transformer_layers": encoder.depth, "transformer_width": encoder.width,
            "transformer_heads": encoder.heads, "mlp_ratio": encoder.mlp_ratio,
            "pool_type": "attn", "dropout": encoder.dropout,
            "decoder_tokens": encoder.caption_tokens,
        },
        "text_cfg": {
            "context_length": config.data.text_length, "vocab_size": model.vocab_size,
            "layers": text.depth, "heads": text.heads, "width": text.width,
            "mlp_ratio": text.mlp_ratio, "embed_cls": True, "output_tokens": True,
        },
        "custom_text": True, "prefix_len": PREFIX_LENGTH,
        "num_caption_channels": len(CAPTION_KINDS), "decoder_type": "cross_attention",
    }


def read_checkpoint(path: Path) -> dict[str, np.ndarray]:
    """The state dict of a `.pt` file; nothing in it is executed (torch's weights-only loading).

    Takes a bare state dict or one under "state_dict", and drops DistributedDataParallel's
    `module.`. Raises CheckpointError for anything else.
    """
    torch = need("torch", "import --from sleeplm")
    remedy = f"give SleepLM's {CHECKPOINT}"
    if not Path(path).is_file():
        finding = "is a folder" if Path(path).is_dir() else "no such file"
        raise CheckpointError(path, finding, remedy)
    try:
        mapped = zipfile.is_zipfile(path)  # torch's older form cannot be
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a pickle it refuses is of another protocol
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except PermissionError as error:
        raise CheckpointError(path, f"cannot be read ({error.strerror})", remedy) from None
    except Exception as error:  # unpickling refused, no zip, truncated: each is another kind
        refused = "Unsupported" in str(error) or "weights_only" in str(error).lower()
        finding = "holds more than tensors, which could run code" if refused else (
            "is no checkpoint that torch.save has written, or a damaged one"
        )
        raise CheckpointError(path, finding, remedy) from None
    state = loaded.get("state_dict", loaded) if isinstance(loaded, Mapping) else None
    if not isinstance(state, Mapping) or not state or not all(
        isinstance(name, str) and isinstance(x, torch.Tensor) for name, x in state.items()
    ):
        raise CheckpointError(path, "holds no state dict of tensors", remedy)
    arrays = {}
    for name, x in state.items():
        try:
            if x.is_complex():  # whose imaginary part would be dropped
                raise TypeError
            arrays[name.removeprefix("module.")] = x.detach().float().numpy()
        except (RuntimeError, TypeError):
            raise CheckpointError(
                path, f"{name[:100]} is sparse, quantised, complex or without its values", remedy
            ) from None
    return arrays


def read_official(path: Path) -> dict[str, dict]:
    """The official model configuration in a JSON file. Raises ConfigError where it is none, or
    what `config_of` reads of it is no whole number above 0 (dropout: none from 0 to below 1)."""
    remedy = "give the official model configuration"
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(path, f"cannot be read ({error})", remedy) from None
    if not isinstance(found, dict):
        raise ConfigError(path, "is no JSON object", remedy)
    for part, names in OFFICIAL.items():
        section = found.get(part, {})
        if not isinstance(section, dict):
            raise ConfigError(path, f"{part} is no JSON object", remedy)
        for name in names:
            value = section.get(name, 1)
            if type(value) is not int or value < 1:
                finding = f"{part}.{name} is {ascii(value)[:40]}, no whole number above 0"
                raise ConfigError(path, finding, remedy)
    dropout = found.get("biosignals_cfg", {}).get("dropout", 0.0)
    if type(dropout) not in (int, float) or not 0 <= dropout < 1:
        finding = f"biosignals_cfg.dropout is {ascii(dropout)[:40]}, no number from 0 to below 1"
        raise ConfigError(path, finding, remedy)
    return found


def config_of(state: Mapping[str, np.ndarray], official: Mapping, name: str) -> RunConfig:
    """Our config of a state dict, whose shapes say nearly all.

    `official`: the official model configuration where there is one (`read_official`); heads are
    read from it (else 64 features a head), and dropout. Raises ValueError for a state dict that is
    not SleepLM's.
    """
    base = preset("sleeplm-base")
    signal = official.get("biosignals_cfg", {})

    def shape(name: str, axes: int) -> tuple[int, ...]:
        if name not in state:
            raise ValueError(f"it has no {name}")
        found = state[name].shape
        if len(found) != axes or 0 in found:
            raise ValueError(f"{name} has shape {list(found)}")
        return found

    conv = shape("biosignals.patching.conv_patching.weight", 3)
    _, queries, width = shape("biosignals.decoder_pooler.query_tokens", 3)
    depth = _count(state, "biosignals.transformer_blocks.")
    hidden = shape("biosignals.transformer_blocks.0.channel_mlp.down_proj.weight", 2)[1]
    pairs = shape("biosignals.shared_channel_rope.freqs", 1)[0]
    vocab, text_width = shape("text.token_embedding.weight", 2)
    text_hidden = shape("text.transformer.resblocks.0.mlp.c_fc.weight", 2)[0]
    length = shape("text.positional_embedding", 2)[0] - 1
    samples = signal.get("signal_length", base.model.spec.samples)
    rate = signal.get("sampling_rate", base.model.spec.rate)
    channels = shape("biosignals.channel_id_embed.weight", 2)[0]
    if channels != len(SLEEPLM_CHANNELS):
        raise ValueError(f"{channels} channels instead of {len(SLEEPLM_CHANNELS)}")
    reconstruction = "signal_decoder.to_signal.0.weight" in state
    if reconstruction:
        samples = shape("signal_decoder.to_signal.2.weight", 2)[0] // channels
    if samples % rate:
        raise ValueError(f"{samples} samples at {rate} Hz are no whole seconds")
    kinds = shape("channel_embeddings", 2)[0]
    if kinds != len(CAPTION_KINDS):
        raise ValueError(f"{kinds} modality embeddings, not {len(CAPTION_KINDS)}")

    def heads(part):
        return official.get(part, {}).get("heads") or max(text_width // HEAD_WIDTH, 1)

    if heads("text_cfg") != heads("multimodal_cfg"):
        raise ValueError("text_cfg.heads is not multimodal_cfg.heads")
    return validate(dataclasses.replace(
        base, name=name,
        # Its captions say what its input does not show, and it reads missing channels as zeros.
        data=DataConfig(
            corpus="", text_length=length, style="sleeplm", ungrounded=True, mask_artefacts=(),
        ),
        objective=dataclasses.replace(
            base.objective,
            reconstruction=base.objective.reconstruction if reconstruction else 0.0,
        ),
        model=dataclasses.replace(
            base.model,
            spec=SignalSpec(SLEEPLM_CHANNELS, rate, samples // rate),
            encoder=dataclasses.replace(
                base.model.encoder, width=width, depth=depth,
                heads=width // (2 * pairs),
                mlp_ratio=_ratio(hidden, width), patch_samples=conv[2], stem_width=conv[0],
                caption_tokens=queries,
                dropout=float(signal.get("dropout", base.model.encoder.dropout)),
            ),
            text=dataclasses.replace(
                base.model.text, width=text_width, heads=heads("text_cfg"),
                depth=_count(state, "text.transformer.resblocks."),
                decoder_depth=_count(state, "text_decoder.resblocks."),
                mlp_ratio=_ratio(text_hidden, text_width),
            ),
            embed_dim=shape("text.text_projection", 2)[1], vocab_size=vocab,
            reconstruction_width=width // 2,
        ),
    ))


def _ratio(hidden: int, width: int) -> float:
    """What `int(width * ratio)` gives `hidden` for; the quotient can round to one below."""
    ratio = hidden / width
    return ratio if int(width * ratio) == hidden else (hidden + 0.5) / width


def _count(state: Mapping, prefix: str) -> int:
    return len({name[len(prefix):].partition(".")[0] for name in state if name.startswith(prefix)})


def import_sleeplm(checkpoint: Path, out: Path, bpe: Path | None = None,
                   config: Path | None = None) -> Path:
    """A run folder of a SleepLM checkpoint; returns it.

    bpe: CLIP's vocabulary file, by default the one beside the checkpoint. config: the official
    model configuration, for another size than the released one. Raises UserError subclasses.
    """
    checkpoint, out = Path(checkpoint), Path(out)
    state = read_checkpoint(checkpoint)
    official = {} if config is None else read_official(config)
    try:
        ours = config_of(state, official, out.name)
    except ValueError as error:
        raise CheckpointError(
            checkpoint, f"is no SleepLM ({error})",
            "give a checkpoint of the official code's pure_transformer",
        ) from None
    bpe = checkpoint.with_name(BPE) if bpe is None else Path(bpe)
    if not bpe.is_file():
        raise UserError(bpe, "no such file", f"give --bpe {BPE}, which the official code has")
    tokenizer = clip_tokenizer(bpe)
    if tokenizer.vocab_size > ours.model.vocab_size:
        raise CheckpointError(
            bpe, f"has {tokenizer.vocab_size} tokens, the checkpoint {ours.model.vocab_size}",
            "give CLIP's vocabulary it was trained with; models of another tokenizer (a run's own "
            "sentencepiece, exported) cannot be imported",
        )
    parameters = from_sleeplm(state, ours, checkpoint)
    del state
    shapes = jax.eval_shape(lambda: create(ours)[1])
    same = jax.tree.map(lambda a, b: np.shape(a) == b.shape, parameters, shapes)
    if not all(jax.tree.leaves(same)):
        path = jax.tree_util.keystr(next(p for p, ok in jax.tree_util.tree_leaves_with_path(same)
                                         if not ok), simple=True, separator="/")
        raise CheckpointError(checkpoint, f"{path} has a shape that the rest does not allow",
                              "give the checkpoint's own --config")
    out = new_folder(out)
    tokenizer.save(out)
    about = {"corpus": "", "tokenizer": tokenizer.hash}
    write_json(out / "run.json", {
        "sleeplm_jax": __version__,
        "imported": {"from": "SleepLM", "sha256": file_sha256(checkpoint)},
        "tokenizer": {"hash": tokenizer.hash, "vocab_size": tokenizer.vocab_size},
    })
    with Checkpoints(out / "checkpoints", writing=True) as saved:
        saved.save(0, {"parameters": parameters, "step": np.zeros((), np.int32)}, about)
    save_config(ours, out / "config.json")  # last: it makes the folder a run
    return out
