"""SleepLM's checkpoint in and out: names, shapes, values, and what is refused."""

import dataclasses
import json
import os
import pickle
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sleeplm_jax.checkpoints import Checkpoints
from sleeplm_jax.cli import main
from sleeplm_jax.config.files import save_config
from sleeplm_jax.corpus.clip_bpe import clip_tokenizer
from sleeplm_jax.files import write_json
from sleeplm_jax.inference.run import Model
from sleeplm_jax.interop.names import leaves
from sleeplm_jax.interop.sleeplm_names import from_sleeplm, to_sleeplm
from sleeplm_jax.models.build import create, with_vocabulary
from sleeplm_jax.models.presets import preset
from tests.interop.clip_words import small_bpe
from tests.interop.shapes import changed, small_sleeplm, weights

torch = pytest.importorskip("torch", reason="torch is not installed (extra torch)")
pytest.importorskip("tokenizers", reason="tokenizers is not installed (extra torch)")
torch.set_num_threads(1)


def flat(parameters):
    return {"/".join(path): np.asarray(value) for path, value in leaves(parameters)}


def published() -> dict[str, tuple[int, ...]]:
    """Name -> shape of the published configuration."""
    found = {}
    for line in (Path(__file__).parent / "sleeplm_state_dict.txt").read_text().splitlines():
        if not line.startswith("#"):
            name, layers, shape = line.split()
            for i in range(int(layers)):
                found[name.replace("#", str(i))] = (
                    () if shape == "-" else tuple(map(int, shape.split(",")))
                )
    return found


def test_the_base_model_has_the_published_names_and_shapes():
    config = preset("sleeplm-base")
    made = jax.eval_shape(lambda: to_sleeplm(create(config)[1], config, jnp))
    assert {name: x.shape for name, x in made.items()} == published()
    assert len(made) == 585  # 557 and 28 of the reconstruction decoder
    without = changed(config, objective=dict(reconstruction=0.0))
    made = jax.eval_shape(lambda: to_sleeplm(create(without)[1], without, jnp))
    assert len(made) == 557 and not any(name.startswith("signal_decoder") for name in made)


@pytest.fixture(scope="module")
def bpe(tmp_path_factory):
    return small_bpe(tmp_path_factory.mktemp("bpe") / "bpe_simple_vocab_16e6.txt.gz")


@pytest.fixture(scope="module")
def run(bpe, tmp_path_factory):
    """A run folder of a small SleepLM with random weights, and these weights."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    folder.mkdir()
    tokenizer = clip_tokenizer(bpe)
    config = changed(small_sleeplm(), encoder=dict(dropout=0.2))  # which no shape tells
    config = dataclasses.replace(with_vocabulary(config, tokenizer.vocab_size), name="small")
    parameters = weights(config)
    tokenizer.save(folder)
    save_config(config, folder / "config.json")
    write_json(folder / "run.json", {})
    with Checkpoints(folder / "checkpoints", writing=True) as saved:
        about = {"corpus": "", "tokenizer": tokenizer.hash}
        saved.save(3, {"parameters": parameters, "step": np.zeros((), np.int32)}, about)
    return folder, config, parameters


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("sleeplm") / "out"
    assert main(["export", str(run[0]), "--to", "sleeplm", "--out", str(out)]) == 0
    return out


def test_fixed_frequencies_are_torchs_to_the_last_bit():
    from sleeplm_jax.interop.sleeplm_names import temporal_frequencies

    for half in (4, 16, 32):
        theirs = 1.0 / (10_000 ** (torch.arange(0, 2 * half, 2).float() / (2 * half)))
        np.testing.assert_array_equal(temporal_frequencies(half), theirs.numpy())


def test_weights_come_back_bit_for_bit(run):
    _, config, parameters = run
    back = flat(from_sleeplm(to_sleeplm(parameters, config), config, "x"))
    assert set(back) == set(flat(parameters))
    for name, value in flat(parameters).items():
        assert back[name].shape == value.shape and back[name].dtype == np.float32
        np.testing.assert_array_equal(back[name], value)


def test_an_exported_run_is_imported_as_the_same_model(run, exported, bpe, tmp_path, capsys):
    """Also with the `module.` of distributed training and without the outer dictionary."""
    folder, config, parameters = run
    state = torch.load(exported / "model_checkpoint.pt", weights_only=True)["state_dict"]
    bare = tmp_path / "bare.pt"
    torch.save({f"module.{name}": value for name, value in state.items()}, bare)
    official = next(exported.glob("sleep_coca_*.json"))
    out = tmp_path / "imported"
    assert main(["import", str(bare), "--from", "sleeplm", "--bpe", str(bpe), "--out", str(out),
                 "--config", str(official)]) == 0
    ours, back = Model.load(folder, batch_size=2), Model.load(out, batch_size=2)
    assert back.config.model == config.model and back.tokenizer.hash == ours.tokenizer.hash
    assert back.config.data.text_length == config.data.text_length
    for name, value in flat(back.parameters).items():
        np.testing.assert_array_equal(value, flat(parameters)[name])
    assert json.loads((out / "run.json").read_text())["imported"]["from"] == "SleepLM"
    texts = ["Deep sleep!", "wake 12.5 seconds"]
    np.testing.assert_allclose(np.linalg.norm(back.embed_texts(texts), axis=1), 1, rtol=1e-5)


def official_shape(config):
    from sleeplm_jax.interop.sleeplm_folder import official_config

    return official_config(config)


def test_the_official_configuration_is_the_published_one():
    """Fields that shape the model, as the published JSON has them (with the demo's overrides)."""
    made = official_shape(preset("sleeplm-base"))
    assert made["embed_dim"] == 512 and made["prefix_len"] == 2
    assert made["num_caption_channels"] == 5
    assert made["multimodal_cfg"] == {"width": 768, "context_length": 256, "mlp_ratio": 4,
                                      "layers": 12, "heads": 12}
    wanted = {"architecture": "pure_transformer", "input_channels": 10, "signal_length": 1920,
              "sampling_rate": 64, "patch_size": 16, "conv_embed_dim": 256,
              "num_temporal_layers": 1, "activation": "swiglu", "norm_type": "rmsnorm",
              "mlp_bias": False, "share_channel_rope": True, "transformer_layers": 3,
              "transformer_width": 768, "transformer_heads": 12, "mlp_ratio": 3.0,
              "pool_type": "attn", "decoder_tokens": 32}
    assert made["biosignals_cfg"].items() >= wanted.items()
    text = {"context_length": 256, "vocab_size": 49408, "layers": 12, "heads": 12, "width": 768,
            "embed_cls": True, "output_tokens": True}
    assert made["text_cfg"].items() >= text.items()


class Harmful:
    def __reduce__(self):
        return os.mkdir, (os.environ["HARM"],)


def refused(path, bpe, tmp_path, capsys, *more) -> str:
    status = main(["import", str(path), "--bpe", str(bpe), "--out", str(tmp_path / "o"), *more])
    error = capsys.readouterr().err
    assert status == 2 and error.count("\n") == 1 and not (tmp_path / "o").exists()
    return error


def test_a_checkpoint_that_holds_code_is_refused_and_not_run(bpe, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HARM", str(tmp_path / "harm"))
    whole = {"state_dict": {"logit_scale": torch.tensor(1.0)}, "extra": Harmful()}
    torch.save(whole, tmp_path / "new.pt")
    torch.save(whole, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    (tmp_path / "raw.pt").write_bytes(pickle.dumps(Harmful()))
    for name in ("new.pt", "old.pt", "raw.pt"):
        assert "could run code" in refused(tmp_path / name, bpe, tmp_path, capsys)
    assert not (tmp_path / "harm").exists()


def test_other_files_are_refused_in_one_line(exported, bpe, tmp_path, capsys):
    good = torch.load(exported / "model_checkpoint.pt", weights_only=True)["state_dict"]
    official = str(next(exported.glob("sleep_coca_*.json")))

    def saved(name, value):
        torch.save(value, tmp_path / name)
        return tmp_path / name

    def error(path, words=bpe):
        return refused(path, words, tmp_path, capsys, "--config", official)

    assert "no such file" in error(tmp_path / "absent.pt")
    cut = tmp_path / "cut.pt"
    cut.write_bytes((exported / "model_checkpoint.pt").read_bytes()[:5000])
    assert "is no checkpoint" in error(cut) or "could run code" in error(cut)
    assert "no state dict" in error(saved("list.pt", [1, 2]))
    assert "no state dict" in error(saved("numbers.pt", {"a": 1}))
    assert "is no SleepLM" in error(saved("other.pt", {"a": torch.zeros(2)}))
    name = "text_decoder.cross_attn.1.ln_1_kv.bias"
    assert f"has no {name}" in error(saved("less.pt", {k: v for k, v in good.items() if k != name}))
    assert "has surplus" in error(saved("more.pt", good | {"surplus": torch.zeros(1)}))
    name = "biosignals.transformer_blocks.1.temporal_attention_layers.0.rotary_emb.freqs"
    assert name in error(saved("base.pt", good | {name: good[name] * 2}))
    name = "text.transformer.resblocks.0.mlp.c_proj.weight"
    assert "shape" in error(saved("shape.pt", good | {name: torch.zeros(32, 64)}))
    assert "no such file" in error(exported / "model_checkpoint.pt", tmp_path / "absent.gz")


def test_arrays_of_no_use_are_refused_in_one_line(exported, bpe, tmp_path, capsys):
    """Of another rank, or none that numpy can hold: whatever a strange file has in their place."""
    good = torch.load(exported / "model_checkpoint.pt", weights_only=True)["state_dict"]
    official = str(next(exported.glob("sleep_coca_*.json")))

    def error(**entries):
        torch.save(good | entries, tmp_path / "x.pt")
        return refused(tmp_path / "x.pt", bpe, tmp_path, capsys, "--config", official)

    words = "text.token_embedding.weight"
    for value in (
        good[words].to_sparse(), good[words] + 0j, torch.empty(good[words].shape, device="meta"),
    ):
        assert f"{words} is sparse, quantised, complex or without its values" in error(
            **{words: value})
    for name in (
        words, "biosignals.patching.conv_patching.weight", "biosignals.decoder_pooler.query_tokens",
        "biosignals.shared_channel_rope.freqs", "text.positional_embedding", "channel_embeddings",
        "signal_decoder.to_signal.2.weight", "text.text_projection", "padding_embedding",
        "text_decoder.cross_attn.1.attn.in_proj_weight", "logit_scale",
    ):
        for shape in ((7,), (0, 0), (2, 3, 5, 1)):
            assert str(tmp_path / "x.pt") in error(**{name: torch.zeros(shape)})
    assert "sentencepiece" in error(**{words: good[words][:100]})
    assert "is a folder" in refused(tmp_path, bpe, tmp_path, capsys)
    (tmp_path / "x.pt").write_text("hello")
    assert "is no checkpoint that torch.save" in refused(tmp_path / "x.pt", bpe, tmp_path, capsys)


@pytest.mark.parametrize(("official", "finding"), [
    ("[1]", "is no JSON object"),
    ("{", "cannot be read"),
    ('{"biosignals_cfg": "abc"}', "biosignals_cfg is no JSON object"),
    ('{"biosignals_cfg": {"sampling_rate": 0}}', "biosignals_cfg.sampling_rate is 0"),
    ('{"biosignals_cfg": {"signal_length": "1920"}}', "signal_length is '1920'"),
    ('{"biosignals_cfg": {"sampling_rate": 7}}', "are no whole seconds"),
    ('{"text_cfg": {"heads": null}}', "text_cfg.heads is None"),
    ('{"text_cfg": {"heads": 5}, "multimodal_cfg": {"heads": 5}}', "heads"),
    ('{"biosignals_cfg": {"dropout": "much"}}', "biosignals_cfg.dropout is 'much'"),
    ('{"biosignals_cfg": {"dropout": NaN}}', "biosignals_cfg.dropout is nan"),
    ('{"text_cfg": {"heads": 4}}', "text_cfg.heads is not multimodal_cfg.heads"),
])
def test_a_malformed_official_configuration_is_named(
    official, finding, exported, bpe, tmp_path, capsys
):
    path = tmp_path / "official.json"
    path.write_text(official)
    checkpoint = exported / "model_checkpoint.pt"
    assert finding in refused(checkpoint, bpe, tmp_path, capsys, "--config", str(path))


def test_a_model_of_other_settings_is_not_passed_off_as_sleeplm(trained_run, tmp_path, capsys):
    assert main(["export", str(trained_run), "--to", "sleeplm", "--out", str(tmp_path / "o")]) == 2
    error = capsys.readouterr().err
    assert "model.encoder.kind is vit2d, the official code has dual_axis" in error
    assert error.count("\n") == 1 and not (tmp_path / "o").exists()


