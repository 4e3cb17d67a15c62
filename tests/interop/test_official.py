"""Against a checkout of the official SleepLM code, named by SLEEPLM_TORCH (its root folder).

Its own modules with our weights: embeddings, logits, reconstruction, captions, tokens, with the
code's quirks (the mask that lies one place off, the summary's place after an unpadded text, "!").
"""

import os
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from sleeplm_jax.corpus.clip_bpe import clip_tokenizer
from sleeplm_jax.models.build import bind, graph_of
from sleeplm_jax.models.presets import preset
from tests.interop.shapes import inputs, small_sleeplm, weights

torch = pytest.importorskip("torch", reason="torch is not installed (extra torch)")
ROOT = os.environ.get("SLEEPLM_TORCH")
pytestmark = pytest.mark.skipif(not ROOT, reason="SLEEPLM_TORCH names no checkout of SleepLM")
TOLERANCE = 1e-4  # of the largest value; float32 sums in another order


@pytest.fixture(scope="module")
def official():
    """The checkout's package; its name, open_clip, is also a published package's."""
    sys.path.insert(0, str(Path(ROOT) / "src"))
    module = pytest.importorskip("open_clip", reason="the checkout's requirements are absent")
    assert Path(module.__file__).is_relative_to(ROOT)
    yield module
    sys.path.remove(str(Path(ROOT) / "src"))


def theirs(official, config, parameters):
    from open_clip.biosignals_coca_model import BiosignalsCoCa

    from sleeplm_jax.interop.sleeplm_folder import official_config
    from sleeplm_jax.interop.sleeplm_names import to_sleeplm

    shape = official_config(config)
    shape.pop("custom_text")
    with torch.device("meta"):
        model = BiosignalsCoCa(**shape, use_signal_decoder=config.objective.reconstruction > 0)
    state = {name: torch.from_numpy(x) for name, x in to_sleeplm(parameters, config).items()}
    model.load_state_dict(state, strict=True, assign=True)
    decoder = model.text_decoder  # masks are buffers outside the state dict
    decoder.prefix_causal_mask = decoder.build_prefix_causal_mask(
        decoder.prefix_len, decoder.context_length)
    model.text.attn_mask = model.text.build_causal_mask()
    return model.eval()


def far(a, b):
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    assert a.shape == b.shape
    return np.abs(a - b).max() / np.abs(a).max()


def compare(official, config, batch_size):
    parameters, batch = weights(config), inputs(config, batch_size)
    batch["channel_mask"][:] = True  # their code has no mask; a missing channel is zeros
    batch["signal"][-1, 3] = 0.0
    batch["text"][0, 4] = 0  # "!" in mid-text, which is the padding's id
    graph = graph_of(config)

    @jax.jit
    def run(parameters, batch):
        model = bind(graph, parameters)
        out = model(batch)
        short = model.encode_text(batch["text"][:, :7])["embedding"]
        return out | {"logits": model.logits(out["caption_hidden"]), "short": short}

    ours = run(parameters, batch)
    model = theirs(official, config, parameters)
    text = torch.tensor(batch["text"].astype(np.int64))
    with torch.no_grad():
        told = model(torch.tensor(batch["signal"]), text,
                     channel_indices=torch.tensor(batch["prefix"].astype(np.int64)))
        told["short"] = model.encode_text(text[:, :7])
    found = {
        name: far(ours[name], told[other]) for name, other in (
            ("signal_embedding", "image_features"), ("text_embedding", "text_features"),
            ("logits", "logits"), ("reconstruction", "reconstructed_signal"), ("short", "short"))
    }
    print(found)
    assert max(found.values()) < TOLERANCE, found
    return parameters, batch, model


def test_a_small_model_agrees_and_writes_the_same_captions(official, tmp_path):
    """Their `generate` where the installed transformers still has what it needs, else their
    forward pass greedily, end of text barred before 6 tokens."""


    from sleeplm_jax.inference.generation import Decoding
    from sleeplm_jax.inference.run import Model
    from tests.interop.clip_words import small_bpe

    tokenizer = clip_tokenizer(small_bpe(tmp_path / "bpe.txt.gz"))
    config = small_sleeplm(tokenizer.vocab_size)
    parameters, batch, model = compare(official, config, 3)
    bos, eos = tokenizer.bos_id, tokenizer.eos_id
    ours = Model(config, parameters, tokenizer, 0, {}, Path("x"), batch_size=3)
    prompts = np.array([[1, -1]], np.int32)
    ids, _ = ours.generate(batch["signal"], batch["channel_mask"], prompts, Decoding(min_tokens=6))
    signal = torch.tensor(batch["signal"])
    prefix = torch.tensor([[1, -1]] * 3)
    import open_clip.biosignals_coca_model as code

    if code._has_transformers:
        length = config.data.text_length
        said = torch.cat([model.generate(
            signal[i : i + 1], seq_len=length, max_seq_len=length, num_beams=3, num_beam_groups=3,
            min_seq_len=6, sot_token_id=bos, eos_token_id=eos, pad_token_id=0,
            channel_indices=prefix[:1], fixed_output_length=True,
        ) for i in range(3)])
    else:
        said = torch.full((3, 1), bos)
        with torch.no_grad():
            while said.shape[1] < config.data.text_length:
                logits = model(signal, said, channel_indices=prefix, output_labels=False)["logits"]
                logits = logits[:, -1]
                if said.shape[1] < 6:
                    logits[:, eos] = -np.inf
                said = torch.cat([said, logits.argmax(-1, keepdim=True)], 1)
    for mine, other in zip(ids[:, 0, 0].tolist(), said.tolist()):
        end = mine.index(eos) + 1 if eos in mine else len(mine)
        assert mine[:end] == other[:end] and end >= 6


def test_tokens_are_theirs(official):
    from open_clip.tokenizer import SimpleTokenizer

    path = Path(ROOT) / "src" / "open_clip" / "bpe_simple_vocab_16e6.txt.gz"
    if not path.is_file():
        pytest.skip("the checkout has no vocabulary file")
    tokenizer, other = clip_tokenizer(path), SimpleTokenizer(context_length=256)
    assert (tokenizer.bos_id, tokenizer.eos_id) == (49406, 49407)
    texts = Path(__file__).read_text().splitlines() + [
        "Central EEG (C4-A1): delta 39.05%, 0.0-15.2 s! The patient's SpO2 &amp; HR.",
        "word " * 400,
    ]
    theirs = other(texts).numpy()
    for text, row in zip(texts, theirs):
        np.testing.assert_array_equal(tokenizer.encode(text, 256), row)


@pytest.mark.slow
def test_the_base_model_agrees(official):
    compare(official, preset("sleeplm-base"), 1)
