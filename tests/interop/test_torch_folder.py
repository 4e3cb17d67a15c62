"""An exported folder: complete, discreet, and enough for torch alone."""

import dataclasses
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from sleeplm_jax.cli import main
from sleeplm_jax.config import CAPTION_KINDS
from sleeplm_jax.config.files import load_config, save_config
from sleeplm_jax.corpus.clip_bpe import clip_tokenizer
from sleeplm_jax.corpus.tokenizer import training_sentences
from sleeplm_jax.errors import ConfigError
from sleeplm_jax.inference.prompts import prompt
from sleeplm_jax.inference.run import Model
from sleeplm_jax.interop.words import vocabulary
from tests.interop.clip_words import small_bpe

torch = pytest.importorskip("torch", reason="torch is not installed (extra torch)")
safetensors = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")
torch.set_num_threads(1)

FILES = {"README.md", "check.json", "check.safetensors", "config.json", "model.safetensors",
         "modeling_sleeplm.py", "montage.json", "tokenizer.json", "tokenizer.model",
         "vocabulary.json"}  # fmt: skip
# Runs the folder's own file in a process where nothing but torch and the standard library loads.
ALONE = """
import runpy, sys

for name in ("jax", "jaxlib", "flax", "numpy", "safetensors", "orbax", "sentencepiece",
             "tokenizers", "sleeplm_jax"):
    sys.modules[name] = None  # absent, for every import
folder = sys.argv[1]
sys.argv = ["modeling_sleeplm.py", folder]
runpy.run_path(folder + "/modeling_sleeplm.py", run_name="__main__")
"""


@pytest.fixture(scope="module")
def half_run(trained_run, tmp_path_factory):
    """The run as the larger presets are: computed in bfloat16, which no exported folder is."""
    folder = shutil.copytree(trained_run, tmp_path_factory.mktemp("half") / "run")
    config = load_config(folder / "config.json")
    model = dataclasses.replace(config.model, compute_dtype="bfloat16")
    save_config(dataclasses.replace(config, model=model), folder / "config.json")
    return folder


@pytest.fixture(scope="module")
def exported(half_run, tmp_path_factory):
    out = tmp_path_factory.mktemp("exported") / "model"
    assert main(["export", str(half_run), "--to", "torch", "--out", str(out)]) == 0
    return out


def test_the_folder_holds_what_it_should_and_names_nobody(exported, trained_run, half_run):
    assert {path.name for path in exported.iterdir()} == FILES
    about = json.loads((trained_run / "run.json").read_text())
    text = "".join((exported / name).read_text() for name in FILES if not name.endswith(
        (".safetensors", ".model", ".py")))
    people = [name for part in about["corpus"]["subjects"].values() for name in part]
    assert people and not any(name in text for name in people)
    assert str(trained_run.parent) not in text and str(half_run.parent) not in text
    card = (exported / "README.md").read_text()
    assert about["corpus"]["hash"] in card and "**simulated**" in card and "no diagnosis" in card
    montage = json.loads((exported / "montage.json").read_text())
    assert [c["name"] for c in montage["channels"]][-1] == "POS" and montage["shape"] == [10, 1920]


def test_torch_alone_repeats_what_the_exporter_stored(exported):
    done = subprocess.run([sys.executable, "-I", "-c", ALONE, str(exported)], capture_output=True,
                          text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    figures = dict(line.split(": ") for line in done.stdout.splitlines())
    assert set(figures) == {"features", "signal_embedding", "text_embedding", "reconstruction",
                            "captions"}
    assert all(float(value) < 1e-4 for value in figures.values())


@pytest.mark.parametrize("wrong", [0.1, float("nan")])
def test_the_check_can_fail(wrong, exported, tmp_path, capsys):
    """By one value among several that agree, also where that is no number."""
    from sleeplm_jax.interop import modeling_sleeplm

    own = shutil.copytree(exported, tmp_path / "own")
    weights = safetensors.load_file(own / "model.safetensors")
    weights["reconstruction.to_signal.bias"] += wrong
    safetensors.save_file(weights, own / "model.safetensors")
    assert modeling_sleeplm.main([str(own)]) == 1
    figures = dict(line.split(": ") for line in capsys.readouterr().out.splitlines())
    assert not float(figures.pop("reconstruction")) < 1e-3
    assert all(float(value) < 1e-4 for value in figures.values())


def test_the_reader_of_safetensors_agrees_with_the_library(tmp_path):
    from sleeplm_jax.interop.modeling_sleeplm import read_safetensors

    tensors = {"a": torch.randn(3, 4), "b": torch.tensor(2.5), "c": torch.arange(5),
               "d": torch.tensor([True, False]), "e": torch.randn(2, 2).to(torch.bfloat16),
               "f": torch.zeros(0, 3)}
    safetensors.save_file(tensors, tmp_path / "x.safetensors", metadata={"a": "b"})
    ours = read_safetensors(tmp_path / "x.safetensors")
    assert set(ours) == set(tensors)
    for name, value in tensors.items():
        assert ours[name].dtype == value.dtype and torch.equal(ours[name], value)


def test_damaged_files_are_told_in_one_line(exported, tmp_path):
    """Cut off, or with a header whose places are not those of its shapes."""
    from sleeplm_jax.interop import modeling_sleeplm

    path = tmp_path / "x.safetensors"
    safetensors.save_file({"a": torch.ones(3, 4), "b": torch.zeros(3, 4)}, path)
    whole = path.read_bytes()
    size = 8 + int.from_bytes(whole[:8], "little")
    a, b = b"[0,48]", b"[48,96]"
    assert whole.count(a) == whole.count(b) == 1
    for data in (
        b"", b"hello", whole[:5], whole[: size - 1], whole[:size], whole[:-1], whole + b"0",
        whole.replace(b, b" [0,48]"[:7]), whole.replace(b"[3,4]", b"[3,3]"),
        whole.replace(b, b"[48,97]"), whole.replace(b'"F32"', b'"F33"', 1),
        b"\xff" * 8 + whole[8:], (2).to_bytes(8, "little") + b"[]",
    ):
        path.write_bytes(data)
        with pytest.raises(ValueError, match="is cut off, or no safetensors file"):
            modeling_sleeplm.read_safetensors(path)
    assert modeling_sleeplm.main([]).startswith("usage: ")
    own = shutil.copytree(exported, tmp_path / "own")
    (own / "model.safetensors").write_bytes((own / "model.safetensors").read_bytes()[:10_000])
    told = modeling_sleeplm.main([str(own)])
    assert "is cut off" in told and "\n" not in told
    told = modeling_sleeplm.main([str(tmp_path / "absent")])
    assert "No such file" in told and "\n" not in told


@pytest.mark.parametrize("change", [
    lambda config: config["model"].pop("encoder"),
    lambda config: config["model"]["encoder"].update(pool="none"),
    lambda config: config["model"].update(spec=[]),
    lambda config: config.clear(),
])
def test_a_changed_config_is_one_line(exported, change, tmp_path):
    from sleeplm_jax.interop import modeling_sleeplm

    own = shutil.copytree(exported, tmp_path / "own")
    config = json.loads((own / "config.json").read_text())
    change(config)
    (own / "config.json").write_text(json.dumps(config))
    told = modeling_sleeplm.main([str(own)])
    assert "is not as it was exported" in told and "\n" not in told


@pytest.mark.parametrize("kind", [
    "brain", "brain+heart", "brain+brain", "brain+heart+stage_event", "brain+", "", "dreams",
])
def test_kinds_are_those_of_the_runs_own_captions(kind, exported):
    from sleeplm_jax.interop.modeling_sleeplm import SleepLM

    twin = SleepLM.load(exported)
    assert list(CAPTION_KINDS) == twin.kinds
    try:
        prompt(kind)
    except ConfigError:
        with pytest.raises(ValueError, match="is none of brain"):
            twin.generate(np.zeros((1, 10, 1920)), kind=kind)
    else:
        assert twin.generate(np.zeros((1, 10, 1920)), kind=kind, max_tokens=2).shape == (1, 2)


def test_texts_and_captions_are_the_runs_own(exported, trained_run):
    from sleeplm_jax.interop.modeling_sleeplm import SleepLM

    model, twin = Model.load(trained_run, batch_size=2), SleepLM.load(exported)
    texts = ["Deep sleep (N3).", "Wake, 39.05 % delta."]
    np.testing.assert_allclose(twin.embed_texts(texts).numpy(), model.embed_texts(texts), atol=1e-4)
    with pytest.raises(ValueError, match="'dreams' is none of brain"):
        twin.caption(np.zeros((1, 10, 1920)), kind="dreams")


@pytest.mark.parametrize("kind", ["sentencepiece", "clip"])
def test_words_without_a_library_are_the_librarys(kind, corpus, tokenizer, tmp_path):
    from sleeplm_jax.interop.modeling_sleeplm import Vocabulary

    if kind == "clip":
        pytest.importorskip("tokenizers", reason="tokenizers is not installed")
        tokenizer = clip_tokenizer(small_bpe(tmp_path / "bpe.txt.gz"))
    plain = Vocabulary(json.loads(json.dumps(vocabulary(tokenizer))))
    texts = [*training_sentences(corpus, 5, 200), "", " two  spaces ", "tab\tand\nline", "<s> </s>",
             "naïve Ångström µV 午前 😴", "don't (c4-a1): 39.05%, &amp; !", "\u2581 a_b"]
    for text in texts:
        ids = tokenizer.encode(text, 96).tolist()
        assert plain.encode(text, 96) == ids
        assert plain.decode(ids) == tokenizer.decode(ids)
    rng = np.random.default_rng(0)
    for row in rng.integers(0, tokenizer.vocab_size + 3, (50, 30)).tolist():
        assert plain.decode(row) == tokenizer.decode(row)


def test_a_folder_in_use_is_left_alone(exported, trained_run, capsys):
    assert main(["export", str(trained_run), "--out", str(exported)]) == 2
    assert "exists and is not empty" in capsys.readouterr().err


def test_an_absent_package_is_named(trained_run, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert main(["export", str(trained_run), "--out", str(tmp_path / "x"), "--onnx"]) == 2
    error = capsys.readouterr().err
    assert "needs the package onnxscript" in error and error.count("\n") == 1


@pytest.mark.slow
def test_the_encoder_as_onnx_agrees(exported, tmp_path):
    """For a number of epochs other than it was traced with; by ONNX's reference evaluator."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed (extra torch)")
    pytest.importorskip("onnxscript", reason="onnxscript is not installed (extra torch)")
    from onnx.reference import ReferenceEvaluator

    from sleeplm_jax.interop.modeling_sleeplm import SleepLM
    from sleeplm_jax.interop.onnx_encoder import export_encoder

    own = shutil.copytree(exported, tmp_path / "own")
    path = str(export_encoder(own))
    onnx.checker.check_model(path)
    rng = np.random.default_rng(0)
    given = {"signal": rng.standard_normal((3, 10, 1920)).astype(np.float32),
             "channel_mask": rng.random((3, 10)) < 0.7}
    session = ReferenceEvaluator(path)
    found = dict(zip(session.output_names, session.run(None, given)))
    with torch.no_grad():
        wanted = SleepLM.load(own).encode_signal(**given)
    assert set(found) == {"features", "caption_tokens", "embedding"}
    for name, value in found.items():
        np.testing.assert_allclose(value, wanted[name].numpy(), atol=1e-4)
